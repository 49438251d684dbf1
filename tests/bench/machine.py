"""The machine that measures: what it is, and which of its cores serves whom."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

Cores = frozenset[int]

_PACKAGES: Final = (
    *("openai-compatible-connector", "orjson", "jinja2", "duckdb"),
    *("openai", "httpx2", "httpx", "aiohttp", "langchain-openai", "litellm"),
)
_CAN_PIN: Final = hasattr(os, "sched_setaffinity")


@cache
def cores() -> tuple[Cores, Cores]:
    """The core of the endpoint and that of the client: one each, or the same for both where there is no other way.

    They are chosen once, from all the cores that this process began with.
    """
    every = sorted(os.sched_getaffinity(0)) if _CAN_PIN else []
    return frozenset(every[-1:]), frozenset(every[:1])


@contextmanager
def on(chosen: Cores) -> Iterator[None]:
    """Processes that are started meanwhile run on these cores alone, where the system can be told so."""
    if not _CAN_PIN:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def pinning() -> str:
    """How endpoint and client share the machine, in words."""
    endpoint, client = cores()
    if not endpoint:
        return "this system cannot bind processes to cores, so endpoint and client may disturb each other"
    if endpoint == client:
        return "there is one core only, so endpoint and client share it: utilisation and rates are too low for all"
    return "the endpoint has one core, the client another"


def load() -> str:
    """How many processes want a core, of late."""
    return f"{os.getloadavg()[0]:.1f}"


def facts() -> dict[str, str]:
    """What a reader has to know about the machine to judge the figures."""
    return {
        "Date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "CPU": f"{_cpu()}, {os.cpu_count()} cores",
        "Bound to cores": f"where it does not say any core: {pinning()}",
        "System": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Load": f"{load()} before",
        "Python": f"{platform.python_implementation()} {sys.version.split()[0]}",
        "Versions": ", ".join(_versions()),
    }


def _cpu() -> str:
    """The model, and the clock that tells models of one name apart."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    known = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return f"{known.get('model name', platform.machine())} at {known.get('cpu MHz', '?')} MHz"


def _versions() -> Iterator[str]:
    for package in _PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
