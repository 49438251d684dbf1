"""JSON lines in a private file: rows wait here until all of them are there, or until somebody has time for them."""

from __future__ import annotations

import base64
from array import array
from collections.abc import Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from itertools import repeat
from pathlib import Path
from typing import Any, Final, Self

import orjson

from connector.decoding import is_too_deep
from connector.errors import ConfigError, StorageError
from connector.stores._shapes import Shape, check_names

_OPTIONS: Final = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
_STRICT: Final = _OPTIONS | orjson.OPT_STRICT_INTEGER
BUFFER: Final = 1 << 18
"""Bytes that are written at once."""

_INT64: Final = 1 << 63
UINT64: Final = 1 << 64
"""The integers below it are all that orjson writes."""

_ABSENT: Final = -1
_FULL: Final = ("No space left", "Disk quota", "File too large")


def encode(row: Mapping[str, Any], below: int = _INT64) -> tuple[bytes, Mapping[str, Any]]:
    """A row as a line of JSON, and as it stands there.

    Times become ISO 8601 text, bytes base64, NaN null, decimals numbers where a number holds all their digits and text
    elsewhere. Integers that are not `below` become text, halves of surrogate pairs U+FFFD: others could not read them.
    """
    try:
        return orjson.dumps(row, default=_plain, option=_STRICT if below == _INT64 else _OPTIONS), row
    except TypeError:
        tidy = {_tidy(key, below): _tidy(value, below) for key, value in row.items()}
        return orjson.dumps(tidy, default=_plain, option=_OPTIONS), tidy


def is_full(error: Exception) -> bool:
    """Whether this is about a disk that takes no more."""
    return any(sign in str(error) for sign in _FULL)


def no_room(error: Exception, directory: Path) -> StorageError:
    """The error for a place that takes no more."""
    return StorageError(
        f"Nothing more can be written in {directory}. Free some space there, or name another directory for temporary "
        "files in TMPDIR, and run it again.",
        detail=str(error),
    )


def decode(text: bytes | str, place: str, number: int) -> dict[str, Any]:
    """The object that a text is. It stands in `place` with this number, as in `reviews.jsonl, line` 7.

    Raises:
        ConfigError: it is none.
    """
    try:
        row = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if "UTF-8" in error.msg:
            raise ConfigError(f"{place} {number} is not UTF-8. Write it as UTF-8.") from error
        raise ConfigError(
            f"{place} {number}, column {error.colno}: this is not JSON ({error.msg}). One object a line."
        ) from error
    if is_too_deep(row, text):
        raise ConfigError(f"{place} {number} is nested too deeply. Make the inner objects and lists texts.")
    if not isinstance(row, dict):
        raise ConfigError(f'{place} {number}: a JSON object is expected, such as {{"id": 1}}.')
    return row


def _tidy(value: Any, below: int) -> Any:
    if isinstance(value, Mapping):
        return {_tidy(str(key), below): _tidy(item, below) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_tidy(item, below) for item in value]
    if isinstance(value, int) and not -_INT64 <= value < below:
        return str(value)
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _plain(value: Any) -> Any:
    """A value that JSON does not know as one that it does."""
    if isinstance(value, Decimal):
        if not value.is_finite():
            return None
        if value.as_tuple().exponent == 0:
            return int(value) if -_INT64 <= value < _INT64 else str(value)
        return float(value) if Decimal(repr(float(value))) == value else str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, (set, frozenset)):
        return list(value)
    return str(value)


class Spool:
    """Rows that are written in any order and read in the order of their index. `shape` learns what they look like.

    `columns_of` is where their keys are going to be columns, if they have to be, and `below` bounds the integers that
    stay numbers. `longest` is how many bytes the longest line has.
    """

    def __init__(
        self, path: Path, shape: Shape | None = None, columns_of: Path | None = None, below: int = _INT64
    ) -> None:
        self.shape = shape
        self._below = below
        self._columns_of = columns_of
        self._width = 0
        self._place = path.parent.parent  # of the private directory
        self._file = path.open("w+b", buffering=BUFFER)
        self._places = array("q")
        self._end = 0
        self.longest = 0

    def close(self) -> None:
        """Let go of the file; what could not be written has been told, or is not wanted any more."""
        with suppress(OSError):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """One more than the highest index."""
        return len(self._places)

    def write(self, index: int, row: Mapping[str, Any]) -> None:
        """Keep a row at `index`.

        Raises:
            ConfigError: its keys cannot be columns beside those of the others.
            StorageError: the disk takes no more.
        """
        line, row = encode(row, self._below)
        if self.shape is not None:
            self.shape.learn(row)
            if self._columns_of and len(self.shape.fields) != self._width:
                self._width = len(self.shape.fields)
                check_names(self.shape.fields, str(self._columns_of))
        places = self._places
        if index < len(places):
            places[index] = self._end
        else:
            places.extend(repeat(_ABSENT, index - len(places)))
            places.append(self._end)
        try:
            self._file.write(line)
        except OSError as error:
            raise no_room(error, self._place) from error
        self._end += len(line)
        self.longest = max(self.longest, len(line))

    def flush(self) -> None:
        """Make sure that all rows are in the file, for who reads that.

        Raises:
            StorageError: the disk takes no more.
        """
        try:
            self._file.flush()
        except OSError as error:
            raise no_room(error, self._place) from error

    def lines(self, gap: bytes = b"") -> Iterator[bytes]:
        """All lines in order, `gap` where there is none at an index.

        Raises:
            StorageError: the disk takes no more.
        """
        self.flush()
        file = self._file
        for place in self._places:
            if place == _ABSENT:
                yield gap
            else:
                file.seek(place)
                yield file.readline()
