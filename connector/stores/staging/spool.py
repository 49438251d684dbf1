"""Rows that wait as JSON lines in a private file until all of them have come."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any, Final, Self

import orjson

from connector.base import numbers
from connector.base.decoding import is_too_deep
from connector.base.errors import ConfigError, StorageError
from connector.base.numbers import Number, Truth
from connector.base.records import BAD_INPUT, OnBadInput
from connector.base.values import NATIVE, json_form, key_text
from connector.stores.staging.encodings import ADVICE
from connector.stores.staging.ordered import Ordered
from connector.stores.staging.shapes import Digits, LongInteger, Shape, Table, Wide

_OPTIONS: Final = orjson.OPT_APPEND_NEWLINE | NATIVE
_TYPED: Final = _OPTIONS | orjson.OPT_STRICT_INTEGER  # refuses integers that a double does not hold
_INT53: Final = 1 << 53
_INT64: Final = 1 << 63

_FULL: Final = ("No space left", "Disk quota", "File too large")


def encode(row: Mapping[str, Any], *, is_typed: bool = False) -> tuple[bytes, Mapping[str, Any]]:
    """Returns a row as a line of JSON, and the values that the line holds.

    Times become ISO 8601 text, bytes base64, NaN null, lone surrogates U+FFFD. Numbers keep their digits. If
    `is_typed`, those that neither a 64-bit integer nor a double holds become text, as no typed column holds them.
    """
    try:
        if is_typed:
            return orjson.dumps(row, _typed_value, _TYPED), row
        return numbers.dumps(row, _json_value, _OPTIONS), row
    except TypeError:
        tidy = {_text(key_text(key)): _tidy(value, is_typed=is_typed) for key, value in row.items()}
        return numbers.dumps(tidy, _json_value, _OPTIONS), tidy


def is_full(error: Exception) -> bool:
    """Returns whether an error is about a full disk."""
    return any(sign in str(error) for sign in _FULL)


def no_room(error: Exception, directory: Path) -> StorageError:
    """Returns the error for a full disk."""
    return StorageError(
        f"{directory}: nothing more can be written there: free some space, or set TMPDIR to another directory for "
        "temporary files, and run it again",
        detail=str(error),
    )


def decode(text: bytes | str, place: str, number: int, on_bad: OnBadInput = "fail") -> dict[str, Any]:
    """Returns the JSON object in a text. Errors name it by `place` and `number`, as in `reviews.jsonl, line` 7.

    A row that cannot be sent has the key `BAD_INPUT`, which says why: one with a lone surrogate, which JSON can write
    but is not valid Unicode; and if `on_bad` is `record`, whatever is not a JSON object.

    Raises:
        ConfigError: It is not a JSON object, and `on_bad` is `fail`.
    """
    try:
        return _object(text, place, number)
    except ConfigError as error:
        if (halved := _halved(text)) is not None:
            what = "a text holds half of a character (a lone surrogate), which is not valid Unicode"
            return {**halved, BAD_INPUT: f"{place} {number}: {what}: write the whole character"}
        if on_bad == "fail":
            raise
        return {BAD_INPUT: error.message}


def _halved(text: bytes | str) -> dict[str, Any] | None:
    """Returns the object in a text whose only fault is lone surrogates, with U+FFFD in their place; else `None`."""
    try:
        row = json.loads(text, parse_float=numbers.exact)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or is_too_deep(row, text):
        return None
    _, tidy = encode(row)
    return None if tidy is row else dict(tidy)


def _object(text: bytes | str, place: str, number: int) -> dict[str, Any]:
    try:
        row = numbers.loads(text)
    except orjson.JSONDecodeError as error:
        if "UTF-8" in error.msg:
            raise ConfigError(f"{place} {number}: this is not UTF-8: {ADVICE}") from error
        raise ConfigError(
            f"{place} {number}, column {error.colno}: this is not JSON ({error.msg}): write one object a line"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{place} {number}: {error}") from error
    if is_too_deep(row, text):
        raise ConfigError(f"{place} {number}: it is nested too deeply: write the inner objects and lists as texts")
    if not isinstance(row, dict):
        raise ConfigError(f'{place} {number}: this is not a JSON object: write one, such as {{"id": 1}}')
    return row


def _tidy(value: Any, *, is_typed: bool) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return {_text(key_text(key)): _tidy(item, is_typed=is_typed) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_tidy(item, is_typed=is_typed) for item in value]
    if isinstance(value, Truth):
        return bool(value)
    if not is_typed or isinstance(value, bool):
        return value
    if isinstance(value, Decimal):
        value = _json_value(value)
    if isinstance(value, Number):
        return float(value) if value.is_double else Digits(value)
    if isinstance(value, int) and not -_INT53 < value < _INT53:
        return Wide(value) if -_INT64 <= value < _INT64 else LongInteger(value)
    return value


def _text(value: str) -> str:
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _json_value(value: Any) -> Any:
    """Returns the JSON form of a value of a type that JSON lacks; its `str` if it has no such form."""
    try:
        return numbers.of_decimal(value) if isinstance(value, Decimal) else json_form(value)
    except Exception:  # noqa: BLE001 - a value's own code can raise anything, and no value ends a run
        return str(value)


def _typed_value(value: Any) -> Any:
    """Returns the same for a typed column; raises `TypeError` for a value that `_tidy` must convert first."""
    if isinstance(value, Number | Decimal):
        raise TypeError
    return _json_value(value)


class Spool:
    """Rows that are written in any order and read in the order of their index.

    `longest` is the length of the longest line in bytes.

    Args:
        path: The file, in a private directory.
        shape: Learns the types of the rows.
        columns_of: The file or table whose columns the keys become; keys that cannot be columns are refused at once.
        keeps_case: Whether keys that differ only in case are different columns there.
        is_typed: Whether the lines are for typed columns, see `encode`.
        gap: The line for a row that is left out.
    """

    def __init__(
        self,
        path: Path,
        shape: Shape | None = None,
        *,
        columns_of: str | None = None,
        keeps_case: bool = False,
        is_typed: bool = False,
        gap: bytes = b"",
    ) -> None:
        self.shape = shape
        self._table = None if columns_of is None else Table(columns_of, keeps_case=keeps_case)
        self._is_typed = is_typed
        self.path = path
        self._place = path.parent.parent  # of the private directory
        self._lines = Ordered(path, gap)
        self.longest = len(gap)

    def close(self) -> None:
        """Closes the file."""
        self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Returns one more than the highest index."""
        return len(self._lines)

    def write(self, index: int, row: Mapping[str, Any] | None) -> bytes:
        """Stores a row under `index`, and returns its line; `None` stands for a row that is left out.

        Raises:
            ConfigError: Its keys cannot be columns of one table with those of the other rows.
            StorageError: The disk is full.
        """
        try:
            if row is None:
                self._lines.leave_out(index)
                return b""
            line, row = encode(row, is_typed=self._is_typed)
            if self.shape is not None:
                self._learn(self.shape, row)
            self._lines.put(index, line)
        except OSError as error:
            raise no_room(error, self._place) from error
        self.longest = max(self.longest, len(line))
        return line

    def write_together(self, index: int, rows: Sequence[Any], count: int) -> bytes:
        """Stores `count` rows, from `index` on, as one line, and returns that line. `rows` is a list of any form.

        Stores none and returns an empty line if a row before them has not come yet, or if JSON lacks the type of a
        value: then each row has to be written by itself.

        Raises:
            StorageError: The disk is full.
        """
        if index != self._lines.next:
            return b""
        try:
            line = orjson.dumps(rows, option=_OPTIONS | orjson.OPT_PASSTHROUGH_SUBCLASS)
            self._lines.put(index, line, count)
        except TypeError:
            return b""
        except OSError as error:
            raise no_room(error, self._place) from error
        return line

    def write_lines(self, rows: Sequence[Mapping[str, Any]], lines: Sequence[bytes]) -> None:
        """Stores rows behind all others, each as the line of JSON that it was read from.

        Raises:
            ConfigError: Their keys cannot be columns of one table with those of the other rows.
            StorageError: The disk is full.
        """
        if self.shape is not None:
            for row in rows:
                self.shape.learn(row)
            if self._table is not None:
                self._table.take(self.shape.fields, len(self.shape.fields), len(rows), sum(map(len, rows)))
        try:
            self._lines.put(len(self), b"".join(lines), len(lines))
        except OSError as error:
            raise no_room(error, self._place) from error
        self.longest = max(self.longest, *map(len, lines))

    def _learn(self, shape: Shape, row: Mapping[str, Any]) -> None:
        shape.learn(row)
        if self._table is not None:
            self._table.take(row, len(shape.fields), 1, len(row))

    def finish(self) -> Path:
        """Returns the file with all lines in order.

        Raises:
            StorageError: The disk is full.
        """
        try:
            return self._lines.finish()
        except OSError as error:
            raise no_room(error, self._place) from error

    def names(self) -> list[str]:
        """Returns the keys of all rows, in the order in which they first appear."""
        return list(dict.fromkeys(chain.from_iterable(map(numbers.loads, self.lines()))))

    def lines(self) -> Iterator[bytes]:
        """Yields all lines in order. Raises as `finish`."""
        with self.finish().open("rb") as file:
            yield from file
