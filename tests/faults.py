"""What servers, proxies and networks do to a reply, byte by byte, and what the connector should make of each.

A reply is played as steps: bytes to write, seconds to wait, or an `End`. A `Good` reply is rendered into a `Message`
(JSON text or SSE events), a message into pieces for the wire, and a fault changes one of these on its way. `FAULTS` is
the table. A prompt names a row of it: `[[fault:429;retry-after=0.2;times=2]]` plays it for the first two calls with
that prompt. `times` is for ever where it is left out; several markers follow one another; a parameter that the row does
not list in `params` is a response header.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from email.utils import formatdate
from enum import Enum
from http import HTTPStatus
from http.client import responses as reasons
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from connector.base.records import Status


class End(Enum):
    """How a connection ends: after what was written (FIN), at once (RST), or without a byte upon the next request."""

    CLOSE = "close"
    RESET = "reset"
    STALE = "stale"


HANG: Final = math.inf
"""A wait that only the client ends."""

Step: TypeAlias = bytes | float | End
Body: TypeAlias = dict[str, Any]
Params: TypeAlias = dict[str, str]

JSON_TYPE: Final = "application/json"
SSE_TYPE: Final = "text/event-stream; charset=utf-8"
DONE: Final = b"data: [DONE]\n\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
NOTHING: Final[Params] = {}
KINDS: Final = frozenset({"chat", "completions", "responses", "embeddings"})


class Good(NamedTuple):
    """The reply that a call should get: its body, how it was asked for, and what an error text may echo."""

    body: Body
    kind: str = "chat"
    streamed: bool = False
    usage: bool = False
    headers: Params = NOTHING
    path: str = "/v1/chat/completions"
    key: str = ""
    prompt: str = ""


class Message(NamedTuple):
    """A rendered reply: the parts are one JSON text, or one SSE event each."""

    headers: Params
    parts: list[bytes]
    framing: Literal["length", "chunked", "close"]
    version: str = "1.1"


Make: TypeAlias = Callable[[Good, Params], Iterable[Step]]


class Fault(NamedTuple):
    """One row: what happens, and what becomes of a row of data to which it happens on every attempt.

    `params` are the marker's parameters with their defaults, `whole` and `streamed` the expected status (None: does not
    apply), `effect` whether it ends the run, `deadline` whether only the caller's timeout ends the call. `tail` is what
    the content has behind the usual answer.
    """

    about: str
    make: Make
    params: Params = NOTHING
    tail: str = ""
    name: str = ""
    retried: bool = False
    whole: Status | None = Status.SUCCESS
    streamed: Status | None = Status.SUCCESS
    effect: Literal["row", "run"] = "row"
    deadline: bool = False
    kinds: frozenset[str] = KINDS


# --- From a good reply to the wire -----------------------------------------------------------------------------------


def dump(value: Any) -> bytes:
    """JSON in UTF-8; a lone surrogate, which UTF-8 has no bytes for, becomes its JSON escape."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")


def head(status: int, headers: Params, version: str = "1.1") -> bytes:
    lines = [f"HTTP/{version} {status} {reasons.get(status, '')}", *(f"{k}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def chunks(good: Good) -> list[Body]:
    """The good body as the JSON objects of a stream."""
    if good.kind == "responses":
        return _response_events(good.body)
    if good.kind in {"images", "image_edits"}:
        return _image_events(good)
    if "choices" not in good.body:
        return [good.body]
    base = {k: v for k, v in good.body.items() if k not in {"choices", "usage"}}
    base |= {"object": "chat.completion.chunk"} if good.kind == "chat" else {}
    choices = [delta for choice in good.body["choices"] or () for delta in _deltas(good.kind, choice)]
    found = [base | {"choices": [choice]} for choice in choices] or [base | {"choices": good.body["choices"]}]
    return [*found, base | {"choices": [], "usage": good.body.get("usage")}] if good.usage else found


def _deltas(kind: str, choice: Body) -> list[Body]:
    """One choice as it is streamed: the role, its text in pieces, the reason why it ended."""
    each = {"index": choice["index"], "finish_reason": None}
    end = {"index": choice["index"], "finish_reason": choice["finish_reason"]}
    if kind == "completions":
        return [*({**each, "text": piece} for piece in _pieces(choice["text"])), {**end, "text": ""}]
    if "message" not in choice:
        return [end]
    said = [{key: piece} for key in ("content", "refusal") for piece in _pieces(choice["message"].get(key))]
    deltas = [{"role": "assistant", "content": None if not said else ""}, *said, *_calls(choice["message"])]
    return [*({**each, "delta": delta} for delta in deltas), {**end, "delta": {}}]


def _calls(message: Body) -> Iterator[Body]:
    """The tool calls as deltas: who is called, then the arguments in pieces."""
    for index, call in enumerate(message.get("tool_calls", ())):
        named = {"name": call["function"]["name"], "arguments": ""}
        yield {"tool_calls": [{**call, "index": index, "function": named}]}
        for piece in _pieces(call["function"]["arguments"]):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _pieces(text: Any, size: int = 7) -> list[Any]:
    return [text[at : at + size] for at in range(0, len(text), size)] if isinstance(text, str) else [text] * bool(text)


def _image_events(good: Good) -> list[Body]:
    """The events of an image stream: each image comes first as an unfinished one."""
    rest = {"created_at": good.body.get("created"), "usage": good.body.get("usage")}
    name = "image_edit" if good.kind == "image_edits" else "image_generation"
    found = []
    for image in good.body.get("data", ()):
        found.append({"type": f"{name}.partial_image", "b64_json": "AAAA", "partial_image_index": 0})
        found.append({"type": f"{name}.completed", **image, **rest})
    return found


def _response_events(body: Body) -> list[Body]:
    """The events of the Responses API; it has no `[DONE]`, the last event's type says how it ended."""
    opened = body | {"status": "in_progress", "output": []}
    events: list[Body] = [{"type": f"response.{step}", "response": opened} for step in ("created", "in_progress")]
    for index, item in enumerate(body.get("output", ())):
        place = {"output_index": index, "item_id": item.get("id")}
        events.append(place | {"type": "response.output_item.added", "item": item | {"content": []}})
        for at, part in enumerate(item["content"]):
            events += [place | {"content_index": at} | event for event in _part_events(part)]
        events.append(place | {"type": "response.output_item.done", "item": item})
    events.append({"type": f"response.{body.get('status', 'failed')}", "response": body})
    return [event | {"sequence_number": number} for number, event in enumerate(events)]


def _part_events(part: Body) -> list[Body]:
    kind, key = f"response.{part['type']}", "text" if part["type"] == "output_text" else "refusal"
    return [
        {"type": "response.content_part.added", "part": part | {key: ""}},
        *({"type": f"{kind}.delta", "delta": piece} for piece in _pieces(part[key])),
        {"type": f"{kind}.done", key: part[key]},
        {"type": "response.content_part.done", "part": part},
    ]


def render(
    good: Good,
    deltas: Callable[[list[Body]], list[Body]] = list,
    text: Callable[[bytes], bytes] = bytes,
) -> Message:
    """The message of a good reply, with its stream's objects or its JSON texts changed on the way."""
    if not good.streamed:
        return Message({"content-type": JSON_TYPE, **good.headers}, [text(dump(good.body))], "length")
    objects = deltas(chunks(good))
    names = [f"event: {each['type']}\n".encode() if "type" in each else b"" for each in objects]
    events = [name + b"data: " + text(dump(each)) + b"\n\n" for name, each in zip(names, objects, strict=True)]
    end = [] if good.kind == "responses" else [DONE]
    return Message({"content-type": SSE_TYPE, **good.headers}, [*events, *end], "chunked")


def wire(message: Message) -> list[bytes]:
    """Its pieces: the head, then two halves of a whole body or each event of a stream. Framing `close` needs an end."""
    headers, parts, framing, version = message
    if framing == "length":
        body = b"".join(parts)
        middle = len(body) // 2
        return [head(200, {**headers, "content-length": str(len(body))}, version), body[:middle], body[middle:]]
    if framing == "close":
        return [head(200, {**headers, "connection": "close"}, version), *parts]
    return [head(200, {**headers, "transfer-encoding": "chunked"}), *map(chunk, parts), LAST_CHUNK]


def play(message: Message) -> list[Step]:
    """The message as it should be: a whole one in one write, a stream in one for each event."""
    if message.framing == "length":
        return [b"".join(wire(message))]
    return [*wire(message), *([End.CLOSE] if message.framing == "close" else [])]


def _error(words: str, kind: str, code: str | int | None = None) -> Body:
    return {"error": {"message": words, "type": kind, "code": code, "param": None}}


# --- Ways to go wrong: each function makes a `Make` ------------------------------------------------------------------


def in_body(edit: Callable[[Body], Body]) -> Make:
    return lambda good, _: play(render(good._replace(body=edit(good.body))))


def in_choice(edit: Callable[[Body], Body]) -> Make:
    return in_body(lambda body: body | {"choices": [edit(body["choices"][0])]})


def in_stream(edit: Callable[[list[Body]], list[Body]], *, usage: bool = False) -> Make:
    return lambda good, _: play(render(good._replace(usage=usage or good.usage), deltas=edit))


def in_deltas(edit: Callable[[Body], Body]) -> Make:
    return in_stream(lambda objects: [sent | {"choices": [*map(edit, sent["choices"])]} for sent in objects])


def in_text(edit: Callable[[bytes], bytes]) -> Make:
    return lambda good, _: play(render(good, text=edit))


def in_message(edit: Callable[[Message], Message]) -> Make:
    return lambda good, _: play(edit(render(good)))


def in_parts(edit: Callable[[list[bytes]], list[bytes]]) -> Make:
    return in_message(lambda sent: sent._replace(parts=edit(sent.parts)))


def in_events(edit: Callable[[bytes], bytes]) -> Make:
    return in_parts(lambda events: [*map(edit, events)])


def on_wire(steps: Callable[[list[bytes]], Iterable[Step]]) -> Make:
    return lambda good, _: steps(wire(render(good)))


def amid(event: bytes) -> Make:
    """The first events, then this one and `[DONE]`."""
    return in_parts(lambda events: [*events[:3], event, DONE])


def typed(content_type: str) -> Make:
    return in_message(lambda sent: sent._replace(headers={**sent.headers, "content-type": content_type}))


def until_close(version: str, edit: Callable[[list[bytes]], list[bytes]] = list) -> Make:
    """Neither length nor chunks: the end of the connection is the end of the reply."""
    return in_message(lambda sent: Message(sent.headers, edit(sent.parts), "close", version))


def _done(sent: list[bytes]) -> list[bytes]:
    """The chunk of `[DONE]`, where the pieces of a stream have none."""
    return [] if chunk(DONE) in sent else [chunk(DONE)]


def up_to(share: float, *end: Step) -> Make:
    """The head and this share of the body or of the events, then `end`; a moment between lets the client read them."""
    return on_wire(lambda sent: [*sent[: 1 + math.ceil(len(sent[1:]) * share)], 0.02, *end])


def status(code: int, error: Any, headers: Params = NOTHING, kind: str = JSON_TYPE) -> Make:
    """An answer with this HTTP status; `{key}` and `{prompt}` in it are what the call sent."""
    raw = error if isinstance(error, bytes) else dump(error)

    def make(good: Good, _: Params) -> Iterable[Step]:
        sent = raw.replace(b"{key}", good.key.encode()).replace(b"{prompt}", dump(good.prompt)[1:-1])
        length = {} if code == HTTPStatus.NO_CONTENT else {"content-length": str(len(sent))}
        return [head(code, {"content-type": kind, **headers, **good.headers, **length}) + sent]

    return make


def limited(headers: Params) -> Make:
    return status(429, _error("Rate limit reached for requests", "requests", "rate_limit_exceeded"), headers)


def limited_until(good: Good, params: Params) -> Iterable[Step]:
    """429 with the date `in` so many seconds, cut to whole ones as HTTP dates are."""
    date = formatdate(time.time() + float(params["in"]), usegmt=True)
    return limited({"retry-after": date})(good, params)


def redirect(code: int) -> Make:
    """To the URL `to`, or without one to a path of this origin where no marker counts."""
    return lambda good, params: [
        head(code, {"location": params["to"] or f"/redirected{good.path}", **good.headers, "content-length": "0"})
    ]


def trickle(first: int) -> Make:
    """One byte per `interval` seconds, from the piece with this number on."""
    return lambda good, params: itertools.chain(
        (sent := wire(render(good)))[:first],
        (step for byte in b"".join(sent[first:]) for step in (bytes([byte]), float(params["interval"]))),
    )


def endless(start: bytes, more: bytes) -> Make:
    """A reply that never ends, one more chunk per `interval` seconds."""
    return lambda good, params: itertools.chain(
        [_chunked_head(good), chunk(start + more)], itertools.cycle((float(params["interval"]), chunk(more)))
    )


def huge(good: Good, params: Params) -> Iterator[Step]:
    """The good reply behind `mib` MiB of spaces, or of a comment: valid, if anyone can hold it."""
    before, more, after = _padded(good)
    yield _chunked_head(good) + chunk(before)
    yield from itertools.repeat(chunk(more), int(params["mib"]))
    yield chunk(after) + LAST_CHUNK


def gzip_bomb(good: Good, params: Params) -> Iterator[Step]:
    """The same, a thousandth on the wire: a fully flushed deflate block can be repeated as it is (RFC 1951, 1952)."""
    before, more, after = _padded(good)
    packer = zlib.compressobj(wbits=-15)
    start, block, end = (packer.compress(part) + packer.flush(zlib.Z_FULL_FLUSH) for part in (before, more, after))
    yield _chunked_head(good, {"content-encoding": "gzip"}) + chunk(b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + start)
    checksum = zlib.crc32(before)
    for _ in range(int(params["mib"])):
        checksum = zlib.crc32(more, checksum)
        yield chunk(block)
    size = len(before) + len(more) * int(params["mib"]) + len(after)
    trailer = struct.pack("<II", zlib.crc32(after, checksum), size & 0xFFFFFFFF)
    yield chunk(end + packer.flush() + trailer) + LAST_CHUNK


def zipped(sent: Message) -> Message:
    """Each part is flushed by itself, as a proxy that compresses a stream does it."""
    packer = zlib.compressobj(wbits=31)
    parts = [packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH) for part in sent.parts]
    return sent._replace(headers={**sent.headers, "content-encoding": "gzip"}, parts=[*parts, packer.flush()])


def charset(name: str) -> Make:
    """A letter beyond ASCII in the good body, all in this encoding and labelled so."""

    def encoded(sent: Message) -> Message:
        text = '{"é": 1, ' + b"".join(sent.parts).decode()[1:]
        return sent._replace(
            headers={**sent.headers, "content-type": f"{JSON_TYPE}; charset={name}"}, parts=[text.encode(name)]
        )

    return in_message(encoded)


def said(**changes: Any) -> Make:
    """The first choice's message, with these fields changed."""
    return in_choice(lambda choice: choice | {"message": choice["message"] | changes})


def finish(reason: str, incomplete: str) -> Make:
    """Ended for this reason: as a choice says it, and as the Responses API does."""

    def edit(body: Body) -> Body:
        if "output" in body:
            return body | {"status": "incomplete", "incomplete_details": {"reason": incomplete}}
        return body | {"choices": [body["choices"][0] | {"finish_reason": reason}]}

    return in_body(edit)


def two_choices(order: int) -> Make:
    """A second choice, unasked, behind the first one (1) or before it (-1)."""

    def edit(body: Body) -> Body:
        (first,) = body["choices"]
        other = {"text": "other"} if "text" in first else {"message": {"role": "assistant", "content": "other"}}
        return body | {"choices": [first, first | other | {"index": 1}][::order]}

    return in_body(edit)


def _chunked_head(good: Good, headers: Params = NOTHING) -> bytes:
    sent = render(good)
    return wire(sent._replace(framing="chunked", headers={**sent.headers, **headers}))[0]


def _padded(good: Good) -> tuple[bytes, bytes, bytes]:
    """What comes before the padding, a MiB of it, and the good reply behind it."""
    before, more, after = (b":", b"x" * 2**20, b"\n\n") if good.streamed else (b" ", b" " * 2**20, b" ")
    return before, more, after + b"".join(render(good).parts)


def _refusal(body: Body) -> Body:
    words = "I can't help with that."
    if "output" in body:
        return body | {"output": [body["output"][0] | {"content": [{"type": "refusal", "refusal": words}]}]}
    message = {"role": "assistant", "content": None, "refusal": words}
    return body | {"choices": [body["choices"][0] | {"message": message}]}


def _in_parts(choice: Body) -> Body:
    parts = [{"type": "text", "text": choice["message"]["content"]}]
    return choice | {"message": {"role": "assistant", "content": parts}}


def _null_deltas(objects: list[Body]) -> list[Body]:
    first = objects[0]["choices"][0]
    nulls = {"role": None, "content": None, "tool_calls": None, "refusal": None}
    extra = [objects[0] | {"choices": [first | {"delta": delta}]} for delta in (nulls, None)]
    return [objects[0], *extra, *objects[1:]]


def _finish_with_content(objects: list[Body]) -> list[Body]:
    at = next(i for i, sent in enumerate(objects) if sent["choices"][0]["finish_reason"])
    objects[at - 1]["choices"][0]["finish_reason"] = objects[at]["choices"][0]["finish_reason"]
    return objects[:at] + objects[at + 1 :]


def _surrogates(objects: list[Body]) -> list[Body]:
    """The emoji's two halves, each as a lone surrogate escape in a delta of its own."""
    at = next(i for i, sent in enumerate(objects) if EMOJI in sent["choices"][0]["delta"].get("content", ""))
    choice = objects[at]["choices"][0]
    before, after = choice["delta"]["content"].split(EMOJI)
    halves = [choice | {"delta": {"content": half}} for half in (f"{before}\ud83d", f"\ude42{after}")]
    return [*objects[:at], *(objects[at] | {"choices": [half]} for half in halves), *objects[at + 1 :]]


def _with_usage_inside(sent: Body, usage: Any) -> Body:
    return sent | {"choices": [choice | {"usage": usage} for choice in sent["choices"]]}


def _deltas_then_done(good: Good, _: Params) -> Iterable[Step]:
    sent = render(good, lambda events: [event for event in events if event["type"].endswith(".delta")])
    return play(sent._replace(parts=[*sent.parts, DONE]))


def _without_output(event: Body) -> Body:
    return event | {"response": event["response"] | {"output": []}}


def _without_places(events: list[Body]) -> list[Body]:
    """As llama.cpp sends them; and the last response is not there to help out."""
    places = {"output_index", "content_index", "sequence_number"}
    found = [{key: value for key, value in event.items() if key not in places} for event in events]
    return [*found[:-1], _without_output(found[-1])]


def _split_emoji(sent: list[bytes]) -> Iterable[Step]:
    before, emoji, after = b"".join(sent).partition(EMOJI.encode())
    return [before + emoji[:2], 0.02, emoji[2:] + after]


def _event(value: Any) -> bytes:
    return b"data: " + dump(value) + b"\n\n"


# --- The table -------------------------------------------------------------------------------------------------------

BOM: Final = b"\xef\xbb\xbf"
EMOJI: Final = "🙂"
TAIL: Final = f" café {EMOJI}"
HTML: Final = b"<!DOCTYPE html><html><head><title>Sorry</title></head><body><h1>Sorry</h1></body></html>"
HTML_TYPE: Final = "text/html; charset=utf-8"
OVERLOADED: Final = _error("The server is overloaded", "server_error", "overloaded")
REFUSED: Final = _error("Unsupported value for 'temperature'", "invalid_request_error", "unsupported_value")
WRONG_KEY: Final = _error("Incorrect API key provided: {key}", "invalid_request_error", "invalid_api_key")
NO_MODEL: Final = _error("The model does not exist", "invalid_request_error", "model_not_found")
NO_QUOTA: Final = _error("You exceeded your current quota", "insufficient_quota", "insufficient_quota")
TOO_LONG: Final = _error("The context length is 8192 tokens", "invalid_request_error", "context_length_exceeded")
FIELDS: Final = {"detail": [{"type": "missing", "loc": ["body", "messages"], "msg": "Field required", "input": {}}]}
TOKEN: Final = _event({"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}]})
DEEP: Final = b'"deep": ' + b"[" * 20_000 + b"]" * 20_000 + b", "

_FAILED_RESPONSE: Final = {
    "status": "failed",
    "output": [],
    "error": {"code": "server_error", "message": "The model failed"},
}

_CALL: Final[Body] = {"id": "call_1", "type": "function", "function": {"name": "search", "arguments": "{}"}}

_Rows: TypeAlias = dict[str, Fault]

_GOOD: Final[_Rows] = {
    "100": Fault("a status line `100 Continue` before the answer", on_wire(lambda sent: [head(100, {}), *sent])),
    "103": Fault(
        "a status line `103 Early Hints` before the answer", on_wire(lambda sent: [head(103, {"link": "</a>"}), *sent])
    ),
    "246": Fault(
        "HTTP 246: answered, though a guardrail of the gateway (Portkey) failed",
        on_wire(lambda sent: [sent[0].replace(b"200 OK", b"246 "), *sent[1:]]),
    ),
    "307": Fault("HTTP 307, a redirect within the same origin", redirect(307), {"to": ""}),
    "308": Fault("HTTP 308, a redirect within the same origin", redirect(308), {"to": ""}),
    "bytewise": Fault("the reply arrives one byte at a time", trickle(0), {"interval": "0"}),
    "duplicate-keys": Fault(
        "the JSON has a key twice: the last one counts", in_text(lambda sent: b'{"object": "x", ' + sent[1:])
    ),
    "gzip": Fault("the reply is compressed; in a stream, each event separately", in_message(zipped)),
    "http10": Fault("HTTP/1.0: the reply ends when the connection closes", until_close("1.0")),
    "no-length": Fault(
        "HTTP/1.1 with neither `Content-Length` nor chunks: the reply ends when the connection closes",
        until_close("1.1"),
    ),
    "octet-stream": Fault("the reply is labelled `application/octet-stream`", typed("application/octet-stream")),
    "slow": Fault(
        "the endpoint thinks for a while before it answers",
        lambda good, p: [float(p["seconds"]), *wire(render(good))],
        {"seconds": "0.2"},
    ),
    "stale-close": Fault(
        "the connection is closed after the reply, without `Connection: close`",
        on_wire(lambda sent: [*sent, End.CLOSE]),
    ),
    "stale-next": Fault(
        "an idle connection is closed when the next request arrives on it", on_wire(lambda sent: [*sent, End.STALE])
    ),
    "text-plain": Fault("the reply is labelled `text/plain`", typed("text/plain")),
    "untyped": Fault("the reply has no content type", in_message(lambda sent: sent._replace(headers={}))),
}
_ERROR_OF_NOTHING: Final[_Rows] = {
    "error-empty": Fault(
        "an empty `error` object beside the answer",
        in_body(lambda body: body | {"error": {"message": "", "type": "", "param": "", "code": None}}),
    ),
    "error-zero": Fault(
        "the same, with the code 0", in_body(lambda body: body | {"error": {"code": 0, "message": ""}})
    ),
}
_GOOD_WHOLE: Final[_Rows] = {
    "blank-lines": Fault("blank lines before the JSON", in_text(lambda sent: b"\r\n\n" * 3 + sent)),
    "bom": Fault("a byte order mark before the JSON", in_text(lambda sent: BOM + sent)),
    "latin-1": Fault("the reply is encoded and labelled as Latin-1", charset("iso-8859-1")),
    "utf-16": Fault("the reply is encoded and labelled as UTF-16", charset("utf-16")),
    "sse-unasked": Fault(
        "a stream of events, where JSON was asked for", lambda good, _: play(render(good._replace(streamed=True)))
    ),
}
_GOOD_STREAM: Final[_Rows] = {
    "json-unasked": Fault(
        "JSON, where a stream was asked for", lambda good, _: play(render(good._replace(streamed=False)))
    ),
    "sse-bom": Fault("a byte order mark before the events", in_parts(lambda events: [BOM, *events])),
    "sse-comments": Fault(
        "a keep-alive comment before each event", in_events(lambda event: b": keepalive\n\n" + event)
    ),
    "sse-cr": Fault("the lines of events end in CR", in_events(lambda event: event.replace(b"\n", b"\r"))),
    "sse-crlf": Fault("the lines of events end in CRLF", in_events(lambda event: event.replace(b"\n", b"\r\n"))),
    "sse-fields": Fault(
        "events have `id:` and `retry:` lines beside their data", in_events(lambda event: b"id: 1\nretry: 9\n" + event)
    ),
    "sse-multiline": Fault(
        "the JSON of an event is spread over two `data:` lines",
        in_events(lambda event: event.replace(b", ", b",\ndata: ", 1)),
    ),
    "sse-pings": Fault(
        "a ping before each event, by name or by type",
        in_events(lambda event: b'event: ping\ndata: {"t": 1}\n\ndata: {"type": "ping"}\n\ndata: {}\n\n' + event),
    ),
    "sse-done-close": Fault(
        "the connection is closed behind `[DONE]`, though another chunk has to come",
        on_wire(lambda sent: [*sent[:-1], *_done(sent), 0.02, End.CLOSE]),
    ),
    "sse-done-reset": Fault(
        "the connection is reset behind `[DONE]`", on_wire(lambda sent: [*sent[:-1], *_done(sent), 0.02, End.RESET])
    ),
    "sse-done-more": Fault(
        "bytes that are not a chunk come behind `[DONE]`",
        on_wire(lambda sent: [*sent[:-1], *_done(sent), b"<html>\r\n" * 9, End.CLOSE]),
    ),
    "sse-done-open": Fault(
        "the connection stays open behind `[DONE]`", on_wire(lambda sent: [*sent[:-1], *_done(sent), HANG])
    ),
    "sse-finish-close": Fault(
        "the connection is closed behind the usage, though `[DONE]` and another chunk have to come",
        on_wire(lambda sent: [*(part for part in sent[:-1] if part not in _done(sent)), 0.02, End.CLOSE]),
    ),
    "sse-no-done": Fault(
        "the stream ends without `[DONE]`", in_parts(lambda events: [event for event in events if event != DONE])
    ),
    "sse-no-space": Fault(
        "`data:` is not followed by a space", in_events(lambda event: event.replace(b"data: ", b"data:"))
    ),
    "sse-one-chunk": Fault("all events arrive in one network chunk", in_parts(lambda events: [b"".join(events)])),
}
_GOOD_DELTAS: Final[_Rows] = {
    "finish-with-content": Fault(
        "the `finish_reason` comes with the last piece of text", in_stream(_finish_with_content)
    ),
    "null-deltas": Fault("deltas hold nulls, or are null", in_stream(_null_deltas)),
    "role-repeated": Fault(
        "every delta repeats the role", in_deltas(lambda c: c | {"delta": {"role": "assistant"} | c["delta"]})
    ),
    "sse-event-lines": Fault("every event has an `event:` line", in_events(lambda event: b"event: message\n" + event)),
    "sse-no-finish": Fault(
        "the stream ends with `[DONE]` but never gave a `finish_reason`",
        in_deltas(lambda choice: choice | {"finish_reason": None}),
    ),
    "sse-split-utf8": Fault("a character is split over two network chunks", on_wire(_split_emoji), tail=TAIL),
    "sse-surrogates": Fault("an emoji is split over two deltas", in_stream(_surrogates), tail=TAIL),
    "usage-none": Fault(
        "no token usage, though it was asked for", lambda good, _: play(render(good._replace(usage=False)))
    ),
    "usage-in-choice": Fault(
        "the token usage is inside the last choice",
        in_stream(lambda sent: [*sent[:-2], _with_usage_inside(sent[-2], sent[-1]["usage"])], usage=True),
    ),
    "usage-with-finish": Fault(
        "the token usage is in the chunk with the `finish_reason`",
        in_stream(lambda sent: [*sent[:-2], sent[-2] | {"usage": sent[-1]["usage"]}], usage=True),
    ),
}
_GOOD_PARTS: Final[_Rows] = {
    "content-parts": Fault("the content is a list of parts instead of a text", in_choice(_in_parts))
}
_GOOD_CHOICES: Final[_Rows] = {
    "finish-unknown": Fault(
        "a `finish_reason` that is not in OpenAI's API", in_choice(lambda c: c | {"finish_reason": "eos"})
    ),
    "two-choices": Fault("a second choice that was not asked for", two_choices(1)),
    "two-choices-swapped": Fault("two choices, the second one first", two_choices(-1)),
}
_CONNECTION: Final[_Rows] = {
    "bad-chunk": Fault(
        "a chunk whose size is not a number", lambda good, _: [_chunked_head(good) + b"zz\r\n{}\r\n" + LAST_CHUNK]
    ),
    "close": Fault("the connection is closed before any byte of the reply", lambda _good, _: [End.CLOSE]),
    "cut-body": Fault("the connection is closed in the middle of the body", up_to(0.5, End.CLOSE)),
    "cut-head": Fault(
        "the connection is closed in the middle of the headers", on_wire(lambda sent: [sent[0][:-9], 0.02, End.CLOSE])
    ),
    "reset": Fault("the connection is reset before any byte of the reply", lambda _good, _: [End.RESET]),
    "reset-body": Fault("the connection is reset in the middle of the body", up_to(0.5, End.RESET)),
}
_CUT_STREAM: Final[_Rows] = {
    "sse-cut": Fault("the stream ends cleanly, but in the middle of the events", in_parts(lambda events: events[:3])),
    "sse-cut-close": Fault(
        "the connection is closed in the middle of the events (HTTP/1.1)", until_close("1.1", lambda events: events[:3])
    ),
    "sse-cut-http10": Fault(
        "the connection is closed in the middle of the events (HTTP/1.0)", until_close("1.0", lambda events: events[:3])
    ),
    "sse-empty": Fault("a stream without a single event", in_parts(lambda _: [])),
}
_ERROR_IN_STREAM: Final[_Rows] = {
    "sse-error": Fault(
        "an error event in the middle of the stream", in_parts(lambda events: [*events[:3], _event(OVERLOADED)])
    ),
    "sse-error-done": Fault(
        "an error event in the middle of the stream, followed by `[DONE]`",
        in_parts(lambda events: [*events[:3], _event(OVERLOADED), DONE]),
    ),
    "sse-error-first": Fault("a stream with nothing but an error event", in_parts(lambda _: [_event(OVERLOADED)])),
    "sse-error-line": Fault(
        "a line `error: {…}` in the middle of the stream, followed by `[DONE]`",
        amid(b"error: " + dump(OVERLOADED["error"]) + b"\n\n"),
    ),
    "sse-error-line-first": Fault(
        "a stream with nothing but such a line",
        in_parts(lambda _: [b"error: " + dump(OVERLOADED["error"]) + b"\n\n", DONE]),
    ),
    "sse-error-bare": Fault(
        "an error without `data:` in the middle of the stream, followed by `[DONE]`", amid(dump(OVERLOADED) + b"\n\n")
    ),
    "sse-error-text": Fault(
        "a proxy's plain text in the middle of the stream",
        amid(b"upstream connect error: The server is overloaded\n"),
    ),
    "sse-error-event": Fault(
        "an event named `error` whose data is plain text",
        amid(b"event: error\ndata: The server is overloaded\n\n"),
    ),
    "sse-error-code": Fault(
        "an event with only a code and a message", amid(_event({"code": 1302, "message": "The server is overloaded"}))
    ),
    "sse-error-detail": Fault("an event with only a `detail`", amid(_event({"detail": "The server is overloaded"}))),
    "sse-unknown": Fault("an event of an unknown shape", amid(_event({"state": "The server is overloaded"}))),
}
_DEADLINE: Final[_Rows] = {
    "hang": Fault("the endpoint accepts the call and never answers", lambda _good, _: [HANG]),
    "hang-body": Fault("nothing comes after the headers", up_to(0, HANG)),
    "hang-mid": Fault("nothing comes after half of the body", up_to(0.5, HANG)),
    "trickle": Fault("headers and body arrive so slowly that the timeout is reached", trickle(0), {"interval": "0.05"}),
    "trickle-body": Fault("the body arrives so slowly that the timeout is reached", trickle(1), {"interval": "0.05"}),
}
_DEADLINE_STREAM: Final[_Rows] = {
    "endless-comments": Fault(
        "endless keep-alive comments, and no data", endless(b"", b": keepalive\n\n"), {"interval": "0.01"}
    ),
    "endless-tokens": Fault("endless tokens", endless(b"", TOKEN), {"interval": "0.01"}),
}
_DEADLINE_WHOLE: Final[_Rows] = {
    "endless-blanks": Fault("endless white space before the JSON", endless(b"", b"\n"), {"interval": "0.01"})
}
_TOO_MUCH: Final[_Rows] = {
    "endless-line": Fault("an endless line", endless(b'data: {"x": "', b"x" * 65536), {"interval": "0"}),
    "gzip-bomb": Fault("a small compressed reply that unpacks to a gigabyte", gzip_bomb, {"mib": "1024"}),
    "huge": Fault("a reply larger than `max_response_bytes`", huge, {"mib": "256"}),
}
_RETRIED: Final[_Rows] = {
    "200-overloaded": Fault("HTTP 200 whose body is a temporary error (overloaded)", in_body(lambda _: OVERLOADED)),
    "200-vendor-limit": Fault(
        "HTTP 200 whose body is a vendor's own rate limit",
        in_body(lambda _: {"error_code": 18, "error_msg": "qps limit reached"}),
    ),
    "200-vendor-busy": Fault(
        "HTTP 200 whose body is a code and a message instead of a reply",
        in_body(lambda _: {"code": 50505, "message": "Model service overloaded", "data": None}),
    ),
    "400-should-retry": Fault("HTTP 400 with `x-should-retry: true`", status(400, REFUSED, {"x-should-retry": "true"})),
    "408": Fault("HTTP 408, request timeout", status(408, _error("Timed out", "timeout"))),
    "409": Fault("HTTP 409, conflict", status(409, _error("Conflict", "conflict"))),
    "425": Fault("HTTP 425, too early", status(425, _error("Too early", "too_early"))),
    "429": Fault("HTTP 429 that does not say how long to wait", limited({})),
    "429-seconds": Fault("HTTP 429 with `Retry-After` in seconds", limited({"retry-after": "1"})),
    "429-fraction": Fault("HTTP 429 with `Retry-After` in fractions of a second", limited({"retry-after": "0.2"})),
    "429-date": Fault("HTTP 429 with `Retry-After` as a date", limited_until, {"in": "1"}),
    "429-ms": Fault("HTTP 429 with `retry-after-ms`", limited({"retry-after-ms": "20", "retry-after": "60"})),
    "429-junk": Fault("HTTP 429 with an invalid `Retry-After`", limited({"retry-after": "soon"})),
    "429-gateway": Fault(
        "HTTP 429 with `Retry-After` under a gateway's own name", limited({"llm_provider-retry-after": "0.1"})
    ),
    "429-reset": Fault(
        "HTTP 429 with `x-ratelimit-reset-requests` alone",
        limited({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20ms"}),
    ),
    "498": Fault(
        "HTTP 498, no capacity for a flexible tier", status(498, _error("Capacity exceeded", "x", "capacity_exceeded"))
    ),
    "500": Fault("HTTP 500, internal error", status(500, _error("Internal error", "server_error"))),
    "500-close": Fault(
        "HTTP 500, after which the connection is closed without notice",
        lambda good, params: [*status(500, OVERLOADED)(good, params), End.CLOSE],
    ),
    "500-sse": Fault("HTTP 500 as an event of a stream", status(500, _event(OVERLOADED), kind=SSE_TYPE)),
    "502": Fault("HTTP 502, bad gateway, as a web page", status(502, HTML, kind=HTML_TYPE)),
    "503": Fault("HTTP 503, unavailable, as plain text", status(503, b"no healthy upstream", kind="text/plain")),
    "504": Fault("HTTP 504, gateway timeout, as a web page", status(504, HTML, kind=HTML_TYPE)),
    "529": Fault("HTTP 529, overloaded", status(529, _error("Overloaded", "overloaded_error"))),
}
_REFUSED: Final[_Rows] = {
    "200-refused": Fault(
        "HTTP 200 whose body is an error 400", in_body(lambda _: _error("Bad request", "invalid_request_error", 400))
    ),
    "204": Fault("HTTP 204, no content", status(204, b"")),
    "200-empty": Fault("HTTP 200 with an empty body", status(200, b"")),
    "200-html": Fault("HTTP 200 with a web page", status(200, HTML, kind=HTML_TYPE)),
    "301": Fault("HTTP 301, a redirect that would turn the call into a GET", redirect(301), {"to": ""}),
    "302": Fault("HTTP 302, a redirect that would turn the call into a GET", redirect(302), {"to": ""}),
    "303": Fault("HTTP 303, a redirect that turns the call into a GET", redirect(303), {"to": ""}),
    "307-away": Fault(
        "HTTP 307, a redirect to another origin: it is not followed, so the key goes nowhere",
        redirect(307),
        {"to": "http://elsewhere.invalid/v1"},
    ),
    "308-away": Fault(
        "HTTP 308, a redirect to another origin: it is not followed, so the key goes nowhere",
        redirect(308),
        {"to": "http://elsewhere.invalid/v1"},
    ),
    "400": Fault("HTTP 400, bad request", status(400, REFUSED)),
    "400-code-int": Fault(
        "HTTP 400 whose error code is a number", status(400, _error("Bad request", "BadRequestError", 400))
    ),
    "400-code-null": Fault(
        "HTTP 400 whose error code is null", status(400, _error("Bad request", "invalid_request_error"))
    ),
    "400-detail": Fault("HTTP 400 with a `detail`, as FastAPI sends it", status(400, {"detail": "Bad request"})),
    "400-echo": Fault(
        "HTTP 400 that repeats key and prompt: the key is masked",
        status(400, {"error": "Bearer {key} may not say: {prompt}"}),
    ),
    "400-empty": Fault("HTTP 400 with an empty body", status(400, b"")),
    "400-html": Fault("HTTP 400 with a web page", status(400, HTML, kind=HTML_TYPE)),
    "400-long": Fault("HTTP 400 because the prompt is too long", status(400, TOO_LONG)),
    "400-problem": Fault(
        "HTTP 400 as problem+json (RFC 9457)",
        status(400, {"title": "Bad request", "status": 400, "detail": "No."}, kind="application/problem+json"),
    ),
    "400-status": Fault(
        "HTTP 400 with a `status` and a `message`", status(400, {"status": "failure", "message": "Bad request"})
    ),
    "400-string": Fault("HTTP 400 whose `error` is a text", status(400, {"error": "Bad request"})),
    "400-text": Fault("HTTP 400 with plain text", status(400, b"Bad request", kind="text/plain")),
    "413": Fault("HTTP 413, too large, as a web page", status(413, HTML, kind=HTML_TYPE)),
    "422": Fault("HTTP 422 with a list of what is wrong, as FastAPI sends it", status(422, FIELDS)),
    "404-media": Fault(
        "HTTP 404 about content types", status(404, {"error": "Only 'text' content type is supported."})
    ),
    "500-parameter": Fault("HTTP 500 that refuses a parameter", status(500, _error("tools is not supported", "x"))),
    "503-should-not-retry": Fault(
        "HTTP 503 with `x-should-retry: false`", status(503, OVERLOADED, {"x-should-retry": "false"})
    ),
    "json-array": Fault("a JSON array instead of an object", in_text(lambda sent: b"[" + sent + b"]")),
    "json-deep": Fault("JSON nested 20,000 levels deep", in_text(lambda sent: b"{" + DEEP + sent[1:])),
    "json-invalid": Fault("JSON that is cut off", in_text(lambda sent: sent[:-1])),
    "json-nan": Fault("JSON with NaN, which is not JSON", in_text(lambda sent: b'{"logprob": NaN, ' + sent[1:])),
}
_STOPS: Final[_Rows] = {
    "400-key": Fault("HTTP 400 that means a wrong key", status(400, WRONG_KEY)),
    "401": Fault("HTTP 401, a wrong key that the endpoint repeats: it is masked", status(401, WRONG_KEY)),
    "401-string": Fault("HTTP 401 whose `error` is a text", status(401, {"error": "Unauthorized"})),
    "402": Fault("HTTP 402, no credit", status(402, _error("Insufficient credits", "payment_required", 402))),
    "403": Fault(
        "HTTP 403, the key may not do this", status(403, _error("Not allowed to sample from this model", "forbidden"))
    ),
    "501": Fault("HTTP 501, not implemented", status(501, _error("This server has no such endpoint", "x"))),
    "403-html": Fault("HTTP 403 with a firewall's web page", status(403, HTML, kind=HTML_TYPE)),
    "404-model": Fault("HTTP 404, no such model", status(404, NO_MODEL)),
    "404-path": Fault("HTTP 404, no such path", status(404, {"detail": "Not Found"})),
    "412": Fault(
        "HTTP 412, the budget of a gateway (Portkey) is used up",
        status(412, _error("Budget exhausted", "precondition_failed")),
    ),
    "429-quota": Fault(
        "HTTP 429 that means an exhausted quota (`insufficient_quota`)", status(429, NO_QUOTA, {"retry-after": "1"})
    ),
}
_DENIED: Final[_Rows] = {
    "400-filter": Fault(
        "HTTP 400 because a content filter refuses the prompt",
        status(400, _error("The prompt triggered it", "x", "content_filter")),
    ),
    "403-moderation": Fault(
        "HTTP 403, because moderation flags the prompt",
        status(403, _error("It requires moderation and your input was flagged", "x", 403)),
    ),
    "200-filter": Fault(
        "HTTP 200 whose body is a refusal by a vendor's content filter",
        in_body(lambda _: {"base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}}),
    ),
    "446": Fault(
        "HTTP 446, denied by a guardrail of the gateway (Portkey)",
        status(446, _error("Denied by guardrail", "hooks_failed")),
    ),
}
_RESPONSES_STREAM: Final[_Rows] = {
    "response-done-close": Fault(
        "the connection is closed behind `response.completed`, though another chunk has to come",
        on_wire(lambda sent: [*sent[:-1], 0.02, End.CLOSE]),
    ),
    "sse-no-event-lines": Fault(
        "events without their `event:` line", in_events(lambda event: event[event.find(b"data:") :])
    ),
    "response-deltas": Fault("only the deltas of the response, then `[DONE]`", _deltas_then_done),
    "response-no-output": Fault(
        "the response in the last event has no output",
        in_stream(lambda events: [*events[:-1], _without_output(events[-1])]),
    ),
    "response-no-places": Fault("deltas that do not say which output they belong to", in_stream(_without_places)),
}
_RESPONSES_ERROR: Final[_Rows] = {
    "response-error": Fault(
        "an event that is itself the error",
        in_parts(lambda events: [*events[:3], _event({**OVERLOADED["error"], "type": "error"})]),
    ),
}
_COMPLETIONS_STREAM: Final[_Rows] = {
    "text-missing": Fault(
        "a last chunk without text",
        in_deltas(lambda choice: {k: v for k, v in choice.items() if k != "text" or v}),
    ),
}
_RESPONSES_FAILED: Final[_Rows] = {
    "response-failed": Fault("a response whose own status is `failed`", in_body(lambda body: body | _FAILED_RESPONSE)),
}
_EMBEDDINGS: Final[_Rows] = {
    "vectors-swapped": Fault(
        "the vectors are in another order: each still goes to its own row",
        in_body(lambda body: body | {"data": body["data"][::-1]}),
    ),
}
_NO_CHOICES: Final[_Rows] = {
    "choices-empty": Fault("a reply without choices", in_body(lambda body: body | {"choices": []})),
    "choices-null": Fault("a reply with null for its choices", in_body(lambda body: body | {"choices": None})),
}
_NO_ANSWER: Final[_Rows] = {
    "content-empty": Fault("an empty answer", said(content="")),
    "content-null": Fault("a null answer", said(content=None)),
    "message-missing": Fault("a choice without a message", in_choice(lambda c: {k: c[k] for k in c if k != "message"})),
    "call-unasked": Fault("only a call of a function that was not offered", said(content=None, tool_calls=[_CALL])),
    "call-unasked-old": Fault(
        "the same, in the format before tools", said(content=None, function_call=_CALL["function"])
    ),
}


_ENDED_BY_A_LIMIT: Final[_Rows] = {
    "length": Fault("cut off at the token limit", finish("length", "max_output_tokens")),
    "length-by-another-name": Fault(
        "the same, in Anthropic's words", finish("model_context_window_exceeded", "MAX_TOKENS")
    ),
}
_CUT_BEFORE_THE_MESSAGE: Final[_Rows] = {
    "length-no-message": Fault(
        "cut off before there was a message",
        in_choice(lambda c: {k: c[k] for k in c if k != "message"} | {"finish_reason": "length"}),
    ),
}
_ENDED_BY_A_FILTER: Final[_Rows] = {
    "filter": Fault("the endpoint's content filter stops the answer", finish("content_filter", "content_filter")),
    "filter-by-another-name": Fault(
        "the same, in the words of Zhipu and Gemini", finish("sensitive", "PROHIBITED_CONTENT")
    ),
}
_BROKEN_OFF: Final[_Rows] = {
    "broken-off": Fault("broken off, in vLLM's words", finish("abort", "server_error")),
    "broken-off-by-another-name": Fault(
        "the same, in the words of DeepSeek and Zhipu", finish("insufficient_system_resource", "network_error")
    ),
}


def _expect(
    rows: _Rows,
    whole: Status | None,
    streamed: Status | None,
    *,
    retried: bool = False,
    effect: Literal["row", "run"] = "row",
    deadline: bool = False,
    kinds: frozenset[str] = KINDS,
) -> _Rows:
    """These rows with their names, and with what they have in common."""
    common = (retried, whole, streamed, effect, deadline, kinds)
    return {name: Fault(row.about, row.make, row.params, row.tail, name, *common) for name, row in rows.items()}


_OK, _ERROR, _EMPTY = Status.SUCCESS, Status.ERROR, Status.INVALID_OUTPUT
_CUT, _FILTERED = Status.TRUNCATED, Status.FILTERED
_CHAT: Final = frozenset({"chat"})
_RESPONSES: Final = frozenset({"responses"})
_CHOICES: Final = frozenset({"chat", "completions"})
_TEXT: Final = frozenset({"chat", "completions", "responses"})

FAULTS: Final[dict[str, Fault]] = {
    **_expect(_GOOD, _OK, _OK),
    **_expect(_ERROR_OF_NOTHING, _OK, _OK),
    **_expect(_GOOD_WHOLE, _OK, None, kinds=_TEXT),
    **_expect(_GOOD_STREAM, None, _OK, kinds=_TEXT),
    **_expect(_GOOD_DELTAS, None, _OK, kinds=_CHAT),
    **_expect(_GOOD_PARTS, _OK, _OK, kinds=_CHAT),
    **_expect(_GOOD_CHOICES, _OK, _OK, kinds=_CHOICES),
    **_expect(_RESPONSES_STREAM, None, _OK, kinds=_RESPONSES),
    **_expect(_COMPLETIONS_STREAM, None, _OK, kinds=frozenset({"completions"})),
    **_expect(_EMBEDDINGS, _OK, None, kinds=frozenset({"embeddings"})),
    **_expect(_CONNECTION, _ERROR, _ERROR, retried=True),
    **_expect(_CUT_STREAM, None, _ERROR, retried=True, kinds=_TEXT),
    **_expect(_ERROR_IN_STREAM, None, _ERROR, retried=True, kinds=_TEXT),
    **_expect(_RESPONSES_ERROR, None, _ERROR, retried=True, kinds=_RESPONSES),
    **_expect(_RESPONSES_FAILED, _ERROR, _ERROR, retried=True, kinds=_RESPONSES),
    **_expect(_DEADLINE, _ERROR, _ERROR, retried=True, deadline=True),
    **_expect(_DEADLINE_STREAM, None, _ERROR, retried=True, deadline=True, kinds=_CHAT),
    **_expect(_DEADLINE_WHOLE, _ERROR, None, retried=True, deadline=True),
    **_expect(_TOO_MUCH, _ERROR, _ERROR),
    **_expect(_RETRIED, _ERROR, _ERROR, retried=True),
    **_expect(_REFUSED, _ERROR, _ERROR),
    **_expect(_STOPS, _ERROR, _ERROR, effect="run"),
    **_expect(_DENIED, _FILTERED, _FILTERED),
    **_expect(_NO_CHOICES, _EMPTY, _EMPTY, kinds=_CHOICES),
    **_expect(_NO_ANSWER, _EMPTY, _EMPTY, kinds=_CHAT),
    **_expect(_ENDED_BY_A_LIMIT, _CUT, _CUT, kinds=_TEXT),
    **_expect(_CUT_BEFORE_THE_MESSAGE, _CUT, _CUT, kinds=_CHAT),
    **_expect(_ENDED_BY_A_FILTER, _FILTERED, _FILTERED, kinds=_TEXT),
    **_expect(_BROKEN_OFF, _ERROR, _ERROR, retried=True, kinds=_TEXT),
    **_expect(
        {"refusal": Fault("the model refuses", in_body(_refusal))}, _FILTERED, _FILTERED, kinds=_CHAT | _RESPONSES
    ),
}
"""Every fault by its name. The expectations are data: adjust them here where the connector should do otherwise."""

_MARKER: Final = re.compile(r"\[\[fault:([^;\]]+)((?:;[^;\]]+)*)\]\]")


def named(prompt: str, attempt: int) -> tuple[str, Params] | None:
    """The fault and its parameters that the markers in `prompt` name for this attempt (from 1), if any."""
    for name, listed in _MARKER.findall(prompt):
        params = dict(pair.split("=", 1) for pair in listed.split(";")[1:])
        times = int(params.pop("times", 0))
        if not times or attempt <= times:
            return name, params
        attempt -= times
    return None


def steps(good: Good, name: str, params: Params) -> Iterable[Step]:
    """Plays the fault `name`. Raises `KeyError` if there is no such row."""
    fault = FAULTS[name]
    headers = {key: value for key, value in params.items() if key not in fault.params}
    if fault.tail:
        (choice,) = good.body["choices"]
        choice["message"]["content"] += fault.tail
    return fault.make(good._replace(headers={**good.headers, **headers}), {**fault.params, **params})
