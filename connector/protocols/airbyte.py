"""Airbyte's protocol, as a source and as a destination: one JSON message a line (Airbyte Protocol, version 0.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from connector.base.errors import ConfigError, ConnectorError
from connector.base.records import JSON, Checkpoint, Idle, Outcome
from connector.base.streams import Estimate, Limited, Selection
from connector.protocols import Arguments, Output, Platform, converse, json_file
from connector.protocols._airbyte_catalog import SYNC_MODES, described, selections, states
from connector.protocols._airbyte_messages import (
    Message,
    estimate,
    failure,
    limited,
    log,
    reasons,
    record,
    state,
    status,
)
from connector.protocols._airbyte_write import write

__all__ = ["VERBS", "selections", "serve"]

VERBS: Final = ("spec", "check", "discover", "read", "write")
PROTOCOL_VERSION: Final = "0.2.0"
DOCUMENTATION: Final = "https://docs.airbyte.com/integrations/custom-connectors"


def serve(arguments: Arguments, platform: Platform, output: Output) -> int:
    """See `connector.protocols.Dialect.serve`. A failed check is no failure of the program: it exits 0."""
    verbs: Mapping[str, Callable[[Arguments, Platform], Iterator[Message | bytes | Idle]]] = {
        "spec": _spec,
        "check": _check,
        "discover": _discover,
        "read": _read,
        "write": _write,
    }
    return converse(verbs[arguments.verb](arguments, platform), output, log, failure)


def _spec(_arguments: Arguments, platform: Platform) -> Iterator[Message]:
    yield {
        "type": "SPEC",
        "spec": {
            "documentationUrl": DOCUMENTATION,
            "protocol_version": PROTOCOL_VERSION,
            "connectionSpecification": platform.spec(),
            "supportsIncremental": True,
            "supported_destination_sync_modes": list(SYNC_MODES),
        },
    }


def _check(arguments: Arguments, platform: Platform) -> Iterator[Message]:
    try:
        diagnosis = platform.check(_config(arguments))
        ok, message = diagnosis.ok, diagnosis.message
    except ConnectorError as error:
        ok, message = False, error.message
    yield {
        "type": "CONNECTION_STATUS",
        "connectionStatus": {"status": "SUCCEEDED" if ok else "FAILED", "message": message},
    }


def _discover(arguments: Arguments, platform: Platform) -> Iterator[Message]:
    streams = platform.discover(_config(arguments))
    yield {"type": "CATALOG", "catalog": {"streams": [described(stream) for stream in streams]}}


def _read(arguments: Arguments, platform: Platform) -> Iterator[Message | Idle]:
    config = _config(arguments)
    known = states(json_file(arguments.state, "state") if arguments.state else None)
    for selection in selections(json_file(arguments.catalog, "catalog")):
        yield from _read_stream(platform, config, selection, known)


def _read_stream(platform: Platform, config: JSON, selection: Selection, known: Mapping[str, JSON]) -> Iterator[Any]:
    """One stream, between its statuses. Every state counts the records since the one before it."""
    name, count, is_running = selection.name, 0, False
    limit: Limited | None = None
    yield status(name, "STARTED")
    try:
        for result in platform.read(config, [selection], known):
            if not is_running and isinstance(result, Outcome | Checkpoint):
                is_running = True
                yield status(name, "RUNNING")
            if isinstance(result, Outcome):
                count += 1
                yield record(result, selection)
            elif isinstance(result, Checkpoint):
                yield state(name, result.state, count)
                count = 0
            elif isinstance(result, Estimate):
                yield estimate(name, result.rows)
            elif isinstance(result, Limited):
                limit, is_running = result, True
                yield status(name, "RUNNING", limited(limit))
            else:
                yield result
    except GeneratorExit:  # nobody reads any more
        raise
    except BaseException as error:
        yield status(name, "INCOMPLETE", reasons(error, limit))
        raise
    yield status(name, "COMPLETE")


def _write(arguments: Arguments, platform: Platform) -> Iterator[Message | bytes | Idle]:
    yield from write(platform, _config(arguments), json_file(arguments.catalog, "catalog"))


def _config(arguments: Arguments) -> str:
    if arguments.config is None:
        raise ConfigError("--config is missing")
    return arguments.config
