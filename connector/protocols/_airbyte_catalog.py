"""Airbyte's catalogs and states: describes streams for `discover`, and parses what a platform passes to `read`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from connector.base.errors import ConfigError
from connector.base.records import JSON, ROW_KEY, Schema
from connector.base.schemas import portable
from connector.base.streams import Mode, Selection, Stream, Target
from connector.protocols._airbyte_spec import SYNC_MODES
from connector.run.row_keys import SCHEMA as KEY

_STATES: Final = ("STREAM", "GLOBAL", "LEGACY", "STATE")


def catalog_stream(stream: Stream) -> dict[str, Any]:
    """Returns a stream for the catalog. One without a primary key gets a key column, which `read` fills."""
    schema, key = _opened(stream.schema), stream.primary_key
    if not key:
        schema["properties"] = {ROW_KEY: KEY, **schema["properties"]}
    content: dict[str, Any] = {
        "name": stream.name,
        "json_schema": schema,
        "supported_sync_modes": ["full_refresh", "incremental"] if stream.cursor_field else ["full_refresh"],
        "source_defined_primary_key": [[name] for name in key or (ROW_KEY,)],
        "is_resumable": True,
    }
    if stream.cursor_field:
        content |= {"source_defined_cursor": True, "default_cursor_field": [stream.cursor_field]}
    return content


def _opened(schema: Any) -> Any:
    """Returns the schema without `additionalProperties`: in Airbyte every object may have more properties."""
    if not isinstance(schema, dict):
        return schema
    kept = {name: value for name, value in schema.items() if name != "additionalProperties"}
    if "properties" in kept:
        kept["properties"] = {name: _opened(each) for name, each in kept["properties"].items()}
    if "items" in kept:
        kept["items"] = _opened(kept["items"])
    return kept


def selections(catalog: JSON) -> list[Selection]:
    """Returns the streams that a configured catalog asks for.

    Raises:
        ConfigError: It is not a configured catalog.
    """
    return [_selection(configured) for configured in _configured(catalog)]


def _selection(configured: Mapping[str, Any]) -> Selection:
    stream: Mapping[str, Any] = configured["stream"]
    fields = _properties(stream)
    keys = stream.get("source_defined_primary_key")
    return Selection(
        stream["name"],
        configured.get("sync_mode") == "incremental",
        frozenset(fields) if fields else None,
        ROW_KEY in fields if fields else keys == [[ROW_KEY]],
    )


def targets(catalog: JSON) -> list[Target]:
    """Returns the streams that a configured catalog sends, and what to do with the rows that are already there.

    Raises:
        ConfigError: It is not a configured catalog, or asks for something that cannot be done.
    """
    found = [_target(configured) for configured in _configured(catalog)]
    names = [target.name for target in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f'the catalog has two streams "{name}": send each through its own connection')
    return found


def _target(configured: Mapping[str, Any]) -> Target:
    stream: Mapping[str, Any] = configured["stream"]
    name, asked = stream["name"], configured.get("destination_sync_mode") or "append"
    if asked not in SYNC_MODES:
        raise ConfigError(f'stream "{name}": there is no sync mode "{asked}": use one of {", ".join(SYNC_MODES)}')
    mode = cast("Mode", asked)
    paths = configured.get("primary_key") or stream.get("source_defined_primary_key") or []
    if mode == "append_dedup" and not (isinstance(paths, list) and paths and all(map(_is_column, paths))):
        raise ConfigError(f'stream "{name}": append_dedup needs a primary key: set one whose columns are not nested')
    schema = stream.get("json_schema") or {}
    columns: dict[str, Schema] = {column: _typed(each, schema) for column, each in _properties(stream).items()}
    key = tuple(path[0] for path in paths) if mode == "append_dedup" else ()
    return Target(name, mode, columns, primary_key=key)


def _is_column(path: JSON) -> bool:
    return isinstance(path, list) and len(path) == 1 and isinstance(path[0], str)


def _typed(schema: Any, root: Schema) -> Schema:
    """Returns the schema of a column, reduced to the keywords that the stores know."""
    found = portable(schema, root)
    kind = schema.get("airbyte_type") if isinstance(schema, dict) else None
    return {**found, "airbyte_type": kind} if isinstance(kind, str) and found else found


def _properties(stream: Mapping[str, Any]) -> dict[str, Any]:
    properties = (stream.get("json_schema") or {}).get("properties") or {}
    return dict(properties)


def _configured(catalog: JSON) -> list[Mapping[str, Any]]:
    """Returns the streams of a configured catalog, after checking that they have a name and a schema."""
    match catalog:
        case {"streams": [*streams]} if all(map(_is_configured, streams)):
            return streams
    raise ConfigError("this is not a configured Airbyte catalog: it has no streams, or one without a name")


def _is_configured(stream: JSON) -> bool:
    match stream:
        case {"stream": {"name": str(), **rest}}:
            schema = rest.get("json_schema") or {}
            return isinstance(schema, dict) and isinstance(schema.get("properties") or {}, dict)
    return False


def states(state: JSON) -> dict[str, JSON]:
    """Returns the states by stream, from every shape that platforms pass or have passed.

    These are a list of state messages (by stream, global, or with legacy `data`), a single message, with or without its
    envelope, and the older object keyed by stream. `None` is an empty state.

    Raises:
        ConfigError: It is none of these.
    """
    if isinstance(state, Mapping) and state.get("type") not in _STATES:
        return dict(state)
    messages = [state] if isinstance(state, Mapping) else state or []
    found: dict[str, JSON] = {}
    try:
        for message in messages:
            inner = message.get("state") or message
            found |= inner.get("data") or {}
            for stream in (inner.get("global") or {}).get("stream_states") or [inner.get("stream")]:
                if stream:
                    found[stream["stream_descriptor"]["name"]] = stream.get("stream_state")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"the state is not a list of Airbyte's state messages: {error!r}") from None
    return found
