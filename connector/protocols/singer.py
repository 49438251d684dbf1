"""Singer's protocol: a mapper, and by the program's name a tap (`tap-openai-compatible`) or a target.

Meltano runs the mapper between a tap and a target, with only `--config FILE`: messages on stdin, the same messages with
the new columns on stdout. It also takes Airbyte's messages, between a source and a destination; the first message tells
which. For the messages see the Singer specification (version 0.3) and what Meltano's SDK adds to it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, Final

import orjson

from connector.base.errors import ConfigError
from connector.base.lines import lines
from connector.base.records import Idle
from connector.base.regex import regex
from connector.base.terminal import hanging, write
from connector.base.version import __version__
from connector.protocols import Arguments, ConnectorAPI, MessageWriter, with_output
from connector.protocols._inline_mapper import InlineMapper, MessageFormat, Object, OpenStream
from connector.protocols._singer_plugins import PLUGINS, config_of, settings
from connector.protocols._singer_tap import discover, sync
from connector.protocols._singer_target import store

VERBS: Final = ()
_DONE, _FAILED = 0, 1
_TEXT: Final = rb'"((?:[^"\\]|\\.)*)"'
_AIRBYTE_ALONE: Final = frozenset({"CATALOG", "CONNECTION_STATUS", "CONTROL", "LOG", "SPEC", "TRACE"})


def serve(arguments: Arguments, connector: ConnectorAPI, output: MessageWriter) -> int:
    """See `connector.protocols.Dialect.serve`; the verb is `map`, for what the program does, or a flag."""
    running = {"tap": sync, "target": store}.get(arguments.role or "", _map)
    verbs: Mapping[str, Callable[[Arguments, ConnectorAPI, MessageWriter], int]] = {
        "map": running,
        "about": _about,
        "test": _test,
        "discover": discover if arguments.role == "tap" else _discover,
    }
    try:
        return verbs[arguments.verb](arguments, connector, output)
    finally:
        output.flush()


def _map(arguments: Arguments, connector: ConnectorAPI, output: MessageWriter) -> int:
    transform = connector.transform(config_of(arguments, connector))
    mapper = InlineMapper(transform, _format_of)
    try:
        with closing(transform.run(mapper.items(lines(sys.stdin.buffer)))) as results:
            for result in results:
                if isinstance(result, Idle):
                    output.flush()
                else:
                    output.write(mapper.written(result))
    finally:
        if transform.summary:
            write(sys.stderr, f"{transform.summary}\n")
    return _DONE


def _about(arguments: Arguments, connector: ConnectorAPI, output: MessageWriter) -> int:
    role = arguments.role or ""
    role = role if role in PLUGINS else "map"
    about = {
        "name": f"{role}-openai-compatible",
        "description": PLUGINS[role].does,
        "version": __version__,
        "capabilities": PLUGINS[role].capabilities,
        "settings": settings(connector.spec(), role),
    }
    output.write(orjson.dumps(about, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return _DONE


def _test(arguments: Arguments, connector: ConnectorAPI, _output: MessageWriter) -> int:
    config = config_of(arguments, connector)
    try:
        with_output(config, arguments.role)
    except ConfigError as error:
        write(sys.stderr, f"failed: {hanging(error.message)}\n")
        return _FAILED
    diagnosis = connector.check(config)
    for step in diagnosis.steps:
        write(sys.stderr, f"{'ok' if step.ok else 'failed'}: {hanging(step.finding)}\n")
    return _DONE if diagnosis.ok else _FAILED


def _discover(_arguments: Arguments, _connector: ConnectorAPI, output: MessageWriter) -> int:
    output.write(b'{"streams": []}\n')
    return _DONE


def _declare_schema(message: Object, opened: OpenStream) -> bool:
    stream, schema = message.get("stream"), message.get("schema")
    if not isinstance(stream, str) or not isinstance(schema, dict):
        raise ConfigError("the SCHEMA has no stream, or no schema")
    return _gains(stream, schema, opened)


def _declare_catalog(message: Object, opened: OpenStream) -> bool:
    match message.get("catalog"):
        case {"streams": [*streams]}:
            gaining = [_gains(*_described(stream), opened) for stream in streams]
            return any(gaining)
    raise ConfigError("the CATALOG has no streams")


def _described(stream: Any) -> tuple[str, Object]:
    match stream:
        case {"name": str(name), "json_schema": dict(schema)}:
            return name, schema
    raise ConfigError("the CATALOG has a stream without name or json_schema")


def _gains(stream: str, schema: Object, opened: OpenStream) -> bool:
    """Adds the columns that a stream gains to its schema; returns whether it gains any.

    A schema without properties leaves the columns of the stream open.
    """
    properties = schema.get("properties") or {}
    if not isinstance(properties, dict):
        raise ConfigError(f'the schema of stream "{stream}" has properties that are not an object')
    gained = opened(stream, list(properties) or None)
    if gained is None:
        return False
    schema["properties"] = {**properties, **gained}
    return True


_SINGER: Final = MessageFormat(
    head=regex(rb'\s*\{\s*"type"\s*:\s*"RECORD"\s*,\s*"stream"\s*:\s*' + _TEXT + rb'\s*,\s*"record"\s*:\s*(?=\{)'),
    path=("record",),
    stream_of=lambda message: message.get("stream"),
    declares="SCHEMA",
    declare=_declare_schema,
    is_strict=True,
    in_files=frozenset({"BATCH"}),
)
_AIRBYTE: Final = MessageFormat(
    head=regex(
        rb'\s*\{\s*"type"\s*:\s*"RECORD"\s*,\s*"record"\s*:\s*\{\s*(?:"namespace"\s*:\s*(?:null|"[^"\\]*")\s*,\s*)?'
        rb'"stream"\s*:\s*' + _TEXT + rb'\s*,\s*"data"\s*:\s*(?=\{)'
    ),
    path=("record", "data"),
    stream_of=lambda message: message["record"].get("stream") if isinstance(message.get("record"), dict) else None,
    declares="CATALOG",
    declare=_declare_catalog,
)


def _format_of(message: Object) -> MessageFormat:
    """Tells the protocol by a message: Airbyte has types of its own, and nests the content of RECORD and STATE."""
    kind = message["type"]
    nested = {"RECORD": "stream", "STATE": "value"}.get(kind)
    return _AIRBYTE if kind in _AIRBYTE_ALONE or (nested and nested not in message) else _SINGER
