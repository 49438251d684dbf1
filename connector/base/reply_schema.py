"""Validates replies against the JSON Schema of a config, in bounded work and without fetching anything.

Needs its own library, so it is imported only if there is a schema. Regular expressions are ECMA 262's, as JSON Schema
requires, and take linear time. Those with look-around or back-references cannot, so replies to them are limited.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from itertools import chain
from typing import Any, Final, NoReturn, TypeAlias
from urllib.parse import quote, unquote

import jsonschema_rs

from connector.base.numbers import is_big
from connector.base.records import JSON, Schema
from connector.base.regex import regex

_DRAFTS: Final = {
    "http://json-schema.org/draft-07/schema": jsonschema_rs.Draft7Validator,
    "https://json-schema.org/draft/2019-09/schema": jsonschema_rs.Draft201909Validator,
    "https://json-schema.org/draft/2020-12/schema": jsonschema_rs.Draft202012Validator,
}
_LINEAR: Final = jsonschema_rs.RegexOptions()
_BACKTRACKING: Final = jsonschema_rs.FancyRegexOptions(backtrack_limit=2_000)
_MOST_LOOKED_AROUND: Final = 1 << 16  # characters: each may cost as many steps as the limit above
_MOST_UNFOLDED: Final = 10_000  # schemas against which one value may be checked; an explanation costs as much
_MOST_STEPS: Final = 500_000_000  # characters times alternatives: a few seconds
_MOST_COMPARED: Final = 200_000_000  # integers beyond 64 bits times all of their bits: about a second
_MOST_SHOWN: Final = 300  # characters of what is wrong, and of where

_TOO_DEEP: Final = "is nested too deeply, or has too long a chain of references: write it with fewer levels"

_PLAIN: Final = regex(r"[\w-][\w.-]*")
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_LISTS: Final = ("allOf", "anyOf", "oneOf")
_SINGLE: Final = ("not", "if", "then", "else")
_NAMED: Final = ("dependentSchemas", "dependencies")
_BELOW: Final = (
    *("items", "prefixItems", "additionalItems", "contains", "unevaluatedItems"),
    *("additionalProperties", "unevaluatedProperties", "propertyNames"),
)
_NAMED_BELOW: Final = ("properties", "patternProperties")
_DEFINITIONS: Final = ("definitions", "$defs")


class ReplySchema:
    """A checked schema, against which values are validated. Thread-safe.

    Raises:
        ValueError: The schema is invalid, or refers to something outside of itself; the message says where and what.
    """

    def __init__(self, schema: Schema) -> None:
        try:
            placed = _by_place(schema)
            self._graph = _Graph(placed)
            self._validator = self._compiled(placed)
        except RecursionError:
            raise ValueError(_TOO_DEEP) from None

    def _compiled(self, schema: Schema) -> jsonschema_rs.Validator:
        make = _DRAFTS.get(str(schema.get("$schema", "")).removesuffix("#"), jsonschema_rs.Draft7Validator)
        known = schema if make is not jsonschema_rs.Draft7Validator else {**schema, "$schema": next(iter(_DRAFTS))}
        self._looks_around = False
        try:
            return make(known, retriever=_refused, pattern_options=_LINEAR)
        except jsonschema_rs.ValidationError:
            self._looks_around = True
        except ValueError:  # the library's own bound
            raise ValueError(_TOO_DEEP) from None
        try:
            return make(known, retriever=_refused, pattern_options=_BACKTRACKING)
        except jsonschema_rs.ValidationError as error:
            raise ValueError(self._graph.refusal(error)) from None

    def problem(self, value: JSON, size: int) -> str | None:
        """Returns where and how a value does not fit, in a text of bounded length; `None` if it fits.

        Args:
            value: The value, nested at most as deeply as replies may be.
            size: Its length as JSON, in characters.
        """
        if self._looks_around and size > _MOST_LOOKED_AROUND:
            return (
                f"at $, it has {size:,} characters, and a pattern that looks around or back takes at most "
                f"{_MOST_LOOKED_AROUND:,}: write the pattern without (?=…), (?!…), (?<=…), (?<!…) and \\1"
            )
        if size * self._graph.widest > _MOST_STEPS:
            return (
                f"at $, it has {size:,} characters, too many to try up to {self._graph.widest:,} alternatives of the "
                "schema on each part: ask for less at once, or use a schema of fewer"
            )
        if self._graph.is_unique and (count := _big_integers(value)):
            return f"at $, it has {count:,} integers beyond 64 bits, too many to compare for uniqueItems: use strings"
        try:
            if self._validator.is_valid(value):
                return None
            if not self._graph.is_explainable(value):
                return "at $, it fits none of the alternatives in which the schema refers to itself"
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:  # only the first: there may be as many as there are values
            return f"at {_path(error.instance_path)}, {_cut(error.message)}"
        except ValueError:
            return "at $, it contains half of a character (a lone surrogate)"
        return "at $, it does not fit"


_Place: TypeAlias = tuple[str | int, ...]
"""The steps from a schema to another one within it."""


class _Graph:
    """The schemas within a schema, and how they refer to each other.

    Attributes:
        widest: The most alternatives for one value: schemas, values of an `enum`, patterns of names.
        is_unique: Whether there is a `uniqueItems`.
    """

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._sizes: dict[int, int] = {}
        self._is_recursive = False
        nodes = list(_all(root, root))
        for node, place in nodes:
            self._check(node, place)
        self._widest = max(self._unfolded(node, place) for node, place in nodes)
        self.is_unique = any(node.get("uniqueItems") is True for node, _ in nodes)
        lists = (node.get(name) for node, _ in nodes for name in ("enum", "patternProperties"))
        self.widest = max(self._widest, *(len(each) for each in lists if isinstance(each, list | dict)), 1)
        self._total = self._whole(root)

    def is_explainable(self, value: JSON) -> bool:
        """Returns whether explaining what is wrong takes bounded time: it tries each alternative at each level."""
        if not self._is_recursive and self._total <= _MOST_UNFOLDED:
            return True
        ways, level = 1, [value]
        while level and ways <= _MOST_UNFOLDED:
            ways *= self._widest
            parts = [
                each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)
            ]
            level = list(chain.from_iterable(parts))
        return ways <= _MOST_UNFOLDED

    def refusal(self, error: jsonschema_rs.ValidationError) -> str:
        """Returns why a schema was refused."""
        return f"is not a JSON Schema: at {_path(error.instance_path)}, {_cut(error.message)}"

    def _check(self, node: Schema, place: _Place) -> None:
        """Raises `ValueError` for references that are not followed here: what they cost could not be bounded."""
        for name in _REFERENCES:
            ref = node.get(name)
            if not isinstance(ref, str):
                continue
            if name != "$ref" or not _is_pointer(ref):
                raise ValueError(
                    f'is not usable: at {_path((*place, name))}, "{_cut(ref)}" is not followed, and nothing '
                    'is fetched: write "$ref" with the place of a copy of what it means, "#/definitions/…"'
                )
            if _target(self._root, ref) is None:
                raise ValueError(
                    f'is not a JSON Schema: at {_path((*place, name))}, "{_cut(ref)}" points to nothing: '
                    'correct it, or add what it names to "definitions"'
                )
        if node is not self._root and isinstance(own := node.get("$id"), str) and not own.startswith("#"):
            inner = next((each for each in _all(node, self._root, place) if "$ref" in each[0]), None)
            if inner is not None:
                raise ValueError(
                    f'is not usable: at {_path((*inner[1], "$ref"))}, the place is counted from "$id" at '
                    f'{_path(place)}: remove that "$id", and count from the whole schema'
                )

    def _beside(self, node: Schema) -> Iterator[Any]:
        """Yields the schemas against which the same value is checked."""
        if isinstance(ref := node.get("$ref"), str):
            yield _target(self._root, ref)
        for name in _LISTS:
            if isinstance(inner := node.get(name), list):
                yield from inner
        for name in _SINGLE:
            yield node.get(name)
        for name in _NAMED:
            if isinstance(inner := node.get(name), dict):
                yield from inner.values()

    def _below(self, node: Schema) -> Iterator[Any]:
        """Yields the schemas against which its parts are checked."""
        for name in _BELOW:
            inner = node.get(name)
            yield from inner if isinstance(inner, list) else [inner]
        for name in _NAMED_BELOW:
            if isinstance(inner := node.get(name), dict):
                yield from inner.values()

    def _unfolded(self, node: Any, place: _Place, *outer: int) -> int:
        """Returns against how many schemas one value is checked. Raises `ValueError` for a loop or too many."""
        if not isinstance(node, dict):
            return 1
        if id(node) in outer:
            raise ValueError(
                f'is not a JSON Schema: at {_path(place)}, "$ref" leads back to itself: '
                "let it pass a property or an item, or remove it"
            )
        if id(node) not in self._sizes:
            size = 1 + sum(self._unfolded(each, place, *outer, id(node)) for each in self._beside(node))
            if size > _MOST_UNFOLDED:
                raise ValueError(
                    f"is too large: at {_path(place)}, its branches unfold to more than {_MOST_UNFOLDED:,} "
                    "schemas: use fewer"
                )
            self._sizes[id(node)] = size
        return self._sizes[id(node)]

    def _whole(self, root: Schema) -> int:
        """Returns against how many schemas a value and its parts are checked; records whether that is unbounded."""
        known: dict[int, int] = {}
        outer: set[int] = set()
        waiting: list[Any] = [root]
        while waiting:
            node = waiting[-1]
            parts = list(chain(self._beside(node), self._below(node))) if id(node) not in known else []
            if parts and id(node) not in outer:
                outer.add(id(node))
                schemas = [each for each in parts if isinstance(each, dict) and id(each) not in known]
                self._is_recursive |= any(id(each) in outer for each in schemas)
                waiting += [each for each in schemas if id(each) not in outer]
                continue
            waiting.pop()
            outer.discard(id(node))
            known.setdefault(id(node), 1 + sum(known.get(id(each), 1) for each in parts))
        return known[id(root)]


def _by_place(schema: Schema) -> Schema:
    """Returns a schema with references by place in place of those by name, as TypeBox writes them.

    A name is an `$id` without a path, which means the same schema wherever it is referred to. A schema is returned
    unchanged if it has another `$id`, or one that counts: two schemas have it, or places within it are counted from it.
    """
    if not any("$id" in node for node, _ in _all(schema, schema)):
        return schema
    root = deepcopy(schema)
    nodes = list(_all(root, root))
    named: dict[str, list[tuple[Schema, _Place]]] = {}
    for node, place in nodes:
        if isinstance(name := node.get("$id"), str) and (place or _PLAIN.fullmatch(name)):
            named.setdefault(name, []).append((node, place))
    for name, found in named.items():
        is_one = len({json.dumps(node, sort_keys=True) for node, _ in found}) == 1
        if not (is_one and _PLAIN.fullmatch(name)) or any(
            _is_pointer(str(inner.get("$ref"))) for node, place in found if place for inner, _ in _all(node, root)
        ):
            return schema
    for node, place in nodes:
        if isinstance(ref := node.get("$ref"), str) and ref in named:
            node["$ref"] = _pointer(named[ref][0][1])
        if place and isinstance(node.get("$id"), str):
            del node["$id"]
    return root


def _all(schema: Any, root: Schema, place: _Place = ()) -> Iterator[tuple[Schema, _Place]]:
    """Yields every schema once, with its place, including unused ones and all targets of `$ref`s."""
    seen: set[int] = set()
    waiting = [(schema, place)]  # the next one last; definitions may be linked in chains of any length
    while waiting:
        node, place = waiting.pop()
        if not isinstance(node, dict) or id(node) in seen:
            continue
        seen.add(id(node))
        yield node, place
        if isinstance(ref := node.get("$ref"), str):
            waiting.append((_target(root, ref), tuple(_steps(ref))))
        waiting += [(part, (*place, *steps)) for part, steps in reversed(list(_inner(node)))]


def _target(root: Schema, ref: str) -> Any:
    """Returns the target of a pointer into the schema (RFC 6901); `None` if it is not one or has no target."""
    if not _is_pointer(ref):
        return None
    found: Any = root
    for name in _steps(ref):
        members = {str(place): each for place, each in enumerate(found)} if isinstance(found, list) else found
        found = members.get(name) if isinstance(members, Mapping) else None
    return found if isinstance(found, dict | bool) else None


def _inner(node: Schema) -> Iterator[tuple[Any, _Place]]:
    """Yields the schemas that are written within a schema, each with its place there."""
    for name in (*_LISTS, *_SINGLE, *_BELOW):
        inner = node.get(name)
        if isinstance(inner, list):
            yield from ((part, (name, number)) for number, part in enumerate(inner))
        else:
            yield inner, (name,)
    for name in (*_NAMED, *_NAMED_BELOW, *_DEFINITIONS):
        inner = node.get(name)
        for key, part in inner.items() if isinstance(inner, dict) else ():
            yield part, (name, key)


def _refused(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is not fetched")


def _is_pointer(ref: str) -> bool:
    return ref == "#" or ref.startswith("#/")


def _pointer(place: _Place) -> str:
    return "#" + "".join(f"/{quote(str(step).replace('~', '~0').replace('/', '~1'), safe='')}" for step in place)


def _steps(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in unquote(pointer[1:]).split("/")[1:]]


def _big_integers(value: JSON) -> int:
    """Returns how many integers of a value have more than 64 bits, if they are too many to compare; else 0.

    The library hashes them as doubles, so that those of one double are all compared with each other, digit for digit.
    """
    count = bits = 0
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
        elif isinstance(each, int) and is_big(each):
            count += 1
            bits += each.bit_length()
    return count if count * bits > _MOST_COMPARED else 0


def _path(parts: Iterable[str | int]) -> str:
    return _cut(f"${''.join(map(_step, parts))}")


def _step(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return f".{part}" if part.removeprefix("$").isidentifier() else f"[{json.dumps(part, ensure_ascii=False)}]"


def _cut(text: str) -> str:
    """Shortens a text to its beginning and its end, which says what is wrong."""
    half = _MOST_SHOWN // 2
    return text if len(text) <= _MOST_SHOWN else f"{text[:half]}…{text[-half:]}"
