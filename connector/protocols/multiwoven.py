"""AI Squared's protocol (Multiwoven), as a source: one JSON message a line on stdout, named as in its `protocol.rb`.

There, a model's query is the request itself (`query_type: ai_ml`), made by the server: it is sent as it is, and the
reply's body is the record, or each of its events if it is streamed. A config with an `input` enriches a table instead.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from connector.base.errors import ConfigError, ConnectorError, Problem
from connector.base.records import IDLE, JSON, Idle, Outcome, Schema
from connector.base.streams import Stream
from connector.protocols import Arguments, Output, Platform, _flat, converse, json_file

VERBS: Final = ("spec", "check", "discover", "read")

DOCUMENTATION: Final = "https://docs.squared.ai/activation/ai-ml-sources/generic_open_ai-endpoint"
REQUIRED: Final = ("url", "api_key", "request_format", "response_format")
FORM: Final[Mapping[str, Schema]] = {
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
"""The six fields of the server's own connector: what it says of them where that differs from what we say."""

FURTHER: Final = ("headers", "max_retries", "proxy", "ca_bundle", "max_response_bytes")
"""Our options that matter to a single request. Its form would fill in an `input` by itself, so that is none of them."""

RATES: Final = {"request_rate_limit": 600, "request_rate_limit_unit": "minute", "request_rate_concurrency": 10}

_DRAWN: Final = frozenset(
    "type title description default order pattern minimum maximum multiwoven_secret x-request-format "
    "x-response-format".split()
)
_SAMPLES: Final = ("request_format", "response_format")
Message = dict[str, Any]


def serve(arguments: Arguments, platform: Platform, output: Output) -> int:
    """See `connector.protocols.Dialect.serve`. An error is a log message and exit code 1; a failed check exits 0."""
    verbs: Mapping[str, Callable[[Arguments, Platform], Iterator[Message | Idle]]] = {
        "spec": _spec,
        "check": _check,
        "discover": _discover,
        "read": _read,
    }

    def log(level: str, text: str) -> Message:
        known = {"WARNING": "warn", "CRITICAL": "fatal"}.get(level, level.lower())
        name = f"OPENAI COMPATIBLE:{arguments.verb.upper()}"
        return {"type": "log", "log": {"name": name, "level": known, "message": text}}

    messages = verbs[arguments.verb](arguments, platform)
    return converse(messages, output, log, lambda error: log("ERROR", error.message))


def _spec(_arguments: Arguments, platform: Platform) -> Iterator[Message]:
    ours = platform.spec()
    fields = {name: _field(ours["properties"][name], form) for name, form in FORM.items()}
    for order, name in enumerate(FURTHER, len(FORM) - 1):
        fields[name] = _field(ours["properties"][name], {"order": order})
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


def _field(ours: Schema, form: Schema) -> Schema:
    """A field of the form: what the form can draw of ours, and the server's own words over it."""
    field = {key: value for key, value in {**ours, **form}.items() if key in _DRAWN}
    if "properties" in ours:
        inner = form.get("properties", {})
        field["properties"] = {name: _field(each, inner.get(name, {})) for name, each in ours["properties"].items()}
    return field


def _check(arguments: Arguments, platform: Platform) -> Iterator[Message]:
    """Sends the sample request once. Unlike the server's own class it fails a 200 that is an error or no JSON."""
    try:
        config, _ = _inputs(arguments)
        if config.get("input"):
            diagnosis = platform.check(config)
            is_well, told = diagnosis.ok, diagnosis.message
        else:
            request = _parsed(config.get("request_format"), "request_format")
            platform.call({**_connection(config), "max_retries": 0}, request)
            is_well, told = True, "the endpoint answers"
    except ConnectorError as error:
        is_well, told = False, error.message
    status = {"status": "succeeded" if is_well else "failed", "message": told}
    yield {"type": "connection_status", "connection_status": status}


def _discover(arguments: Arguments, platform: Platform) -> Iterator[Message]:
    config = _inputs(arguments)[0] if arguments.config or arguments.sync_config else {}
    found = platform.discover(config)[:1] if config.get("input") else []  # a sync reads the input's stream alone
    streams = [_catalogued(stream) for stream in found]
    catalog = {"streams": streams, **RATES, "schema_mode": "schema", "source_defined_cursor": False}
    yield {"type": "catalog", "catalog": catalog}


def _catalogued(stream: Stream) -> Message:
    return {
        "name": stream.name,
        "action": "fetch",
        "json_schema": {**stream.schema, "properties": _flat.columns(stream.schema["properties"])},
        "supported_sync_modes": ["full_refresh"],
        "source_defined_cursor": False,
        "source_defined_primary_key": [[name] for name in stream.primary_key],
        "batch_support": False,
        "batch_size": 1,
        **RATES,
    }


def _read(arguments: Arguments, platform: Platform) -> Iterator[Message | Idle]:
    config, model = _inputs(arguments)
    if model.get("query_type") == "ai_ml":
        connection, request = _connection(config), _parsed(model.get("query"), "model.query")
        replies = platform.events if config.get("is_stream") else _only(platform.call)
        for data in replies(connection, request):
            yield _record(data)
            yield IDLE
    elif config.get("input"):
        for result in platform.read(config):
            if isinstance(result, Outcome):
                yield _record(_flat.row(result))
            elif isinstance(result, Idle):
                yield result
    else:
        raise ConfigError([Problem("model.query_type", "is not ai_ml, and the config has no input to read instead")])


def _only(call: Callable[[Any, JSON], dict[str, Any]]) -> Callable[[Any, JSON], Iterator[dict[str, Any]]]:
    """The same call as a stream of its one reply."""
    return lambda config, request: iter([call(config, request)])


def _record(data: dict[str, Any]) -> Message:
    return {"type": "record", "record": {"data": data, "emitted_at": int(time.time())}}


def _inputs(arguments: Arguments) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config, and the model of the sync config: its source's options count over those of `--config`."""
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
    """What a single request needs of a config: its formats are samples here, no templates; a null is no time-out."""
    connection = {name: value for name, value in config.items() if name not in _SAMPLES}
    if isinstance(connection.get("config"), dict):
        connection["config"] = {name: value for name, value in connection["config"].items() if value is not None}
    return connection


def _parsed(text: JSON, path: str) -> JSON:
    """A request body, as JSON text or as an object."""
    if text is None:
        raise ConfigError([Problem(path, "is missing: it is the request to send")])
    try:
        return json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError) as error:
        raise ConfigError([Problem(path, f"is not JSON: {error}")]) from None
