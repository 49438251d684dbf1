"""Provenance for platforms that map flat columns alone: its parts as columns of their own, named as in CSV."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from connector.base.records import GROUP, Outcome, Schema

_TEXT: Final[Schema] = {"type": ["null", "string"]}


def columns(nested: Mapping[str, Schema]) -> dict[str, Schema]:
    """The columns with `_llm_status` and so on in place of `_llm`; an object within it is a text of JSON."""
    parts = nested.get(GROUP, {}).get("properties", {})
    flat = {f"{GROUP}_{part}": _TEXT if "properties" in schema else schema for part, schema in parts.items()}
    return {**{name: schema for name, schema in nested.items() if name != GROUP}, **flat}


def row(outcome: Outcome) -> dict[str, Any]:
    """The output row in these columns."""
    parts = outcome.group.get(GROUP, {})
    flat = {
        f"{GROUP}_{part}": orjson.dumps(value).decode() if isinstance(value, dict) else value
        for part, value in parts.items()
    }
    return {**outcome.record.data, **outcome.columns, **flat}
