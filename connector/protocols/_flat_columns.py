"""Flattens `_llm` into columns of its own, named as in CSV, for platforms that map only flat columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from connector.base.records import GROUP, Outcome, Schema

_TEXT: Final[Schema] = {"type": ["null", "string"]}


def columns(nested: Mapping[str, Schema]) -> dict[str, Schema]:
    """Returns the columns with `_llm_status` and so on in place of `_llm`; an object in it becomes a text of JSON."""
    parts = nested.get(GROUP, {}).get("properties", {})
    flat = {f"{GROUP}_{part}": _TEXT if "properties" in schema else schema for part, schema in parts.items()}
    return {**{name: schema for name, schema in nested.items() if name != GROUP}, **flat}


def row(outcome: Outcome) -> dict[str, Any]:
    """Returns the output row in these columns."""
    parts = outcome.group.get(GROUP, {})
    flat = {
        f"{GROUP}_{part}": orjson.dumps(value).decode() if isinstance(value, dict) else value
        for part, value in parts.items()
    }
    return {**outcome.record.data, **outcome.columns, **flat}
