"""CSV that is safe to open: no cell is a formula for a spreadsheet, and numbers stay what they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.base.records import Record, Schema
from connector.stores import files
from connector.stores.formats.csv import safe_name
from tests.stores.helpers import cells, opened, parquet, table, text

ADDED: dict[str, Schema] = {
    "label": {"type": "string"},
    "score": {"type": "number"},
    "_llm": {"type": "object", "properties": {"m": {}}},
}


def write(source: Path, output: Path, value: str, *, safe: bool = True) -> None:
    options = files.Options(path=str(output), csv_safe=safe)
    with opened(source) as given, files.sink(options, ADDED, source=given) as sink:
        for item in given.read():
            if isinstance(item, Record):
                sink.write(item, {"label": value, "score": -2.5, "_llm": {"m": value}})
        sink.commit()


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠"])  # noqa: RUF001 - in full width, too
def test_a_cell_that_begins_like_a_formula_gets_a_quote(tmp_path: Path, start: str) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.csv"
    source.write_text('{"id": 1}\n')
    write(source, output, f"{start}SUM(A1)")
    assert cells(output)[1] == ["1", f"'{start}SUM(A1)", "-2.5", f"'{start}SUM(A1)"]


@pytest.mark.parametrize("value", ["-5", "+5", "-0.5e-3", "-.5", "a=1", "", "'=1", " =1", "1-1", "-inf"])
def test_numbers_and_what_is_not_a_formula_stay_as_they_are(tmp_path: Path, value: str) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.csv"
    source.write_text('{"id": 1}\n')
    write(source, output, value)
    assert cells(output)[1][1] == value


def test_input_columns_are_made_safe_and_keep_their_numbers(tmp_path: Path) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "out.tsv"
    source.write_text('=id,amount,zip,text,empty\n1,-1.50,007,"=HYPERLINK(""x"")",\n2,+3,008,@me,""\n')
    write(source, output, "fine")
    assert text(output).splitlines() == [
        "'=id\tamount\tzip\ttext\tempty\tlabel\tscore\t_llm_m",
        '1\t-1.50\t007\t"\'=HYPERLINK(""x"")"\t\tfine\t-2.5\tfine',
        '2\t+3\t008\t\'@me\t""\tfine\t-2.5\tfine',
    ]


def test_types_of_parquet_come_out_as_they_do_without_it(tmp_path: Path) -> None:
    source = parquet(
        tmp_path / "in.parquet",
        "SELECT -1.5::DECIMAL(9,2) AS d, DATE '2024-01-02' AS day, [-1, 2] AS list, {'a': '=1'} AS struct, "
        "NULL::INT AS nothing, '\\x01'::BLOB AS bytes, TRUE AS yes, 1e300 AS big",
    )
    for safe in (False, True):
        write(source, tmp_path / f"{safe}.csv", "fine", safe=safe)
    assert text(tmp_path / "True.csv") == text(tmp_path / "False.csv")


def test_by_default_cells_stay_as_they_are_and_other_formats_always_do(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"id": 1}\n')
    write(source, tmp_path / "out.csv", "=1", safe=False)
    assert cells(tmp_path / "out.csv")[1][1] == "=1"
    for ending in ("jsonl", "parquet"):
        write(source, tmp_path / f"out.{ending}", "=1")
        assert table(tmp_path / f"out.{ending}")[0]["label"] == "=1"


def test_reading_back_gives_the_quote(tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.csv"
    source.write_text('{"id": 1}\n')
    write(source, output, "=1")
    assert table(output)[0]["label"] == "'=1"


@settings(max_examples=200)
@given(st.text())
def test_a_name_is_safe_and_nothing_but_a_quote_is_added(name: str) -> None:
    safe = safe_name(name)
    assert safe in (name, f"'{name}")
    assert safe == name or name[0] in "=+-@\t\r\n\0＝＋－＠"  # noqa: RUF001 - in full width, too
