"""A sandbox of the OpenAI API on loopback: the real wire format, made-up text. It is no model, and says so.

Routes: `/v1/models`, `/v1/models/{id}`, `/v1/chat/completions` (whole and streamed). Their shapes are those of
https://platform.openai.com/docs/api-reference (chat/object, chat-streaming, models/object); error bodies are as users
quote them in public issue threads. Equal requests get equal replies, but for `created` and `x-request-id`:

- The *data* is what the last user message says after a field such as `Review:` or a lead-in such as `Classify this
  text:`; else after its last line that ends with a colon; else after the first colon of its first line; else all of it.
- Where JSON is asked for (`response_format`, or a tool that must be called), a value is written for the schema. Of an
  enum: the label with the most cue words in the data; on a draw `mixed`, where that is a label; without cues `neutral`
  or `other`, else by hash. A string: the data's first sentence, at most 12 words. A number: by hash within its bounds.
  Of alternatives the first. A value that would not validate is never sent: its schema is refused with a 400.
- Everything else is answered with "Sandbox reply to: " and the first 24 words of the message.
- A token is up to four characters of a word with the white space before it. Parameters not named here change nothing.
"""

from __future__ import annotations

import math
import re
import signal
import socket
import sys
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from fractions import Fraction
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, zip_longest
from typing import Any, Final, NamedTuple

import orjson
from jsonschema import Draft202012Validator, SchemaError, ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from connector.errors import ConfigError
from connector.records import JSON, Schema

MODEL: Final = "sandbox-1"
KEY: Final = "sk-sandbox"


# --- Words: what is said, made up from the data ---

_LEAD_INS: Final = (
    re.compile(r"(?ims)^[^\n:]*\b(?:review|text|input|message|comment|feedback|ticket|data):\s*(\S.*)"),
    re.compile(r"(?s)\A.*:[ \t]*\n\s*(\S.*)"),
    re.compile(r"(?s)\A[^\n:]*:\s+(\S.*)"),
)
_SENTENCE_END: Final = re.compile(r"(?<=[.!?\u2026])\s+|(?<=[\u3002\uff01\uff1f])|\n+")
_TOKEN: Final = re.compile(r"\s*\S{1,4}|\s+")

# Beginnings of words that speak for a label, in the languages of sample_configs/reviews.csv.
# A label that is not here speaks for itself alone.
_CUES: Final = {
    "positive": r"amazing beautiful best better brilliant comfort cosy excellent good great happy impress lov nice "
    r"perfect recommend reliabl thank wonderful works worth begeister beque empfehl gern gut super toll "
    r"wunder belle bon excelente parfait recommande très bien buen encanta 👍 最高 満足 楽し 美味 良",
    "negative": r"avoid awful bad\b broke crack danger dead died disappoint disgust expired fail freez horr leak lied "
    r"mess mould never not\sworth poor refuse return rubbish rust slow smell stuck terribl useless waste "
    r"wobbl worr wrong enttäusch fehlkauf kaputt leider cassé déçu inadmissible mauvais panne mala nadie "
    r"rompi rota 悪 残念 錆",
    "mixed": r"although but\b however though wish aber allerdings aunque dommage mais pero",
    "quality": r"broke crack died fail flak flims loose lasts peel qualit rust scratch seam soft stitch sturdy surviv "
    r"tore work kaputt verarbeitung cassé rompi rota 丈夫 錆",
    "performance": r"accura batter[iy] bright clean grip heat loud nois power quick screen sharp slow sound warm "
    r"laut leise lent rápid silenc 音",
    "ease of use": r"app\b assembl button easy instruct manual menu pair set-?\s?up simple aufbau einfach facile fácil",
    "price": r"cheap cost euro expensive money overpriced price spare value worth preis prix precio dinero",
    "delivery": r"arriv carrier courier deliver express packed parcel ship waited geliefert livraison llegó 届",
    "service": r"customer exchange hotline refund return seller service support kundendienst 返品",
}


def _data(message: str) -> str:
    found = next(filter(None, (lead_in.search(message) for lead_in in _LEAD_INS)), None)
    return found[1] if found else message


def _sentences(text: str) -> list[str]:
    return [part.strip() for part in _SENTENCE_END.split(text) if part.strip()] or ["(no text)"]


def _words(text: str, most: int) -> str:
    words = text.split()
    return " ".join(words[:most])[:200] + ("…" if len(words) > most else "")


@lru_cache(maxsize=256)
def _cue(label: str) -> re.Pattern[str]:
    plain = label.lower().replace("_", " ")
    stems = _CUES[plain].split() if plain in _CUES else [re.escape(plain)]
    return re.compile(rf"(?<![a-zà-ÿ])(?:{'|'.join(stems)})", re.IGNORECASE)


# --- Values: a JSON Schema is filled from the data ---

_DEPTH: Final = 4  # below it the way out is taken where there is one, for the schema may contain itself
_MOST: Final = 1000  # items, and characters: a schema that asks for more is refused


class _At(NamedTuple):
    """Where in a schema a value is due, and the text that it is made from."""

    text: str
    resolver: Any
    salt: int
    path: tuple[str, ...] = ()

    @property
    def seed(self) -> int:
        return zlib.crc32(repr((self.salt, self.path, self.text)).encode())

    @property
    def deep(self) -> bool:
        return len(self.path) > _DEPTH


@lru_cache(maxsize=64)
def _compiled(schema: bytes) -> tuple[Draft202012Validator, Any]:
    """The schema's validator and resolver. Their registry is empty: no remote `$ref` is ever fetched."""
    root, registry = orjson.loads(schema), Registry[Any]()
    Draft202012Validator.check_schema(root)
    resolver = registry.resolver_with_root(DRAFT202012.create_resource(root))
    return Draft202012Validator(root, registry=registry), resolver


def _written(schema: Schema, text: str, salt: int) -> str:
    """JSON text that validates. Raises `ValueError` if the schema is invalid, or beyond what the sandbox can fill."""
    try:
        validator, resolver = _compiled(orjson.dumps(schema))
        value = _value(schema, _At(text, resolver, salt))
        validator.validate(value)
        return orjson.dumps(value).decode()
    except (SchemaError, ValidationError) as error:
        raise ValueError(f"in '{error.json_path}', {error.message}") from None
    except (Unresolvable, RecursionError, ArithmeticError, TypeError) as error:
        raise ValueError(f"the sandbox cannot fill it: {error}") from None


def _value(schema: Schema | bool, at: _At) -> JSON:
    if not isinstance(schema, dict):
        return _string({}, at)
    if ref := schema.get("$ref"):
        return _value(_with(schema, at.resolver.lookup(ref).contents), at)
    if branches := schema.get("allOf") or schema.get("anyOf") or schema.get("oneOf"):
        return _value(_with(schema, branches[-1 if at.deep else 0]), at)
    if "const" in schema:
        return schema["const"]
    return _label(schema["enum"], at) if "enum" in schema else _WRITERS[_kind(schema)](schema, at)


def _with(schema: Schema, branch: Schema | bool) -> Schema:
    plain = {key: value for key, value in schema.items() if key not in {"$ref", "allOf", "anyOf", "oneOf"}}
    return plain | (branch if isinstance(branch, dict) else {})


def _kind(schema: Schema) -> str:
    kinds = schema.get("type", "object" if "properties" in schema else "array" if "items" in schema else "string")
    return kinds if isinstance(kinds, str) else next((kind for kind in kinds if kind != "null"), "null")


def _label(options: list[JSON], at: _At) -> JSON:
    hits = [len(_cue(option).findall(at.text)) if option and isinstance(option, str) else 0 for option in options]
    best = [option for option, count in zip(options, hits, strict=True) if count == max(hits)]
    if max(hits):
        return "mixed" if len(best) > 1 and "mixed" in options else best[0]
    calm = [option for option in options if option in ("neutral", "other")]
    rest = calm or [option for option in options if option is not None] or options
    return rest[at.seed % len(rest)]


def _object(schema: Schema, at: _At) -> JSON:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    names = dict.fromkeys(required) if at.deep else properties | dict.fromkeys(required)
    return {name: _value(properties.get(name, True), at._replace(path=(*at.path, name))) for name in names}


def _array(schema: Schema, at: _At) -> JSON:
    """An item for each sentence in turn: as few as the schema allows, but one where it can be."""
    least, sentences = int(schema.get("minItems", 0)), _sentences(at.text)
    count = min(max(least, 0 if at.deep else 1), int(schema.get("maxItems", _MOST)), _MOST)
    texts = (sentences[index % len(sentences)] for index in range(count))
    return [_value(schema.get("items", True), at._replace(path=(*at.path, "items"), text=text)) for text in texts]


def _string(schema: Schema, at: _At) -> JSON:
    day = date.fromordinal(738_000 + at.seed % 1000)
    formats = {
        "date": f"{day}",
        "date-time": f"{day}T12:00:00Z",
        "email": f"reader{at.seed % 1000}@example.com",
        "uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, str(at.seed))),
    }
    text = formats.get(schema.get("format", ""), _words(_sentences(at.text)[0], 12))
    return text[: int(schema.get("maxLength", _MOST))].ljust(min(int(schema.get("minLength", 0)), _MOST), ".")


def _number(schema: Schema, at: _At) -> JSON:
    """A multiple of `multipleOf`; without one, of 1 for integers and of a hundredth of the range for others."""

    def exact(*keys: str) -> list[Fraction]:
        return [Fraction(str(schema[key])) for key in keys if key in schema]

    lows, highs = exact("minimum", "exclusiveMinimum"), exact("maximum", "exclusiveMaximum")
    edges, divisor = exact("exclusiveMinimum", "exclusiveMaximum"), schema.get("multipleOf")
    step = Fraction(str(divisor or 1))
    low = max(lows) if lows else Fraction(0) if not highs or min(highs) > 0 else min(highs) - 100 * step
    high = min(highs) if highs else low + 100 * step
    plain: Callable[[Fraction], float] = float
    if _kind(schema) == "integer":
        plain, step = int, Fraction(step.numerator)
    elif divisor is None:
        step = (high - low) / 100 or low or step
    first = math.ceil(low / step)
    count = max(math.floor(high / step) - first + 1, 1)
    made = [step * (first + (at.seed + turn) % count) for turn in range(min(count, 100))]
    # A multiple of a float has to survive the division by which validators test it: 0.3 / 0.1 does not.
    fitting = [n for n in made if n not in edges and (type(divisor) is not float or (plain(n) / divisor).is_integer())]
    return plain((fitting or made)[0])


_WRITERS: Final[dict[str, Callable[[Schema, _At], JSON]]] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": _number,
    "number": _number,
    "boolean": lambda _, at: at.seed % 2 == 0,
    "null": lambda *_: None,
}


# --- Requests: what is accepted, and how the rest is refused ---


class _APIError(Exception):
    """A refusal, in the shape of OpenAI's."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def _form(*required: str, **properties: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": properties}


_TEXT: Final = {"type": "string"}
_FLAG: Final = {"type": ["boolean", "null"]}
_COUNT: Final = {"type": ["integer", "null"], "minimum": 1}
_PARTS: Final = {"type": ["string", "array", "null"], "items": _form(text=_TEXT)}
_FUNCTION: Final = _form("function", function=_form("name", name=_TEXT, parameters=_form()))
_FORMAT: Final = _form("type", type={"enum": ["json_object", "json_schema", "text"]})
_FORMAT_SCHEMA: Final = _form("json_schema", json_schema=_form("name", "schema", name=_TEXT, schema=_form()))
_REQUEST: Final = Draft202012Validator(
    _form(
        "model",
        "messages",
        model=_TEXT,
        messages={"type": "array", "minItems": 1, "items": _form("role", role=_TEXT, content=_PARTS)},
        n=_COUNT | {"maximum": 128},
        max_tokens=_COUNT,
        max_completion_tokens=_COUNT,
        stream=_FLAG,
        stream_options=_form(include_usage=_FLAG) | {"type": ["object", "null"]},
        tools={"type": "array", "items": _FUNCTION},
        tool_choice=_FUNCTION | {"type": ["string", "object"]},
        response_format=_FORMAT | {"if": {"properties": {"type": {"const": "json_schema"}}}, "then": _FORMAT_SCHEMA},
    )
)
_CODES: Final = {
    "type": "invalid_type",
    "minimum": "integer_below_min_value",
    "maximum": "integer_above_max_value",
    "minItems": "empty_array",
}
_NOT_JSON: Final = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
    "correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)"
)
_NO_KEY: Final = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY)."
)


def _check_key(authorization: str, key: str) -> None:
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "bearer" or not given:
        raise _APIError(401, _NO_KEY)
    if given != key:
        masked = re.sub(r"(?<=.{8}).(?=.{4})", "*", given)
        message = f"Incorrect API key provided: {masked}. The sandbox takes the key that it names when it starts."
        raise _APIError(401, message, None, "invalid_api_key")


def _checked(raw: bytes) -> dict[str, Any]:
    """The body of a chat request, if it is one."""
    try:
        body: dict[str, Any] = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise _APIError(400, _NOT_JSON) from None
    for error in _REQUEST.iter_errors(body):
        where = error.json_path.removeprefix("$").removeprefix(".") or "body"
        if error.validator != "required":
            code = _CODES.get(str(error.validator), "invalid_value")
            raise _APIError(400, f"Invalid '{where}': {error.message}.", where, code)
        missing = next(name for name in error.validator_value if name not in error.instance)
        where = f"{where}.{missing}".removeprefix("body.")
        raise _APIError(400, f"Missing required parameter: '{where}'.", where, "missing_required_parameter")
    if body["model"] != MODEL:
        message = f"The model `{body['model']}` does not exist or you do not have access to it."
        raise _APIError(404, message, None, "model_not_found")
    if body.get("stream_options") and not body.get("stream"):
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise _APIError(400, message, "stream_options")
    return body


# --- Replies ---


class _Wanted(NamedTuple):
    """The JSON that a request asks for, and which of its parameters does. `tool` is the function to call."""

    param: str
    name: str
    schema: Schema
    tool: bool = False

    def write(self, data: str, salt: int) -> str:
        try:
            return _written(self.schema, data, salt)
        except ValueError as error:
            raise _APIError(400, f"Invalid schema for {self.param} '{self.name}': {error}.", self.param) from None


def _wanted(body: dict[str, Any]) -> _Wanted | None:
    choice, shape = body.get("tool_choice"), body.get("response_format") or {"type": "text"}
    if choice == "required" or isinstance(choice, dict):
        name = choice["function"]["name"] if isinstance(choice, dict) else None
        for function in (tool["function"] for tool in body.get("tools") or ()):
            if name in {None, function["name"]}:
                schema = {"type": "object"} | function.get("parameters", {})
                return _Wanted("tools", function["name"], schema, tool=True)
        raise _APIError(
            400, "Invalid 'tool_choice': there is no such function in 'tools'.", "tool_choice", "invalid_value"
        )
    if shape["type"] == "json_schema":
        return _Wanted("response_format", shape["json_schema"]["name"], shape["json_schema"]["schema"])
    if shape["type"] == "json_object":
        return _Wanted("response_format", "json_object", _form("reply", reply=_TEXT))
    return None


def _said(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _chat(body: dict[str, Any]) -> dict[str, Any]:
    messages, wanted = body["messages"], _wanted(body)
    prompt = _said([message for message in messages if message["role"] == "user" or message is messages[-1]][-1])
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    choices, spent = [], 0
    for index in range(int(body.get("n") or 1)):
        greeting = f"Sandbox reply {index + 1} to:" if index else "Sandbox reply to:"
        tokens = _TOKEN.findall(wanted.write(_data(prompt), index) if wanted else f"{greeting} {_words(prompt, 24)}")
        kept = tokens[: int(most or len(tokens))]
        spent += len(kept)
        message: dict[str, Any] = {"role": "assistant", "content": "".join(kept), "refusal": None}
        if wanted and wanted.tool:
            call = {"name": wanted.name, "arguments": message["content"]}
            message |= {"content": None, "tool_calls": [{"id": f"call_{index}", "type": "function", "function": call}]}
        # As at OpenAI, a call of a function that was named ends with "stop".
        done = "tool_calls" if body.get("tool_choice") == "required" else "stop"
        reason = done if len(kept) == len(tokens) else "length"
        choices.append({"index": index, "message": message, "logprobs": None, "finish_reason": reason})
    given = sum(len(_TOKEN.findall(_said(message))) for message in messages)
    usage = {"prompt_tokens": given, "completion_tokens": spent, "total_tokens": given + spent}
    details = {
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }
    return {
        "id": f"chatcmpl-{zlib.crc32(orjson.dumps(body)):08x}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": choices,
        "usage": usage | details,
        "service_tier": "default",
        "system_fingerprint": "sandbox",
    }


def _chunks(choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A whole choice, cut into those of a stream."""
    message = choice["message"]
    chunk = {"index": choice["index"], "logprobs": None, "finish_reason": None}
    yield chunk | {"delta": {"role": "assistant", "content": message["content"] and "", "refusal": None}}
    for token in _TOKEN.findall(message["content"] or ""):
        yield chunk | {"delta": {"content": token}}
    for call in message.get("tool_calls", ()):
        function = call["function"]
        parts = [call | {"index": 0, "function": function | {"arguments": ""}}]
        parts += [{"index": 0, "function": {"arguments": token}} for token in _TOKEN.findall(function["arguments"])]
        for part in parts:
            yield chunk | {"delta": {"tool_calls": [part]}}
    yield chunk | {"delta": {}, "finish_reason": choice["finish_reason"]}


def _events(whole: dict[str, Any], *, usage: bool) -> Iterator[bytes]:
    """The reply as server-sent events. Several choices take turns; the usage comes last, in a chunk without choices."""
    head = whole | {"object": "chat.completion.chunk", "usage": None}
    if not usage:
        del head["usage"]
    for choice in filter(None, chain.from_iterable(zip_longest(*map(_chunks, whole["choices"])))):
        yield b"data: %b\n\n" % orjson.dumps(head | {"choices": [choice]})
    if usage:
        yield b"data: %b\n\n" % orjson.dumps(head | {"choices": [], "usage": whole["usage"]})
    yield b"data: [DONE]\n\n"


# --- The server ---

_CARD: Final = {"id": MODEL, "object": "model", "created": 1767225600, "owned_by": "sandbox"}
_MODELS: Final = {"/v1/models": {"object": "list", "data": [_CARD]}, f"/v1/models/{MODEL}": _CARD}
_CHAT: Final = "/v1/chat/completions"
# The sandbox has no limits, so what remains is always the whole.
_LIMITS: Final = {
    f"x-ratelimit-{part}-{unit}": value
    for part, value in {"limit": "1000000000", "remaining": "1000000000", "reset": "0s"}.items()
    for unit in ("requests", "tokens")
}
_LARGEST: Final = 64 * 2**20


class _Handler(BaseHTTPRequestHandler):
    """One connection. `wfile` is buffered, so that the head and the body of a reply leave in one write."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "openai-compatible", "sandbox"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: _Server
    started = 0.0

    def answer(self) -> None:
        self.started = time.perf_counter()
        try:
            self.dispatch(self.path.partition("?")[0], self.read_body())
        except _APIError as refusal:
            self.send_whole(refusal.status, refusal.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815 http.server's names

    def read_body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal() or int(length) > _LARGEST:
            self.close_connection = True
            raise _APIError(411, f"Send the body with a Content-Length of at most {_LARGEST}.")
        return self.rfile.read(int(length))

    def dispatch(self, path: str, raw: bytes) -> None:
        method = "POST" if path == _CHAT else "GET"
        if path != _CHAT and path not in _MODELS and not path.startswith("/v1/models/"):
            raise _APIError(404, f"Invalid URL ({self.command} {path})")
        _check_key(self.headers.get("Authorization", ""), self.server.api_key)
        if self.command != method:
            raise _APIError(405, f"Only {method} requests are accepted.", None, "method_not_supported")
        if path == _CHAT:
            body = _checked(raw)
            whole = _chat(body)
            time.sleep(self.server.latency)
            if body.get("stream"):
                self.send_stream(_events(whole, usage=bool((body.get("stream_options") or {}).get("include_usage"))))
            else:
                self.send_whole(200, whole)
        elif path in _MODELS:
            self.send_whole(200, _MODELS[path])
        else:
            message = f"The model '{path.removeprefix('/v1/models/')}' does not exist"
            raise _APIError(404, message, "model", "model_not_found")

    def send_whole(self, status: int, body: JSON) -> None:
        content = orjson.dumps(body)
        self.send_head(status, "application/json", {"Content-Length": str(len(content))})
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_stream(self, events: Iterator[bytes]) -> None:
        self.send_head(200, "text/event-stream; charset=utf-8", {"Transfer-Encoding": "chunked"})
        for event in chain(events, [b""]):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))

    def send_head(self, status: int, kind: str, framing: dict[str, str]) -> None:
        self.send_response(status)
        spent = round((time.perf_counter() - self.started) * 1000)
        known = {"Content-Type": kind, "x-request-id": f"req_{uuid.uuid4().hex}", "openai-processing-ms": str(spent)}
        for name, value in (known | framing | _LIMITS).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What `http.server` itself refuses, in the same shape."""
        self.started, self.close_connection = time.perf_counter(), True
        self.send_whole(code, _APIError(code, explain or message or "Bad request").body)
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    """Listens at once. Its connections end with it, so that no client waits for a server that is gone."""

    request_queue_size = 1024

    def __init__(self, host: str, port: int, api_key: str, latency: float) -> None:
        self.api_key = api_key
        self.latency = latency
        self.connections: set[Any] = set()
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(f"The sandbox cannot listen on {host}:{port} ({error}). Choose another port.") from error
        self.url = f"http://{host}:{self.server_port}/v1"

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def running(*, api_key: str = KEY, latency: float = 0.0) -> Iterator[str]:
    """A sandbox in a thread of this process, on a free port of 127.0.0.1. Gives its base URL, `/v1` included."""
    with _Server("127.0.0.1", 0, api_key, latency) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def serve(host: str = "127.0.0.1", port: int = 8000, *, api_key: str = KEY, latency: float = 0.0) -> None:
    """Serve until SIGINT or SIGTERM, then return. For the main thread.

    Args:
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.
        api_key: The key that requests have to bring.
        latency: Seconds that a chat reply takes longer.

    Raises:
        ConfigError: The address cannot be listened on.
    """
    ends = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in ends]
    try:
        with suppress(KeyboardInterrupt), _Server(host, port, api_key, latency) as server:
            key = KEY if api_key == KEY else "(the key that you chose)"
            sys.stderr.write(
                "A sandbox, no model: replies are made up from your own text by fixed rules. Ctrl-C ends it.\n"
                f"OPENAI_BASE_URL={server.url} OPENAI_API_KEY={key} OPENAI_MODEL={MODEL}\n"
            )
            server.serve_forever()
    finally:
        for number, handler in zip(ends, before, strict=True):
            signal.signal(number, handler)
