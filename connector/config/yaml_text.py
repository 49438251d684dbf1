"""Parses configs in YAML."""

from __future__ import annotations

from itertools import chain
from math import inf
from pathlib import Path
from typing import Any, Final

import yaml
from yaml.parser import ParserError
from yaml.scanner import ScannerError

from connector.base.errors import ConfigError

_MOST: Final = 100_000


class _Loader(yaml.SafeLoader):
    """The library's loader, which says where a value is that only looks like one of its type: the date 2024-13-01."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError):
            told = "a value is not what it looks like, or what its tag says: put it in quotes"
            raise ParserError(problem=told, problem_mark=node.start_mark) from None


def parsed(text: str, path: Path) -> Any:
    """Parses the YAML of the config file `path`. Raises `ConfigError` naming the line where it is broken."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        sizes: dict[int, float] = {}
        if node is not None and _unfolded(node, sizes) > max(_MOST, len(sizes)):
            raise ConfigError(
                f"the config {path} is too large: its aliases stand for more than {_MOST:,} values: write them out"
            )
        return None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        # Other errors quote values, one of which may be the key; those of scanner and parser only punctuation.
        told = getattr(error, "problem", None) if isinstance(error, ScannerError | ParserError) else None
        line = f", line {where.line + 1}" if where else ""
        what = told or "an invalid tag or alias"
        raise ConfigError(f"the config {path}{line} is neither JSON nor YAML: {what}") from None


def _unfolded(node: yaml.Node, sizes: dict[int, float]) -> float:
    """Returns how many values a value is with all of its aliases written out: without end, if one is within itself."""
    if id(node) not in sizes:
        sizes[id(node)] = inf  # until it is known
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        inner = chain.from_iterable(parts) if isinstance(node, yaml.MappingNode) else parts
        sizes[id(node)] = 1 + sum(_unfolded(each, sizes) for each in inner)
    return sizes[id(node)]
