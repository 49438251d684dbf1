"""What is installed: the package and its data, nothing else of the project, and it works away from the checkout."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from connector.config.spec import spec
from connector.protocols._airbyte_spec import specification
from spec.generate import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, since building writes beside its sources."""
    copy, target = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    for name in ("connector", "spec", "tests", "docs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(target), str(copy)]
    subprocess.run(command, check=True)
    return next(target.glob("*.whl"))


def test_the_wheel_holds_the_package_and_its_data_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = ROOT / "connector"
    files = {path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert names == {path.relative_to(ROOT).as_posix() for path in files}


def test_the_installed_package_gives_the_spec_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    program = "import sys; sys.path.insert(0, sys.argv.pop(1)); from connector.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, str(tmp_path), "spec"]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["spec"] == specification(spec(), None)
