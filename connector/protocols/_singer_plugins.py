"""The plugins of Meltano that this program is, by the name that it is started by: a mapper, a tap and a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from connector.base.errors import ConfigError
from connector.base.records import JSON, Schema
from connector.config.config_file import read
from connector.protocols import Arguments, ConnectorAPI

_OF_ENRICH: Final = ("max_template_error_percent",)
_OF_AN_INPUT: Final = ("input", "primary_key", "cursor_field", "on_bad_input", "keep_llm_as")


class Plugin(NamedTuple):
    """What a plugin is: what it does, in words and in the Hub's, and which options it has.

    `left_out` are the options that are none of its settings, `required` those that it cannot do without. `names` are
    the settings of other names than their options.
    """

    does: str
    capabilities: Sequence[str]
    left_out: Sequence[str]
    required: Sequence[str]
    names: Mapping[str, str] = {}


PLUGINS: Final[Mapping[str, Plugin]] = {
    "map": Plugin(
        "Turns any OpenAI-compatible endpoint into columns of a stream",
        ("about",),
        ("output", *_OF_AN_INPUT, "streams", "cache", *_OF_ENRICH),
        ("url",),
    ),
    "tap": Plugin(
        "Reads files or a database, and adds columns from any OpenAI-compatible endpoint",
        ("about", "catalog", "discover", "state", "test"),
        ("output", "streams", *_OF_ENRICH),
        ("input",),
        {"metadata": "provenance"},  # Meltano takes `metadata` in a tap's config for something of its own
    ),
    "target": Plugin(
        "Adds columns from any OpenAI-compatible endpoint, and keeps the rows in files or a database",
        ("about", "batch"),
        (*_OF_AN_INPUT, *_OF_ENRICH),
        ("output",),
    ),
}


def settings(options: Schema, role: str) -> Schema:
    """Returns the JSON Schema of what a plugin may be told: for a mapper, all that a mapping can say as well."""
    plugin = PLUGINS[role]
    left_out = ("output", *_OF_AN_INPUT) if role == "map" else plugin.left_out
    named = {plugin.names.get(name, name): schema for name, schema in options["properties"].items()}
    kept = {name: schema for name, schema in named.items() if name not in left_out}
    return {**options, "properties": kept, "required": [] if role == "map" else list(plugin.required)}


def config_of(arguments: Arguments, connector: ConnectorAPI) -> dict[str, JSON]:
    """Reads the config that Meltano hands over.

    Raises:
        ConfigError: There is none, or it cannot be read.
    """
    if arguments.config is None:
        raise ConfigError("--config is missing: pass it the path of the config")
    given = arguments.config if isinstance(arguments.config, Mapping) else read(Path(arguments.config))
    plugin = PLUGINS.get(arguments.role or "")
    names = plugin.names if plugin else {}
    options = {setting: option for option, setting in names.items()}
    return typed({options.get(name, name): value for name, value in given.items()}, connector.spec())


def typed(config: Mapping[str, JSON], options: Schema) -> dict[str, JSON]:
    """Returns a config whose numbers and truth values may be text, as the environment has them, with such as they are.

    Text that is none of them stays, for the config to refuse.
    """
    properties = options.get("properties", {})
    return {name: _typed(value, properties.get(name, {})) for name, value in config.items()}


def _typed(value: JSON, schema: Mapping[str, Any]) -> JSON:
    kind = schema.get("type")
    if kind == "object" and isinstance(value, Mapping):
        return typed(value, dict(schema))
    if not isinstance(value, str):
        return value
    if kind == "boolean":
        return {"true": True, "false": False}.get(value.strip().lower(), value)
    if kind in ("integer", "number"):
        try:
            return int(value) if kind == "integer" else float(value)
        except ValueError:
            return value
    return value
