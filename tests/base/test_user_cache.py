"""Where nobody has said where replies are kept, there is always a folder of this user alone."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from connector.base import user_cache
from connector.base.errors import ConfigError, StorageError
from connector.base.user_cache import cached, write_private_file
from connector.report.recorder import save


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    user_cache._temporary.cache_clear()  # noqa: SLF001 - once in the life of a program
    yield tmp_path
    user_cache._temporary.cache_clear()  # noqa: SLF001 - as above


def test_a_home_that_can_be_written_to_has_it(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(temporary / "not" / "yet"))
    assert cached("x", "ledger").parent == temporary / "not" / "yet" / "openai-compatible"


@pytest.mark.parametrize("home", ["/proc/self", None], ids=["that nobody can write to", "that is missing"])
def test_without_a_home_it_is_among_the_temporary_files_for_this_user_alone_and_that_is_said_once(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, home: str | None
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path if home is None else f"{home}/.cache")
    monkeypatch.setattr(user_cache, "_is_writable", lambda _: False)
    first, again = cached("x", "ledger"), cached("y", "ledger")
    assert first != again
    assert first.parent == again.parent
    assert first.parent.parent == temporary
    assert first.parent.stat().st_mode & 0o777 == 0o700
    assert caplog.text.count("replies are kept in") == 1


def test_a_folder_of_somebody_else_is_not_used(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_cache, "_is_writable", lambda _: False)
    cached("x", "ledger").parent.chmod(0o755)
    user_cache._temporary.cache_clear()  # noqa: SLF001 - as another run
    with pytest.raises(ConfigError, match="not this user's alone"):
        cached("x", "ledger")
    (only,) = temporary.iterdir()
    only.rmdir()
    only.symlink_to("/")
    with pytest.raises(ConfigError, match="not this user's alone"):
        cached("x", "ledger")


@pytest.mark.parametrize(
    "write", [lambda path: write_private_file(path, bytes(10_000)), lambda path: save(str(path), "x" * 10_000)]
)
def test_what_cannot_be_written_in_whole_leaves_nothing(tmp_path: Path, write: Callable[[Path], None]) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limits[1]))
    try:
        with pytest.raises((OSError, StorageError)):
            write(tmp_path / "file")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
