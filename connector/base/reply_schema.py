"""Validates replies against the JSON Schema of a config, in bounded work and without fetching anything.

Needs its own library, so it is imported only if there is a schema. Regular expressions are ECMA 262's, as JSON Schema
requires, and take linear time. Those with look-around or back-references cannot, so replies to them are limited.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Final, NoReturn
from urllib.parse import unquote

import jsonschema_rs

from connector.base.numbers import is_big
from connector.base.records import JSON, Schema

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

_TOO_DEEP: Final = "is nested too deeply: write it with fewer levels"

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
            self._graph = _Graph(schema)
            self._validator = self._compiled(schema)
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
        nodes = list(self._all(root, "$", set()))
        for node, path in nodes:
            self._check(node, path)
        self._widest = max(self._unfolded(node, path) for node, path in nodes)
        self.is_unique = any(node.get("uniqueItems") is True for node, _ in nodes)
        lists = (node.get(name) for node, _ in nodes for name in ("enum", "patternProperties"))
        self.widest = max(self._widest, *(len(each) for each in lists if isinstance(each, list | dict)), 1)
        self._total = self._whole(root, {}, set())

    def is_explainable(self, value: JSON) -> bool:
        """Returns whether explaining what is wrong takes bounded time: it tries each alternative at each level."""
        if not self._is_recursive:
            return self._total <= _MOST_UNFOLDED
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

    def _all(self, node: Any, path: str, seen: set[int]) -> Iterator[tuple[Schema, str]]:
        """Yields every schema once, with its path, including unused ones and all targets of `$ref`s."""
        if not isinstance(node, dict) or id(node) in seen:
            return
        seen.add(id(node))
        yield node, path
        for name in (*_LISTS, *_SINGLE, *_BELOW):
            inner = node.get(name)
            each = enumerate(inner) if isinstance(inner, list) else [("", inner)]
            for number, part in each:
                yield from self._all(part, f"{path}.{name}{f'[{number}]' if number != '' else ''}", seen)
        for name in (*_NAMED, *_NAMED_BELOW, *_DEFINITIONS):
            inner = node.get(name)
            for key, part in inner.items() if isinstance(inner, dict) else ():
                yield from self._all(part, f"{path}.{name}{_step(key)}", seen)
        yield from self._all(self._target(node.get("$ref")), f"{path}.$ref", seen)

    def _check(self, node: Schema, path: str) -> None:
        """Raises `ValueError` for references that are not followed here: what they cost could not be bounded."""
        for name in _REFERENCES:
            ref = node.get(name)
            if not isinstance(ref, str):
                continue
            if name != "$ref" or not _is_pointer(ref):
                raise ValueError(
                    f'is not usable: at {path}.{name}, "{_cut(ref)}" is not followed, and nothing is fetched: '
                    'write "$ref" with the place of a copy of what it means, "#/definitions/…"'
                )
            if self._target(ref) is None:
                raise ValueError(
                    f'is not a JSON Schema: at {path}.$ref, "{_cut(ref)}" points to nothing: '
                    'correct it, or add what it names to "definitions"'
                )
        if node is not self._root and isinstance(own := node.get("$id"), str) and not own.startswith("#"):
            inner = next((each for each in self._all(node, path, set()) if "$ref" in each[0]), None)
            if inner is not None:
                raise ValueError(
                    f'is not usable: at {inner[1]}.$ref, the place is counted from "$id" at {path}: remove that "$id", '
                    "and count from the whole schema"
                )

    def _target(self, ref: JSON) -> Any:
        """Returns the target of a pointer into the schema (RFC 6901); `None` if it is not one or has no target."""
        if not (isinstance(ref, str) and _is_pointer(ref)):
            return None
        found: Any = self._root
        for part in unquote(ref[1:]).split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            members = {str(place): each for place, each in enumerate(found)} if isinstance(found, list) else found
            found = members.get(name) if isinstance(members, Mapping) else None
        return found if isinstance(found, dict | bool) else None

    def _beside(self, node: Schema) -> Iterator[Any]:
        """Yields the schemas against which the same value is checked."""
        if isinstance(ref := node.get("$ref"), str):
            yield self._target(ref)
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

    def _unfolded(self, node: Any, path: str, *outer: int) -> int:
        """Returns against how many schemas one value is checked. Raises `ValueError` for a loop or too many."""
        if not isinstance(node, dict):
            return 1
        if id(node) in outer:
            raise ValueError(
                f'is not a JSON Schema: at {path}, "$ref" leads back to itself: '
                "let it pass a property or an item, or remove it"
            )
        if id(node) not in self._sizes:
            size = 1 + sum(self._unfolded(each, path, *outer, id(node)) for each in self._beside(node))
            if size > _MOST_UNFOLDED:
                raise ValueError(
                    f"is too large: at {path}, its branches unfold to more than {_MOST_UNFOLDED:,} schemas: use fewer"
                )
            self._sizes[id(node)] = size
        return self._sizes[id(node)]

    def _whole(self, node: Any, known: dict[int, int], outer: set[int]) -> int:
        """Returns against how many schemas a value and its parts are checked; records whether that is unbounded."""
        if not isinstance(node, dict):
            return 1
        if id(node) in outer:
            self._is_recursive = True
            return 1
        if id(node) not in known:
            inner = outer | {id(node)}
            known[id(node)] = 1 + sum(
                self._whole(each, known, inner) for each in chain(self._beside(node), self._below(node))
            )
        return known[id(node)]


def _refused(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is not fetched")


def _is_pointer(ref: str) -> bool:
    return ref == "#" or ref.startswith("#/")


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


def _path(parts: list[str | int]) -> str:
    return _cut(f"${''.join(map(_step, parts))}")


def _step(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return f".{part}" if part.isidentifier() else f"[{json.dumps(part, ensure_ascii=False)}]"


def _cut(text: str) -> str:
    """Shortens a text to its beginning and its end, which says what is wrong."""
    half = _MOST_SHOWN // 2
    return text if len(text) <= _MOST_SHOWN else f"{text[:half]}…{text[-half:]}"
