"""JSON lines and arrays as input: values as they are, types from all of them, errors that say where."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.base.errors import ConfigError
from connector.base.numbers import dumps
from tests.stores.helpers import enrich, objects, opened, rows_of, table


def file(folder: Path, content: str | bytes, name: str = "in.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ('{"a": 1}\n\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ('{"a": 1}\r\n{"a": 2}', [{"a": 1}, {"a": 2}]),
        ('\ufeff{"a": 1}\n', [{"a": 1}]),
        ('[{"a": 1},\n {"a": 2}]', [{"a": 1}, {"a": 2}]),
        ("[]", []),
        ("", []),
        ("\n \n", []),
        ("{}\n{}\n", [{}, {}]),
        ('{"a": 1}\n{"b": "x"}\n', [{"a": 1, "b": None}, {"a": None, "b": "x"}]),
        ('{"a": "a\\u0000b 😀"}\n', [{"a": "a\0b 😀"}]),
        ('{"we ird\\"\'": 1, "select": 2, "a.b": 3, "$.x": 4}\n', [{"we ird\"'": 1, "select": 2, "a.b": 3, "$.x": 4}]),
        ('{"a": {"b": [1, {"c": null}], "z": 1}}\n{"a": {}}\n', [{"a": {"b": [1, {"c": None}], "z": 1}}, {"a": {}}]),
        ('{"a": 1}\n{"a": "x"}\n{"a": [true]}\n{"a": null}\n', [{"a": 1}, {"a": "x"}, {"a": [True]}, {"a": None}]),
    ],
)
def test_objects_are_read_as_they_are(tmp_path: Path, content: str, rows: list[dict[str, Any]]) -> None:
    assert table(file(tmp_path, content)) == rows


def test_texts_stay_texts_whatever_they_look_like(tmp_path: Path) -> None:
    row = {"d": "2024-01-01", "t": "2024-01-01T10:00:00Z", "u": "123E4567-E89B-12D3-A456-426614174000", "n": "007"}
    with opened(file(tmp_path, json.dumps(row))) as source:
        assert rows_of(source) == [row]
        assert set(map(str, source.columns.values())) == {str({"type": ["null", "string"]})}


def test_integers_keep_all_their_digits(tmp_path: Path) -> None:
    path = file(tmp_path, '{"a": 9007199254740993, "b": 18446744073709551615}\n{"a": 1, "b": 18446744073709551614}\n')
    assert table(path) == [
        {"a": 9007199254740993, "b": 18446744073709551615},
        {"a": 1, "b": 18446744073709551614},
    ]


EXACT: Final = [
    '{"a":1.10}',
    '{"a":1.10},{"a":12345678901234567890123},{"a":1e400}',
    '{"a":"x"},{"a":1.10},{"a":true}',
    '{"a":{"b":1.10}},{"a":{"b":18446744073709551616}}',
    '{"a":[1.10,12345678901234567890,-0.0]},{"a":[]}',
    '{"a":{}},{"a":[{"b":1.20}]},{"a":null}',
]


@pytest.mark.parametrize("items", EXACT)
def test_numbers_keep_their_digits_in_an_array_as_in_lines(tmp_path: Path, items: str) -> None:
    for name, content in (("in.json", f"[{items}]"), ("in.jsonl", items.replace("},{", "}\n{"))):
        with opened(file(tmp_path, content.encode(), name)) as source:
            assert dumps(rows_of(source)).decode() == f"[{items}]"


def test_types_come_from_all_rows(tmp_path: Path) -> None:
    rows = [
        {"i": 1, "f": 1, "s": "x", "b": True, "l": [1], "o": {"x": 1}, "m": 1, "n": None},
        {"i": None, "f": 1.5, "s": None, "b": None, "l": [2.5, None], "o": {"y": "z"}, "m": "x", "n": None},
    ]
    with opened(file(tmp_path, "".join(json.dumps(row) + "\n" for row in rows))) as source:
        assert source.columns == {
            "i": {"type": ["null", "integer"]},
            "f": {"type": ["null", "number"]},
            "s": {"type": ["null", "string"]},
            "b": {"type": ["null", "boolean"]},
            "l": {"type": ["null", "array"], "items": {"type": ["null", "number"]}},
            "o": {
                "type": ["null", "object"],
                "properties": {"x": {"type": ["null", "integer"]}, "y": {"type": ["null", "string"]}},
            },
            "m": {"type": ["null", "integer", "string"]},
            "n": {"type": ["null", "string"]},
        }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n{"a": 2\n{"a": 3}\n', r"in.jsonl, line 2, column 8: this is not JSON"),
        (b'{"a": 1}\n\n[1]\n', r"in.jsonl, line 3: this is not a JSON object"),
        (b"1\n", r"in.jsonl, line 1: this is not a JSON object"),
        (b"[1, 2]", r"in.jsonl, item 1: this is not a JSON object"),
        (b"hello", r"in.jsonl, line 1, column 1: this is not JSON"),
        (b'{"a": 1}\n{"a": "caf\xe9"}\n', r"in.jsonl, line 2: this is not UTF-8"),
        (b'{"a": NaN}\n', r"in.jsonl, line 1, column 7: this is not JSON"),
        (b'{"a": 1}\n{"a": ' + b"[" * 200 + b"]" * 200 + b"}\n", r"in.jsonl, line 2: it is nested too deeply"),
        *(
            (b'{"a": ' + b"[" * depth + b"]" * depth + b"}\n", r"in.jsonl, line 1: it is nested too deeply")
            for depth in (254, 400, 900)
        ),
        (b'{"a": ' * 101 + b"1" + b"}" * 101, r"in.jsonl, line 1: it is nested too deeply"),
        (b'[{"a": 1}, {"a": 2', r"in.jsonl: it cannot be read as jsonl: it ends within item 2"),
        (b'[{"a": 1}, ]', r"in.jsonl: it cannot be read as jsonl: item 2 is missing"),
        (b'[{"a": 1}] {"a": 2}', r"in.jsonl: it cannot be read as jsonl: something follows its end"),
        (b'[{"a": 1}, {"a": [2}}]', r"in.jsonl, item 2, column 9: this is not JSON"),
        (b'{\n  "a": 1\n}\n', r"in.jsonl, line 1, column 2: this is not JSON .* write one object a line"),
    ],
)
def test_broken_json_is_refused_with_file_line_and_column(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message), opened(file(tmp_path, content)):
        pass


def test_compressed_json_is_read(tmp_path: Path) -> None:
    lines = b'{"a": 1}\n{"a": 2}\n'
    assert table(file(tmp_path, gzip.compress(lines), "in.ndjson.gz")) == [{"a": 1}, {"a": 2}]
    assert table(file(tmp_path, gzip.compress(b'[{"a": 1}]'), "in.json.gz")) == [{"a": 1}]
    for name, array in (("in.jsonl.zst", "false"), ("in.json.zst", "true")):
        path = tmp_path / name
        duckdb.execute(
            f"COPY (SELECT range AS a FROM range(2)) TO '{path}' (FORMAT json, ARRAY {array}, COMPRESSION zstd)"
        )
        assert table(path) == [{"a": 0}, {"a": 1}]
    with pytest.raises(ConfigError, match=r"cut.jsonl.gz: its compression is broken, or its end is missing"):
        table(file(tmp_path, gzip.compress(lines)[:-12], "cut.jsonl.gz"))


def test_an_object_used_as_a_dictionary_is_not_a_structure_of_thousands_of_fields(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"by_user": {f"user {i}": i}}) + "\n" for i in range(3_000))
    with opened(file(tmp_path, lines)) as source:
        assert source.columns["by_user"] == {"type": ["null", "object"]}
        assert rows_of(source)[2_999] == {"by_user": {"user 2999": 2_999}}


FULL_DISK = """
import resource, signal, sys
from connector.base.errors import StorageError
from connector.stores import files

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
try:
    with files.source(files.Options(path=sys.argv[1])) as source:
        print(source.rows)
except StorageError as error:
    print(error.message)
"""


@pytest.mark.parametrize("room", [24, 27])
def test_no_row_is_lost_where_the_disk_is_full(tmp_path: Path, room: int) -> None:
    """Even where the table is so small that it is written to the disk in one piece."""
    path = file(tmp_path, '{"a":1}\n' * 100)
    command = [sys.executable, "-c", FULL_DISK, str(path), str(room)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert ": nothing more can be written there: free some space" in done.stdout


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(st.dictionaries(NAMES, VALUES, min_size=1, max_size=4), max_size=6).filter(
    lambda rows: len({name.casefold() for row in rows for name in row}) == len({name for row in rows for name in row})
)


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_whatever_json_goes_in_comes_out(rows: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    expected = [{name: row.get(name) for name in names} for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        path = file(Path(folder), "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        assert table(path) == expected
        enrich(path, Path(folder) / "out.jsonl", {}, {})
        assert objects(Path(folder) / "out.jsonl") == expected
