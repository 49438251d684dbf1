"""Environments with programs of other people, installed once from the package registry and used again by later runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from connector.specification import ROOT


def environment(config: pytest.Config, name: str, *packages: str) -> Path:
    """The `bin` directory of an environment beside pytest's cache that holds `packages` and what this project needs.

    The project itself is not in it: put `ROOT` on PYTHONPATH. Where packages cannot be installed, the test is skipped,
    but in CI it fails.
    """
    base = Path(config.cache.mkdir("environments")) if config.cache else pytest.fail("pytest's cache is off")
    path = base / name
    needed: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    marker = path / "installed"
    wanted = "\n".join((sys.version, *packages, *needed))
    if not marker.is_file() or marker.read_text() != wanted:
        shutil.rmtree(path, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", path], check=True)
        pip = [str(path / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*pip, *packages, *needed], capture_output=True, text=True, check=False)
        if done.returncode:
            reason = f"{' and '.join(packages)} cannot be installed here: {done.stderr.strip().splitlines()[-1]}"
            pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
        marker.write_text(wanted)
    return path / "bin"
