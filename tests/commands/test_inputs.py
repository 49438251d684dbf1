"""What may be enriched: files, globs and standard input, several of them, whatever their format and encoding."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from connector import cli
from tests.endpoint import Endpoint

TABLE = "id,text\n1,Café\n2,Tee\n"
ROWS = [{"id": 1, "text": "Café"}, {"id": 2, "text": "Tee"}]


@pytest.fixture
def folder(tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and an endpoint in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    monkeypatch.setenv("OPENAI_MODEL", "m")
    return tmp_path


def enriched(*words: str) -> list[dict[str, Any]]:
    """The input's columns in the output of a run."""
    assert cli.run(["enrich", *words, "-o", "out.jsonl", "--prompt", "{{ text }}", "--quiet"]) == 0
    lines = map(json.loads, Path("out.jsonl").read_text(encoding="utf-8").splitlines())
    return [{name: value for name, value in row.items() if name not in ("content", "_llm")} for row in lines]


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.run(["enrich", *words, "-o", "out.jsonl", "--prompt", "{{ text }}"]) == 2
    return capsys.readouterr().err


def pipe(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets standard input hold these bytes."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (TABLE.encode(), ["--input-format", "csv"]),
        (TABLE.replace(",", "\t").encode(), ["--input-format", "tsv"]),
        (TABLE.replace(",", ";").encode(), ["--input-format", "csv"]),
        (TABLE.replace(",", "!").encode(), ["--input-format", "csv", "--csv-delimiter", "!"]),
        (TABLE.replace("\n", "\r\n").encode("utf-8-sig"), ["--input-format", "csv"]),
        (TABLE.encode("utf-16"), ["--input-format", "csv"]),
        (TABLE.encode("latin-1"), ["--input-format", "csv", "--encoding", "latin-1"]),
        (gzip.compress(TABLE.encode(), mtime=0), ["--input-format", "csv"]),
        (json.dumps(ROWS).encode(), ["--input-format", "json"]),
        ("\n".join(map(json.dumps, ROWS)).encode(), []),
        ("\n".join(map(json.dumps, ROWS)).encode("utf-16"), ["--encoding", "utf-16"]),
    ],
)
def test_rows_come_from_standard_input_in_any_format(
    content: bytes, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(content, monkeypatch)
    assert enriched("-", *words) == ROWS


@pytest.mark.usefixtures("folder")
def test_parquet_comes_from_standard_input_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    parquet.write_table(pa.Table.from_pylist(ROWS), content := io.BytesIO())
    pipe(content.getvalue(), monkeypatch)
    assert enriched("-", "--input-format", "parquet") == ROWS


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("content", "words", "told"),
    [
        (TABLE.encode(), [], "standard input, line 1, column 1: this is not JSON"),
        (TABLE.encode(), [], "give its format with --input-format, such as csv"),
        (
            b"id,text\n1,a,b\n",
            ["--input-format", "csv"],
            "standard input: row 2 (the header is row 1) has",
        ),
        (
            TABLE.encode("latin-1"),
            ["--input-format", "csv"],
            "standard input: line 2 is not UTF-8: name its",
        ),
    ],
)
def test_what_is_wrong_with_standard_input_is_reported_by_its_place(
    content: bytes,
    words: Sequence[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pipe(content, monkeypatch)
    assert told in refused(capsys, "-", *words)


def test_several_inputs_are_one_table_in_their_order(folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "b.csv").write_text("text,id\nB,1\n")
    (folder / "a.csv").write_text("id,text,extra\n2,A,x\n")
    (folder / "more" / "c.csv").write_bytes(b"id,text\r\n3,C\r\n")
    (folder / "more" / "d.csv.gz").write_bytes(gzip.compress(b"id;text\n4;D\n"))
    expected = [
        {"text": "B", "id": 1, "extra": None},
        {"text": "A", "id": 2, "extra": "x"},
        {"text": "C", "id": 3, "extra": None},
        {"text": "D", "id": 4, "extra": None},
    ]
    assert enriched("b.csv", "a.csv", "more/*.csv*") == expected
    assert enriched("b.csv", "--limit", "9", "a.csv", "more/*.csv*", "b.csv") == expected


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet"])
def test_rows_that_fail_are_reported_by_their_file_and_what_it_lacks(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables: dict[str, list[dict[str, Any]]] = {
        "a": [{"id": 1, "text": "a"}, {"id": 2, "text": None}],
        "b": [{"id": 3, "body": "b"}, {"id": 4, "body": "c"}],
        "c": [{"id": 5, "text": "[[fault:400]]"}],
    }
    for stem, rows in tables.items():
        if name == "parquet":
            parquet.write_table(pa.Table.from_pylist(rows), folder / f"{stem}.parquet")
        elif name == "csv":
            lines = [",".join(rows[0]), *(",".join("" if v is None else str(v) for v in row.values()) for row in rows)]
            (folder / f"{stem}.csv").write_text("\n".join(lines) + "\n")
        else:
            (folder / f"{stem}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [f"{stem}.{name}" for stem in tables]
    rest = ["-o", "out.jsonl", "--prompt", "{{ text }}"]
    assert cli.run(["enrich", *words, *rest]) == 2
    said = capsys.readouterr().err
    assert f'text is null in prompt → use {{{{ text | default("…") }}}} (a.{name} row 2)' in said
    assert f'prompt: b.{name} has no column "text", as other inputs have; there are: body, id' in said
    assert f"(b.{name} row 1, b.{name} row 2)" in said
    assert cli.run(["enrich", *words, *rest, "--max-template-error-percent", "100"]) == 0
    assert f"(c.{name} row 1)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "good", "bad", "told"),
    [
        (
            "csv",
            "id,text\n1,a\n",
            "id,text\n1,a\n2,b,c\n",
            "b.csv: row 3 (the header is row 1) has 3 cells, and the header has 2",
        ),
        ("csv", "id,text\n1,a\n", 'id,text\n1,a\n2,"b\n', "b.csv: line 3 has a quote that is not closed"),
        ("jsonl", '{"text": "a"}\n', '{"text": "a"}\n{"text"\n', "b.jsonl, line 2, column 8: this is not JSON"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_broken_row_is_reported_by_its_own_file_and_line(
    name: str, good: str, bad: str, told: str, encoding: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / f"a.{name}").write_text(good, encoding=encoding)
    (folder / f"b.{name}").write_text(bad, encoding=encoding)
    said = refused(capsys, f"a.{name}", f"b.{name}")
    assert told in said
    assert f"a.{name}" not in said


def test_inputs_that_do_not_go_together_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.csv").write_text(TABLE)
    (folder / "b.jsonl").write_text('{"text": "a"}\n')
    assert "files of several formats (csv, jsonl): give those of one format" in refused(capsys, "a.csv", "b.jsonl")
    assert "- is standard input, which stands alone" in refused(capsys, "a.csv", "-")
    assert 'there is no such file: did you mean "a.csv"?' in refused(capsys, "aa.csv")


def test_the_format_may_be_given_where_the_name_does_not_say(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.txt").write_text(TABLE)
    (folder / "a.xlsx").write_bytes(b"PK\x03\x04")
    assert "or give --input-format" in refused(capsys, "a.txt")
    assert 'save as "CSV UTF-8"' in refused(capsys, "a.xlsx")
    assert enriched("a.txt", "--input-format", "csv") == ROWS


def test_a_name_with_spaces_and_without_quotes_is_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "my reviews.csv").write_text(TABLE)
    assert 'put quotes around a name with spaces: "my reviews.csv"' in refused(capsys, "my", "reviews.csv")


@pytest.mark.usefixtures("folder")
def test_whoever_forgets_the_pipe_is_told_that_rows_are_awaited(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Terminal(b'{"text": "a"}\n')))
    assert enriched("-") == [{"text": "a"}]
    assert "rows are read from the terminal: end them with Ctrl-D, or pipe them in" in caplog.text
