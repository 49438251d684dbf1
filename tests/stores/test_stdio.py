"""Standard input and output: rows flow as they come, pauses are told, order is kept within bounds."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

import pytest

from connector.base.errors import ConfigError, StorageError
from connector.base.records import IDLE, Checkpoint, Record
from connector.stores import stdio


class Pipe:
    """A pipe: `write` feeds the end that a source reads."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        self.reader: BinaryIO = os.fdopen(reader, "rb")
        self.writer: BinaryIO = os.fdopen(writer, "wb", buffering=0)

    def write(self, text: str) -> None:
        self.writer.write(text.encode())


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    with pipe.reader, pipe.writer:
        yield pipe


def items_of(stream: Any, state: Any = None, **more: Any) -> list[Any]:
    with stdio.source(stdio.Options(), stream=stream, **more) as source:
        return list(source.read(state))


def test_blank_lines_are_passed_over_and_a_last_line_needs_no_end() -> None:
    assert items_of(io.BytesIO(b'{"a": 1}\n\n \r\n{"a": 2}')) == [
        Record(0, {"a": 1}, "stdin"),
        Record(1, {"a": 2}, "stdin"),
        Checkpoint({"rows": 2}),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n\n{"a": 2\n', r"standard input, line 3, column 8: this is not JSON"),
        (b'{"a": 1}\n[1]\n', r"standard input, line 2: this is not a JSON object"),
        (b'{"a": "caf\xe9"}\n', r"standard input, line 1: this is not UTF-8"),
    ],
)
def test_a_broken_line_is_named(content: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        items_of(io.BytesIO(content))


def test_a_row_is_there_at_once_and_a_pause_is_seen_behind_a_checkpoint(pipe: Pipe) -> None:
    with stdio.source(stdio.Options(name="rows"), stream=pipe.reader) as source:
        assert (source.name, source.columns, source.rows) == ("rows", {}, None)
        items = source.read()
        pipe.write('{"a": 1}\n{"a": 2}\n{"a":')
        assert [next(items) for _ in range(5)] == [
            Record(0, {"a": 1}, "rows"),
            Record(1, {"a": 2}, "rows"),
            Checkpoint({"rows": 2}),
            IDLE,
            IDLE,
        ]
        pipe.write(" 3}\n")
        while (item := next(items)) is IDLE:
            pass
        assert item == Record(2, {"a": 3}, "rows")
        pipe.writer.close()
        assert [item for item in items if item is not IDLE] == [Checkpoint({"rows": 3})]


def test_a_long_line_that_comes_in_pieces_is_one_row(pipe: Pipe) -> None:
    long = "é" * 400_000

    def feed() -> None:
        with pipe.writer:
            pipe.write(f'{{"a": "{long}"}}\n{{"a": 2}}')

    thread = threading.Thread(target=feed)
    thread.start()
    rows = [item.data for item in items_of(pipe.reader) if isinstance(item, Record)]
    thread.join()
    assert rows == [{"a": long}, {"a": 2}]


def test_a_limit_does_not_wait_for_what_comes_behind_it(pipe: Pipe) -> None:
    pipe.write('{"a": 1}\n{"a": 2}\n')
    assert items_of(pipe.reader, limit=2)[1:] == [Record(1, {"a": 2}, "stdin"), Checkpoint({"rows": 2})]


def test_a_file_can_be_standard_input(tmp_path: Any) -> None:
    (tmp_path / "in.jsonl").write_bytes(b'{"a": 1}\n')
    with (tmp_path / "in.jsonl").open("rb") as stream:
        assert items_of(stream) == [Record(0, {"a": 1}, "stdin"), Checkpoint({"rows": 1})]


def test_rows_before_a_state_are_passed_over_with_their_pauses(pipe: Pipe) -> None:
    pipe.write('{"a": 1}\n{"a": 2}\n')
    with stdio.source(stdio.Options(), stream=pipe.reader) as source:
        items = source.read({"rows": 1})
        assert [next(items) for _ in range(3)] == [Record(1, {"a": 2}, "stdin"), Checkpoint({"rows": 2}), IDLE]


def written(sink: stdio.Writer, *indices: int, left_out: tuple[int, ...] = ()) -> None:
    for index in indices:
        sink.write(Record(index, {"i": index}), None if index in left_out else {"ok": True})


def lines(stream: io.BytesIO) -> list[int]:
    return [int(line.split(b'"i":')[1].split(b",")[0]) for line in stream.getvalue().splitlines()]


def test_a_row_goes_out_as_soon_as_all_before_it_are_there() -> None:
    stream = io.BytesIO()
    with stdio.sink(stdio.Options(), {}, stream=stream) as sink:
        written(sink, 1, 2)
        assert lines(stream) == []
        written(sink, 0)
        assert stream.getvalue() == b'{"i":0,"ok":true}\n{"i":1,"ok":true}\n{"i":2,"ok":true}\n'
        written(sink, 4, 3, left_out=(3,))
        assert lines(stream) == [0, 1, 2, 4]


def test_rows_behind_one_that_never_came_go_out_with_the_commit() -> None:
    stream = io.BytesIO()
    with stdio.sink(stdio.Options(), {}, stream=stream) as sink:
        written(sink, 5, 2, 9)
        assert lines(stream) == []
        sink.commit()
        assert lines(stream) == [2, 5, 9]


def test_a_straggler_holds_no_more_than_a_window_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio, "WINDOW", 3)
    stream = io.BytesIO()
    with stdio.sink(stdio.Options(), {}, stream=stream) as sink:
        written(sink, 3, 1, 2, 7)
        assert lines(stream) == [1, 2, 3]
        written(sink, 0, 4)
        assert lines(stream) == [1, 2, 3, 0, 4]
        sink.commit()
        assert lines(stream) == [1, 2, 3, 0, 4, 7]


def test_flush_hands_on_what_the_stream_holds() -> None:
    raw = io.BytesIO()
    stream = io.BufferedWriter(raw)
    with stdio.sink(stdio.Options(), {}, stream=stream) as sink:
        written(sink, 0)
        assert raw.getvalue() == b""
        sink.flush()
        assert lines(raw) == [0]


def test_a_reader_that_has_gone_is_a_storage_error(pipe: Pipe) -> None:
    pipe.reader.close()
    with (
        stdio.sink(stdio.Options(), {}, stream=pipe.writer) as sink,
        pytest.raises(StorageError, match="check that its reader is still running"),
    ):
        written(sink, 0)


def test_what_json_cannot_say_is_said_otherwise() -> None:
    stream = io.BytesIO()
    with stdio.sink(stdio.Options(), {}, stream=stream) as sink:
        sink.write(Record(0, {"big": 2**70, "nan": float("nan")}), {"half": "\ud83d", "whole": "\ud83d\ude00"})
    assert stream.getvalue().decode() == f'{{"big":{2**70},"nan":null,"half":"\ufffd","whole":"😀"}}\n'


def test_standard_streams_are_the_default() -> None:
    program = """
from connector.base.records import Record
from connector.stores import stdio
options = stdio.Options()
with stdio.source(options) as source, stdio.sink(options, {}, source=source) as sink:
    for item in source.read():
        if isinstance(item, Record):
            sink.write(item, {"n": item.index})
    sink.commit()
"""
    done = subprocess.run([sys.executable, "-c", program], input=b'{"a":1}\n{"a":2}\n', capture_output=True, check=True)
    assert done.stdout == b'{"a":1,"n":0}\n{"a":2,"n":1}\n'


def test_a_closed_input_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ConfigError, match="standard input: it is closed"), stdio.source(stdio.Options()):
        pass


def test_a_whole_number_of_64_bits_stays_one() -> None:
    out = io.BytesIO()
    with stdio.sink(stdio.Options(), {}, stream=out) as sink:
        sink.write(Record(0, {"n": 2**64 - 1}), {})
        sink.commit()
    assert out.getvalue() == b'{"n":18446744073709551615}\n'
