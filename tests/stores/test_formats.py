"""What every file format has to do in every compression: run over all that there are, and over a new one of each."""

from __future__ import annotations

import bz2
import importlib
import os
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, cast

import pytest

from connector.base.errors import ConfigError
from connector.base.records import Record, Schema
from connector.base.streams import Mode, Target
from connector.stores import files
from connector.stores import formats as family
from connector.stores.columnar.database import Database
from connector.stores.files import recognise
from connector.stores.formats import formats
from connector.stores.staging import compression
from connector.stores.staging.compression import BROKEN, COMPRESSIONS, UNCOMPRESSED, Compression
from tests.stores.helpers import opened, rows_of, table

TEXT: Final[Schema] = {"type": ["null", "string"]}
COLUMNS: Final[Mapping[str, Schema]] = {
    "id": {"type": ["null", "integer"]},
    "large": {"type": ["null", "integer"]},
    "score": {"type": ["null", "number"]},
    "yes": {"type": ["null", "boolean"]},
    "text": TEXT,
    "zip": TEXT,
    "nested": {},
    "day": {**TEXT, "format": "date"},
    "at": {**TEXT, "format": "date-time", "airbyte_type": "timestamp_without_timezone"},
    "nothing": TEXT,
}
TEXTS: Final = ('a "quoted", b', "two\nlines\ttab", "é😀 ünï", "", " spaced ", "'=1+1", "null", '{"a": 1}')
NESTED: Final = {"list": [1, 2], "object": {"key": "välue"}}


class Kind(NamedTuple):
    """A format in a compression, by the name of a file."""

    extension: str
    format: str
    compression: Compression

    @property
    def name(self) -> str:
        return f"t{self.extension}{self.compression.suffix}"

    @property
    def is_text(self) -> bool:
        """Whether nested values come back as the JSON text that a cell holds."""
        return self.format in ("csv", "tsv")


def kinds() -> Iterator[Kind]:
    for each in formats().values():
        first, *others = each.extensions
        yield from (Kind(extension, each.name, UNCOMPRESSED) for extension in (first, *others))
        yield from (Kind(first, each.name, packed) for packed in COMPRESSIONS if each.is_compressible)


KINDS: Final = list(kinds())


@pytest.fixture(params=KINDS, ids=[kind.name for kind in KINDS])
def kind(request: pytest.FixtureRequest) -> Kind:
    return cast("Kind", request.param)


class Unread:
    """A source of known columns that is not read from a file."""

    name, rows = "unread", None
    primary_key: tuple[str, ...] = ()

    def __init__(self, columns: Mapping[str, Schema]) -> None:
        self.columns = columns

    def read(self, state: Any = None) -> Any:
        raise NotImplementedError


def row(number: int) -> dict[str, Any]:
    even = number % 2 == 0
    return {
        "id": number,
        "large": 9007199254740993 + number if even else None,
        "score": number / 8 - 1 if even else None,
        "yes": even if number % 3 else None,
        "text": TEXTS[number % len(TEXTS)],
        "zip": f"{number:05}",
        "nested": NESTED if even else None,
        "day": "2024-02-29" if even else None,
        "at": "2024-02-29T12:30:00" if even else None,
        "nothing": None,
    }


def write(
    path: Path,
    rows: Sequence[Mapping[str, Any] | None],
    columns: Mapping[str, Schema] = COLUMNS,
    target: Target | None = None,
) -> None:
    """Writes rows, in another order than theirs; `None` is a row that is left out."""
    order = list(range(len(rows)))
    random.Random(3).shuffle(order)
    with files.sink(files.Options(path=str(path)), {}, source=Unread(columns), target=target) as sink:
        for index in order:
            data = rows[index]
            sink.write(Record(index, dict(data or {})), None if data is None else {})
        sink.commit()


def snapshot(path: Path, **more: Any) -> list[dict[str, Any]]:
    """The rows that come by way of a sorted snapshot in DuckDB."""
    return table(path, cursor_field="id", **more)


def test_values_come_back_as_they_were_and_in_their_order(kind: Kind, tmp_path: Path) -> None:
    path, rows = tmp_path / kind.name, [row(number) for number in range(40)]
    write(path, [each if each["id"] % 5 else None for each in rows])
    expected = [{**each} for each in rows if each["id"] % 5]
    got = table(path)
    assert [list(each) for each in got] == [list(COLUMNS)] * len(expected)
    if kind.is_text:
        for each in expected:
            each["nested"] = each["nested"] and '{"list":[1,2],"object":{"key":"välue"}}'
    assert got == expected
    assert [[type(value) for value in each.values()] for each in got] == [
        [type(value) for value in each.values()] for each in expected
    ]
    assert snapshot(path) == expected


def test_a_file_of_one_format_becomes_one_of_the_same_and_loses_nothing(kind: Kind, tmp_path: Path) -> None:
    path, other = tmp_path / kind.name, tmp_path / f"other.{kind.name}"
    write(path, [row(number) for number in range(20)])
    with opened(path) as source, files.sink(files.Options(path=str(other)), {"n": {}}, source=source) as sink:
        for item in source.read():
            if isinstance(item, Record):
                sink.write(item, {"n": item.index})
        sink.commit()
    assert table(other) == [{**each, "n": each["id"]} for each in table(path)]


def test_a_table_without_rows_is_a_file_without_rows(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / kind.name
    for rows in ([], [None, None]):
        write(path, rows)
        with opened(path) as source:
            assert source.rows == 0
            assert rows_of(source) == []
            assert list(source.columns) in ([], list(COLUMNS))
    write(path, [row(1)], target=Target("t", "append", COLUMNS))
    assert [each["id"] for each in table(path)] == [1]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("append", [(1, "a"), (2, "b"), (2, "new"), (3, "c")]),
        ("append_dedup", [(1, "a"), (2, "new"), (3, "c")]),
        ("overwrite", [(2, "new"), (3, "c")]),
    ],
)
def test_rows_are_added_replaced_or_take_the_place_of_all(
    kind: Kind, tmp_path: Path, mode: Mode, expected: list[tuple[int, str]]
) -> None:
    path = tmp_path / kind.name
    columns = {name: COLUMNS[name] for name in ("id", "text")}
    target = Target("t", mode, columns, primary_key=("id",) if mode == "append_dedup" else ())
    write(path, [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}], columns)
    write(path, [{"id": 2, "text": "new"}, {"id": 3, "text": "c"}], columns, target)
    assert [(each["id"], each["text"]) for each in table(path)] == expected
    assert [path.name for path in tmp_path.iterdir()] == [kind.name]


def test_a_glob_is_one_table_in_the_order_of_the_names(kind: Kind, tmp_path: Path) -> None:
    write(tmp_path / f"2.{kind.name}", [{"id": 3, "b": "x"}], {"id": COLUMNS["id"], "b": TEXT})
    write(tmp_path / f"1.{kind.name}", [{"id": 1}, {"id": 2}], {"id": COLUMNS["id"]})
    assert table(tmp_path / f"*.{kind.name}") == [{"id": 1, "b": None}, {"id": 2, "b": None}, {"id": 3, "b": "x"}]
    assert [each["id"] for each in table(tmp_path / f"*.{kind.name}", limit=2)] == [1, 2]


def test_files_in_different_compressions_are_one_table(kind: Kind, tmp_path: Path) -> None:
    columns = {"id": COLUMNS["id"]}
    alike = [each for each in KINDS if each.extension == kind.extension]
    for number, each in enumerate(alike):
        write(tmp_path / f"{number}.{each.name}", [{"id": number}], columns)
    assert table(tmp_path / f"*{kind.extension}*") == [{"id": number} for number in range(len(alike))]


def spoiled(kind: Kind, content: bytes, path: Path) -> Path:
    """A file in the kind's compression with content that is not of its format."""
    path.with_suffix(".raw").write_bytes(content)
    kind.compression.compress(path.with_suffix(".raw"), path)
    return path


SPOILED: Final = {
    "csv": (b"a,b\n1,2\n1,2,3\n", r"row 3 .*has 3 cells, and the header has 2"),
    "tsv": (b"a\tb\n1\t2\n1\t2\t3\n", r"row 3 .*has 3 cells, and the header has 2"),
    "json": (b'[{"a": 1}, 2]', r"item 2: this is not a JSON object"),
    "jsonl": (b'{"a": 1}\n{"a": \n', r"line 2, column \d+: this is not JSON"),
    "parquet": (b"PAR1 and nothing else", "it cannot be read as parquet"),
}


def test_a_broken_file_is_refused_with_its_name_and_the_place(kind: Kind, tmp_path: Path) -> None:
    content, place = SPOILED[kind.format]
    path = spoiled(kind, content, tmp_path / kind.name)
    for cursor_field in (None, "a"):
        with pytest.raises(ConfigError, match=rf"{kind.name}(: |, ){place}") as caught:
            table(path, cursor_field=cursor_field)
        assert not caught.value.message.endswith(".")


def test_a_file_whose_end_is_missing_is_refused(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / kind.name
    rows = [{"id": number, "text": random.Random(number).randbytes(40).hex()} for number in range(2_000)]
    write(path, rows, {"id": COLUMNS["id"], "text": TEXT})
    content = path.read_bytes()
    is_csv = kind.is_text and kind.compression is UNCOMPRESSED
    path.write_bytes(content[: content.rindex(b"\n", 0, -1) + 3 if is_csv else -9])
    for cursor_field in (None, "id"):
        with pytest.raises(ConfigError, match=rf"{kind.name}(: |, )"):
            table(path, cursor_field=cursor_field)


def test_text_that_is_not_utf_8_is_refused_with_its_line(kind: Kind, tmp_path: Path) -> None:
    if kind.format not in ("csv", "tsv", "jsonl"):
        return
    cell = b'{"a": "%b"}' if kind.format == "jsonl" else b"%b"
    lines = b"\n".join([cell % b"a", *[cell % b"fine"] * 9, cell % b"caf\xe9", b""])
    path = tmp_path / kind.name
    if kind.compression.name == "zstd":  # DuckDB writes no such text
        path.write_bytes(b"\x28\xb5\x2f\xfd\x00\x58" + (len(lines) << 3 | 1).to_bytes(3, "little") + lines)
    else:
        spoiled(kind, lines, path)
    with pytest.raises(ConfigError, match=rf"{kind.name}(: |, )line 11:? (this )?is not UTF-8: (name|decompress)"):
        table(path)


@pytest.mark.parametrize("packed", COMPRESSIONS, ids=[each.name for each in COMPRESSIONS])
def test_no_beginning_of_a_compressed_file_passes_for_the_whole(packed: Compression, tmp_path: Path) -> None:
    path, text = tmp_path / "whole", tmp_path / "text"
    text.write_bytes(b"a\n" + b"".join(b"%d\n" % (number * 7919) for number in range(100)))
    packed.compress(text, path)
    content = path.read_bytes()
    for size in range(1, len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(BROKEN), packed.open(path) as stream:
            stream.read()
    path.write_bytes(content * 2)  # files of one compression may be put together
    with packed.open(path) as stream:
        assert stream.read() == text.read_bytes() * 2


def test_what_is_not_compressed_as_its_name_says_is_refused(kind: Kind, tmp_path: Path) -> None:
    if kind.compression is UNCOMPRESSED:
        with pytest.raises(ConfigError):
            table(spoiled(kind, b"\x00\xff\xfe nonsense", tmp_path / kind.name))
        return
    path = tmp_path / kind.name
    path.write_bytes(b"a,b\n1,2\n")
    with pytest.raises(ConfigError, match=f"{kind.name}: its compression is broken, or its end is missing: "):
        table(path)


def test_the_file_is_private_and_the_old_one_stands_until_the_commit(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / kind.name
    path.write_bytes(b"old")
    with files.sink(files.Options(path=str(path)), {}, source=Unread(COLUMNS)) as sink:
        sink.write(Record(0, row(0)), {})
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"old"
    before = os.umask(0)
    try:
        write(path, [row(0)])
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == [kind.name]


def test_every_format_can_be_chosen_whatever_the_name_says(kind: Kind, tmp_path: Path) -> None:
    written, path = tmp_path / kind.name, tmp_path / f"t.data{kind.compression.suffix}"
    write(written, [row(1)])
    shutil.copyfile(written, path)
    assert table(path, format=kind.format) == table(written)
    with pytest.raises(ConfigError, match="use a known extension"):
        table(path)


def test_a_format_loads_what_it_reads_into_a_table_of_the_same_rows(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / kind.name
    write(path, [row(number) for number in range(8)])
    file = recognise(path)
    (tmp_path / "private").mkdir()
    with Database(tmp_path / "private") as database:
        columns = file.format.load(database, [file], 5)
        assert [column.name for column in columns] == list(COLUMNS)
        (column,) = (column for column in columns if column.name == "id")
        assert database.run(f"FROM input SELECT {column.exact}, {column.json} ORDER BY rowid") == [
            (number, number) for number in range(5)
        ]


def test_names_and_extensions_are_told_apart() -> None:
    extensions = [extension for each in formats().values() for extension in each.extensions]
    suffixes = [each.suffix for each in COMPRESSIONS]
    assert len({*extensions, *suffixes}) == len(extensions) + len(suffixes)
    assert all(each.name == name and each.reads_as in formats() for name, each in formats().items())


def test_a_compression_is_a_row_and_all_compressible_formats_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that DuckDB does not know."""

    def compress(path: Path, output: Path) -> None:
        output.write_bytes(bz2.compress(path.read_bytes()))

    def opened_bzip2(path: Path) -> BinaryIO:
        return cast("BinaryIO", bz2.open(path))

    added = Compression("bzip2", ".bz2", b"BZh", opened_bzip2, compress)
    for module in (compression, files):
        monkeypatch.setattr(module, "COMPRESSIONS", (*COMPRESSIONS, added))
    rows = [row(number) for number in range(10)]
    for each in formats().values():
        path = tmp_path / f"t{each.extensions[0]}"
        packed = path.with_name(f"{path.name}.bz2")
        if not each.is_compressible:
            with pytest.raises(ConfigError, match=r'leave out the "\.bz2"'):
                write(packed, rows)
            continue
        write(path, rows)
        write(packed, rows)
        assert bz2.decompress(packed.read_bytes()) == path.read_bytes()
        assert table(packed) == table(path)
        assert snapshot(packed) == snapshot(path)
        write(packed, rows, target=Target("t", "append", COLUMNS))
        assert len(table(packed)) == 20


NEW_FORMAT: Final = """
from connector.stores.formats.jsonl import JsonObjects

FORMATS = (JsonObjects("geojson", (".geojson",), lambda lines: None),)
"""

PROGRAM: Final = """
import sys
from connector.stores import formats
formats.__path__.append(sys.argv[1])
from connector.stores import files
from connector.base.errors import ConfigError
schema = files.Options.model_json_schema()["properties"]["format"]
assert "geojson" in schema["enum"], schema
assert ".geojson" in schema["description"], schema
assert files.recognise(files.Path("a.geojson.gz")).format.name == "geojson"
assert files.Options(path="a", format="geojson").format == "geojson"
try:
    files.recognise(files.Path("a.dat"))
except ConfigError as error:
    print(error)
"""


def test_a_new_format_takes_one_new_file(tmp_path: Path) -> None:
    (tmp_path / "geojson.py").write_text(NEW_FORMAT)
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ".geojson" in done.stdout


def test_no_format_needs_duckdb_to_be_known() -> None:
    program = (
        "import sys; from connector.stores import files; from connector.stores.formats import formats;"
        "formats(); print(sorted({'duckdb', 'pyarrow', 'sqlalchemy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"[]\n"


def test_an_unknown_format_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="is not a format: choose one of auto, csv, tsv, json, jsonl, parquet"):
        files.Options(path="a.csv", format="excel")


def test_every_module_of_the_family_is_one_and_has_its_place_here() -> None:
    modules = {path.stem for path in Path(family.__path__[0]).glob("*.py") if not path.stem.startswith("_")}
    named = [each.name for name in modules for each in importlib.import_module(f"{family.__name__}.{name}").FORMATS]
    assert sorted(named) == sorted(formats()) == sorted(SPOILED)
