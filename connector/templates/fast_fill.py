"""Templates of nothing but columns and the text between them, as most are: filled in directly, without Jinja2.

What else a row may bring (a column that it lacks, a null or a number inside a text) raises one of `UNFIT`; then Jinja2
renders the row, or says why it cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from jinja2 import nodes

from connector.base.records import JSON
from connector.base.values import native
from connector.templates.expression import ROW, Leaf

Fill = Callable[[Mapping[str, Any]], Any]

UNFIT: Final = (LookupError, TypeError)

_LONG: Final = 2**22  # characters of all texts; longer ones are for Jinja2, where they are paid for
_KEYS: Final[Mapping[type, type]] = {dict: str, list: int}


class _OtherError(Exception):
    """It is more than columns and text."""


def plain(structure: JSON, path: str, leaves: Sequence[Leaf], constants: Mapping[str, Any]) -> Fill | None:
    """What fills a structure in for a row, given its templated strings in order; `None` where that needs Jinja2."""
    known, most = {ROW, *constants}, _LONG // max(1, len(leaves))
    left = iter(leaves)

    def node(value: JSON, at: str) -> Fill:
        if isinstance(value, dict):
            if any("{" in str(key) for key in value):
                raise _OtherError
            pairs = [(str(key), node(item, f"{at}.{key}")) for key, item in value.items()]
            return lambda row: {key: fill(row) for key, fill in pairs}
        if isinstance(value, list):
            items = [node(item, f"{at}[{i}]") for i, item in enumerate(value)]
            return lambda row: [fill(row) for fill in items]
        if isinstance(value, str) and "{" in value:
            leaf = next(left, None)
            if leaf is None or (leaf.path, leaf.source) != (at, value):  # a text with a brace, but no template
                raise _OtherError
            return _leaf(leaf, known, most)
        return lambda _: value

    try:
        return node(structure, path)
    except _OtherError:
        return None


def _leaf(leaf: Leaf, known: set[str], most: int) -> Fill:
    if leaf.expression is not None:
        get = _getter(leaf.expression, known)
        return lambda row: native(get(row))
    parts: list[str | Fill] = []
    for output in leaf.tree.body:
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
    """What gets a column, or what stands in it under keys and indices that are told."""
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
