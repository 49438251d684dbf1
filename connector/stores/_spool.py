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
from connector.stores._shapes import Shape

_OPTIONS: Final = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
_STRICT: Final = _OPTIONS | orjson.OPT_STRICT_INTEGER
_BUFFER: Final = 1 << 18
_INT64: Final = 1 << 63
_ABSENT: Final = -1


def encode(row: Mapping[str, Any]) -> tuple[bytes, Mapping[str, Any]]:
    """A row as a line of JSON, and as it stands there.

    Times become ISO 8601 text, bytes base64, NaN null, decimals numbers where a number holds all their digits and text
    elsewhere. Integers beyond 64 bits become text, halves of surrogate pairs U+FFFD: others could not read them.
    """
    try:
        return orjson.dumps(row, default=_plain, option=_STRICT), row
    except TypeError:
        tidy = {_tidy(key): _tidy(value) for key, value in row.items()}
        return orjson.dumps(tidy, default=_plain, option=_OPTIONS), tidy


def no_room(error: Exception, directory: Path) -> StorageError:
    """The error for a place that takes no more."""
    return StorageError(
        f"Nothing more can be written in {directory}. Free some space there, or name another directory for temporary "
        "files in TMPDIR, and run it again.",
        detail=str(error),
    )


def decode(text: bytes | str, where: str) -> dict[str, Any]:
    """The object that a text is.

    Raises:
        ConfigError: it is none.
    """
    try:
        row = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if "UTF-8" in error.msg:
            raise ConfigError(f"{where} is not UTF-8. Write it as UTF-8.") from error
        raise ConfigError(
            f"{where}, column {error.colno}: this is not JSON ({error.msg}). One object a line."
        ) from error
    if is_too_deep(row, text):
        raise ConfigError(f"{where} is nested too deeply. Make the inner objects and lists texts.")
    if not isinstance(row, dict):
        raise ConfigError(f'{where}: a JSON object is expected, such as {{"id": 1}}.')
    return row


def _tidy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_tidy(str(key)): _tidy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_tidy(item) for item in value]
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
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

    `longest` is how many bytes the longest line has.
    """

    def __init__(self, path: Path, shape: Shape | None = None) -> None:
        self.shape = shape
        self._place = path.parent.parent  # of the private directory
        self._file = path.open("w+b", buffering=_BUFFER)
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
            StorageError: the disk takes no more.
        """
        line, row = encode(row)
        if self.shape is not None:
            self.shape.learn(row)
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
