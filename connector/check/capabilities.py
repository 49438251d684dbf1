"""What an endpoint can do, found out by trying. The results are stored, and later runs use them.

Most capabilities are about the default kind, whose requests and replies are used here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from connector import endpoints
from connector.base.decoding import loads
from connector.base.errors import BadRequestError, ConnectorError, NotFoundError, ServerError
from connector.base.records import Reply, Schema, is_ok
from connector.base.user_cache import make_private_directory, write_private_file
from connector.base.values import dumps
from connector.calls.fallbacks import Fallbacks, path_of
from connector.check._request import PICTURE, lists_of, own_words
from connector.check.probe import Probe
from connector.endpoints import DEFAULT_KIND, KINDS, address_of, usage_of
from connector.run.runtime import IN_MEMORY

Verdict = Literal["yes", "no", "ignored", "unknown"]

_CALLS: Final = 3  # all questions together may take as long as so many calls of a run; `check` before them, as one
_LASTS: Final = 7 * 86_400  # seconds: servers are upgraded
_CAP: Final = 16  # tokens
_STRUCTURED_CAP: Final = 64  # tokens
_LACKS: Final = (404, 405, 501)
_SHOWN: Final = 120
_SCHEMA: Final[Schema] = {
    "type": "object",
    "properties": {"greeting": {"type": "string"}},
    "required": ["greeting"],
    "additionalProperties": False,
}
_TOOL: Final = {
    "type": "function",
    "function": {"name": "greet", "description": "Greets a person.", "parameters": _SCHEMA},
}


class Capability(NamedTuple):
    """Something that an endpoint may be able to do. `ignored`: it accepts the parameter, but does not act on it."""

    name: str
    verdict: Verdict
    detail: str = ""


class Table(NamedTuple):
    """The capabilities of one model at one endpoint; `at` is when they were tried, in seconds since 1970."""

    at: float
    rows: tuple[Capability, ...]


def found(probe: Probe, offered: list[str], *, fresh: bool = False) -> Table:
    """Returns the stored table if it is less than a week old, else a new one, which costs some tokens.

    Args:
        offered: The models that the server lists, among which there may be some for other kinds.
        fresh: Whether to try everything again in any case.
    """
    plan = probe.plan
    url = plan.url if plan.config.kind == DEFAULT_KIND else address_of(plan.config.base_url, DEFAULT_KIND).url
    path = None if plan.config.cache == IN_MEMORY else _path(url)
    kept = _read(path)
    now, model = probe.clock.time(), plan.requests.model or ""
    if not fresh and model in kept and now - kept[model].at < _LASTS:
        return kept[model]
    probe.extend(_CALLS)
    table = Table(now, tuple(_asked(_Asker(probe, url, model), offered)))
    _learn(probe, url, model, {row.name: row.verdict for row in table.rows})
    if not probe.has_run_out:
        _write(path, {**kept, model: table})
    return table


class _Asker:
    """Makes requests for a few tokens to the default kind's endpoint, and tests whether others exist."""

    def __init__(self, probe: Probe, url: str, model: str) -> None:
        self.probe = probe
        self.model = {"model": model} if model else {}
        self.url = url
        self.base_url = probe.config.base_url
        self.cap = "max_tokens"

    def chat(self, content: Any, cap: int = _CAP, **parameters: Any) -> Reply | ConnectorError:
        """Returns the reply to one message."""
        capped = {} if "max_completion_tokens" in parameters else {self.cap: cap}
        body = {**self.model, "messages": [{"role": "user", "content": content}], **capped, **parameters}
        return self.probe.ask_at(self.url, endpoints.load(DEFAULT_KIND), body)

    def other(self, kind: str, offered: list[str]) -> Capability:
        """Returns whether the server has an endpoint of another kind: its reply has one of that kind's lists."""
        endpoint = endpoints.load(kind)
        dedicated = endpoint.dedicated_model(offered)
        body = endpoint.minimal({"model": dedicated} if dedicated else self.model)
        reply = self.probe.ask_at(self.base_url + endpoint.PATH, endpoint, body)
        return _judged(kind, reply, lambda body: any(body.get(name) for name in lists_of(endpoint)))

    def stored(self, name: str) -> Capability:
        """Returns whether the server has files, or batches. Probing is free."""
        try:
            found = self.probe.get(self.probe.config.at(f"/{name}"))
        except ConnectorError as error:
            return Capability(name, "unknown", _short(error.message))
        if is_ok(found.status):
            return Capability(name, "yes" if b'"data"' in found.body else "ignored")
        return Capability(name, "no" if found.status in _LACKS else "unknown", f"HTTP {found.status}")


def _asked(ask: _Asker, offered: list[str]) -> Iterator[Capability]:
    counting = "Count from one to thirty."
    modern = ask.chat(counting, max_completion_tokens=_CAP)
    usual = ask.chat(counting)
    if not _is_ok(usual) and _is_ok(modern):
        ask.cap = "max_completion_tokens"
    yield _judged("max_completion_tokens", modern, _is_within)
    yield _judged("max_tokens", usual, _is_within)
    yield from _streaming(ask)
    form = {"type": "json_schema", "json_schema": {"name": "greeting", "strict": True, "schema": _SCHEMA}}
    yield _judged("json_schema", ask.chat("Greet the reader.", _STRUCTURED_CAP, response_format=form), _fits)
    words = "Greet the reader, as a JSON object with the key greeting."
    yield _judged("json_object", ask.chat(words, _STRUCTURED_CAP, response_format={"type": "json_object"}), _is_object)
    calling = ask.chat("Greet Ada.", _STRUCTURED_CAP, tools=[_TOOL], tool_choice="required")
    yield _judged("tools", calling, lambda body: bool(_message(body).get("tool_calls")))
    text = ask.chat("ping")
    seen = ask.chat([{"type": "text", "text": "ping"}, {"type": "image_url", "image_url": {"url": PICTURE}}])
    yield _judged("vision", seen, lambda body: _reads_more(body, text))
    yield _judged("logprobs", ask.chat("ping", logprobs=True), lambda body: bool(_choice(body).get("logprobs")))
    for kind in KINDS:
        if endpoints.load(kind).IN_CAPABILITIES:
            yield ask.other(kind, offered)
    yield from map(ask.stored, ("files", "batches"))


def _streaming(ask: _Asker) -> Iterator[Capability]:
    counted = ask.chat("ping", stream=True, stream_options={"include_usage": True})
    plain = counted if _is_ok(counted) else ask.chat("ping", stream=True)
    is_stream = isinstance(plain, Reply) and "event-stream" in plain.headers.get("content-type", "")
    yield _judged("streaming", plain, lambda _: is_stream)
    yield _judged("usage in streams", counted, lambda body: is_stream and usage_of(body).output_tokens is not None)


def _judged(name: str, result: Reply | ConnectorError, acts: Callable[[dict[str, Any]], bool]) -> Capability:
    if isinstance(result, Reply) and is_ok(result.status):
        return Capability(name, "yes" if acts(result.body) else "ignored")
    is_refusal = isinstance(result, Reply | BadRequestError | NotFoundError | ServerError)
    if isinstance(result, Reply):
        detail = f"HTTP {result.status}: {result.body['error']['message']}"
    else:
        detail = own_words(result) or result.message
    return Capability(name, "no" if is_refusal else "unknown", _short(detail))


def _is_ok(result: Reply | ConnectorError) -> bool:
    return isinstance(result, Reply) and is_ok(result.status)


def _is_within(body: dict[str, Any]) -> bool:
    return (usage_of(body).output_tokens or 0) <= _CAP


def _choice(body: dict[str, Any]) -> dict[str, Any]:
    choices = body.get("choices")
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def _message(body: dict[str, Any]) -> dict[str, Any]:
    message = _choice(body).get("message")
    return message if isinstance(message, dict) else {}


def _is_object(body: dict[str, Any]) -> bool:
    """Returns whether the text is a JSON object, or the beginning of one that was cut at the token limit."""
    text = str(_message(body).get("content") or "").strip()
    try:
        return isinstance(loads(text), dict)
    except ValueError:
        return text.startswith("{") and _choice(body).get("finish_reason") == "length"


def _fits(body: dict[str, Any]) -> bool:
    text = str(_message(body).get("content") or "").strip()
    try:
        value = loads(text)
    except ValueError:
        return _is_object(body)
    return isinstance(value, dict) and list(value) == ["greeting"] and isinstance(value["greeting"], str)


def _reads_more(body: dict[str, Any], text: Reply | ConnectorError) -> bool:
    """Returns whether an image used tokens. If the server counts none, it is enough that it accepts the image."""
    with_image = usage_of(body).input_tokens
    without = usage_of(text.body).input_tokens if isinstance(text, Reply) else None
    return not with_image or not without or with_image > without


def _learn(probe: Probe, url: str, model: str, verdicts: Mapping[str, Verdict]) -> None:
    """Stores which fallbacks of the default kind later runs need."""
    lacks = {name for name, verdict in verdicts.items() if verdict in ("no", "ignored")}
    has = {name for name, verdict in verdicts.items() if verdict == "yes"}
    names = [
        new
        for old, new in (("max_tokens", "max_completion_tokens"), ("max_completion_tokens", "max_tokens"))
        if old in lacks and new in has
    ]
    if "json_schema" in lacks:
        names.append("json_object" if "json_object" in has else "prompt")
    if verdicts.get("usage in streams") == "no" and "streaming" in has:
        names.append("no_usage")
    if names and probe.config.cache != IN_MEMORY:
        fallbacks = Fallbacks(endpoints.load(DEFAULT_KIND).FALLBACKS, path_of(url), probe.clock)
        fallbacks.learn(dumps({"model": model} if model else {}), names)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _path(url: str) -> Path:
    fallbacks = path_of(url)
    return fallbacks.with_name(fallbacks.name.replace(".endpoint.", ".capabilities."))


def _read(path: Path | None) -> dict[str, Table]:
    """Returns the stored tables by model; none if they cannot be read."""
    try:
        kept = {} if path is None else json.loads(path.read_bytes())
        return {
            model: Table(float(entry["at"]), tuple(Capability(*map(str, row)) for row in entry["rows"]))  # type: ignore[arg-type]  # written by _write
            for model, entry in kept.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return {}


def _write(path: Path | None, tables: Mapping[str, Table]) -> None:
    if path is None:
        return
    with suppress(OSError):
        make_private_directory(path.parent)
        content = {model: {"at": table.at, "rows": table.rows} for model, table in tables.items()}
        write_private_file(path, json.dumps(content).encode())
