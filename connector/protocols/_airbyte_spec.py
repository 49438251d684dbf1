"""Airbyte's specification of the source and of the destination: what each can be told, and in which forms.

An option that is JSON has no `type` here: Airbyte's form draws a text box for it (by `multiline`), and validators take
the text of the form as well as the object or list of whoever writes JSON. A list of types would not do: the platform
knows a single one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from connector.base.records import Schema
from connector.base.version import HOME

PROTOCOL_VERSION: Final = "0.2.0"
SYNC_MODES: Final = ("overwrite", "append", "append_dedup")
"""What a destination does with the rows that are already there."""

_REQUIRED: Final = {"source": "input", "destination": "output"}
_LEFT_OUT: Final = {
    "source": ("output", "streams"),
    "destination": ("input", "primary_key", "cursor_field", "on_bad_input", "keep_llm_as"),
}
_NOT_ON_A_PLATFORM: Final = ("max_template_error_percent",)  # of `enrich`
_TEXT_OR_MORE: Final = ("tool_choice", "primary_key", "image_columns")


def specification(options: Schema, role: str | None) -> dict[str, Any]:
    """Returns what `spec` says: for the `source`, the `destination`, or for both where the program's name tells none.

    Args:
        options: The JSON Schema of the config.
    """
    told: dict[str, Any] = {
        "documentationUrl": HOME,
        "protocol_version": PROTOCOL_VERSION,
        "connectionSpecification": _connection(options, role),
        "supportsIncremental": True,
    }
    return told if role == "source" else told | {"supported_destination_sync_modes": list(SYNC_MODES)}


def _connection(options: Schema, role: str | None) -> Schema:
    first = _REQUIRED.get(role or "")
    left_out = (*_NOT_ON_A_PLATFORM, *_LEFT_OUT.get(role or "", ()))
    names = sorted(options["properties"], key=lambda name: name != first)  # what is required comes first
    kept = {name: _option(name, options["properties"][name]) for name in names if name not in left_out}
    properties = {name: schema | {"order": order} for order, (name, schema) in enumerate(kept.items())}
    return {**options, "properties": properties, "required": [first] if first else []}


def _option(name: str, schema: Mapping[str, Any]) -> Schema:
    """Returns an option, without its type where it has several: JSON, names, and numbers that may be text."""
    has_several = schema.get("format") == "json" or "pattern_descriptor" in schema or name in _TEXT_OR_MORE
    kept = {key: value for key, value in schema.items() if key != "type" or not has_several}
    if "properties" in kept:
        kept["properties"] = {inner: _option(inner, each) for inner, each in kept["properties"].items()}
    return kept
