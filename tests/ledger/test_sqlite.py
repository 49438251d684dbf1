"""The ledger keeps every reply: exactly, for its owner alone, through kills, full disks and damaged files."""

from __future__ import annotations

import math
import os
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.base.errors import StorageError
from connector.base.records import Reply
from connector.ledger import DamageError, Stats, keys_of
from connector.ledger._sqlite_format import APPLICATION, VERSION
from connector.ledger.sqlite import SqliteLedger

REPLY = Reply(200, {"choices": [{"message": {"content": "Grüße 🎈"}}]}, {"x-request-id": "req_1"}, 412, 2)

REFUSAL = REPLY._replace(status=400, body={"error": {"message": "no"}})


def key(number: int) -> bytes:
    return keys_of("http://localhost/v1")(b"%d" % number)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "run.ledger"


def process(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process that runs `code` with `path` and `Ledger` at hand."""
    head = """
        import sys
        from pathlib import Path
        from connector.ledger.sqlite import SqliteLedger
        from connector.base.records import Reply
        path = Path(sys.argv[1])
    """
    program = textwrap.dedent(head) + textwrap.dedent(code)
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the ledger until its stdin is closed."""
    with process(
        """
        with SqliteLedger(path) as ledger:
            ledger.put([(b"k", Reply(200, {"by": "holder"}, {}))])
            print("open", flush=True)
            sys.stdin.read()
        """,
        path,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        yield holder
        holder.kill()


def test_a_reply_comes_back_as_it_was_stored(path: Path) -> None:
    with SqliteLedger(path) as ledger:
        ledger.put([(key(1), REPLY)])
        assert ledger.get([key(1), key(2)]).known == {key(1): REPLY._replace(cached=True)}
    with SqliteLedger(path) as ledger:
        assert ledger.get([key(1)]).known == {key(1): REPLY._replace(cached=True)}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_any_json_comes_back_as_it_was_stored(body: dict[str, Any]) -> None:
    with SqliteLedger(None) as ledger:
        ledger.put([(b"k", Reply(200, body, {}))])
        assert ledger.get([b"k"]).known[b"k"].body == body


@pytest.mark.parametrize(("body", "stored"), [({"n": 10**30},) * 2, ({"half": "\ud83c"},) * 2])
def test_what_is_hardly_json_is_stored_all_the_same(body: dict[str, Any], stored: dict[str, Any]) -> None:
    with SqliteLedger(None) as ledger:
        ledger.put([(b"k", Reply(200, body, {}))])
        assert ledger.get([b"k"]).known[b"k"].body == stored


def test_of_the_headers_only_those_worth_keeping_are_stored() -> None:
    headers = {"x-request-id": "req_1", "x-litellm-response-cost": "0.1", "set-cookie": "secret", "date": "today"}
    with SqliteLedger(None) as ledger:
        ledger.put([(b"k", Reply(200, {}, headers))])
        assert ledger.get([b"k"]).known[b"k"].headers == {"x-request-id": "req_1", "x-litellm-response-cost": "0.1"}


def test_the_key_tells_apart_endpoints_and_bodies() -> None:
    keys = {keys_of(url)(body) for url in ("http://a/v1", "http://a/v2") for body in (b"1", b"2", b"")}
    assert len(keys) == 6
    assert all(len(each) == 16 for each in keys)


def test_a_later_reply_takes_the_place_of_an_earlier_one(path: Path) -> None:
    with SqliteLedger(path) as ledger:
        ledger.put([(b"k", REPLY), (b"k", REFUSAL)])
        ledger.put([(b"k", REPLY._replace(latency_ms=7))])
        assert ledger.get([b"k"]).known[b"k"] == REPLY._replace(latency_ms=7, cached=True)


STEP = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), max_size=6) | st.none()


@settings(max_examples=60)
@given(st.lists(STEP, max_size=12), st.integers(1, 9))
def test_it_holds_what_a_dict_would_whenever_it_is_closed(
    steps: list[list[tuple[int, int]] | None], at_once: int
) -> None:
    """A step stores replies, or closes the ledger and opens it again; places are written down at any time."""
    with TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr("connector.ledger.sqlite._PLACED_AT_ONCE", at_once)
        ledger = stack.enter_context(SqliteLedger(Path(directory) / "run.ledger"))
        expected: dict[bytes, int] = {}
        for step in steps:
            if step is None:
                ledger.close()
                ledger = stack.enter_context(SqliteLedger(Path(directory) / "run.ledger"))
            else:
                ledger.put((key(number), REPLY._replace(latency_ms=value)) for number, value in step)
                for number, value in step:
                    expected.pop(key(number), None)
                    expected[key(number)] = value
            found = ledger.get([key(number) for number in range(14)]).known
            assert {each: reply.latency_ms for each, reply in found.items()} == expected
        assert [(entry.key, entry.reply.latency_ms) for entry in ledger.entries()] == list(expected.items())


def test_of_two_keys_with_one_mark_neither_gets_the_reply_of_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connector.ledger.sqlite._PLACED_AT_ONCE", 2)
    one, other, third = b"12345678-one", b"12345678-other", b"12345678-third"
    with SqliteLedger(None) as ledger:
        ledger.put([(one, REPLY)])
        assert not ledger.get([other]).known
        ledger.put([(b"k", REPLY)])
        assert ledger.get([one, other, third]).known == {one: REPLY._replace(cached=True)}
        ledger.put([(other, REPLY._replace(latency_ms=7)), (b"l", REPLY)])
        assert ledger.get([other, third]).known == {other: REPLY._replace(latency_ms=7, cached=True)}


def test_a_look_into_a_new_ledger_asks_nothing_of_its_file(path: Path) -> None:
    ledger = SqliteLedger(path)
    ledger.close()
    assert ledger.get([key(1)]).known == {}


def test_thousands_of_keys_are_looked_up_at_once(path: Path) -> None:
    with SqliteLedger(path) as ledger:
        for start in range(0, 5000, 500):
            ledger.put([(key(number), REPLY) for number in range(start, start + 500)])
        found = ledger.get([key(number) for number in range(2000, 7000)]).known
    assert set(found) == {key(number) for number in range(2000, 5000)}


def test_nobody_else_can_read_it(path: Path) -> None:
    with SqliteLedger(path) as ledger:
        ledger.put([(b"k", REPLY)])
        files = list(path.parent.iterdir())
        assert len(files) > 1
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_in_memory_it_leaves_no_file_and_lasts_for_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with SqliteLedger(None) as ledger:
        ledger.put([(b"k", REPLY)])
        assert ledger.get([b"k"]).known
    with SqliteLedger(None) as ledger:
        assert not ledger.get([b"k"]).known
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("at_once", [7, 100_000], ids=["with places", "without places"])
def test_what_put_has_stored_survives_a_kill_and_is_there_once(path: Path, at_once: int) -> None:
    with process(
        """
        import connector.ledger.sqlite
        connector.ledger.sqlite._PLACED_AT_ONCE = int(sys.argv[2])
        ledger = SqliteLedger(path)
        for number in range(1_000_000):
            ledger.put([(b"%d" % number, Reply(200, {"n": number}, {}))])
            print(number, flush=True)
        """,
        path,
        at_once,
    ) as writer:
        assert writer.stdout is not None
        while int(writer.stdout.readline()) < 300:
            pass
        writer.kill()
        told = [int(line) for line in writer.stdout if line.endswith("\n")]
    with SqliteLedger(path) as ledger:
        last = max([300, *told])
        assert len(ledger.get([b"%d" % number for number in range(last + 1)]).known) == last + 1
        stored = [entry.key for entry in ledger.entries()]
        assert stored == [b"%d" % number for number in range(len(stored))]
        assert len(stored) in (last + 1, last + 2)  # one may have been stored and not told any more


def test_a_second_run_waits_for_the_first_and_says_so(path: Path, holder: subprocess.Popen[str]) -> None:
    told: list[str] = []

    def waiting(_: str) -> None:
        told.append("waiting")
        assert holder.stdin is not None
        holder.stdin.close()

    with SqliteLedger(path, waiting=waiting) as ledger:
        assert ledger.get([b"k"]).known[b"k"].body == {"by": "holder"}
    assert told == ["waiting"]


def test_a_second_run_may_go_on_once_the_first_is_killed(path: Path, holder: subprocess.Popen[str]) -> None:
    with SqliteLedger(path, waiting=lambda _: holder.kill()) as ledger:
        assert ledger.get([b"k"]).known


def test_while_it_waits_a_run_is_asked_again_and_again_whether_to_go_on(
    path: Path, holder: subprocess.Popen[str]
) -> None:
    class EnoughError(Exception):
        pass

    asked = count(1)

    def waiting(_: str) -> None:
        if next(asked) == 2:
            raise EnoughError

    with pytest.raises(EnoughError):
        SqliteLedger(path, waiting=waiting)
    assert holder.poll() is None


@pytest.mark.parametrize("again", [False, True])
def test_a_file_that_is_gone_stops_the_run_and_nothing_is_lost_once_it_is_back(path: Path, again: bool) -> None:
    with SqliteLedger(path) as ledger:
        ledger.put([(key(1), REPLY)])
        path.rename(path.with_name("moved"))
        if again:
            path.touch()
        with pytest.raises(StorageError, match=r"run\.ledger is gone"):
            ledger.put([(key(2), REPLY)])
    path.with_name("moved").replace(path)
    with SqliteLedger(path) as ledger:
        assert set(ledger.get([key(1), key(2)]).known) == {key(1)}


@pytest.mark.parametrize("name", [":memory:", "file:x?mode=memory", "a b", "-", "%41"])
def test_whatever_a_file_is_called_it_keeps_the_replies(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with SqliteLedger(Path(name)) as ledger:
        ledger.put([(key(1), REPLY)])
    with SqliteLedger(tmp_path / name) as ledger:
        assert ledger.get([key(1)]).known


def test_a_process_may_go_elsewhere_while_its_ledger_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with SqliteLedger(Path("run.ledger")) as ledger:
        monkeypatch.chdir("elsewhere")
        ledger.put([(key(1), REPLY)])
    with SqliteLedger(tmp_path / "run.ledger") as ledger:
        assert ledger.get([key(1)]).known


def test_a_second_run_may_refuse_to_wait(path: Path, holder: subprocess.Popen[str]) -> None:
    class RefusedError(Exception):
        pass

    def refuse(_: str) -> None:
        raise RefusedError

    with pytest.raises(RefusedError):
        SqliteLedger(path, waiting=refuse)
    assert holder.poll() is None


def test_runs_that_start_together_get_it_one_after_the_other(path: Path) -> None:
    code = """
        with SqliteLedger(path) as ledger:
            known = ledger.get([b"count"]).known
            count = known[b"count"].body["count"] if known else 0
            ledger.put([(b"count", Reply(200, {"count": count + 1}, {}))])
    """
    runs = [process(code, path) for _ in range(4)]
    assert [(run.communicate()[0], run.returncode) for run in runs] == [("", 0)] * 4
    with SqliteLedger(path) as ledger:
        assert ledger.get([b"count"]).known[b"count"].body == {"count": 4}


@pytest.mark.parametrize(
    "content", [b"not a database" * 100, b"SQLite format 3\x00" + b"\xff" * 4096], ids=["text", "torn"]
)
def test_a_damaged_file_is_set_aside_and_said(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with SqliteLedger(path) as ledger:
        assert ledger.was_set_aside == path.with_name("run.ledger.corrupt")
        assert ledger.was_set_aside.read_bytes() == content
        ledger.put([(b"k", REPLY)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(content)
    with SqliteLedger(path) as ledger:
        assert ledger.was_set_aside == path.with_name("run.ledger.corrupt2")
    with SqliteLedger(path) as ledger:
        assert ledger.was_set_aside is None


def test_a_file_that_turns_out_damaged_later_stops_the_run_with_advice(path: Path) -> None:
    with SqliteLedger(path) as ledger:
        for start in range(0, 2000, 500):
            ledger.put([(key(number), REPLY) for number in range(start, start + 500)])
    content = path.read_bytes()
    page = int.from_bytes(content[16:18])  # https://www.sqlite.org/fileformat.html, section 1.3
    path.write_bytes(content[: 5 * page] + b"\xff" * (len(content) - 5 * page))  # opening it needs the first ones
    with pytest.raises(StorageError, match=r"run\.ledger cannot be read .*is damaged"), SqliteLedger(path) as ledger:
        ledger.get([key(number) for number in range(2000)])


def test_an_empty_file_is_a_new_ledger(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    with SqliteLedger(path) as ledger:
        ledger.put([(b"k", REPLY)])
        assert ledger.was_set_aside is None


def database(path: Path, *statements: str) -> None:
    path.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


VERSION_1 = (
    f"PRAGMA application_id={APPLICATION}",
    "PRAGMA user_version=1",
    """CREATE TABLE reply (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, status INTEGER NOT NULL,
    body BLOB NOT NULL, headers BLOB NOT NULL, latency_ms INTEGER NOT NULL, attempts INTEGER NOT NULL,
    stored_at INTEGER NOT NULL DEFAULT 5)""",
    """WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 100)
    INSERT INTO reply (key, status, body, headers, latency_ms, attempts)
    SELECT CAST(1000 - n AS BLOB), 200, '{"n":' || n || '}', '{"x-request-id":"r"}', n, 1 FROM number""",
)


@pytest.mark.parametrize("at_once", [7, 1000])
def test_a_ledger_of_version_1_is_taken_over_whole(path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connector.ledger.sqlite._PLACED_AT_ONCE", at_once)
    database(path, *VERSION_1)
    keys = [b"%d" % (1000 - number) for number in range(1, 101)]
    replies = [Reply(200, {"n": number}, {"x-request-id": "r"}, number, 1, cached=True) for number in range(1, 101)]
    for _ in range(2):
        with SqliteLedger(path) as ledger:
            assert ledger.get([*keys, b"new"]).known == dict(zip(keys, replies, strict=True))
            assert list(ledger.entries()) == [(*each, 5) for each in zip(keys, replies, strict=True)]
    with SqliteLedger(path) as ledger:
        ledger.put([(keys[3], REPLY), (b"new", REPLY)])
        assert ledger.get([keys[3], b"new"]).known == dict.fromkeys((keys[3], b"new"), REPLY._replace(cached=True))
        assert ledger.stats().entries == 101


def test_a_ledger_of_version_2_is_taken_over(path: Path) -> None:
    with SqliteLedger(path) as ledger:
        ledger.put([(key(1), REPLY)])
    database(path, "DROP TABLE job", "PRAGMA user_version=2")
    for _ in range(2):
        with SqliteLedger(path) as ledger:
            assert list(ledger.get([key(1)]).known) == [key(1)]
            ledger.keep_job("a", b"1")
            assert (ledger.jobs(), ledger.job("a")) == (["a"], b"1")


def test_a_job_outlives_a_power_cut_that_takes_the_journal_of_a_new_ledger(path: Path, tmp_path: Path) -> None:
    left = tmp_path / "left.ledger"
    with SqliteLedger(path) as ledger:
        ledger.put([(key(1), REPLY)])
        ledger.keep_job("a", b"1")
        shutil.copyfile(path, left)
    with SqliteLedger(left) as ledger:
        assert ledger.job("a") == b"1"
        assert list(ledger.get([key(1)]).known) == [key(1)]


def test_a_ledger_of_version_3_is_taken_over_with_vectors_as_text(path: Path) -> None:
    text = Reply(200, {"data": [{"index": 0, "embedding": "AACAPw=="}]}, {}, cached=True)
    with SqliteLedger(path) as ledger:
        ledger.put([(key(1), text)])
    database(path, "PRAGMA user_version=3")
    for _ in range(2):
        with SqliteLedger(path) as ledger:
            assert ledger.get([key(1)]).known == {key(1): text}
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)


@pytest.mark.parametrize("body", [b"\0", b"\0\0\0\0\x02{}", b'\0\0\0\0\x0b{"data":[]}', b"\0\xff\xff\xff\xff{}"])
def test_a_vector_without_its_place_is_damage(path: Path, body: bytes) -> None:
    with SqliteLedger(path) as ledger:
        ledger.put([(key(1), REPLY)])
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE reply SET body = ?", [body])
        db.commit()
    with SqliteLedger(path) as ledger, pytest.raises(DamageError):
        ledger.get([key(1)])


@pytest.mark.parametrize("column", ["status", "body", "headers", "latency_ms", "attempts"])
@pytest.mark.parametrize("value", [7.5, "x", b"[]", b"\xff", 1 << 62, math.inf])
def test_a_value_that_no_ledger_of_ours_holds_is_damage_or_harmless(path: Path, column: str, value: object) -> None:
    with SqliteLedger(path) as ledger:
        ledger.put([(key(1), REPLY)])
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"UPDATE reply SET {column} = ?", [value])
        db.commit()
    with SqliteLedger(path) as ledger:
        if isinstance(value, float | int) and math.isfinite(value) and column in ("latency_ms", "attempts"):
            assert ledger.get([key(1)]).known[key(1)].body == REPLY.body
        else:
            with pytest.raises(DamageError):
                ledger.get([key(1)])


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE reply SET stored_at = 'x'",
        "UPDATE reply SET stored_at = x'00'",
        "UPDATE reply SET status = 'x'",
        "UPDATE reply SET status = 9e999",
        "UPDATE reply SET stored_at = 9e999",
        "UPDATE reply SET key = 'x'",
    ],
)
def test_a_value_of_another_type_than_its_column_is_damage_wherever_it_is_read(path: Path, change: str) -> None:
    """SQLite stores whatever it is given."""
    with SqliteLedger(path) as ledger:
        ledger.put([(key(1), REPLY)])
    database(path, change, "UPDATE placed SET id = 0 WHERE typeof(id) = 'integer'")
    with pytest.raises(DamageError), SqliteLedger(path) as ledger:
        assert [ledger.stats(), *ledger.entries()]


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        *((-1, b"{}", b"{}"), (404, b"{}", b"{}"), (400, b'{"error":"x"}', b"{}")),
        (200, b"{}", b'{"x-request-id":[1]}'),
        *((200, b'{"a":' * depth + b"1" + b"}" * depth, b"{}") for depth in (101, 100_000)),
        *((200, start + b'{"a":NaN}', b"{}") for start in (b"", b" ")),
    ],
)
def test_a_reply_that_no_endpoint_gives_is_damage(path: Path, status: int, body: bytes, headers: bytes) -> None:
    with SqliteLedger(path) as ledger:
        ledger.put([(key(1), REPLY)])
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE reply SET status = ?, body = ?, headers = ?", [status, body, headers])
        db.commit()
    with SqliteLedger(path) as ledger, pytest.raises(DamageError):
        ledger.get([key(1)])


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TRIGGER odd AFTER INSERT ON reply BEGIN DELETE FROM reply; END",
        "CREATE VIEW odd AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
        "DELETE FROM placed",
        "INSERT INTO placed VALUES (0)",
        "UPDATE placed SET id = 'x'",
    ],
)
def test_a_ledger_that_is_more_or_less_than_its_tables_is_set_aside(path: Path, change: str) -> None:
    with SqliteLedger(path) as ledger:
        ledger.put([(key(1), REPLY)])
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(change)
    with SqliteLedger(path) as ledger:
        assert ledger.was_set_aside == path.with_name(f"{path.name}.corrupt")
        ledger.put([(key(1), REPLY)])
        assert set(ledger.get([key(1)]).known) == {key(1)}


def test_a_damaged_ledger_of_version_1_stops_the_run_with_advice_and_is_left_alone(path: Path) -> None:
    database(path, *VERSION_1)
    content = path.read_bytes()
    content = content[:4096] + b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"run\.ledger cannot be .*is damaged"):
        SqliteLedger(path)
    assert path.read_bytes()[4096:] == content[4096:]


def test_stats_tell_how_much_there_is_and_of_when(path: Path) -> None:
    clock = count(1000)
    with SqliteLedger(path, now=lambda: next(clock)) as ledger:
        assert ledger.stats()._replace(bytes=0) == Stats(0, 0, {}, None, None)
        ledger.put([(key(1), REPLY), (key(2), REFUSAL)])
        ledger.put([(key(3), REPLY), (key(1), REPLY)])
        stats = ledger.stats()
    assert stats == Stats(3, path.stat().st_size, {200: 2, 400: 1}, 1000, 1001)


@pytest.mark.parametrize(
    ("before", "keys", "left"),
    [
        (None, [], [0, 1, 2, 3, 4, 5]),
        (1001, [], [2, 3, 4, 5]),
        (None, [1, 3, 5], [0, 2, 4]),
        (1001, [1, 3, 5, 9], [2, 4]),
        (2000, [], []),
    ],
)
def test_prune_deletes_what_is_old_or_named_and_nothing_else(
    path: Path, before: int | None, keys: list[int], left: list[int]
) -> None:
    clock = count(1000)
    with SqliteLedger(path, now=lambda: next(clock)) as ledger:
        for number in range(0, 6, 2):
            ledger.put([(key(number), REPLY), (key(number + 1), REFUSAL._replace(status=500))])
        assert ledger.prune(before, map(key, keys)) == 6 - len(left)
        assert set(ledger.get([key(number) for number in range(6)]).known) == {key(number) for number in left}
    with SqliteLedger(path) as ledger:
        assert [entry.key for entry in ledger.entries()] == [key(number) for number in left]
        ledger.put([(key(7), REPLY)])
        assert set(ledger.get([key(number) for number in range(8)]).known) == {key(number) for number in [*left, 7]}
    with SqliteLedger(path) as ledger:
        assert ledger.get([key(7)]).known
        assert ledger.stats().entries == len(left) + 1


def test_prune_gives_the_space_back(path: Path) -> None:
    with SqliteLedger(path, now=lambda: 1000) as ledger:
        ledger.put((key(number), REPLY) for number in range(20_000))
        before = ledger.stats().bytes
        assert ledger.prune(1001) == 20_000
        assert ledger.stats().bytes == path.stat().st_size < before / 10


def test_a_ledger_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    SqliteLedger(path).close()
    database(path, f"PRAGMA user_version={VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(StorageError, match=r"newer version .*\(format \d; this one knows \d\): use that version"):
        SqliteLedger(path)
    assert path.read_bytes() == before


def test_the_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    database(path, "CREATE TABLE customers (id)")
    before = path.read_bytes()
    with pytest.raises(StorageError, match="another program"):
        SqliteLedger(path)
    assert path.read_bytes() == before


def test_a_path_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "run.ledger"):
        with pytest.raises(StorageError, match=r"the ledger .* cannot be opened") as caught:
            SqliteLedger(path)
        assert str(path) in caught.value.message


def test_a_read_only_directory_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("root may write everywhere, except as .ci/run starts it")
    with pytest.raises(StorageError, match="cannot be opened"):
        SqliteLedger(tmp_path / "run.ledger")


def test_a_full_disk_stops_the_run_and_keeps_what_was_stored(path: Path) -> None:
    """A limit on the size of files stands in for the disk: writing beyond it fails in the same place."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))

    writer = subprocess.run(
        [sys.executable, "-c", _FILL, path], preexec_fn=limit, capture_output=True, text=True, check=False
    )
    assert writer.returncode == 0, writer.stderr
    stored, message = writer.stdout.splitlines()
    assert "cannot be written" in message
    assert "make room" in message
    with SqliteLedger(path) as ledger:
        assert len(ledger.get([b"%d" % number for number in range(10_000)]).known) == int(stored) > 100


_FILL = """
import sys
from pathlib import Path
from connector.base.errors import StorageError
from connector.ledger.sqlite import SqliteLedger
from connector.base.records import Reply

ledger, stored = SqliteLedger(Path(sys.argv[1])), 0
try:
    while True:
        ledger.put([(b"%d" % (stored + more), Reply(200, {"text": "x" * 500}, {})) for more in range(20)])
        stored += 20
except StorageError as error:
    print(stored, error.message, sep="\\n")
"""


def test_a_reply_as_deep_as_can_be_written_comes_back(tmp_path: Path) -> None:
    body: dict[str, Any] = {}
    for _ in range(99):
        body = {"a": body}
    with SqliteLedger(tmp_path / "ledger") as ledger:
        ledger.put([(key(1), Reply(200, body, {}))])
    with SqliteLedger(tmp_path / "ledger") as ledger:
        assert ledger.get([key(1)]).known[key(1)].body == body


def test_at_rest_much_is_written_back_and_little_is_left_for_later(path: Path) -> None:
    with SqliteLedger(path) as ledger:
        ledger.put((key(number), REPLY) for number in range(10))
        before = path.stat().st_size
        ledger.rest()
        assert path.stat().st_size == before
        ledger.put((key(number), REPLY) for number in range(10, 2_000))
        ledger.rest()
        assert path.stat().st_size > before + 2_000 * 100
        assert len(ledger.get([key(number) for number in range(2_000)]).known) == 2_000
    with SqliteLedger(path) as ledger:
        assert ledger.stats().entries == 2_000


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_that_are_made_for_it_are_for_their_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(0o755)
    (tmp_path / "there").chmod(0o755)
    before = os.umask(0)
    try:
        SqliteLedger(tmp_path / "there" / "one" / "two" / "run.ledger").close()
    finally:
        os.umask(before)
    assert [mode(tmp_path / part) for part in ("there", "there/one", "there/one/two")] == [0o755, 0o700, 0o700]


@pytest.mark.parametrize("given", [0o666, 0o644, 0o640, 0o606])
@pytest.mark.parametrize("linked", [False, True])
def test_one_that_others_could_read_is_for_its_owner_alone_and_that_is_said(
    tmp_path: Path, given: int, linked: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path, target = tmp_path / "run.ledger", tmp_path / ("target.ledger" if linked else "run.ledger")
    target.touch()
    target.chmod(given)
    if linked:
        path.symlink_to(target)
    with SqliteLedger(path) as ledger:
        ledger.put([(key(1), REPLY)])
        made = [file for file in tmp_path.iterdir() if not file.is_symlink()]
        assert {file.name: mode(file) for file in made} == dict.fromkeys([file.name for file in made], 0o600)
    assert "could be read by others: its mode is 0600 now" in caplog.text


def test_a_journal_that_lies_ready_for_others_to_read_is_too(tmp_path: Path) -> None:
    SqliteLedger(tmp_path / "run.ledger").close()
    journal = tmp_path / "run.ledger-wal"
    journal.touch()
    journal.chmod(0o666)
    with SqliteLedger(tmp_path / "run.ledger") as ledger:
        ledger.put([(key(1), REPLY)])
        assert mode(journal) == 0o600


def test_a_link_that_leads_nowhere_is_refused_and_nothing_is_made_there(tmp_path: Path) -> None:
    path = tmp_path / "run.ledger"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="is a broken symbolic link: remove it, or name another file"):
        SqliteLedger(path)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "link to a device", "link to a folder"])
def test_what_is_not_a_file_is_refused_and_left_as_it_is(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"run.ledger{suffix}"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/null" if kind == "link to a device" else tmp_path)
    before = path.stat().st_mode
    with pytest.raises(StorageError, match="it is not a file"):
        SqliteLedger(tmp_path / "run.ledger")
    assert path.stat().st_mode == before


@pytest.mark.parametrize("kind", ["text", "database"])
def test_no_mode_of_another_programs_file_is_changed_by_a_link_to_it(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "run.ledger", tmp_path / "other"
    if kind == "text":
        other.write_text("not a database " * 500)
    else:
        database(other, "CREATE TABLE t (a)")
    other.chmod(0o644)
    content = other.read_bytes()
    path.symlink_to(other)
    with suppress(StorageError):
        SqliteLedger(path).close()
    assert (other.stat().st_mode & 0o777, other.read_bytes()) == (0o644, content)
