"""What killed runs leave is swept by the next one, and never what a run still holds."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from connector.base.errors import ConfigError
from connector.stores.staging.private_directory import PREFIX, owned_directory, private_directory
from tests.patience import PATIENCE

HOLD = """
import sys
from pathlib import Path
from connector.stores.staging.private_directory import owned_directory
with owned_directory(Path(sys.argv[1])) as directory:
    (directory / "rows").write_text("rows")
    print(directory, flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(where: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another run, and its directory in `where`."""
    line = [sys.executable, "-c", HOLD, str(where)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def left(where: Path) -> list[Path]:
    return [path for path in where.iterdir() if path.name.startswith(PREFIX)]


def test_it_is_private_and_gone_at_the_end(tmp_path: Path) -> None:
    with owned_directory(tmp_path) as directory:
        (directory / "spill").mkdir()
        (directory / "spill" / "rows").touch()
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir() if path.name == ".lock"} == {0o600}
    assert left(tmp_path) == []


def test_what_a_killed_run_left_goes_and_what_a_running_one_holds_stays(tmp_path: Path) -> None:
    with holder(tmp_path) as (_, held), holder(tmp_path) as (killed, lost):
        killed.kill()
        killed.wait(PATIENCE)
        assert lost.exists()
        with owned_directory(tmp_path) as own:
            assert set(left(tmp_path)) == {held, own}
        assert (held / "rows").read_text() == "rows"
    with owned_directory(tmp_path):
        assert not held.exists()


def test_one_whose_run_died_before_it_had_its_lock_goes(tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}young").mkdir()
    with owned_directory(tmp_path) as own:
        assert left(tmp_path) == [own]


def test_whatever_else_has_such_a_name_stays(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    (tmp_path / f"{PREFIX}file").touch()
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    with owned_directory(tmp_path):
        pass
    assert {path.name for path in left(tmp_path)} == {f"{PREFIX}file", f"{PREFIX}link"}
    assert [path.name for path in elsewhere.iterdir()] == ["file"]


def test_those_of_other_users_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / f"{PREFIX}other"
    other.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: other.stat().st_uid + 1)
    with owned_directory(tmp_path):
        assert other.exists()


def test_a_place_that_takes_nothing_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing can be written there"), private_directory(tmp_path / "absent"):
        pass
