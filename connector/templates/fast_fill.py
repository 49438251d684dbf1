"""A fast path for templates of columns and text only, as most are: they are filled in without Jinja2.

A row that needs more (it lacks a column, or has a null or a number inside a text) raises one of `NEEDS_JINJA`; Jinja2
then renders the row, or explains why it cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from jinja2 import nodes

from connector.base.records import JSON
from connector.base.values import native
from connector.templates.template_string import ROW, TemplateString

Fill = Callable[[Mapping[str, Any]], Any]
"""Returns the value for one row."""

NEEDS_JINJA: Final = (LookupError, TypeError)
"""What a `Fill` raises for a row that it cannot handle."""

_LONG: Final = 2**22  # characters of all texts together; beyond that Jinja2 renders, and charges for them
_KEYS: Final[Mapping[type, type]] = {dict: str, list: int}


class _OtherError(Exception):
    """The template has more than columns and text."""


def compile_fill(
    structure: JSON, path: str, strings: Sequence[TemplateString], constants: Mapping[str, Any]
) -> Fill | None:
    """Returns a function that renders a structure for a row; `None` if that needs Jinja2.

    `strings` are the templated strings of the structure, in order.
    """
    known, most = {ROW, *constants}, _LONG // max(1, len(strings))
    left = iter(strings)

    def node(value: JSON, at: str) -> Fill | None:
        """Returns the function for a value; `None` for one that is neither templated nor a container."""
        if isinstance(value, dict):
            if any("{" in str(key) for key in value):
                raise _OtherError
            return _object([(str(key), item, node(item, f"{at}.{key}")) for key, item in value.items()])
        if isinstance(value, list):
            return _list([(item, node(item, f"{at}[{i}]")) for i, item in enumerate(value)])
        if isinstance(value, str) and "{" in value:
            string = next(left, None)
            if string is None or (string.path, string.source) != (at, value):  # a text with a brace that is no template
                raise _OtherError
            return _string(string, known, most)
        return None

    try:
        return node(structure, path) or (lambda _: structure)
    except _OtherError:
        return None


def _object(members: Sequence[tuple[str, JSON, Fill | None]]) -> Fill:
    """Returns a function that makes an object: a copy of its constant members, and the others filled in."""
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
    """Returns a function that makes a list, like `_object`."""
    if len(items) == 1 and (only := items[0][1]):
        return lambda row: [only(row)]
    return lambda row: [fill(row) if fill else value for value, fill in items]


def _string(string: TemplateString, known: set[str], most: int) -> Fill:
    if string.expression is not None:
        get = _getter(string.expression, known)
        return lambda row: native(get(row))
    parts: list[str | Fill] = []
    for output in string.tree.body:
        if not isinstance(output, nodes.Output):
            raise _OtherError
        parts += [part.data if isinstance(part, nodes.TemplateData) else _getter(part, known) for part in output.nodes]

    def fill(row: Mapping[str, Any]) -> str:
        texts = [part if type(part) is str else part(row) for part in parts]  # type: ignore[operator]
        if sum(map(len, texts)) > most:
            raise TypeError
        return "".join(texts)

    return fill


def _getter(node: nodes.Node, known: set[str]) -> Fill:
    """Returns a function that gets a column, or the value in it under constant keys and indices."""
    keys: list[Any] = []
    while isinstance(node, nodes.Getattr | nodes.Getitem):
        if isinstance(node, nodes.Getattr):
            keys.append(node.attr)
        elif isinstance(node.arg, nodes.Const):
            keys.append(node.arg.value)
        else:
            raise _OtherError
        node = node.node
    if not isinstance(node, nodes.Name) or node.name in known or node.name.startswith("__"):
        raise _OtherError
    if not keys:
        return itemgetter(node.name)
    name, path = node.name, keys[::-1]

    def get(row: Mapping[str, Any]) -> Any:
        value = row[name]
        for key in path:
            if _KEYS.get(type(value)) is not type(key):
                raise TypeError
            value = value[key]
        return value

    return get
