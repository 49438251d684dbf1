"""Airbyte's protocol, version 0.2, as a source and as a destination: one JSON message a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from connector.base.errors import ConfigError, ConnectorError
from connector.base.records import JSON, Checkpoint, Idle, Outcome
from connector.base.streams import Estimate, Limited, Selection
from connector.protocols import (
    Arguments,
    ConnectorAPI,
    MessageWriter,
    PlatformMessage,
    Verb,
    json_file,
    serve_verb,
    with_output,
)
from connector.protocols._airbyte_catalog import catalog_stream, selections, states
from connector.protocols._airbyte_destination import write
from connector.protocols._airbyte_messages import (
    estimate,
    failure,
    limited,
    log,
    reasons,
    record,
    state,
    status,
)
from connector.protocols._airbyte_spec import specification

__all__ = ["VERBS", "selections", "serve"]

VERBS: Final = ("spec", "check", "discover", "read", "write")


def serve(arguments: Arguments, connector: ConnectorAPI, output: MessageWriter) -> int:
    """See `connector.protocols.Dialect.serve`. A failed check exits 0: the program has not failed."""
    verbs: Mapping[str, Verb] = {
        "spec": _spec,
        "check": _check,
        "discover": _discover,
        "read": _read,
        "write": _write,
    }
    return serve_verb(verbs[arguments.verb], arguments, connector, output, log=log, failure=failure)


def _spec(arguments: Arguments, connector: ConnectorAPI) -> Iterator[PlatformMessage]:
    yield {"type": "SPEC", "spec": specification(connector.spec(), arguments.role)}


def _check(arguments: Arguments, connector: ConnectorAPI) -> Iterator[PlatformMessage]:
    try:
        diagnosis = connector.check(with_output(_config(arguments), arguments.role))
        ok, message = diagnosis.ok, diagnosis.message
    except ConnectorError as error:
        ok, message = False, error.message
    yield {
        "type": "CONNECTION_STATUS",
        "connectionStatus": {"status": "SUCCEEDED" if ok else "FAILED", "message": message},
    }


def _discover(arguments: Arguments, connector: ConnectorAPI) -> Iterator[PlatformMessage]:
    streams = connector.discover(_config(arguments))
    yield {"type": "CATALOG", "catalog": {"streams": [catalog_stream(stream) for stream in streams]}}


def _read(arguments: Arguments, connector: ConnectorAPI) -> Iterator[PlatformMessage | Idle]:
    config = _config(arguments)
    known = states(json_file(arguments.state, "state") if arguments.state else None)
    for selection in selections(json_file(arguments.catalog, "catalog")):
        yield from _read_stream(connector, config, selection, known)


def _read_stream(
    connector: ConnectorAPI, config: JSON, selection: Selection, known: Mapping[str, JSON]
) -> Iterator[Any]:
    """Yields the messages of one stream. Every state counts the records since the state before it."""
    name, count, is_running = selection.name, 0, False
    limit: Limited | None = None
    yield status(name, "STARTED")
    try:
        for result in connector.read(config, [selection], known):
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
    except GeneratorExit:  # the reader has gone
        raise
    except BaseException as error:
        yield status(name, "INCOMPLETE", reasons(error, limit))
        yield from _summary(connector)
        raise
    yield from _summary(connector)
    yield status(name, "COMPLETE")


def _summary(connector: ConnectorAPI) -> Iterator[PlatformMessage]:
    if connector.summary:
        yield log("INFO", str(connector.summary))


def _write(arguments: Arguments, connector: ConnectorAPI) -> Iterator[PlatformMessage | bytes | Idle]:
    yield from write(connector, _config(arguments), json_file(arguments.catalog, "catalog"))


def _config(arguments: Arguments) -> str | Mapping[str, Any]:
    if arguments.config is None:
        none = ": on a terminal, or with --format table, it needs none" if arguments.verb == "check" else ""
        raise ConfigError(f"--config is missing: pass `{arguments.verb}` the path of the config{none}")
    return arguments.config
