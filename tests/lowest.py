"""Prints each installed library that the connector itself uses with the lowest version that pyproject.toml allows.

Tools of the tests (pytest, mypy, …) stay as new as they come: a user never meets them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).parent.parent / "pyproject.toml"
TABLES: Final = {"pandas", "polars", "pyarrow"}
"""Libraries whose tables the connector takes, though it does not depend on them: only the tests install them."""

APART: Final = {"test", "bench", "studio", "spark"}
"""Extras that are left as they come: tools, and what is tried elsewhere; nicegui needs newer ones of what we share."""

_BOUND: Final = re.compile(r"(?P<name>[\w-]+)(?P<extras>\[[^]]*\])?>=(?P<version>[\d.]+)")


def requirements() -> Iterator[str]:
    """The lines of a file of requirements, as `pip install --requirement` takes it."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    used = [*project["dependencies"]]
    used += [each for name, extra in extras.items() if name not in APART for each in extra]
    used += [each for each in extras["test"] if re.split(r"\W", each)[0] in TABLES]
    installed = {each.name.lower().replace("_", "-") for each in distributions()}
    lowest: dict[str, str] = {}  # of what extras share, the highest bound, as all of them are installed
    for each in used:
        bound = _BOUND.match(each)
        if bound is None:
            raise SystemExit(f'pyproject.toml: "{each}" has no lower bound: write NAME>=VERSION')
        name, version = bound["name"] + (bound["extras"] or ""), bound["version"]
        if bound["name"] in installed:
            lowest[name] = max(lowest.get(name, version), version, key=_numbers)
    return (f"{name}=={version}" for name, version in lowest.items())


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


if __name__ == "__main__":
    print("\n".join(requirements()))  # noqa: T201 - what it is for
