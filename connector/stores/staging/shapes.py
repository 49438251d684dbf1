"""The types of JSON values, learnt from all of them as they pass, and described as a JSON Schema."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Collection, Iterable, Mapping
from types import NoneType
from typing import Any, Final, Self

from connector.base.errors import ConfigError
from connector.base.numbers import Number, Truth
from connector.base.records import Schema

_PROPERTIES: Final = 200
"""An object with more keys than this, over all rows, is a dictionary, not a structure."""

_SIGNATURES: Final = 1_000
_COLUMNS: Final = 1_000  # that any table may have, however few of its cells are filled
_SPARSE: Final = 20  # most cells per filled one, with more columns

DECIMAL: Final = "decimal"
"""The format of numbers that no column type holds with all their digits (OpenAPI Format Registry)."""

_NESTED: Final = {dict, list}


class Wide(int):
    """A 64-bit integer that a double does not hold: in a column that also has fractions it has to become text."""


class Digits(str):
    """The digits of a number that neither a 64-bit integer nor a double holds."""

    __slots__ = ()

    def __new__(cls, number: object) -> Self:
        """Creates the text of a number."""
        return super().__new__(cls, str(number))


class LongInteger(Digits):
    """The digits of an integer that 64 bits do not hold."""

    __slots__ = ()


_NAMES: Final = {
    bool: "boolean",
    Truth: "boolean",
    int: "integer",
    Wide: "integer",
    float: "number",
    Number: "number",
    Digits: "number",
    LongInteger: "integer",
    str: "string",
    dict: "object",
    list: "array",
    array: "array",
}
_NUMBERS: Final = {int, float, Number, Wide, Digits, LongInteger, NoneType}


class Shape:
    """The types of the values seen so far in one place, and the shapes nested inside them.

    Rows of one table are alike, so a row costs one look-up: only new combinations of keys and types are analysed.

    Args:
        most: An object with more keys than this, over all rows, is a dictionary.
        known: Keys whose objects are not looked into, because their types are known.
    """

    __slots__ = ("common", "fields", "items", "known", "most", "seen", "types")

    def __init__(self, most: int = _PROPERTIES, known: Collection[str] = ()) -> None:
        self.types: set[type] = set()
        self.fields: dict[str, Shape] = {}
        self.items: Shape | None = None
        self.most = most
        self.known = known
        self.seen: dict[tuple[Any, ...], tuple[str, ...]] = {}
        self.common: set[str] | None = None  # the keys that all objects have

    @classmethod
    def of_table(cls, known: Collection[str] = ()) -> Shape:
        """Returns the shape for whole rows, whose keys are columns, however many there are."""
        return cls(sys.maxsize, known)

    def learn(self, value: Mapping[str, Any]) -> None:
        """Learns the keys and types of an object."""
        signature = (*value, *map(type, value.values()))
        nested = self.seen.get(signature)
        if nested is None:
            nested = self._meet(signature, value)
        for key in nested:
            self.fields[key].enter(value[key])

    def enter(self, value: Any) -> None:
        """Learns the types in a list or an object."""
        if type(value) is dict:
            self.learn(value)
            return
        if self.items is None:
            self.items = Shape()
        types = set(map(type, value))
        self.items.types |= types
        if types & _NESTED:
            for item in value:
                if type(item) in _NESTED:
                    self.items.enter(item)

    def _meet(self, signature: tuple[Any, ...], value: Mapping[str, Any]) -> tuple[str, ...]:
        self.common = set(value) if self.common is None else self.common & value.keys()
        if len(self.fields) > self.most:
            return ()
        for key, item in value.items():
            shape = self.fields.setdefault(key, Shape())
            shape.types.add(type(item))
            if type(item) is array:
                shape.enter(item[:1])
        nested = tuple(key for key, item in value.items() if type(item) in _NESTED and key not in self.known)
        if len(self.seen) >= _SIGNATURES:
            self.seen.clear()
        self.seen[signature] = nested
        return nested

    @property
    def texts(self) -> list[str]:
        """The keys that have a text in every object."""
        return [key for key, shape in self.fields.items() if key in (self.common or ()) and shape.types == {str}]

    @property
    def columns(self) -> dict[str, Schema]:
        """The schema of each key."""
        return {key: shape.schema for key, shape in self.fields.items()}

    @property
    def schema(self) -> Schema:
        """The schema of the values, always nullable; `{"type": "null"}` if all were null."""
        kinds = sorted({_NAMES[kind] for kind in self.types - {NoneType}})
        if kinds == ["integer", "number"]:
            kinds = ["number"]
        if not kinds:
            return {"type": "null"}
        schema: Schema = {"type": ["null", *kinds]}
        has_digits = not self.types.isdisjoint({Digits, LongInteger})
        if self.types <= _NUMBERS and (has_digits or {Wide, float} <= self.types):
            return {**schema, "format": DECIMAL}
        if has_digits:
            schema["type"] = ["null", *sorted({*kinds, "string"})]
        if kinds == ["array"]:
            schema["items"] = self.items.schema if self.items else {"type": "null"}
        elif kinds == ["object"] and 0 < len(self.fields) <= self.most and not clash(self.fields):
            schema["properties"] = self.columns
        return schema


class Table:
    """The columns of a table, as its rows come; refuses those that would make a far larger table than they are.

    A table has a cell for each column in each row. If every row brings keys of its own, almost all cells are empty, and
    a few kilobytes of rows become a table of gigabytes.
    """

    def __init__(self, where: str, *, keeps_case: bool = False) -> None:
        self._where = where
        self._keeps_case = keeps_case
        self._seen: dict[str, str] = {}
        self._rows = 0
        self._cells = 0

    def take(self, names: Iterable[str], columns: int, rows: int, cells: int) -> None:
        """Takes so many `rows` with these names and so many filled `cells`; the table now has so many `columns`.

        Raises:
            ConfigError: The keys cannot be columns of one table with those of the other rows.
        """
        self._rows += rows
        self._cells += cells
        if columns != len(self._seen) and not self._keeps_case:
            for name in names:
                if self._seen.get(name.casefold()) != name and (problem := _clash(name, self._seen, str.casefold)):
                    raise ConfigError(f"{self._where}: {problem}: rename the column")
        if columns > _COLUMNS and columns * self._rows > _SPARSE * self._cells:
            raise ConfigError(
                f"{self._where}: {columns:,} different keys in {self._rows:,} rows are too many for columns: put them "
                "into one object, under one key"
            )


def _clash(name: str, seen: dict[str, str], alike: Callable[[str], str]) -> str | None:
    """Adds a name to those `seen`, or returns in words why it cannot be a column next to them."""
    if "\0" in name or (not name and alike is not str):
        return f"a column has no name that can be written ({name!r})"
    other = seen.setdefault(alike(name), name)
    if other != name:
        return f'"{other}" and "{name}" differ only in case'
    return None


def clash(names: Iterable[str], *, keeps_case: bool = False) -> str | None:
    """Returns in words why these cannot be the columns of one table; `None` if they can.

    JSON and CSV distinguish names by case, and may have an empty one; DuckDB and most databases do not.
    """
    seen: dict[str, str] = {}
    alike: Callable[[str], str] = str if keeps_case else str.casefold
    for name in names:
        if name == seen.get(alike(name)):
            return f'there are two columns "{name}"'
        if problem := _clash(name, seen, alike):
            return problem
    return None


def check_names(names: Iterable[str], where: str, *, keeps_case: bool = False) -> None:
    """Refuses names that cannot be the columns of one table.

    Raises:
        ConfigError: There is a `clash` of names.
    """
    if problem := clash(names, keeps_case=keeps_case):
        raise ConfigError(f"{where}: {problem}: rename the column")
