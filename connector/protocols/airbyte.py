"""Airbyte's protocol, as a source: one JSON message a line on stdout (Airbyte Protocol, version 0.2).

Messages are plain dicts, written by orjson: the protocol's model classes cost ten times as much for each record.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import orjson

from connector.errors import (
    ConfigError,
    ConnectorError,
    FatalError,
    OutageError,
    RateLimitError,
    RecordError,
    RetryableError,
    StorageError,
)
from connector.protocols import Arguments, LogHandler, Output, Platform, json_file
from connector.records import JSON, Checkpoint, Idle, Outcome, Schema, Status
from connector.streams import Selection, Stream

VERBS: Final = ("spec", "check", "discover", "read")
PROTOCOL_VERSION: Final = "0.2.0"
DOCUMENTATION: Final = "https://docs.airbyte.com/integrations/custom-connectors"

_DONE, _FAILED = 0, 1
_TOO_MANY: Final = 429
_REFUSALS: Final = frozenset(range(400, 500)) - {408, 409, 425, _TOO_MANY}
"""The statuses of a request that stays refused until it is changed."""
_STATES: Final = ("STREAM", "GLOBAL", "LEGACY", "STATE")
Message = dict[str, Any]


def serve(arguments: Arguments, platform: Platform, output: Output) -> int:
    """See `connector.protocols.Dialect.serve`. A failed check is no failure of the program: it exits 0."""
    verbs: Mapping[str, Callable[[Arguments, Platform], Iterator[Message | Idle]]] = {
        "spec": _spec,
        "check": _check,
        "discover": _discover,
        "read": _read,
    }
    handler = LogHandler(lambda level, text: output.write(orjson.dumps(log(level, text)) + b"\n"))
    try:
        for message in verbs[arguments.verb](arguments, platform):
            if isinstance(message, Idle):
                output.flush()
            else:
                output.write(orjson.dumps(message) + b"\n")
    except ConnectorError as error:
        output.write(orjson.dumps(_error(error)) + b"\n")
        return _FAILED
    finally:
        handler.close()
        output.flush()
    return _DONE


def _spec(_arguments: Arguments, platform: Platform) -> Iterator[Message]:
    yield {
        "type": "SPEC",
        "spec": {
            "documentationUrl": DOCUMENTATION,
            "protocol_version": PROTOCOL_VERSION,
            "connectionSpecification": platform.spec(),
            "supportsIncremental": True,
            "supported_destination_sync_modes": [],
        },
    }


def _check(arguments: Arguments, platform: Platform) -> Iterator[Message]:
    try:
        diagnosis = platform.check(_config(arguments))
        ok, message = diagnosis.ok, diagnosis.message
    except ConfigError as error:
        ok, message = False, error.message
    yield {
        "type": "CONNECTION_STATUS",
        "connectionStatus": {"status": "SUCCEEDED" if ok else "FAILED", "message": message},
    }


def _discover(arguments: Arguments, platform: Platform) -> Iterator[Message]:
    streams = platform.discover(_config(arguments))
    yield {"type": "CATALOG", "catalog": {"streams": [_catalogued(stream) for stream in streams]}}


def _catalogued(stream: Stream) -> Message:
    described: Message = {
        "name": stream.name,
        "json_schema": stream.schema,
        "supported_sync_modes": ["full_refresh", "incremental"] if stream.cursor_field else ["full_refresh"],
        "source_defined_primary_key": [[name] for name in stream.primary_key],
        "is_resumable": True,
    }
    if stream.cursor_field:
        described |= {"source_defined_cursor": True, "default_cursor_field": [stream.cursor_field]}
    return described


def _read(arguments: Arguments, platform: Platform) -> Iterator[Message | Idle]:
    config = _config(arguments)
    known = states(json_file(arguments.state, "state") if arguments.state else None)
    for selection in selections(json_file(arguments.catalog, "catalog")):
        yield from _read_stream(platform, config, selection, known)


def _read_stream(platform: Platform, config: JSON, selection: Selection, states: Mapping[str, JSON]) -> Iterator[Any]:
    """One stream, between its statuses. Every state counts the records since the one before it."""
    name, count, total = selection.name, 0, 0
    yield _status(name, "STARTED")
    try:
        for result in platform.read(config, [selection], states):
            if isinstance(result, Outcome):
                if not total:
                    yield _status(name, "RUNNING")
                count, total = count + 1, total + 1
                yield _record(result, selection)
            elif isinstance(result, Checkpoint):
                yield _state(name, result.state, count)
                count = 0
            else:
                yield result
    except GeneratorExit:  # nobody reads any more
        raise
    except BaseException as error:
        yield _status(name, "INCOMPLETE", _reasons(error))
        raise
    yield _status(name, "COMPLETE")


def _record(outcome: Outcome, selection: Selection) -> Message:
    record: Message = {
        "stream": selection.name,
        "data": selection.keeps(outcome.row),
        "emitted_at": time.time_ns() // 1_000_000,
    }
    if outcome.status is not Status.SUCCESS:
        changes = [{"field": name, "change": "NULLED", "reason": "SOURCE_RETRIEVAL_ERROR"} for name in outcome.columns]
        record["meta"] = {"changes": changes}
    return {"type": "RECORD", "record": record}


def _state(stream: str, state: JSON, count: int) -> Message:
    described = {"stream_descriptor": {"name": stream}, "stream_state": state}
    return {
        "type": "STATE",
        "state": {"type": "STREAM", "stream": described, "sourceStats": {"recordCount": float(count)}},
    }


def _status(stream: str, status: str, reasons: list[JSON] | None = None) -> Message:
    content: Message = {"stream_descriptor": {"name": stream}, "status": status}
    return _trace("STREAM_STATUS", stream_status=content | ({"reasons": reasons} if reasons else {}))


def _reasons(error: BaseException) -> list[JSON]:
    """Why a stream ended early, where the protocol has a name for it. `quota_reset` is in milliseconds since 1970."""
    if not isinstance(error, RateLimitError | OutageError) or error.http_status != _TOO_MANY:
        return []
    reason: Message = {"type": "RATE_LIMITED"}
    if isinstance(error, RateLimitError) and error.wait is not None:
        reason["rate_limited"] = {"quota_reset": int((time.time() + error.wait) * 1000)}
    return [reason]


def _error(error: ConnectorError) -> Message:
    """The trace that a platform shows: `message` is for the user, `internal_message` for whoever looks into it."""
    internal = error.detail or f"{type(error).__name__}: {error.message}"
    kind = _failure_type(error)
    return _trace("ERROR", error={"message": error.message, "internal_message": internal, "failure_type": kind})


def _failure_type(error: ConnectorError) -> str:
    """`config_error` is the user's to mend, `transient_error` goes by itself, and the rest is neither."""
    match error:
        case OutageError(http_status=int(status)) if status in _REFUSALS:
            return "config_error"
        case OutageError() | RetryableError():
            return "transient_error"
        case ConfigError() | FatalError() | RecordError() if not isinstance(error, StorageError):
            return "config_error"
    return "system_error"


def _trace(kind: str, **content: JSON) -> Message:
    return {"type": "TRACE", "trace": {"type": kind, "emitted_at": time.time() * 1000, **content}}


def selections(catalog: JSON) -> list[Selection]:
    """The streams that a configured catalogue asks for."""
    try:
        return [_selection(configured) for configured in catalog["streams"]]
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"the catalog is not a configured catalog of Airbyte's: {error!r} is missing in it") from None


def _selection(configured: Mapping[str, Any]) -> Selection:
    stream: Mapping[str, Any] = configured["stream"]
    schema: Schema = stream.get("json_schema") or {}
    fields = schema.get("properties")
    return Selection(
        stream["name"], configured.get("sync_mode") == "incremental", frozenset(fields) if fields else None
    )


def states(state: JSON) -> dict[str, JSON]:
    """The states by stream, from all forms that platforms pass or have passed.

    They are a list of state messages (by stream, global, or with legacy `data`), one message alone, in its envelope or
    without, and the object by stream that came before them. Nothing is an empty state.

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


def _config(arguments: Arguments) -> str:
    if arguments.config is None:
        raise ConfigError("--config is missing")
    return arguments.config


def log(level: str, message: str) -> Message:
    """A log message; `level` is a name of Python's logging."""
    return {
        "type": "LOG",
        "log": {"level": {"WARNING": "WARN", "CRITICAL": "FATAL"}.get(level, level), "message": message},
    }
