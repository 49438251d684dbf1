"""The request: one like those of a run, made as cheap as can be, and what it is about it that the endpoint refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

from connector.base.decoding import loads
from connector.base.errors import (
    APIConnectionError,
    APITimeoutError,
    BadRequestError,
    ConnectorError,
    FatalError,
    RateLimitError,
)
from connector.base.records import ANY, Reply, Schema
from connector.base.values import dumps
from connector.check.probe import Probe
from connector.config.shorthands import constants_of, shorthand_of
from connector.replies.refusals import refusal
from connector.run.plan import Plan
from connector.templates.template import Template

OK: Final = range(200, 300)
_TRIES: Final = 8  # requests at the most to find a parameter that is refused without being named
_USUAL: Final = 4096  # tokens of a reply that every model may make
_CAPS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_CUT: Final = "max_tokens or model output limit was reached"  # how OpenAI answers one token to a model that reasons
_SAMPLES: Final[Mapping[str, Any]] = {"integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}}
_QUOTED: Final = re.compile(r"\((HTTP \d+.*)\)", re.DOTALL)
_OPTIONS: Final = {
    "stream": "set is_stream to false",
    "stream_options": "set is_stream to false",
    "response_format": "remove output_schema (or response_format from request_format), or ask another model",
    "tools": "remove tools, or ask a model that can call functions",
    "tool_choice": "remove tool_choice",
}


def sample(plan: Plan, columns: Mapping[str, Schema]) -> dict[str, Any]:
    """A row in place of a real one: a value of its type for each column, a word where that is not known."""
    names = {**dict.fromkeys(_template(plan).required(), ANY), **columns}
    return {name: _value(schema) for name, schema in names.items()}


def _template(plan: Plan) -> Template:
    config = plan.config
    given = config.request_format
    source = plan.endpoint.request_format(shorthand_of(config)) if given is None else given
    return Template(source, "request_format", constants=constants_of(config))


def _value(schema: Schema) -> Any:
    kinds = schema.get("type", "string")
    kind = next((each for each in kinds if each != "null"), "string") if isinstance(kinds, list) else kinds
    return _SAMPLES.get(kind, "ping")


def rendered(plan: Plan, row: Mapping[str, Any]) -> dict[str, Any]:
    """The request for a row, with as few tokens to answer as the endpoint's kind allows. Raises `TemplateError`."""
    body: dict[str, Any] = loads(plan.request(row))
    caps = {name: value for name, value in plan.endpoint.minimal(body).items() if type(value) is int}
    if "max_completion_tokens" in body and "max_tokens" in caps:
        caps = {"max_completion_tokens": caps["max_tokens"]}
    return {**body, **caps}


def refused_cap(probe: Probe, row: Mapping[str, Any]) -> str | None:
    """What the endpoint has against the config's own token limit, which all else was asked without.

    One that is usual is not tried. The rest of the request is the smallest, so that its reply is short all the same.
    """
    given: dict[str, Any] = loads(probe.plan.request(row))
    caps: dict[str, Any] = {name: given[name] for name in _CAPS if name in given and not _is_usual(given[name])}
    if not caps:
        return None
    bare = {name: value for name, value in probe.plan.endpoint.minimal(given).items() if name not in _CAPS}
    result = asked(probe, {**bare, **caps})[0]
    if is_answer(result) or not isinstance(result, Reply | BadRequestError):
        return None
    named = " and ".join(f'"{name}"' for name in caps)
    return f"the endpoint works, but refuses {named} ({told(result)}): set it to a number that the model takes"


def _is_usual(cap: object) -> bool:
    return type(cap) is int and 0 < cap <= _USUAL


def misshapen(plan: Plan, body: Mapping[str, Any], shapes: Mapping[str, Mapping[str, Any]]) -> str | None:
    """What the kind needs and the request lacks; `shapes` are the smallest requests of all kinds."""
    if isinstance(_template(plan).structure, list):
        return 'request_format is a list, but a request is an object: write it like {"model": "…", …}, without brackets'
    needed = _contents(shapes[plan.config.kind])
    if not needed or needed & body.keys():
        return None
    want = " or ".join(f'"{name}"' for name in sorted(needed))
    meant = [kind for kind, shape in shapes.items() if _contents(shape) & body.keys()]
    if not meant:
        return f"request_format has no {want}, which {plan.config.kind} needs: add it"
    best = "responses" if "responses" in meant else meant[0]  # which does what chat and completions do
    has = next(name for name in body if name in _contents(shapes[best]))
    return (
        f'request_format has "{has}", which is for {" or ".join(meant)}, but url is for {plan.config.kind}, which '
        f"needs {want}: set url to the {best} endpoint, or write {want} in its place"
    )


def _contents(shape: Mapping[str, Any]) -> set[str]:
    return {name for name, value in shape.items() if type(value) is not int and name != "model"}


def asked(probe: Probe, body: Mapping[str, Any]) -> tuple[Reply | ConnectorError, list[str]]:
    """The reply, and what had to be conceded to get it; that is remembered for later runs."""
    data, made = probe.concessions.fitted(dumps(body)), list[str]()
    while True:
        result = probe.ask(data)
        if isinstance(result, Reply) and result.status in OK:
            if made:
                probe.concessions.learn(data, made)
            return result, made
        if isinstance(result, FatalError | RateLimitError | APITimeoutError | APIConnectionError):
            return result, made
        step = probe.concessions.next(data, made, result)
        if step is None:
            return result, made
        made.append(step[0])
        data = step[1]


def words(result: Reply | ConnectorError) -> str:
    """What a refusal says."""
    if isinstance(result, Reply):
        return " ".join(str(value) for value in result.body["error"].values())
    return result.message


def said(result: Reply | ConnectorError) -> str:
    """The endpoint's own words alone, without what this program says of them."""
    if isinstance(result, Reply):
        return words(result)
    quoted = _QUOTED.search(result.message)
    return quoted[1] if quoted else ""


def is_answer(result: Reply | ConnectorError) -> bool:
    """Whether the endpoint took the request."""
    return isinstance(result, Reply) and (result.status in OK or _CUT in words(result))


def alien(plan: Plan, body: Mapping[str, Any]) -> str | None:
    """What is wrong with a reply that is not of this API at all: it has none of the lists that its kind is made of."""
    lists = [name for name, schema in plan.endpoint.REPLY["properties"].items() if schema.get("type") == "array"]
    if not lists or body.get("object") or not body.keys().isdisjoint(lists):
        return None
    has = ", ".join(f'"{name}"' for name in list(body)[:5]) or "nothing"
    return (
        f'{plan.url} answers, but not as {plan.config.kind} does: its reply has {has}, and no "{lists[0]}": set url to '
        "the endpoint of an OpenAI-compatible API"
    )


def told(result: Reply | ConnectorError) -> str:
    """A refusal, for a person."""
    return refusal(result).message if isinstance(result, Reply) else result.message


def blamed(probe: Probe, body: Mapping[str, Any], result: Reply | ConnectorError) -> tuple[str, str] | None:
    """What of the request the endpoint refuses, as a step and its finding, since the smallest one works."""
    bare = probe.plan.endpoint.minimal(dict(body))
    if not is_answer(asked(probe, bare)[0]):
        return None
    optional = [name for name in body if name not in bare]
    said = words(result)
    named = [name for name in sorted(optional, key=len, reverse=True) if re.search(rf"\b{re.escape(name)}\b", said)]
    name = named[0] if named else next(_by_trial(probe, body, optional), None)
    if name is None:
        return "request", f"{told(result)}, though a smaller request works: check the contents of request_format"
    change = _OPTIONS.get(name, f"remove {name} from request_format, or change its value")
    return "parameters", f'the endpoint works, but refuses "{name}" ({told(result)}): {change}'


def _by_trial(probe: Probe, body: Mapping[str, Any], names: list[str]) -> Iterator[str]:
    """The parameters without which the endpoint takes the request, tried one after the other."""
    for name in names[:_TRIES]:
        if is_answer(probe.ask({key: value for key, value in body.items() if key != name})):
            yield name


def unknown_names(plan: Plan, reply: Reply) -> str | None:
    """What response_format reads of a reply that this one does not have, and none of the kind has."""
    if plan.config.response_format is None:
        return None
    values = plan.endpoint.value_types(_template(plan).structure)
    known = sorted({*reply.body, *plan.endpoint.REPLY["properties"], *values, "content", "parsed"})
    fields = (plan.config.output_schema or {}).get("properties", {})
    for name, path in Template(plan.config.response_format, "response_format", lenient=True).required().items():
        if name in known:
            continue
        if name in fields:
            return f'{path}: "{name}" is a part of the structured reply: write {{{{ parsed.{name} }}}}'
        near = get_close_matches(name, known, n=1, cutoff=0.6)
        change = f'change it to "{near[0]}"' if near else f"change it to one of {', '.join(known)}"
        return f'{path}: a reply has no "{name}": {change}, or write {{{{ {name} | default(none) }}}}'
    return None
