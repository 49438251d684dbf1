"""The text of what servers send, in whichever charset it is."""

from __future__ import annotations

import codecs
from contextlib import suppress
from encodings.aliases import aliases
from typing import Final

from connector.base.regex import regex

_UTF_8_LETTER: Final = regex(rb"[\xc3-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_CHARSETS: Final = frozenset({*aliases, *aliases.values(), "koi8_u", "cp874", "utf_8_sig"})
"""Python's text codecs that have aliases. Of the others, `punycode` takes hours for megabytes. Python is not asked for
further names, since it caches every name that it does not know."""
_CHARSET: Final = regex(r"""[;,\s]charset\s*=\s*["']?([^\s"',;]+)""")
_LATIN_1, _WINDOWS, _UTF_8 = "latin_1", "cp1252", "utf_8"
_MISUSED: Final = frozenset({"", _UTF_8, "ascii"})  # how servers declare texts in Windows-1252, if at all
_MARKS: Final = (  # the longer ones first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WIDE: Final = {
    b"\0\0\0\1": "utf-32-be",
    b"\0\1\0\1": "utf-16-be",
    b"\1\0\0\0": "utf-32-le",
    b"\1\0\1\0": "utf-16-le",
}
"""Encodings by which of the first four bytes are not zero, since JSON begins with ASCII (RFC 4627, section 3)."""


def decoded_text(data: bytes, content_type: str = "") -> tuple[str, bool]:
    """Returns the text of a body, and whether every character is certain.

    The byte order mark or the places of zero bytes decide, then the charset of the content type, then
    UTF-8. Latin-1 is read as Windows-1252, a superset, and so is a body with bytes above ASCII but no character of
    UTF-8, unless another charset is declared (WHATWG Encoding, section 4.2).
    """
    seen = next((name for mark, name in _MARKS if data.startswith(mark)), _WIDE.get(bytes(map(bool, data[:4]))))
    found = _CHARSET.findall(content_type.lower())
    named = found[-1].replace("-", "_") if found else ""  # the last of several, as in WHATWG Fetch
    charset = aliases.get(named, named)
    charset = _WINDOWS if charset == _LATIN_1 else charset
    known = charset if charset.replace("-", "_") in _CHARSETS else ""
    guessed = _WINDOWS if charset in _MISUSED and not _UTF_8_LETTER.search(data) else ""
    for each in (seen,) if seen else filter(None, (known, _UTF_8, guessed)):
        with suppress(LookupError, ValueError):  # a codec of Python that is not for text: `base64`
            return data.decode(each), True
    return data.decode(seen or _UTF_8, "replace"), False  # wide letters also if cut: secrets are masked as letters
