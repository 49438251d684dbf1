"""JSON lines in a private file: rows wait here until all of them are there, or until somebody has time for them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any, Final, Self

import orjson

from connector.base.decoding import is_too_deep
from connector.base.errors import ConfigError, StorageError
from connector.stores.staging.ordered import Ordered
from connector.stores.staging.shapes import Shape, check_names

_OPTIONS: Final = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
_STRICT: Final = _OPTIONS | orjson.OPT_STRICT_INTEGER
_INT64: Final = 1 << 63
UINT64: Final = 1 << 64
"""The integers below it are all that orjson writes."""

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
    stay numbers. `gap` is the line of a row that is left out. `longest` is how many bytes the longest line has.
    """

    def __init__(
        self,
        path: Path,
        shape: Shape | None = None,
        *,
        columns_of: Path | None = None,
        below: int = _INT64,
        gap: bytes = b"",
    ) -> None:
        self.shape = shape
        self._columns_of = columns_of
        self._below = below
        self._width = 0
        self._place = path.parent.parent  # of the private directory
        self._lines = Ordered(path, gap)
        self.longest = len(gap)

    def close(self) -> None:
        """Let go of the file."""
        self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """One more than the highest index."""
        return len(self._lines)

    def write(self, index: int, row: Mapping[str, Any] | None) -> None:
        """Keep a row at `index`; `None` is left out.

        Raises:
            ConfigError: its keys cannot be columns beside those of the others.
            StorageError: the disk takes no more.
        """
        try:
            if row is None:
                self._lines.leave_out(index)
                return
            line, row = encode(row, self._below)
            if self.shape is not None:
                self._learn(self.shape, row)
            self._lines.put(index, line)
        except OSError as error:
            raise no_room(error, self._place) from error
        self.longest = max(self.longest, len(line))

    def _learn(self, shape: Shape, row: Mapping[str, Any]) -> None:
        shape.learn(row)
        if self._columns_of and len(shape.fields) != self._width:
            self._width = len(shape.fields)
            check_names(shape.fields, str(self._columns_of))

    def finish(self) -> Path:
        """The file with all lines in order.

        Raises:
            StorageError: the disk takes no more.
        """
        try:
            return self._lines.finish()
        except OSError as error:
            raise no_room(error, self._place) from error

    def names(self) -> list[str]:
        """The keys of all rows, by the first row that has each: in whatever order the rows have come."""
        return list(dict.fromkeys(chain.from_iterable(map(orjson.loads, self.lines()))))

    def lines(self) -> Iterator[bytes]:
        """All lines in order. Raises as `finish`."""
        with self.finish().open("rb") as file:
            yield from file
