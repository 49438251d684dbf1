"""No text that others wrote can stall a regular expression of the package: each takes linear time."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

import connector
from connector.base.regex import Regex
from tests.ambiguity import is_superlinear

ROOT: Final = Path(connector.__file__).parent
_AT_EACH_PLACE: Final = {"search", "sub", "subn", "findall", "finditer", "split"}
_FULL: Final = "fullmatch"

LINEAR: Final = {
    "connector.base.masking:_ESCAPED": "only the first one of a run of backslashes begins a match",
    "connector.base.values:_TAG": "a comment ends at the text's end at the latest, so no search begins within one",
    "connector.replies.refusals:_HTML": "so does a script",
    "connector.run.causes:_VARIES": "a quote goes on to the text's end at the latest, so no search begins within one",
    **{
        f"connector.stores.formats.csv:_KINDS[{place}].pattern": "only whole cells are matched, from their beginning"
        for place in (1, 2, 3)
    },
    "connector.protocols.multiwoven:_OPTION": "names are matched, letter by letter, and what stands around them",
    "connector.sandbox.values:_SENTENCE_END": "blanks are taken behind the end of a sentence alone, so once",
}
"""Patterns that are suspected wrongly, and why."""


class Found(NamedTuple):
    """A pattern, where it is, and how it is used."""

    where: str
    pattern: re.Pattern[Any]
    uses: frozenset[str]


def patterns() -> Iterator[Found]:
    """Every pattern that a module holds once it is imported, and every one that is written into a call of `re`."""
    held: dict[int, tuple[str, Regex[Any]]] = {}
    for info in pkgutil.walk_packages([str(ROOT)], "connector."):
        if info.name != "connector.__main__":
            module = importlib.import_module(info.name)
            for name, value in vars(module).items():
                for path, pattern in _patterns_in(value, name):
                    held.setdefault(id(pattern), (f"{info.name}:{path}", pattern))
    uses = used()
    for where, pattern in held.values():
        yield Found(
            where, pattern.compiled, frozenset(uses.get(where.rpartition(".")[2].rpartition(":")[2], {"search"}))
        )
    for file in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and (found := _written(node)) is not None:
                how, text = found
                if how != "compile":
                    yield Found(f"{file.relative_to(ROOT)}:{node.lineno}", re.compile(text), frozenset({how}))


def _patterns_in(value: object, path: str, depth: int = 3) -> Iterator[tuple[str, Regex[Any]]]:
    """The patterns in a value, each with the name by which it is used: of a field, or of what holds it."""
    if isinstance(value, Regex):
        yield path, value
    elif depth and isinstance(value, dict):
        for key, each in value.items():
            yield from _patterns_in(each, f"{path}[{key}]", depth - 1)
    elif depth and isinstance(value, tuple) and hasattr(value, "_fields"):
        for name, each in zip(value._fields, value, strict=True):
            yield from _patterns_in(each, f"{path}.{name}", depth - 1)
    elif depth and isinstance(value, tuple | list | set | frozenset):
        for number, each in enumerate(value):
            yield from _patterns_in(each, f"{path}[{number}]", depth - 1)
    elif depth and dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _patterns_in(getattr(value, field.name, None), f"{path}.{field.name}", depth - 1)


def _written(node: ast.Call) -> tuple[str, Any] | None:
    function = node.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "re":
        first = node.args[0] if node.args else None
        if isinstance(first, ast.Constant):
            return function.attr, first.value
    return None


@cache
def used() -> dict[str, set[str]]:
    """By the name of a pattern: the methods of it that are called or handed on anywhere."""
    found: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in {*_AT_EACH_PLACE, "match", _FULL}:
                name = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "re")
                if name != "re":
                    found.setdefault(name, set()).add(node.attr)
    return found


@pytest.mark.parametrize("found", list(patterns()), ids=lambda found: found.where)
def test_it_takes_linear_time(found: Found) -> None:
    is_search = not found.uses.isdisjoint(_AT_EACH_PLACE)
    is_suspect = is_superlinear(found.pattern, is_search=is_search, is_full=_FULL in found.uses)
    assert is_suspect == (found.where in LINEAR), found.pattern.pattern


@pytest.mark.parametrize("file", sorted(ROOT.rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_no_module_compiles_a_pattern_when_it_is_imported(file: Path) -> None:
    """`connector.base.regex` is what modules take; `re` compiles only within functions what is not known before."""
    tree = ast.parse(file.read_text())
    every = {node for node in ast.walk(tree) if _is_compile(node)}
    inside = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if _is_compile(node)
    }
    assert every == inside


def _is_compile(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "re.compile"


@pytest.mark.parametrize(
    ("pattern", "is_search", "is_full"),
    [
        (r"^(a+)+$", False, True),
        (r"(a|a)*b", False, False),
        (r"(a*)*b", False, False),
        (r"(\w+\s?)*:", False, False),
        (r"\d+\d+:", False, False),
        (r"a.*b.*c", False, False),
        (r"(x+x+)+y", False, False),
        (r"[0-9]+ms", True, False),
        (r"\s+$", True, False),
        (r"model.*not found", True, False),
        (r"<[^>]*>", True, False),
        (r"\s*=\s*(.*?)\s*", False, True),
        (r"(?i)(Kx|kx)*y", False, False),
        (r"a(b+b+c)?", False, False),
        (r"(?=[^0-9]*[0-9])\w", True, False),
    ],
)
def test_a_pattern_that_takes_more_is_found(pattern: str, is_search: bool, is_full: bool) -> None:
    assert is_superlinear(re.compile(pattern), is_search=is_search, is_full=is_full)


@pytest.mark.parametrize(
    ("pattern", "is_search", "is_full"),
    [
        (r"[0-9]+ms", False, False),
        (r"(?<![0-9])[0-9]++ms", False, True),
        (r"[0-9]+", True, False),
        (r"<[^<>]*>", True, False),
        (r"^model.*", True, False),
        (r"[a-z]+(?:-[a-z]+)*", False, True),
        (r"\s*+=\s*+x", False, True),
        (r"(?:ab|ac)*d", False, True),
        (r"a{1,20}b", True, False),
        (r"(?m)^[ \t]*//", True, False),
        (r"(/v\d+)(?:/v\d+)+", True, False),
    ],
)
def test_a_pattern_that_takes_no_more_is_not_suspected(pattern: str, is_search: bool, is_full: bool) -> None:
    assert not is_superlinear(re.compile(pattern), is_search=is_search, is_full=is_full)
