"""Two syncs into one table, as programs of their own: they come out one after the other, and a kill leaves no half."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from connector.base import numbers
from connector.base.errors import DatabaseUnavailableError
from connector.base.records import Record
from connector.base.streams import Target
from connector.stores import sql
from connector.stores.databases import writers
from connector.stores.databases.connection import opened
from connector.stores.databases.loading import table
from connector.stores.databases.loading.block import of_rows
from connector.stores.databases.loading.marks import Fingerprint
from connector.stores.databases.writers import mariadb, postgresql
from tests.databases import KINDS, NUMBERS, Base, base
from tests.patience import PATIENCE
from tests.stores.databases.writers.test_conformance import INTEGER, Place, Row

WRITE = """
import json, sys
from connector.base.records import Record
from connector.base.streams import Target
from connector.stores import sql
options, mode, key, start, count, step, job = json.loads(sys.argv[1])
target = Target("reviews", mode, {"id": {"type": "integer"}}, primary_key=tuple(key), job=job)
with sql.sink(sql.Options(**options), {}, target=target) as sink:
    for index in range(count):
        sink.write(Record(index, {"id": start + index * step, "by": start, "text": "x" * 50}), {})
    print("ready", flush=True)
    sys.stdin.readline()
    sink.commit()
    print("stored", flush=True)
    sys.stdin.readline()
"""
"""Writes rows once it is told to, and ends once it is told to."""

COUNT = 500


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(base(request.param, tmp_path))


@contextmanager
def writing(
    place: Place, mode: str, key: tuple[str, ...] = (), start: int = 0, count: int = COUNT, step: int = 1, job: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """A program that has its rows, and waits for a line."""
    arguments = [{"url": place.database.url, "table": place.table}, mode, key, start, count, step, job]
    command = [sys.executable, "-c", WRITE, json.dumps(arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
            yield process
        finally:
            process.kill()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()


def end(process: subprocess.Popen[str]) -> str:
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    return said


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(("mode", "key"), [("overwrite", ()), ("append", ()), ("append_dedup", ("id",))])
def test_two_syncs_at_the_same_time_come_out_one_after_the_other(
    place: Place, mode: str, key: tuple[str, ...], *, exists: bool
) -> None:
    if exists:
        place.sync({"id": 7, "by": -1, "text": "before"})
    with writing(place, mode, key, start=0) as one, writing(place, mode, key, start=1) as other:
        for process in (one, other):
            go(process)
        for process in (one, other):
            end(process)
    rows = place.rows("id", "by")
    by = {number: sum(row[1] == number for row in rows) for number in (-1, 0, 1)}
    if mode == "overwrite":
        assert sorted(by.values()) == [0, 0, COUNT]
    elif mode == "append":
        assert by == {-1: exists, 0: COUNT, 1: COUNT}
    else:
        assert len(rows) == len({row[0] for row in rows}) == COUNT + 1
        assert sorted(by.values()) == [0, 1, COUNT]


# DuckDB's file is opened by one program alone.
@pytest.mark.parametrize("place", [kind for kind in KINDS if kind != "duckdb"], indirect=True)
def test_whoever_waits_for_another_sync_says_so(place: Place) -> None:
    place.sync({"id": 7})
    with opened(place.database.secret) as database, database.connect() as connection:
        holder = writers.load(database.kind)(connection, place.table)
        with writing(place, "append") as process:
            assert holder.try_begin()
            go(process)
            assert process.stderr
            assert "another program is writing there" in process.stderr.readline()
            holder.rollback()
            connection.close()
            end(process)
    assert len(place.rows("id")) == COUNT + 1


@pytest.mark.parametrize(("mode", "key"), [("overwrite", ()), ("append", ()), ("append_dedup", ("id",))])
def test_a_kill_in_the_midst_of_a_commit_leaves_the_rows_of_before_or_after(
    place: Place, mode: str, key: tuple[str, ...]
) -> None:
    place.sync(*({"id": number, "by": -1, "text": "before"} for number in range(10)))
    if mode == "append_dedup":
        place.upsert({"id": 0, "by": -1, "text": "before"})
    with writing(place, mode, key, start=100, count=8_000) as process:
        go(process)
        for _ in range(12):
            rows = _looked(place)
            if rows is not None:
                assert rows in ((10, 0), (0, 8_000), (10, 8_000))
            if process.poll() is not None:
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert _looked(place) in ((10, 0), (0, 8_000), (10, 8_000))
    place.sync({"id": 1_000_000, "by": 5, "text": "after"}, mode="overwrite", columns={"id": INTEGER})
    assert place.rows("id") == [(1_000_000,)]


def test_an_append_that_was_killed_behind_its_commit_adds_nothing_when_it_is_started_again(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    def append(job: str = "a", start: int = 0) -> str:
        caplog.clear()
        rows = [{"id": start + number, "by": start, "text": "x" * 50} for number in range(10)]
        place.sync(*rows, columns={"id": INTEGER}, job=job)
        return caplog.text

    with writing(place, "append", count=10, job="a") as process:
        go(process)
        assert process.stdout
        assert process.stdout.readline() == "stored\n"
        process.kill()
    assert append(job="b") == append(start=5) == ""
    assert len(place.rows("id")) == 30
    assert "has these rows already" in append()
    assert len(place.rows("id")) == 30
    assert append() == ""
    assert len(place.rows("id")) == 40
    with pytest.raises(sa.exc.SQLAlchemyError):
        place.run("SELECT * FROM reviews__commit")


def killed(place: Place, *rows: Row, job: str = "a") -> None:
    """Appends rows, and leaves the mark that a kill behind the commit leaves."""
    options, target = sql.Options(url=place.database.secret, table=place.table), Target("reviews", job=job)
    with suppress(KeyboardInterrupt), sql.sink(options, {}, target=target) as sink:
        for index, row in enumerate(rows):
            sink.write(Record(index, row), {})
        sink.commit()
        raise KeyboardInterrupt


@pytest.mark.parametrize("way", ["DROP TABLE reviews", "DELETE FROM reviews", "overwrite"])
def test_rows_that_were_removed_behind_a_kill_are_appended_again(place: Place, way: str) -> None:
    killed(place, {"id": 1}, {"id": 2})
    if way == "overwrite":
        place.sync({"id": 3}, mode="overwrite")
    else:
        place.run(way)
    place.sync({"id": 1}, {"id": 2}, job="a")
    assert place.rows() == [(1,), (2,), *([(3,)] if way == "overwrite" else [])]
    with pytest.raises(sa.exc.SQLAlchemyError):
        place.run("SELECT * FROM reviews__commit")


@pytest.mark.parametrize("can_create", [True, False])
def test_marks_that_another_user_has_made_are_in_nobodys_way(tmp_path: Path, *, can_create: bool) -> None:
    place = Place(base("postgresql", tmp_path))
    killed(place, {"id": 1})
    user = f"writer_{next(NUMBERS)}"
    place.run(f"CREATE ROLE {user} LOGIN")
    place.run(f"GRANT SELECT, INSERT ON reviews TO {user}")
    place.run(f"GRANT USAGE{', CREATE' * can_create} ON SCHEMA public TO {user}")
    other = Place(Base("postgresql", place.database.url.replace("postgres@", f"{user}@", 1)))
    other.sync({"id": 2}, job="b")
    assert place.rows() == [(1,), (2,)]


@pytest.mark.parametrize("column", ["id INTEGER", "note CHAR(32)"])
def test_a_table_of_the_user_that_is_called_as_that_of_the_marks_is_left_alone(place: Place, column: str) -> None:
    place.run(f"CREATE TABLE reviews__commit ({column})")
    place.run("INSERT INTO reviews__commit VALUES (7)")
    place.sync({"id": 1}, job="a")
    place.sync({"id": 2}, mode="overwrite")
    place.sync({"id": 3}, job="a")
    assert place.rows() == [(2,), (3,)]
    assert len(place.run("SELECT * FROM reviews__commit")) == 1


def test_rows_have_the_same_mark_however_they_are_cut_into_blocks() -> None:
    rows: list[dict[str, Any]] = [
        {"id": 1},
        {"id": 2, "text": None},
        {"id": 3, "text": "é", "big": numbers.loads("1.00000000000000000001")},
    ]

    def mark(*parts: list[Any], job: str = "a", added: tuple[str, ...] = ()) -> str:
        seen = Fingerprint(job, added)
        for part in parts:
            for _ in seen.of(of_rows(part)):
                pass
        return seen.mark()

    whole = mark(rows)
    assert mark(rows[:1], rows[1:]) == mark(rows[:2], rows[2:]) == whole
    enriched: list[Any] = [{**row, "_llm": at} for at, row in enumerate(rows)]
    assert mark(enriched, added=("_llm",)) == mark(rows, added=("_llm",))
    assert len({whole, mark(rows, added=("_llm",)), mark(rows, job="b"), mark(rows[::-1]), mark(rows[:2])}) == 5


CONNECTIONS = {
    "postgresql": "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()",
    "mariadb": "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND db = DATABASE()",
}
END = {"postgresql": "SELECT pg_terminate_backend({})", "mariadb": "KILL {}"}


@pytest.mark.parametrize("place", list(END), indirect=True)
def test_a_commit_that_was_done_is_not_done_again_when_the_connection_is_lost_then(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.table = "rev:iews"
    place.sync({"id": 0})
    monkeypatch.setattr(table, "_WAITS", (0.001, 0.001, 0.001))
    commit = sa.Connection.commit
    lost: list[str] = []

    def committing(connection: sa.Connection) -> None:
        if len(lost) == 1:
            commit(connection)
        if len(lost) < 2:
            lost.append("before" if not lost else "after")
            for (number,) in place.run(CONNECTIONS[place.kind]):
                place.run(END[place.kind].format(number))
        commit(connection) if len(lost) != 2 else connection.exec_driver_sql("SELECT 1")

    monkeypatch.setattr(sa.Connection, "commit", committing)
    place.sync({"id": 1}, {"id": 2})
    assert lost == ["before", "after"]
    assert place.rows() == [(0,), (1,), (2,)]
    if place.kind == "mariadb":
        assert place.run("SHOW TABLES") == [("rev:iews",)]


LOCKS: dict[str, tuple[Any, Any, str, str]] = {
    "postgresql": (postgresql, 0.05, "LOCK TABLE reviews", "SELECT 1"),
    "mariadb": (mariadb, 0, "LOCK TABLES reviews WRITE", "UNLOCK TABLES"),
}


@pytest.mark.parametrize("way", ["table", "rows"])
@pytest.mark.parametrize("place", list(LOCKS), indirect=True)
def test_a_lock_of_the_user_is_waited_for_in_each_attempt_and_reported(
    place: Place, way: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    member, seconds, lock, unlock = LOCKS[place.kind]
    monkeypatch.setattr(member, "LOCK_WAIT", seconds)
    for waits in ("WAITS", "_WAITS"):
        monkeypatch.setattr(table, waits, ())
    place.sync({"id": 1})
    with opened(place.database.secret) as database, database.engine.connect() as user:
        user.exec_driver_sql(lock if way == "table" else "SELECT * FROM reviews FOR UPDATE")
        with pytest.raises(DatabaseUnavailableError, match=r"is locked: (?s:.*): end the transaction of the other"):
            place.sync({"id": 2}, mode="overwrite")
        is_told = place.kind == "postgresql" and way == "table"
        assert ("has locked the table: waiting for it" in caplog.text) == is_told
        waited: list[float] = []

        def ended(seconds: float) -> None:
            waited.append(seconds)
            user.exec_driver_sql(unlock)
            user.rollback()

        for waits in ("WAITS", "_WAITS"):
            monkeypatch.setattr(table, waits, (7.0,))
        monkeypatch.setattr(table, "time", SimpleNamespace(sleep=ended))
        place.sync({"id": 3}, mode="overwrite")
    assert waited == [7.0]
    assert place.rows() == [(3,)]


def _looked(place: Place) -> tuple[int, int] | None:
    """How many rows are old and new; nothing where the file is another program's."""
    column = place.quoted("by")
    try:
        found: Any = place.run(f"SELECT COUNT(*), COUNT(CASE WHEN {column} = 100 THEN 1 END) FROM reviews")
    except Exception as error:
        if "lock" in str(error):
            return None
        raise
    (total, new) = found[0]
    return total - new, new
