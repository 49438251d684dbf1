"""What JSON values look like: learned from all of them while they pass, told as a JSON Schema."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Any, Final

from connector.base.errors import ConfigError
from connector.base.records import Schema

_PROPERTIES: Final = 200
"""An object of more keys than this, over all rows, is taken for a dictionary and not for a structure."""

_SIGNATURES: Final = 1_000
_NESTED: Final = {dict, list}
_NAMES: Final = {bool: "boolean", int: "integer", float: "number", str: "string", dict: "object", list: "array"}


class Shape:
    """The types that the values in one place had so far, and the shapes within them.

    Rows of one table are alike, so a row costs one look-up: only new combinations of keys and types are taken apart.
    """

    __slots__ = ("fields", "items", "most", "seen", "types")

    def __init__(self, most: int = _PROPERTIES) -> None:
        self.types: set[type] = set()
        self.fields: dict[str, Shape] = {}
        self.items: Shape | None = None
        self.most = most
        self.seen: dict[tuple[Any, ...], tuple[str, ...]] = {}

    @classmethod
    def of_table(cls) -> Shape:
        """The shape of whole rows, whose keys are columns however many they are."""
        return cls(sys.maxsize)

    def learn(self, value: Mapping[str, Any]) -> None:
        """Take an object in."""
        signature = (*value, *map(type, value.values()))
        nested = self.seen.get(signature)
        if nested is None:
            nested = self._meet(signature, value)
        for key in nested:
            self.fields[key].enter(value[key])

    def enter(self, value: Any) -> None:
        """Take in what a list or an object holds."""
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
        if len(self.fields) > self.most:
            return ()
        for key, item in value.items():
            self.fields.setdefault(key, Shape()).types.add(type(item))
        nested = tuple(key for key, item in value.items() if type(item) in _NESTED)
        if len(self.seen) >= _SIGNATURES:
            self.seen.clear()
        self.seen[signature] = nested
        return nested

    @property
    def columns(self) -> dict[str, Schema]:
        """The schema of each key."""
        return {key: shape.schema for key, shape in self.fields.items()}

    @property
    def schema(self) -> Schema:
        """The schema of the values: nullable, and `{"type": "null"}` where there was nothing but nulls."""
        kinds = sorted({_NAMES[kind] for kind in self.types - {NoneType}})
        if kinds == ["integer", "number"]:
            kinds = ["number"]
        if not kinds:
            return {"type": "null"}
        schema: Schema = {"type": ["null", *kinds]}
        if kinds == ["array"]:
            schema["items"] = self.items.schema if self.items else {"type": "null"}
        elif kinds == ["object"] and 0 < len(self.fields) <= self.most and not clash(self.fields):
            schema["properties"] = self.columns
        return schema


def clash(names: Iterable[str]) -> str | None:
    """What keeps these from being the columns of one table, in words; `None` if nothing does."""
    seen: dict[str, str] = {}
    for name in names:
        if not name or "\0" in name:
            return f"a column has no name that can be written ({name!r})"
        other = seen.get(name.casefold())
        if other is not None:
            return (
                f"the column {name!r} is there twice"
                if other == name
                else f"{other!r} and {name!r} differ only in case"
            )
        seen[name.casefold()] = name
    return None


def check_names(names: Iterable[str], where: str) -> None:
    """Tell columns that DuckDB, and most databases, could not keep apart.

    Raises:
        ConfigError: two names are equal but for their case, or one is empty.
    """
    if problem := clash(names):
        raise ConfigError(f"{where}: {problem}. Rename the column.")
