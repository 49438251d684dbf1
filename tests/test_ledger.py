"""The ledger keeps every reply: exactly, for its owner alone, through kills, full disks and damaged files."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.errors import StorageError
from connector.ledger import VERSION, Ledger, key_of
from connector.records import Reply

REPLY = Reply(200, {"choices": [{"message": {"content": "Grüße 🎈"}}]}, {"x-request-id": "req_1"}, 412, 2)


def key(number: int) -> bytes:
    return key_of("http://localhost/v1", b"%d" % number)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "run.ledger"


def process(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process that runs `code` with `path` and `Ledger` at hand."""
    head = """
        import sys
        from pathlib import Path
        from connector.ledger import Ledger
        from connector.records import Reply
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
        with Ledger(path) as ledger:
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
    with Ledger(path) as ledger:
        ledger.put([(key(1), REPLY)])
        assert ledger.get([key(1), key(2)]) == {key(1): REPLY._replace(cached=True)}
    with Ledger(path) as ledger:
        assert ledger.get([key(1)]) == {key(1): REPLY._replace(cached=True)}


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
    with Ledger(None) as ledger:
        ledger.put([(b"k", Reply(200, body, {}))])
        assert ledger.get([b"k"])[b"k"].body == body


@pytest.mark.parametrize(("body", "stored"), [({"n": 10**30}, {"n": 1e30}), ({"half": "\ud83c"},) * 2])
def test_what_is_hardly_json_is_stored_all_the_same(body: dict[str, Any], stored: dict[str, Any]) -> None:
    with Ledger(None) as ledger:
        ledger.put([(b"k", Reply(200, body, {}))])
        assert ledger.get([b"k"])[b"k"].body == stored


def test_of_the_headers_only_those_worth_keeping_are_stored() -> None:
    headers = {"x-request-id": "req_1", "x-litellm-response-cost": "0.1", "set-cookie": "secret", "date": "today"}
    with Ledger(None) as ledger:
        ledger.put([(b"k", Reply(200, {}, headers))])
        assert ledger.get([b"k"])[b"k"].headers == {"x-request-id": "req_1", "x-litellm-response-cost": "0.1"}


def test_the_key_tells_apart_endpoints_and_bodies() -> None:
    keys = {key_of(url, body) for url in ("http://a/v1", "http://a/v2") for body in (b"1", b"2", b"")}
    assert len(keys) == 6
    assert all(len(each) == 16 for each in keys)


def test_a_later_reply_takes_the_place_of_an_earlier_one(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.put([(b"k", REPLY), (b"k", REPLY._replace(status=400))])
        ledger.put([(b"k", REPLY._replace(latency_ms=7))])
        assert ledger.get([b"k"])[b"k"] == REPLY._replace(latency_ms=7, cached=True)


def test_thousands_of_keys_are_looked_up_at_once(path: Path) -> None:
    with Ledger(path) as ledger:
        for start in range(0, 5000, 500):
            ledger.put([(key(number), REPLY) for number in range(start, start + 500)])
        found = ledger.get([key(number) for number in range(2000, 7000)])
    assert set(found) == {key(number) for number in range(2000, 5000)}


def test_nobody_else_can_read_it(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.put([(b"k", REPLY)])
        files = list(path.parent.iterdir())
        assert len(files) > 1
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_in_memory_it_leaves_no_file_and_lasts_for_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Ledger(None) as ledger:
        ledger.put([(b"k", REPLY)])
        assert ledger.get([b"k"])
    with Ledger(None) as ledger:
        assert not ledger.get([b"k"])
    assert list(tmp_path.iterdir()) == []


def test_what_put_has_stored_survives_a_kill(path: Path) -> None:
    with process(
        """
        ledger = Ledger(path)
        for number in range(1_000_000):
            ledger.put([(b"%d" % number, Reply(200, {"n": number}, {}))])
            print(number, flush=True)
        """,
        path,
    ) as writer:
        assert writer.stdout is not None
        while int(writer.stdout.readline()) < 300:
            pass
        writer.kill()
        told = [int(line) for line in writer.stdout if line.endswith("\n")]
    with Ledger(path) as ledger:
        last = max([300, *told])
        assert len(ledger.get([b"%d" % number for number in range(last + 1)])) == last + 1


def test_a_second_run_waits_for_the_first_and_says_so(path: Path, holder: subprocess.Popen[str]) -> None:
    told: list[str] = []

    def waiting() -> None:
        told.append("waiting")
        assert holder.stdin is not None
        holder.stdin.close()

    with Ledger(path, waiting=waiting) as ledger:
        assert ledger.get([b"k"])[b"k"].body == {"by": "holder"}
    assert told == ["waiting"]


def test_a_second_run_may_go_on_once_the_first_is_killed(path: Path, holder: subprocess.Popen[str]) -> None:
    with Ledger(path, waiting=holder.kill) as ledger:
        assert ledger.get([b"k"])


def test_a_second_run_may_refuse_to_wait(path: Path, holder: subprocess.Popen[str]) -> None:
    class RefusedError(Exception):
        pass

    def refuse() -> None:
        raise RefusedError

    with pytest.raises(RefusedError):
        Ledger(path, waiting=refuse)
    assert holder.poll() is None


def test_runs_that_start_together_get_it_one_after_the_other(path: Path) -> None:
    code = """
        with Ledger(path) as ledger:
            known = ledger.get([b"count"])
            count = known[b"count"].body["count"] if known else 0
            ledger.put([(b"count", Reply(200, {"count": count + 1}, {}))])
    """
    runs = [process(code, path) for _ in range(4)]
    assert [(run.communicate()[0], run.returncode) for run in runs] == [("", 0)] * 4
    with Ledger(path) as ledger:
        assert ledger.get([b"count"])[b"count"].body == {"count": 4}


@pytest.mark.parametrize(
    "content", [b"not a database" * 100, b"SQLite format 3\x00" + b"\xff" * 4096], ids=["text", "torn"]
)
def test_a_damaged_file_is_set_aside_and_said(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with Ledger(path) as ledger:
        assert ledger.set_aside == path.with_name("run.ledger.corrupt")
        assert ledger.set_aside.read_bytes() == content
        ledger.put([(b"k", REPLY)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(content)
    with Ledger(path) as ledger:
        assert ledger.set_aside == path.with_name("run.ledger.corrupt2")
    with Ledger(path) as ledger:
        assert ledger.set_aside is None


def test_a_file_that_turns_out_damaged_later_stops_the_run_with_advice(path: Path) -> None:
    with Ledger(path) as ledger:
        for start in range(0, 2000, 500):
            ledger.put([(key(number), REPLY) for number in range(start, start + 500)])
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(StorageError, match=r"run\.ledger cannot be read .*move it away"), Ledger(path) as ledger:
        ledger.get([key(number) for number in range(2000)])


def test_an_empty_file_is_a_new_ledger(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    with Ledger(path) as ledger:
        ledger.put([(b"k", REPLY)])
        assert ledger.set_aside is None


def database(path: Path, statement: str) -> None:
    path.parent.mkdir(exist_ok=True)
    db = sqlite3.connect(path)
    db.execute(statement)
    db.commit()
    db.close()


def test_a_ledger_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    Ledger(path).close()
    database(path, f"PRAGMA user_version={VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(StorageError, match="newer version"):
        Ledger(path)
    assert path.read_bytes() == before


def test_the_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    database(path, "CREATE TABLE customers (id)")
    before = path.read_bytes()
    with pytest.raises(StorageError, match="another program"):
        Ledger(path)
    assert path.read_bytes() == before


def test_a_path_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "run.ledger"):
        with pytest.raises(StorageError, match=r"the ledger .* cannot be opened") as caught:
            Ledger(path)
        assert str(path) in caught.value.message


def test_a_read_only_directory_is_an_error(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="cannot be opened"):
        Ledger(tmp_path / "run.ledger")


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
    with Ledger(path) as ledger:
        assert len(ledger.get([b"%d" % number for number in range(10_000)])) == int(stored) > 100


_FILL = """
import sys
from pathlib import Path
from connector.errors import StorageError
from connector.ledger import Ledger
from connector.records import Reply

ledger, stored = Ledger(Path(sys.argv[1])), 0
try:
    while True:
        ledger.put([(b"%d" % (stored + more), Reply(200, {"text": "x" * 500}, {})) for more in range(20)])
        stored += 20
except StorageError as error:
    print(stored, error.message, sep="\\n")
"""
