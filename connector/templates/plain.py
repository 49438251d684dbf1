"""Templates that consist of columns and text, as most do: read and filled in without Jinja2.

Loading Jinja2 takes a tenth of a run of one row. It is loaded for templates that hold more, and for rows that do not
fit (a column is missing, or a text would hold a null or a number). For those, `Plain.fill` raises any error, and Jinja2
renders the row or explains why it cannot.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

from connector.base.records import ANY, JSON, Schema
from connector.base.regex import regex
from connector.base.values import native

AS_TEXT: Final = "{# text #}"
"""Follows a prompt that is a single expression, so that it renders as a text, whatever its value."""

OF_CONFIG: Final = "{# from the config #}"
"""Ends what is put before a template to define names that the config gives; messages quote what follows it."""

ROW: Final = "record"
"""The name of the whole row in a template: `{{ record["Order No."] }}`."""

Path = tuple[str | int, ...]
"""A name, followed by keys and indexes."""

Fill: TypeAlias = Callable[[Mapping[str, Any]], Any]
"""Makes the value of one row."""

_LONG: Final = 2**22  # characters of all texts; longer ones are for Jinja2, where they are paid for
_DEEPEST: Final = 16  # levels of a structure, and keys of a path; what is too deep is for Jinja2 to say
_KEYS: Final[Mapping[type, type]] = {dict: str, list: int}
_WORDS: Final = frozenset({"and", "else", "if", "in", "is", "not", "or", "range", "self", ROW})
_CONSTANTS: Final = frozenset({"true", "false", "none", "True", "False", "None"})

_BEGIN: Final = regex(r"\{[{%#]")
_KEY: Final = r"""\.[^\W\d]\w*|\[(?:0|[1-9]\d{0,8}|"[^"\\{}]*"|'[^'\\{}]*')\]"""
_EXPRESSION: Final = regex(rf"\{{\{{\s*([^\W\d]\w*)((?:{_KEY})*)\s*\}}\}}")
_EACH_KEY: Final = regex(_KEY)


class PlainString(NamedTuple):
    """A string of a template's JSON that has columns in it.

    `path` says where it stands, `place` how messages call that; `paths` are what it reads. `is_text` says that it is
    more than a value alone, which keeps its type.
    """

    path: str
    place: str
    paths: tuple[Path, ...]
    is_text: bool

    def reads(self) -> list[Path]:
        """Returns the paths that it reads."""
        return list(dict.fromkeys(self.paths))


class Plain:
    """A structure whose strings are plain templates.

    Attributes:
        strings: Those of its strings that have columns in them.
        names: All names that they read.
        fill: Fills it in for a row; raises any error for a row that it cannot handle.
    """

    def __init__(self, structure: JSON, path: str, constants: Collection[str], options: Mapping[str, str]) -> None:
        self.strings: list[PlainString] = []
        self._known = _WORDS | _CONSTANTS | set(constants)
        self._options = options
        self.fill: Fill = self._node(structure, path, _DEEPEST) or (lambda _: structure)
        self.names = {str(read[0]) for string in self.strings for read in string.paths}

    def reads_members_of(self, name: str) -> bool:
        """Returns whether it reads members of the object `name`, and `name` in no other way."""
        found = [path for string in self.strings for path in string.paths if path[0] == name]
        return bool(found) and all(len(path) > 1 and isinstance(path[1], str) for path in found)

    def required(self) -> dict[str, str]:
        """Returns the names that a row must have, each with the place of the first string that needs it."""
        found: dict[str, str] = {}
        for string in self.strings:
            for name in sorted({str(path[0]) for path in string.paths}):
                found.setdefault(name, string.place)
        return found

    def schema_at(self, path: str, names: Schema) -> Schema | None:
        """Returns the schema of the value of the string at a path; `None` if it is not a template."""
        string = next((each for each in self.strings if each.path == path), None)
        if string is None or string.is_text:
            return string and {"type": "string"}
        schema = names
        for key in string.paths[0]:
            schema = member_schema(schema, key)
        return schema

    def _node(self, value: JSON, at: str, left: int) -> Fill | None:
        """Returns what fills a value in; `None` for one that is the same for every row."""
        if not left:
            raise NotPlainError
        if isinstance(value, dict):
            if any("{" in str(key) for key in value):
                raise NotPlainError
            return _object([(str(key), item, self._node(item, f"{at}.{key}", left - 1)) for key, item in value.items()])
        if isinstance(value, list):
            return _list([(item, self._node(item, f"{at}[{i}]", left - 1)) for i, item in enumerate(value)])
        if isinstance(value, str):
            return self._string(value, at) if "{" in value else None
        if not (value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))):
            raise NotPlainError
        return None

    def _string(self, source: str, at: str) -> Fill | None:
        parts = self._parts(source)
        paths = tuple(part for part in parts if isinstance(part, tuple))
        is_text = len(parts) > 1 or source.endswith(AS_TEXT)
        if not paths:
            if is_text:
                raise NotPlainError
            return None
        self.strings.append(PlainString(at, self._options.get(source.removesuffix(AS_TEXT), at), paths, is_text))
        if not is_text:
            get = _getter(paths[0])
            return lambda row: native(get(row))
        pieces = [_getter(part) if isinstance(part, tuple) else part for part in parts]
        strings = self.strings

        def fill(row: Mapping[str, Any]) -> str:
            texts = [piece if type(piece) is str else piece(row) for piece in pieces]  # type: ignore[operator]
            if sum(map(len, texts)) > _LONG // len(strings):
                raise TypeError
            return "".join(texts)

        return fill

    def _parts(self, source: str) -> list[str | Path]:
        """Returns the texts and columns that make up a string, as Jinja2 would tell them apart."""
        if "\r" in source:  # which Jinja2 reads as a line feed
            raise NotPlainError
        parts: list[str | Path] = []
        end = 0
        while found := _BEGIN.search(source, end):
            if found.start() > end:
                parts.append(source[end : found.start()])
            if source[found.start() :] == AS_TEXT:
                return parts
            expression = _EXPRESSION.match(source, found.start())
            if expression is None:
                raise NotPlainError
            parts.append(self._path(expression[1], expression[2]))
            end = expression.end()
        return [*parts, source[end:]] if end < len(source) else parts

    def _path(self, name: str, keys: str) -> Path:
        found = _EACH_KEY.findall(keys)
        names = [name, *(key[1:] for key in found if key.startswith("."))]
        if name in self._known or len(found) > _DEEPEST or not all(map(_is_name, names)):
            raise NotPlainError
        return (name, *map(_key, found))


class NotPlainError(Exception):
    """There is more in a template than columns and text."""


def member_schema(schema: Schema, key: str | int) -> Schema:
    """Returns the schema of what an object has under a name, or a list at a place; `{}` where it is not known."""
    found: Schema = schema.get("items", ANY) if isinstance(key, int) else schema.get("properties", {}).get(key, ANY)
    return found


def _is_name(word: str) -> bool:
    """Returns whether Jinja2 takes a word for a name, and templates may read it."""
    return word.isidentifier() and not word.startswith("__")


def _key(text: str) -> str | int:
    if text.startswith("."):
        return text[1:]
    inner = text[1:-1]
    return inner[1:-1] if inner[0] in "\"'" else int(inner)


def _object(members: Sequence[tuple[str, JSON, Fill | None]]) -> Fill:
    """Returns a function that makes an object: what is the same for every row is copied at once."""
    same = {key: None if fill else value for key, value, fill in members}
    fills = [(key, fill) for key, _, fill in members if fill]
    if len(fills) == 1:
        ((name, only),) = fills
        return lambda row: {**same, name: only(row)}

    def make(row: Mapping[str, Any]) -> dict[str, Any]:
        made = same.copy()
        for key, fill in fills:
            made[key] = fill(row)
        return made

    return make


def _list(items: Sequence[tuple[JSON, Fill | None]]) -> Fill:
    """Returns a function that makes a list, as `_object` makes an object."""
    if len(items) == 1 and (only := items[0][1]):
        return lambda row: [only(row)]
    return lambda row: [fill(row) if fill else value for value, fill in items]


def _getter(path: Path) -> Fill:
    """Returns a function that gets a column, or the value in it under constant keys and indices."""
    name, *keys = path
    if not keys:
        return itemgetter(name)

    def get(row: Mapping[str, Any]) -> Any:
        value = row[str(name)]
        for key in keys:
            if _KEYS.get(type(value)) is not type(key):
                raise TypeError
            value = value[key]
        return value

    return get
