"""Lines of JSON that cannot be taken: they end the run, all of them counted, or each fails its own row."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import pytest

from connector.base.errors import ConfigError
from connector.base.records import Record
from connector.stores import files, stdio

GOOD, HALF = b'{"a": 1, "t": "x"}\n', b'{"a": 2, "t": "\\ud83d"}\n'
BROKEN = b'{"a": 3,\n'


def records(given: Path | bytes, **options: Any) -> list[tuple[dict[str, Any], str]]:
    cursor = {"cursor_field": options.pop("cursor_field")} if "cursor_field" in options else {}
    opened = (
        stdio.source(stdio.Options(**options), stream=io.BytesIO(given))
        if isinstance(given, bytes)
        else files.source(files.Options(path=str(given), **options), **cursor)
    )
    with opened as source:
        assert "_bad_input" not in source.columns
        return [(item.data, item.problem) for item in source.read() if isinstance(item, Record)]


@pytest.fixture(params=["file", "sorted", "stdin"])
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    def read(content: bytes, **options: Any) -> list[tuple[dict[str, Any], str]]:
        if request.param == "stdin":
            return records(content, **options)
        path = tmp_path / "in.jsonl"
        path.write_bytes(content)
        return records(path, **options, **({"cursor_field": "a"} if request.param == "sorted" else {}))

    return read


def test_half_of_a_character_is_an_error_of_its_row_alone(way: Any) -> None:
    first, second, third = way(GOOD + HALF + GOOD.replace(b"1", b"3"))
    assert (first, third) == (({"a": 1, "t": "x"}, ""), ({"a": 3, "t": "x"}, ""))
    assert second[0] == {"a": 2, "t": "\ufffd"}
    assert "line 2: a text holds half of a character" in second[1]


def test_a_whole_character_written_as_two_escapes_is_not_an_error(way: Any) -> None:
    assert way(b'{"a": 1, "t": "\\ud83d\\ude00"}\n') == [({"a": 1, "t": "😀"}, "")]


@pytest.mark.parametrize("line", [BROKEN, b"[1]\n", b"x\n", b'{"a": "\xff"}\n', b'{"a": NaN}\n'])
def test_a_broken_line_fails_its_row_alone_if_it_is_asked_to(way: Any, line: bytes) -> None:
    rows = way(GOOD + line + GOOD, on_bad_input="record")
    assert [data.get("a") for data, _ in rows if data.get("a")] == [1, 1]
    (problem,) = [problem for _, problem in rows if problem]
    assert "line 2" in problem


def test_broken_lines_end_the_run_with_line_and_column_and_their_count(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(GOOD + BROKEN + GOOD * 3 + BROKEN + HALF)
    with pytest.raises(ConfigError, match=r"line 2, column \d+: this is not JSON .*lines that are broken: 2$"):
        records(path)
    with pytest.raises(ConfigError, match=r"standard input, line 2, column \d+: this is not JSON"):
        records(GOOD + BROKEN)


def test_rows_whose_keys_are_no_columns_of_a_table_are_refused_before_they_fill_it(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"".join(b'{"key %d": 1}\n' % number for number in range(20_000)))
    with pytest.raises(
        ConfigError, match=r"in.jsonl: 1\d,\d{3} different keys in 1\d,\d{3} rows are too many for columns"
    ):
        records(path)
    path.write_bytes(b"".join(b"{%s}\n" % b",".join(b'"k%d": 1' % i for i in range(2_000)) for _ in range(50)))
    assert len(records(path)) == 50


@pytest.mark.parametrize(
    ("name", "begin", "end", "told"),
    [
        ("in.jsonl.gz", b'{"a": 1}\n{"a": "', b'"}\n{"a": 3}\n', "in.jsonl.gz, line 2: it has more than 64 MiB"),
        ("in.csv.gz", b"a,b\n1,", b"\n2,3\n", "in.csv.gz: a row has more than 64 MiB"),
    ],
)
def test_a_row_that_no_memory_is_made_for_is_refused_however_small_its_file_is(
    tmp_path: Path, name: str, begin: bytes, end: bytes, told: str
) -> None:
    path = tmp_path / name
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(begin)
        for _ in range(66):
            file.write(bytes(1 << 20).replace(b"\0", b"x"))
        file.write(end)
    with pytest.raises(ConfigError, match=told):
        records(path)


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [1, 1 << 16, (1 << 20) - 8, 1 << 20, (3 << 20) + 1])
def test_lines_of_any_length_below_that_are_whole_and_counted(tmp_path: Path, size: int, ends: bytes) -> None:
    path = tmp_path / "in.jsonl"
    lines = [b'{"a": "%s"}' % (b"x" * size), b"", b'{"a": 2}', b"{", b'{"a": 3}']
    path.write_bytes(ends.join([*lines, *lines]))
    with pytest.raises(ConfigError, match=r"line 4.*lines that are broken: 2"):
        records(path)
    path.write_bytes(ends.join([*lines[:3], *lines[:3]]))
    assert [data["a"] for data, _ in records(path)] == ["x" * size, 2] * 2
