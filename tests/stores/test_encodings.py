"""Texts in other encodings: read as what they are, or refused with what to do."""

from __future__ import annotations

import codecs
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connector.base.errors import ConfigError
from connector.base.records import Record
from connector.stores import files
from connector.stores.staging.encodings import marked

TEXT = "id,text\n1,Café\n2,naïve\n"
LINES = '{"id": 1, "text": "Café"}\n{"id": 2, "text": "naïve"}\n'


def rows(path: Path, more: Sequence[Path] = (), **options: Any) -> list[dict[str, Any]]:
    chosen = files.Options(path=str(path), more=tuple(map(str, more)), **options)
    with files.source(chosen) as source:
        return [dict(item.data) for item in source.read() if isinstance(item, Record)]


@pytest.mark.parametrize(
    "encoding", ["latin-1", "cp1252", "mac-roman", "utf-16", "utf-16-le", "utf-32-be", "utf-8-sig"]
)
@pytest.mark.parametrize(("name", "text"), [("a.csv", TEXT), ("a.tsv", TEXT.replace(",", "\t")), ("a.jsonl", LINES)])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_text_is_read_in_the_encoding_that_is_given(
    encoding: str, name: str, text: str, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"{name}{suffix}"
    written = text.encode(encoding)
    path.write_bytes(gzip.compress(written) if suffix else written)
    assert rows(path, encoding=encoding) == [{"id": 1, "text": "Café"}, {"id": 2, "text": "naïve"}]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize(("name", "text"), [("a.csv", TEXT), ("a.jsonl", LINES), ("a.json", f"[{LINES[:26]}]")])
def test_a_byte_order_mark_tells_the_encoding(encoding: str, name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    assert rows(path)[0] == {"id": 1, "text": "Café"}


def test_the_order_of_bytes_is_that_of_the_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"))
    assert rows(path)[1] == {"id": 2, "text": "naïve"}


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(("name", "text"), [("a.csv", TEXT), ("a.csv", "x\n1\n"), ("a.jsonl", LINES)])
def test_utf16_without_a_mark_is_known_by_its_zeros(encoding: str, name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(text.encode(encoding))
    (tmp_path / f"u8-{name}").write_text(text, encoding="utf-8")
    assert rows(tmp_path / name) == rows(tmp_path / f"u8-{name}")


@pytest.mark.parametrize("head", [b"", b"a", b"a,b\n", b"\0\0\0\0", b"a\0b", b"a\0b,", b"\xef\xbb\xbfa"])
def test_other_beginnings_tell_no_encoding(head: bytes) -> None:
    assert marked(head) == ""


@given(texts=st.lists(st.text(st.characters(codec="cp1252", exclude_characters="\r\n\0"), min_size=1), max_size=5))
def test_whatever_an_encoding_can_write_comes_back(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("texts") / "a.csv"
    cells = (f'"{text.replace(chr(34), chr(34) * 2)}"\r\n' for text in texts)
    path.write_bytes("".join(["v\r\n", *cells]).encode("cp1252"))
    given_back = [str(row["v"]) for row in rows(path, encoding="cp1252")]
    assert [text.casefold() for text in given_back] == [text.casefold() for text in texts]  # True is a boolean


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_what_is_not_utf8_is_reported_with_its_line_and_what_to_do(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes((TEXT if name == "a.csv" else LINES).encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        rows(path)
    assert str(path) in caught.value.message
    assert "is not UTF-8" in caught.value.message
    assert "--encoding" in caught.value.message
    assert "`encoding` in the input" in caught.value.message


def test_what_is_not_in_the_encoding_is_reported_with_its_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"v\n1\n")
    (tmp_path / "b.csv").write_bytes(b"v\n1\n2\n\x81\n")
    with pytest.raises(ConfigError, match=r"b\.csv: line 4 is not cp1252: ") as caught:
        rows(tmp_path / "a.csv", [tmp_path / "b.csv"], encoding="cp1252")
    assert "a.csv" not in caught.value.message


@pytest.mark.parametrize(("name", "meant"), [("latin1x", "latin1"), ("uft-8", "utf-8"), ("rot13", ""), ("hex", "")])
def test_an_encoding_that_is_none_is_refused(name: str, meant: str) -> None:
    with pytest.raises(ValidationError, match=f"is not an encoding of texts: .*{meant and f'did you mean .{meant}'}"):
        files.Options(path="a.csv", encoding=name)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04...", "an Excel workbook or a ZIP file"),
        (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
        (gzip.compress(b"a\n1\n", mtime=0), r"compressed with gzip: rename it to end in \.gz"),
        (b"PAR1", "a Parquet file"),
        (b"%PDF-1.7", "a PDF"),
        (b"SQLite format 3\0", "a SQLite database"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_file_that_is_not_text_is_named_for_what_it_is(content: bytes, what: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=what):
        rows(path)


def test_where_an_encoding_has_no_meaning_it_is_refused(tmp_path: Path) -> None:
    for name, why in (("a.parquet", "parquet has no encoding"), ("a.csv.zst", "decompress it first")):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(ConfigError, match=why):
            rows(tmp_path / name, encoding="latin-1")
    with (
        pytest.raises(ConfigError, match="an output is always UTF-8"),
        files.sink(files.Options(path=str(tmp_path / "o.csv"), encoding="latin-1"), {}),
    ):
        pass
