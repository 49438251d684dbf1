"""AI Squared's protocol (Multiwoven), as a source: one JSON message a line, named as in its `protocol.rb`.

A model with `query_type: ai_ml` has a whole request as its query: it is sent as it is, and the record is the reply's
body or, if it is streamed, each of its events. A config with an `input` enriches a table instead.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from connector.base import numbers
from connector.base.environment import closed
from connector.base.errors import ConfigError, ConnectorError, Problem
from connector.base.records import IDLE, JSON, Idle, Outcome, Schema
from connector.base.regex import regex
from connector.base.streams import Stream
from connector.protocols import (
    Arguments,
    ConnectorAPI,
    MessageWriter,
    PlatformMessage,
    Verb,
    _flat_columns,
    json_file,
    serve_verb,
)

VERBS: Final = ("spec", "check", "discover", "read")

DOCUMENTATION: Final = "https://docs.squared.ai/activation/ai-ml-sources/generic_open_ai-endpoint"
REQUIRED: Final = ("url", "api_key", "request_format", "response_format")
SERVER_FIELDS: Final[Mapping[str, Schema]] = {
    "url": {
        "description": "The full URL of an endpoint that speaks OpenAI's API; requests go to it as it stands.",
        "order": 0,
    },
    "api_key": {"title": "API Key", "description": "Sent as a bearer token.", "order": 1},
    "is_stream": {
        "description": "Hand on each piece of the reply as it arrives, for payloads that ask for a stream, instead of "
        "the whole reply at its end.",
        "order": 1,
    },
    "config": {"title": "", "properties": {"timeout": {"title": "HTTP Timeout"}}, "order": 2},
    "request_format": {
        "title": "Request Format",
        "description": "A sample of the request body, as JSON. Testing the connection sends it.",
        "default": '{"model":"gpt-4o-mini", "messages":[{"role": "user", "content": "What do you know about APIs?"}], '
        '"stream": false}',
        "order": 3,
    },
    "response_format": {
        "title": "Response Format",
        "description": "A sample of the reply's body, as JSON.",
        "default": '{"choices":[{"index": 0, "delta":{"role": "assistant", "content": "An API is the agreed way in '
        'which one program asks another for something."}, "finish_reason": "stop"}]}',
        "order": 4,
    },
}
"""The six fields of the server's own connector, with its words where they differ from ours."""

MORE_FIELDS: Final[Mapping[str, Schema]] = {
    "headers": {"description": "Further HTTP headers, as a JSON object."},
    "max_retries": {},
    "proxy": {"description": "The URL of an HTTP proxy."},
    "ca_bundle": {},
    "max_response_bytes": {},
}
"""Our options that matter to a single request. `input` is left out: the server's form would fill it in by itself."""

RATES: Final = {"request_rate_limit": 600, "request_rate_limit_unit": "minute", "request_rate_concurrency": 10}

FORM: Final = {
    "config.connect_timeout": "Connect timeout",
    "config.timeout": "HTTP Timeout",
    "api_key": "API Key",
    "ca_bundle": "CA bundle",
    "is_stream": "Enable streaming",
    "max_response_bytes": "Largest reply",
    "max_retries": "Retries",
    "request_format": "Request Format",
    "response_format": "Response Format",
    "headers": "Headers",
    "proxy": "Proxy",
    "url": "Endpoint URL",
}
"""What the form calls our options."""

_NAMES: Final = "|".join(re.escape(name) for name in FORM if not name.isalpha())
_WORDS: Final = "|".join(filter(str.isalpha, FORM))  # which also stand in sentences as words
_OPTION: Final = regex(rf"(?<![\w./`'\"-])(?:{_NAMES})(?![\w/`'\"-])|(?:(?<=^)|(?<=; )|(?<=set ))(?:{_WORDS})(?=[: ])")
_VARIABLE: Final = regex(r",? or OPENAI_[A-Z_]+(?: in the environment)?")
_FORM_KEYWORDS: Final = frozenset(
    "type title description default order pattern minimum maximum multiwoven_secret x-request-format "
    "x-response-format".split()
)
_SAMPLES: Final = ("request_format", "response_format")


def serve(arguments: Arguments, connector: ConnectorAPI, output: MessageWriter) -> int:
    """See `connector.protocols.Dialect.serve`. An error is a log message and exit code 1; a failed check exits 0."""
    verbs: Mapping[str, Verb] = {"spec": _spec, "check": _check, "discover": _discover, "read": _read}

    log = partial(_log, arguments.verb)

    def failure(error: ConnectorError) -> PlatformMessage:
        return log("ERROR", error.message)

    with closed():
        return serve_verb(verbs[arguments.verb], arguments, connector, output, log=log, failure=failure)


def _log(verb: str, level: str, text: str) -> PlatformMessage:
    text = _in_words_of_the_form(text)
    known = {"WARNING": "warn", "CRITICAL": "fatal"}.get(level, level.lower())
    return {"type": "log", "log": {"name": f"OPENAI COMPATIBLE:{verb.upper()}", "level": known, "message": text}}


def _in_words_of_the_form(text: str) -> str:
    """Returns a message with the names of options as the form has them, and without variables that nobody there has."""
    return _OPTION.sub(
        lambda found: FORM[found[0]] if found.end() == found.string.find(":") else f'"{FORM[found[0]]}"',
        _VARIABLE.sub("", text),
    )


def _spec(_arguments: Arguments, connector: ConnectorAPI) -> Iterator[PlatformMessage]:
    ours = connector.spec()
    fields = {name: _field(ours["properties"][name], theirs) for name, theirs in SERVER_FIELDS.items()}
    for order, (name, theirs) in enumerate(MORE_FIELDS.items(), len(SERVER_FIELDS) - 1):
        fields[name] = _field(ours["properties"][name], {**theirs, "order": order})
    specification = {
        "$schema": ours["$schema"],
        "title": "Generic Open AI Spec Endpoint",
        "type": "object",
        "required": REQUIRED,
        "properties": fields,
    }
    yield {
        "type": "connector_spec",
        "connector_spec": {
            "documentation_url": DOCUMENTATION,
            "connection_specification": specification,
            "supports_normalization": False,
            "supports_dbt": False,
            "stream_type": "user_defined",
            "connector_query_type": "ai_ml",
        },
    }


def _field(ours: Schema, theirs: Schema) -> Schema:
    """Returns a field of the form: those of our keywords that the form knows, overridden by the server's own."""
    field = {key: value for key, value in {**ours, **theirs}.items() if key in _FORM_KEYWORDS}
    if "properties" in ours:
        inner = theirs.get("properties", {})
        field["properties"] = {name: _field(each, inner.get(name, {})) for name, each in ours["properties"].items()}
    return field


def _check(arguments: Arguments, connector: ConnectorAPI) -> Iterator[PlatformMessage]:
    """Sends the sample request once. Unlike the server's own class, fails a 200 that is an error or not JSON."""
    try:
        config, _ = _inputs(arguments)
        if config.get("input"):
            diagnosis = connector.check(config)
            ok, message = diagnosis.ok, diagnosis.message
        else:
            request = _parsed(config.get("request_format"), "request_format")
            connector.call({**_connection(config), "max_retries": 0}, request)
            ok, message = True, "the endpoint answers"
    except ConnectorError as error:
        ok, message = False, error.message
    message = _in_words_of_the_form(message)
    status = {"status": "succeeded" if ok else "failed", "message": message}
    yield {"type": "connection_status", "connection_status": status}


def _discover(arguments: Arguments, connector: ConnectorAPI) -> Iterator[PlatformMessage]:
    config = _inputs(arguments)[0] if arguments.config or arguments.sync_config else {}
    found = connector.discover(config)[:1] if config.get("input") else []  # a sync reads only the stream of the input
    streams = [_catalogued(stream) for stream in found]
    catalog = {"streams": streams, **RATES, "schema_mode": "schema", "source_defined_cursor": False}
    yield {"type": "catalog", "catalog": catalog}


def _catalogued(stream: Stream) -> PlatformMessage:
    return {
        "name": stream.name,
        "action": "fetch",
        "json_schema": {**stream.schema, "properties": _flat_columns.columns(stream.schema["properties"])},
        "supported_sync_modes": ["full_refresh"],
        "source_defined_cursor": False,
        "source_defined_primary_key": [[name] for name in stream.primary_key],
        "batch_support": False,
        "batch_size": 1,
        **RATES,
    }


def _read(arguments: Arguments, connector: ConnectorAPI) -> Iterator[PlatformMessage | Idle]:
    config, model = _inputs(arguments)
    if model.get("query_type") == "ai_ml":
        connection, request = _connection(config), _parsed(model.get("query"), "model.query")
        replies = connector.events if config.get("is_stream") else _only(connector.call)
        for data in replies(connection, request):
            yield _record(data)
            yield IDLE
    elif config.get("input"):
        try:
            for result in connector.read(config):
                if isinstance(result, Outcome):
                    yield _record(_flat_columns.row(result))
                elif isinstance(result, Idle):
                    yield result
        except ConnectorError:
            yield from _summary(connector)
            raise
        yield from _summary(connector)
    else:
        raise ConfigError(
            [Problem("model.query_type", "is not ai_ml, and the config has no input: set one of the two")]
        )


def _summary(connector: ConnectorAPI) -> Iterator[PlatformMessage]:
    if connector.summary:
        yield _log("read", "INFO", str(connector.summary))


def _only(call: Callable[[Any, JSON], dict[str, Any]]) -> Callable[[Any, JSON], Iterator[dict[str, Any]]]:
    """Returns the same call as a stream of its one reply."""
    return lambda config, request: iter([call(config, request)])


def _record(data: dict[str, Any]) -> PlatformMessage:
    return {"type": "record", "record": {"data": data, "emitted_at": int(time.time())}}


def _inputs(arguments: Arguments) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the config and the model of the sync config, whose source's options override those of `--config`."""
    if arguments.sync_config is None:
        return _object(json_file(arguments.config, "config"), "the config"), {}
    config = _object(json_file(arguments.config, "config"), "the config") if arguments.config else {}
    sync = _object(json_file(arguments.sync_config, "sync-config"), "the sync config")
    source = _object(sync.get("source", {}), "source")
    specified = _object(source.get("connection_specification", {}), "source.connection_specification")
    return {**config, **specified}, _object(sync.get("model", {}), "model")


def _object(value: JSON, path: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise ConfigError(f"{path} is not an object")


def _connection(config: dict[str, Any]) -> dict[str, Any]:
    """Returns what a single request needs of a config: neither the formats, which are samples here, nor nulls."""
    connection = {name: value for name, value in config.items() if name not in _SAMPLES}
    if isinstance(connection.get("config"), dict):
        connection["config"] = {name: value for name, value in connection["config"].items() if value is not None}
    return connection


def _parsed(text: JSON, path: str) -> JSON:
    """Returns a request body that is given as JSON text or as an object."""
    if text is None:
        raise ConfigError([Problem(path, "is missing: it is the request to send")])
    try:
        return numbers.exactly(text) if isinstance(text, str) else text
    except (ValueError, RecursionError) as error:
        raise ConfigError([Problem(path, f"is not JSON: {error}")]) from None
