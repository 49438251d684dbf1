"""Singer's tap: what `read` gives of the configured input, as SCHEMA, RECORD and STATE messages."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from connector.base import numbers
from connector.base.errors import ConfigError
from connector.base.records import JSON, ROW_KEY, Checkpoint, Idle, Outcome
from connector.base.streams import Selection, Stream
from connector.base.terminal import write
from connector.protocols import Arguments, ConnectorAPI, MessageWriter, json_file
from connector.protocols._airbyte_catalog import catalog_stream
from connector.protocols._record_lines import dumps
from connector.protocols._singer_plugins import config_of

_MODELS: Final = "models"  # not selected unless somebody asks for it
_FULL: Final = "FULL_TABLE"


def discover(arguments: Arguments, connector: ConnectorAPI, output: MessageWriter) -> int:
    """Prints the catalog."""
    streams = [_described(stream) for stream in connector.discover(config_of(arguments, connector))]
    output.write(numbers.dumps({"streams": streams}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return 0


def sync(arguments: Arguments, connector: ConnectorAPI, output: MessageWriter) -> int:
    """Prints the messages of the selected streams, each from where its bookmark lets it go on."""
    config = config_of(arguments, connector)
    if arguments.catalog is None:
        catalog: JSON = {"streams": [_described(stream) for stream in connector.discover(config)]}
    else:
        catalog = json_file(arguments.catalog, "catalog")
    bookmarks = _bookmarks(json_file(arguments.state, "state") if arguments.state else None)
    for stream in _streams(catalog):
        if _is_selected(stream):
            try:
                for line in _lines(connector, config, stream, bookmarks):
                    output.write(line)
                    if not line:
                        output.flush()
            finally:
                if connector.summary:
                    write(sys.stderr, f"{connector.summary}\n")
    return 0


def _described(stream: Stream) -> dict[str, Any]:
    """Returns a stream as Singer's catalog has it."""
    found = catalog_stream(stream)
    keys = [path[0] for path in found["source_defined_primary_key"]]
    whole: dict[str, Any] = {
        "inclusion": "available",
        "selected-by-default": stream.name != _MODELS,
        "table-key-properties": keys,
    }
    if stream.cursor_field is None:
        whole["forced-replication-method"] = _FULL
    else:
        whole["valid-replication-keys"] = [stream.cursor_field]
    columns = [
        {
            "breadcrumb": ["properties", name],
            "metadata": {"inclusion": "automatic" if name in (*keys, stream.cursor_field) else "available"},
        }
        for name in found["json_schema"]["properties"]
    ]
    return {
        "tap_stream_id": stream.name,
        "stream": stream.name,
        "schema": found["json_schema"],
        "key_properties": keys,
        "replication_key": stream.cursor_field,
        "replication_method": _FULL if stream.cursor_field is None else "INCREMENTAL",
        "metadata": [{"breadcrumb": [], "metadata": whole}, *columns],
    }


def _streams(catalog: JSON) -> list[dict[str, Any]]:
    match catalog:
        case {"streams": [*streams]} if all(map(_is_stream, streams)):
            return streams
    raise ConfigError("this is not a Singer catalog: it has no streams, or one without a name or a schema")


def _is_stream(stream: JSON) -> bool:
    match stream:
        case {"tap_stream_id": str(), "schema": {"properties": dict()}}:
            return True
    return False


def _metadata(stream: Mapping[str, Any], *breadcrumb: str) -> dict[str, Any]:
    """Returns what the catalog says of a stream, or of one of its columns."""
    entries = stream.get("metadata")
    for each in entries if isinstance(entries, list) else ():
        match each:
            case {"breadcrumb": [*path], "metadata": dict(found)} if path == list(breadcrumb):
                return found
    return {}


def _is_selected(stream: Mapping[str, Any]) -> bool:
    whole = _metadata(stream)
    return bool(whole.get("selected", stream.get("selected", whole.get("selected-by-default", True))))


def _lines(
    connector: ConnectorAPI, config: JSON, stream: Mapping[str, Any], bookmarks: dict[str, JSON]
) -> Iterator[bytes]:
    """Yields the messages of a stream; nothing where the run pauses. Keeps its bookmark among those of the others."""
    name, keys = stream["tap_stream_id"], _metadata(stream).get("table-key-properties") or stream.get("key_properties")
    schema = stream["schema"]
    fields = {
        column: each
        for column, each in schema["properties"].items()
        if (told := _metadata(stream, "properties", column)).get("inclusion") == "automatic"
        or (told.get("selected", True) and told.get("inclusion") != "unsupported")
    }
    method = _metadata(stream).get("replication-method") or stream.get("replication_method")
    selection = Selection(name, method != _FULL, frozenset(fields), ROW_KEY in fields)
    declared = {"type": "SCHEMA", "stream": name, "schema": {**schema, "properties": fields}, "key_properties": keys}
    yield _line({**declared, **({"bookmark_properties": [key]} if (key := stream.get("replication_key")) else {})})
    for result in connector.read(config, [selection], bookmarks):
        if isinstance(result, Outcome):
            extracted = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            row = selection.keeps(result.row)
            yield _line({"type": "RECORD", "stream": name, "record": row, "time_extracted": extracted})
        elif isinstance(result, Checkpoint):
            bookmarks[name] = result.state
            yield _line({"type": "STATE", "value": {"bookmarks": bookmarks}})
        elif isinstance(result, Idle):
            yield b""


def _line(message: Mapping[str, Any]) -> bytes:
    return dumps(message, orjson.OPT_APPEND_NEWLINE)


def _bookmarks(state: JSON) -> dict[str, JSON]:
    match state:
        case {"bookmarks": dict(bookmarks)}:
            return dict(bookmarks)
        case None | {"bookmarks": None}:
            return {}
        case dict() if "bookmarks" not in state:
            return {}
    raise ConfigError("this is not a Singer state: its bookmarks are not an object")
