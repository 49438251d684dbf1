"""Environments with programs of other people, installed once from the package registry and used again by later runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from spec.generate import ROOT


def environment(config: pytest.Config, name: str, *packages: str) -> Path:
    """The `bin` directory of an environment that holds `packages` and what this project needs; see `programs`.

    The project itself is not in it: put `ROOT` on PYTHONPATH.
    """
    needed: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return programs(config, name, *packages, *needed)


def programs(config: pytest.Config, name: str, *packages: str, python: str = sys.executable) -> Path:
    """The `bin` directory of an environment of a `python`, beside pytest's cache, that holds `packages` alone.

    Where they cannot be installed, the test is skipped, but in CI it fails.
    """
    base = Path(config.cache.mkdir("environments")) if config.cache else pytest.fail("pytest's cache is off")
    path = base / name
    marker = path / "installed"
    wanted = "\n".join((sys.version, python, *packages))
    if not marker.is_file() or marker.read_text() != wanted:
        shutil.rmtree(path, ignore_errors=True)
        subprocess.run([python, "-m", "venv", "--upgrade-deps", path], check=False, capture_output=True)
        pip = [str(path / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-compile"]
        done = subprocess.run([*pip, *packages], capture_output=True, text=True, check=False)
        if done.returncode:
            *_, why = "no word why", *done.stderr.strip().splitlines()
            reason = f"{' and '.join(packages)} cannot be installed here: {why}"
            pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
        marker.write_text(wanted)
    return path / "bin"


def newer_python(*versions: str) -> str:
    """The path of an interpreter of one of these versions: on the path, or among those of pyenv; else a skip."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in versions:
        for candidate in (f"python{version}", *map(str, sorted(root.glob(f"{version}.*/bin/python")))):
            if (
                shutil.which(candidate)
                and not subprocess.run(
                    [candidate, "-c", "import ensurepip"], capture_output=True, check=False
                ).returncode
            ):
                return candidate
    pytest.skip(f"none of Python {', '.join(versions)} is installed")
