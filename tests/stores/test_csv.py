"""CSV and TSV as input: RFC 4180, whole-file types, and errors that say where."""

from __future__ import annotations

import csv
import gzip
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import jsonschema
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from connector.base import numbers
from connector.base.errors import ConfigError
from connector.base.values import text
from connector.stores import files
from connector.stores.columnar.database import Database
from tests.stores.helpers import opened, rows_of, table


def file(folder: Path, content: str | bytes, name: str = "in.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ('a,b\n1,"x, ""y""\nz"\n', [{"a": 1, "b": 'x, "y"\nz'}]),
        ("a,b\r\n1,x\r\n2,y\r\n", [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
        ('a,b\n1,"x\r\ny"\n', [{"a": 1, "b": "x\r\ny"}]),
        ("\ufeffa,b\n1,x\n", [{"a": 1, "b": "x"}]),
        ("a,b\n1,x", [{"a": 1, "b": "x"}]),
        ("a,b\n1,😀 é\n", [{"a": 1, "b": "😀 é"}]),
        ("a,b\n1,x\0y\n", [{"a": 1, "b": "x\0y"}]),
        ("a,b\n\n1,x\n\n", [{"a": 1, "b": "x"}]),
        ('a,"b\nc"\n1,2\n', [{"a": 1, "b\nc": 2}]),
        ('select,"or der","q""q",a.b,rowid\n1,2,3,4,5\n', [{"select": 1, "or der": 2, 'q"q': 3, "a.b": 4, "rowid": 5}]),
        (",a\n0,x\n", [{"column0": 0, "a": "x"}]),
        ("#a,b\n#1,2\n", [{"#a": "#1", "b": 2}]),
        ("a;b\n1;x,y\n", [{"a": 1, "b": "x,y"}]),
        ('a,b\n1,5" screen\n2,6"\n', [{"a": 1, "b": '5" screen'}, {"a": 2, "b": '6"'}]),
        ("a,b\r1,x\r2,y\r", [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
        ('\ufeff"a",b\n1,"x\n"\n', [{"a": 1, "b": "x\n"}]),
    ],
)
def test_a_csv_file_is_read_by_rfc_4180(tmp_path: Path, content: str, rows: list[dict[str, Any]]) -> None:
    assert table(file(tmp_path, content)) == rows


@pytest.mark.parametrize("texts", [("7", "12"), ("1.5", "2.25"), ("1.0", "2.5"), ("1.50", "2.00"), ("true", "False")])
def test_all_texts_of_a_column_are_looked_at_once_for_its_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: tuple[str, str]
) -> None:
    assert looks(tmp_path, monkeypatch, "\n".join(("a", *texts, ""))) == 1


@pytest.mark.parametrize("time", ["2026-01-31", "2026-01-31T10:00:00", "2026-01-31 10:00", "2026-01-31T10:00:00.5Z"])
def test_all_times_of_a_column_are_looked_at_once_for_its_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, time: str
) -> None:
    assert looks(tmp_path, monkeypatch, f"a\n{time}\n") == 1


def looks(folder: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> int:
    """How often all texts are asked for a type."""
    statements: list[str] = []
    run = Database.run

    def noted(self: Database, statement: Any, parameters: object = None) -> list[tuple[Any, ...]]:
        statements.append(str(statement))
        return run(self, statement, parameters)

    monkeypatch.setattr(Database, "run", noted)
    with opened(file(folder, content)):
        return sum("regexp_full_match" in statement for statement in statements)


def test_an_empty_cell_is_null_and_a_quoted_empty_one_is_an_empty_text(tmp_path: Path) -> None:
    assert table(file(tmp_path, 'a,b\n,""\nNA,null\n')) == [{"a": None, "b": ""}, {"a": "NA", "b": "null"}]


@pytest.mark.parametrize(("content", "columns"), [("", []), ("\n\n", []), ("a,b\n", ["a", "b"]), ("a,b", ["a", "b"])])
def test_a_file_without_rows_has_the_columns_of_its_header(tmp_path: Path, content: str, columns: list[str]) -> None:
    with opened(file(tmp_path, content)) as source:
        assert list(source.columns) == columns
        assert source.rows == 0
        assert rows_of(source) == []


@pytest.mark.parametrize(
    ("texts", "values", "kind"),
    [
        (["1", "-20", "0"], [1, -20, 0], "integer"),
        (["123456789012345678"], [123456789012345678], "integer"),
        (["1.5", "2", "-0.25"], [1.5, 2, -0.25], "number"),
        (["1.50", "2.00", "-0.25"], [1.5, 2.0, -0.25], "number"),
        (["1.0", "2.25", "10.0"], [1.0, 2.25, 10.0], "number"),
        (["1.50", "2", "-0.25"], ["1.50", "2", "-0.25"], "string"),
        (["1.1", "1.10"], ["1.1", "1.10"], "string"),
        (["1", "1.0"], ["1", "1.0"], "string"),
        (["01.50", "12.25"], ["01.50", "12.25"], "string"),
        (["-0", "1"], ["-0", "1"], "string"),
        ([".5", "1.5"], [".5", "1.5"], "string"),
        (["0.30000000000000004"], [0.30000000000000004], "number"),
        (["true", "FALSE"], [True, False], "boolean"),
        (["007", "123"], ["007", "123"], "string"),
        (["12345678901234567890"], ["12345678901234567890"], "string"),
        (["1.00000000000000000001"], ["1.00000000000000000001"], "string"),
        (["1e5", "3"], ["1e5", "3"], "string"),
        (["nan", "1"], ["nan", "1"], "string"),
        (["1,5", "2,5"], ["1,5", "2,5"], "string"),
        (["+1", "2"], ["+1", "2"], "string"),
        (["t", "f"], ["t", "f"], "string"),
        (["2024-02-31"], ["2024-02-31"], "string"),
        (["1", "x"], ["1", "x"], "string"),
        *(([text, "1"], [text, "1"], "string") for text in ("1" * 99 + "x", "1" * 100 + "x", "1." + "5" * 99)),
        (["", ""], [None, None], "string"),
    ],
)
def test_a_column_has_a_type_only_if_the_type_gives_every_text_back(
    tmp_path: Path, texts: list[str], values: list[Any], kind: str
) -> None:
    cells = "".join(f'"{text}",x\n' if text else ",x\n" for text in texts)
    with opened(file(tmp_path, f"a,b\n{cells}")) as source:
        assert source.columns["a"] == {"type": ["null", kind]}
        rows = rows_of(source)
        assert [row["a"] for row in rows] == values
        assert [row["a"] is None or text(row["a"]).lower() for row in rows] == [each.lower() or True for each in texts]


def test_dates_and_times_keep_their_text_and_are_declared_where_it_is_iso_8601(tmp_path: Path) -> None:
    header = "d,t,z,s\n"
    first = "2024-01-31,2024-01-31T10:00:00,2024-01-31T10:00:00+02:00,2024-01-31 10:00\n"
    path = file(tmp_path, f"{header}{first},2024-01-31T10:00:00.5,,2024-01-31T10:00:00\n")
    with opened(path) as source:
        assert source.columns == {
            "d": {"type": ["null", "string"], "format": "date"},
            "t": {"type": ["null", "string"], "format": "date-time", "airbyte_type": "timestamp_without_timezone"},
            "z": {"type": ["null", "string"], "format": "date-time", "airbyte_type": "timestamp_with_timezone"},
            "s": {"type": ["null", "string"]},
        }
        assert rows_of(source) == [
            {
                "d": "2024-01-31",
                "t": "2024-01-31T10:00:00",
                "z": "2024-01-31T10:00:00+02:00",
                "s": "2024-01-31 10:00",
            },
            {"d": None, "t": "2024-01-31T10:00:00.5", "z": None, "s": "2024-01-31T10:00:00"},
        ]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("sep=;\nid;name\n00123;Ann\n", [{"id": "00123", "name": "Ann"}]),
        ("\ufeffsep=;\r\nid;name\r\n00123;Ann\r\n", [{"id": "00123", "name": "Ann"}]),
        ("sep=; \nid;name\n00123;Ann\n", [{"id": "00123", "name": "Ann"}]),
        ('"sep=|"\na|b,c\n1|2\n', [{"a": 1, "b,c": 2}]),
        ("sep=\t\na\tb\n1\tx,y\n", [{"a": 1, "b": "x,y"}]),
        (
            "id;price (net, EUR)\n1;2.50\n2;3.10\n",
            [{"id": 1, "price (net, EUR)": 2.5}, {"id": 2, "price (net, EUR)": 3.1}],
        ),
        ("a|b;c\n1;2|3\n4|5\n", [{"a": "1;2", "b;c": 3}, {"a": "4", "b;c": 5}]),
        ("a\tb, c\n1\t2\n", [{"a": 1, "b, c": 2}]),
    ],
)
def test_the_separator_is_what_a_first_line_says_or_all_rows_agree_on(
    tmp_path: Path, content: str, rows: list[dict[str, Any]]
) -> None:
    assert table(file(tmp_path, content)) == rows


@pytest.mark.parametrize(
    "content",
    ["id;price (EUR, net);note\n1;2,50;x\n", 'id;"Name, first";price (EUR, net)\n1;Ann;2,50,\n', "a,b;c\n1\n"],
)
def test_a_file_whose_separator_stays_doubtful_is_refused_with_the_choice_to_make(tmp_path: Path, content: str) -> None:
    path = file(tmp_path, content)
    with pytest.raises(
        ConfigError, match=r'may be separated by ",", ";".* --csv-delimiter or `delimiter` in the input'
    ):
        table(path)
    if "\n1;" in content:
        assert len(table(path, delimiter=";")[0]) == 3


@pytest.mark.parametrize("delimiter", ["ab", '"', "\n", "é"])
def test_a_delimiter_that_is_none_is_refused(delimiter: str) -> None:
    with pytest.raises(ValidationError, match="is not a delimiter"):
        files.Options(path="x.csv", delimiter=delimiter)


def test_typing_takes_as_many_statements_for_a_thousand_columns_as_for_ten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    run = Database.run

    def counted(self: Database, statement: Any, parameters: Any = None) -> list[tuple[Any, ...]]:
        statements.append(str(statement))
        return run(self, statement, parameters)

    monkeypatch.setattr(Database, "run", counted)
    counts = {}
    for columns in (10, 1_000):
        cells = ["1", "2.5", "true", "2024-01-31", "x"] * (columns // 5)
        path = file(tmp_path, f"{','.join(f'q{i}' for i in range(columns))}\n{','.join(cells)}\n")
        statements.clear()
        with opened(path) as source:
            assert len(source.columns) == columns
        counts[columns] = len(statements)
        assert max(map(len, statements)) < 40 * columns + 1_000
    assert counts[10] == counts[1_000]


def test_no_large_cell_leaves_the_database_to_find_its_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    run = Database.run

    def seen(self: Database, *arguments: Any) -> list[tuple[Any, ...]]:
        rows = run(self, *arguments)
        found.extend(len(cell) for row in rows for cell in row if isinstance(cell, str))
        return rows

    monkeypatch.setattr(Database, "run", seen)
    with opened(file(tmp_path, "a,b\n" + f"{'x' * 50_000},1\n" * 9)) as source:
        assert [len(row["a"]) for row in rows_of(source)] == [50_000] * 9
    assert found
    assert max(found) <= 100


def test_types_come_from_the_whole_file(tmp_path: Path) -> None:
    path = file(tmp_path, "a\n" + "1\n" * 30_000 + "x\n")
    with opened(path) as source:
        assert source.columns["a"] == {"type": ["null", "string"]}
        assert source.rows == 30_001


def test_a_cell_of_many_megabytes_is_read(tmp_path: Path) -> None:
    path = file(tmp_path, f'a,b\n1,"{"é" * 4_500_000}"\n2,y\n')
    assert [(row["a"], len(row["b"])) for row in table(path)] == [(1, 4_500_000), (2, 1)]


@pytest.mark.parametrize("name", ["a[1].csv", "it's.csv", "x.CSV", "with space.csv", "ünï.csv", "*.csv"])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    assert table(file(tmp_path, "a\n1\n", name)) == [{"a": 1}]


def test_tsv_and_compressed_files_are_recognized_by_their_names(tmp_path: Path) -> None:
    assert table(file(tmp_path, "a\tb\n1\tx,y\n", "in.tsv")) == [{"a": 1, "b": "x,y"}]
    assert table(file(tmp_path, gzip.compress(b"a\n1\n"), "in.csv.gz")) == [{"a": 1}]
    duckdb.execute(f"COPY (SELECT 1 AS a) TO '{tmp_path / 'in.csv.zst'}' (FORMAT csv, COMPRESSION zstd)")
    assert table(tmp_path / "in.csv.zst") == [{"a": 1}]
    assert table(file(tmp_path, "a\n1\n", "in.txt"), format="csv") == [{"a": 1}]


def test_several_files_are_one_table_by_the_names_of_their_columns(tmp_path: Path) -> None:
    file(tmp_path, "b,a\n2,1\n", "2.csv")
    file(tmp_path, gzip.compress(b"a,c\n007,x\n"), "1.csv.gz")
    assert table(tmp_path / "*.csv*") == [{"a": "007", "c": "x", "b": None}, {"a": "1", "c": None, "b": 2}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n1,2,3\n", r"in.csv: row 3 .* has 3 cells, and the header has 2"),
        (b"a,b\n" + b"1,2\n" * 30_000 + b"1\n", r"in.csv: row 30002 .* has 1 cells"),
        (b"a\nGood, but\n", r"in.csv: row 2 .* has 2 cells, and the header has 1"),
        (b'a,b\n1,"x\n2,y\n', r"in.csv: line 2 has a quote that is not closed"),
        (b'a,b\n1,"x"y\n', r"in.csv: row 2 .* text after a closing one"),
        (b"a,b\n1,2\n1,caf\xe9\n", r"in.csv: line 3 is not UTF-8"),
        (b"a,b\n" + b"1,2\n" * 300_000 + b"1,caf\xe9\n", r"in.csv: row 300002 .* is not UTF-8"),
        (b'a,b\n1,"x\ny"\n2', r"in.csv: line 4 ends after 1 of 2 cells: the end of the file is missing"),
        (b'a,b\n1,"x\ny"\n2,x\n"3', r"in.csv: line 5 has a quote that is not closed"),
        (b"a,b\r\n1,2\n3,4\r\n", r"in.csv: a row is not CSV .* one kind of line end"),
        (b"a,b,a\n1,2,3\n", r'in.csv: there are two columns "a": rename'),
        (b"\na,b\n1,2\n", r"in.csv: the first line is empty"),
        (b"x" * 200_000, r"in.csv: the first line is not the header of a CSV file"),
    ],
)
def test_broken_csv_is_refused_with_file_row_and_what_to_do(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message), opened(file(tmp_path, content)):
        pass


def test_an_error_does_not_quote_a_whole_row(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught, opened(file(tmp_path, f"a,b\n1,2,{'secret ' * 10_000}\n")):
        pass
    assert len(caught.value.detail) <= 1_000
    assert "secret" not in str(caught.value)


def test_a_limit_ends_the_reading_over_all_files(tmp_path: Path) -> None:
    for number in range(3):
        file(tmp_path, "a\n1\n2\n", f"{number}.csv")
    with opened(tmp_path / "*.csv", limit=3) as source:
        assert source.rows == 3
        assert rows_of(source) == [{"a": 1}, {"a": 2}, {"a": 1}]


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.tuples(CELLS, CELLS), max_size=20), st.sampled_from(["\n", "\r\n"]))
def test_whatever_text_a_csv_writer_wrote_is_read(rows: list[tuple[str, str]], end: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.csv"
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator=end, quoting=csv.QUOTE_ALL)
            writer.writerows([("first column", "second column"), *((f"x{a}", f"x{b}") for a, b in rows)])
        assert [tuple(row.values()) for row in table(path)] == [(f"x{a}", f"x{b}") for a, b in rows]


NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=2).map(lambda value: format(value, "f")),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["", "007", "1.10", "1.1", "-0", "TRUE", "true", "2024-01-31", "2024-01-31 10:00", "x"]),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(NUMBERS, min_size=1, max_size=6))
def test_whatever_type_a_column_has_each_cell_inside_a_text_is_its_own_text(texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = file(Path(folder), "a,b\n" + "".join(f"{each},x\n" for each in texts))
        with opened(path) as source:
            rows = rows_of(source)
            for row in rows:
                jsonschema.validate(orjson.loads(numbers.dumps(row["a"])), source.columns["a"])
        assert ["" if row["a"] is None else text(row["a"]) for row in rows] == texts


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("within", ["\n", "\r\n", "\r", ""])
@pytest.mark.parametrize("cell", ["1", '"1\n2"', '"1\r\n2"'])
def test_a_line_end_in_the_header_is_part_of_the_name(tmp_path: Path, end: str, within: str, cell: str) -> None:
    """As spreadsheets write it: DuckDB then took it for the end of all lines, and silently read no row."""
    path = tmp_path / "in.csv"
    path.write_bytes(f'"a{within}b",c{end}{cell},2{end}3,4{end}'.encode())
    assert table(path) == [{f"a{within}b": _cell(cell), "c": 2}, {f"a{within}b": "3" if "2" in cell else 3, "c": 4}]


def _cell(cell: str) -> Any:
    return cell.strip('"') if "2" in cell else int(cell)


@pytest.mark.parametrize("text", ['"a\nb",c\r\n1,2\n3,4\n', "a,b\r\n1,2\n3,4\n", "a,b\r1,2\n"])
def test_line_ends_of_several_kinds_lose_no_row_silently(tmp_path: Path, text: str) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(text.encode())
    with pytest.raises(ConfigError, match="line end"):
        table(path)
