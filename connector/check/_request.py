"""A request like those of a run, as cheap as possible, and what the endpoint refuses about it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from connector import endpoints
from connector.base.errors import (
    APIConnectionError,
    APITimeoutError,
    BadRequestError,
    ConnectorError,
    FatalError,
    RateLimitError,
)
from connector.base.numbers import loads
from connector.base.records import ANY, Record, Reply, Schema, Status, is_ok
from connector.base.regex import regex
from connector.base.values import dumps
from connector.check.probe import Probe
from connector.replies.refusals import refusal
from connector.run.plan import Plan

_TRIES: Final = 8  # the most requests to find a parameter that is refused without being named
_STRUCTURED_CAP: Final = 512  # tokens of a structured reply
_USUAL_CAP: Final = 4096  # tokens of a reply that every model allows
_CAPS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_CUT: Final = (
    "max_tokens or model output limit was reached"  # OpenAI's reply if a reasoning model may write only one token
)
PICTURE: Final = (  # a red square of 64 x 64 pixels, since some servers refuse smaller ones
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAIAAAAlC+aJAAAAS0lEQVR42u3PQQkAAAgAsetfWiP4FgYrsKZeS0"
    "BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEDgsqnc8OJg6Ln3AAAAAElFTkSuQmCC"
)
"""A red square as a data URL."""

_SAMPLES: Final[Mapping[str, Any]] = {"integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}}
_FOR_RUNS: Final = ("whole",)
"""Fallbacks that runs use but checks do not: a check names the option to change instead."""

_QUOTED: Final = regex(r"\(HTTP \d")
_OPTIONS: Final = {
    "stream": "set is_stream to false",
    "stream_options": "set is_stream to false",
    "response_format": "remove output_schema (or response_format from request_format), or ask another model",
    "tools": "remove tools, or ask a model that can call functions",
    "tool_choice": "remove tool_choice",
}


def sample(plan: Plan, columns: Mapping[str, Schema]) -> dict[str, Any]:
    """Returns a made-up row: a value of each column's type, a small image for images, and a word for unknown types."""
    names = {**dict.fromkeys(plan.requests.required(), ANY), **columns}
    pictures = dict.fromkeys(plan.requests.columns_through("image"), PICTURE)
    return {name: _value(schema) for name, schema in names.items()} | pictures


def _value(schema: Schema) -> Any:
    kinds = schema.get("type", "string")
    kind = next((each for each in kinds if each != "null"), "string") if isinstance(kinds, list) else kinds
    return _SAMPLES.get(kind, "ping")


def rendered(plan: Plan, row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the request for a row, with a low token limit. Raises `TemplateError`.

    It is the lowest limit that the kind allows, or one with room for a structured reply, which has to fit its schema.
    """
    body: dict[str, Any] = loads(plan.requests.body(row))
    caps = {name: value for name, value in plan.endpoint.minimal(body).items() if type(value) is int}
    if plan.config.output_schema is not None:
        caps = dict.fromkeys(caps, _STRUCTURED_CAP)
    if "max_completion_tokens" in body and "max_tokens" in caps:
        caps = {"max_completion_tokens": caps["max_tokens"]}
    return {**body, **caps}


def has_picture(value: Any) -> bool:
    """Returns whether a request has an image part of chat completions or responses."""
    if isinstance(value, Mapping):
        return value.get("type") in ("image_url", "input_image") or any(map(has_picture, value.values()))
    return isinstance(value, list) and any(map(has_picture, value))


def refused_cap(probe: Probe, row: Mapping[str, Any]) -> str | None:
    """Tries the config's own token limit, which all other requests leave out; returns why it is refused.

    A common limit is not tried. The rest of the request is minimal, so that the reply is short nevertheless.
    """
    given: dict[str, Any] = loads(probe.plan.requests.body(row))
    caps: dict[str, Any] = {name: given[name] for name in _CAPS if name in given and not _is_usual(given[name])}
    if not caps:
        return None
    bare = {name: value for name, value in probe.plan.endpoint.minimal(given).items() if name not in _CAPS}
    result = asked(probe, {**bare, **caps})[0]
    if is_answer(result) or not isinstance(result, Reply | BadRequestError):
        return None
    named = " and ".join(f'"{name}"' for name in caps)
    return f"the endpoint works, but refuses {named} ({summary(result)}): set it to a number that the model accepts"


def _is_usual(cap: object) -> bool:
    return type(cap) is int and 0 < cap <= _USUAL_CAP


def missing_content(plan: Plan, body: Mapping[str, Any]) -> str | None:
    """Returns what the kind needs but the request lacks, and which kind the request would suit."""
    if isinstance(plan.requests.structure, list):
        return 'request_format is a list, but a request is an object: write it like {"model": "…", …}, without brackets'
    needed = _content_names(plan.endpoint.minimal({}))
    if not needed or needed & body.keys():
        return None
    kinds = {kind: endpoints.load(kind) for kind in endpoints.KINDS}
    names = {kind: _content_names(each.minimal({})) for kind, each in kinds.items()}
    want = " or ".join(f'"{name}"' for name in sorted(needed))
    meant = [kind for kind in kinds if names[kind] & body.keys()]
    if not meant:
        return f"request_format has no {want}, which {plan.config.kind} needs: add it"
    writers = [kind for kind in meant if kinds[kind].OVER_HTTP and kinds[kind].HAS_OUTPUT_TOKENS]
    best = (writers or meant)[0]  # `input` or `prompt` most likely means that a text is wanted
    has = next(name for name in body if name in names[best])
    return (
        f'request_format has "{has}", which is for {" or ".join(meant)}, but url is for {plan.config.kind}, which '
        f"needs {want}: set url to the {best} endpoint, or write {want} in its place"
    )


def _content_names(body: Mapping[str, Any]) -> set[str]:
    """Returns the keys of a minimal request except the model and limits."""
    return {name for name, value in body.items() if type(value) is not int and name != "model"}


def asked(probe: Probe, body: Mapping[str, Any]) -> tuple[Reply | ConnectorError, list[str]]:
    """Makes a request, with fallbacks if it is refused; returns the result and the names of the fallbacks in use.

    Fallbacks that worked are remembered for later runs, unless the server failed without saying why.
    """
    known, is_doubtful = probe.fallbacks.names(dumps(body)), False
    data, made = probe.fallbacks.fitted(dumps(body)), list[str]()
    while True:
        result = probe.ask(data)
        if isinstance(result, Reply) and is_ok(result.status):
            if made and not is_doubtful:
                probe.fallbacks.learn(data, made)
            return result, [*known, *made]
        if isinstance(result, FatalError | RateLimitError | APITimeoutError | APIConnectionError):
            return result, made
        step = probe.fallbacks.next(data, [*made, *_FOR_RUNS], result)
        if step is None:
            return result, made
        is_doubtful |= not isinstance(result, Reply) or result.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        made.append(step[0])
        data = step[1]


def all_words(result: Reply | ConnectorError) -> str:
    """Returns the message of a refusal, including its code and type."""
    if isinstance(result, Reply):
        return " ".join(str(value) for value in result.body["error"].values())
    return result.message


def own_words(result: Reply | ConnectorError) -> str:
    """Returns the endpoint's own message, without the words that this program adds."""
    if isinstance(result, Reply):
        return all_words(result)
    begin, end = _QUOTED.search(result.message), result.message.rfind(")")
    return result.message[begin.start() + 1 : max(end, begin.end())] if begin and end >= 0 else ""


def is_answer(result: Reply | ConnectorError) -> bool:
    """Returns whether the endpoint accepted the request."""
    return isinstance(result, Reply) and (is_ok(result.status) or _CUT in all_words(result))


def foreign_reply(plan: Plan, body: Mapping[str, Any]) -> str | None:
    """Returns what is wrong with a reply of another API, recognized by a lack of the lists in this kind's replies."""
    lists = lists_of(plan.endpoint)
    if not lists or body.get("object") or not body.keys().isdisjoint(lists):
        return None
    has = ", ".join(f'"{name}"' for name in list(body)[:5]) or "nothing"
    return (
        f'{plan.url} answers, but not as {plan.config.kind} does: its reply has {has}, and no "{lists[0]}": set url to '
        "the endpoint of an OpenAI-compatible API"
    )


def lists_of(endpoint: endpoints.Endpoint) -> list[str]:
    """Returns the names of the lists in the replies of a kind, such as `choices`."""
    return [name for name, schema in endpoint.REPLY["properties"].items() if schema.get("type") == "array"]


def summary(result: Reply | ConnectorError) -> str:
    """Returns a refusal as a message for people."""
    return refusal(result).message if isinstance(result, Reply) else result.message


def refused_parameter(probe: Probe, body: Mapping[str, Any], result: Reply | ConnectorError) -> tuple[str, str] | None:
    """Returns the step and finding for the refused parameter; `None` if even the smallest request fails."""
    bare = probe.plan.endpoint.minimal(dict(body))
    if not is_answer(asked(probe, bare)[0]):
        return None
    optional = [name for name in body if name not in bare]
    message = all_words(result)
    named = [name for name in sorted(optional, key=len, reverse=True) if re.search(rf"\b{re.escape(name)}\b", message)]
    name = named[0] if named else next(_by_trial(probe, body, optional), None)
    if name is None:
        return "request", f"{summary(result)}, though a smaller request works: check the contents of request_format"
    change = _OPTIONS.get(name, f"remove {name} from request_format, or change its value")
    return "parameters", f'the endpoint works, but refuses "{name}" ({summary(result)}): {change}'


def _by_trial(probe: Probe, body: Mapping[str, Any], names: list[str]) -> Iterator[str]:
    """Yields the parameters without which the endpoint accepts the request, by trying one after the other."""
    for name in names[:_TRIES]:
        if is_answer(probe.ask({key: value for key, value in body.items() if key != name})):
            yield name


def misfit(plan: Plan, reply: Reply) -> str | None:
    """Returns why a structured reply does not fit the schema; `None` also if it is truncated or there is no schema."""
    if plan.config.output_schema is None:
        return None
    outcome = plan.outcomes.of(Record(0, {}), reply)
    failure = outcome.provenance.error
    if outcome.status is not Status.INVALID_OUTPUT or failure is None:
        return None
    return (
        f"the endpoint works, but {failure.message.removeprefix('the ')}: set model to one that keeps to a schema, "
        "or describe the columns in the prompt"
    )


def unknown_names(plan: Plan, reply: Reply) -> str | None:
    """Returns the problems of a response_format that reads names which neither this reply nor the kind has."""
    return "\n".join(map(str, plan.outcomes.lacking(reply).values())) or None
