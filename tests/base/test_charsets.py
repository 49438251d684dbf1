"""The text of what servers send."""

from __future__ import annotations

from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE

import pytest

from connector.base.charsets import decoded_text


@pytest.mark.parametrize(
    ("data", "content_type", "expected"),
    [
        (b"", "", ("", True)),
        ("é".encode(), "", ("é", True)),
        (b"\xe9", "", ("é", True)),
        (b"\xe9", "text/plain; charset=ISO-8859-1", ("é", True)),
        ("Жук".encode("cp1251"), "text/plain; Charset=Windows-1251", ("Жук", True)),
        ("é".encode() + b"\xe9", "", ("é\ufffd", False)),
        (b"ok", "text/plain; charset=base64", ("ok", True)),
        (BOM_UTF8 + b"\xff", "text/plain; charset=windows-1252", ("\ufffd", False)),
        (BOM_UTF16_LE + "é".encode("utf-16-le"), "text/plain; charset=utf-8", ("é", True)),
        (BOM_UTF16_BE + "é".encode("utf-16-be") + b"\0", "", ("é\ufffd", False)),
        ("key".encode("utf-16-le") + b"s", "TEXT/PLAIN; CHARSET=UTF-8", ("key\ufffd", False)),
    ],
)
def test_the_mark_or_the_zeros_count_then_the_charset_then_utf_8(
    data: bytes, content_type: str, expected: tuple[str, bool]
) -> None:
    assert decoded_text(data, content_type) == expected
