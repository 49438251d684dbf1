"""An OpenAI-compatible endpoint on the loopback: real sockets, answers that are functions of the prompt, and a journal.

In a test: `with Endpoint() as endpoint:` and call `endpoint.url`. As a process, for tests that kill their client:
`python -m tests.endpoint --journal calls.jsonl` prints the base URL; `Journal.load` reads what it was asked.
What it does to a call is up to `script`, or to the markers in the prompt (`tests.faults`).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import itertools
import json
import math
import signal
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from email.parser import Parser
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, TypeAlias, cast

from tests.faults import NOTHING, Body, End, Good, Params, Step, dump, named, play, render, status, steps
from tests.images import png
from tests.patience import PATIENCE

PATHS: Final = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
    "/v1/moderations": "moderations",
    "/v1/images/generations": "images",
    "/v1/images/edits": "image_edits",
}
MODEL: Final = "echo-1"
MODELS: Final = {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "tests"}]}
_ASKED: Final = {
    **dict.fromkeys(("responses", "embeddings", "moderations"), "input"),
    **dict.fromkeys(("completions", "images", "image_edits"), "prompt"),
    "chat": "messages",
}
_WHOLE: Final = ("embeddings", "moderations")
"""The kinds that never stream."""

_REFUSALS: Final = {
    404: {"detail": "Not Found"},
    422: {"detail": [{"type": "missing", "loc": ["body"], "msg": "Field required"}]},
    429: {"error": {"message": "Slow down", "type": "requests", "code": "rate_limit_exceeded", "param": None}},
}
_ELSEWHERE: Final = "/redirected"
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER, no seconds: close() sends RST


class Call(NamedTuple):
    """One request: when (monotonic seconds) and how it came, and the name of the action that answered it.

    `body` is the parsed JSON, or the text where it is none; `attempt` counts the calls with this prompt from 1;
    `in_flight` are the calls that were open then, this one included.
    """

    time: float
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    prompt: str
    connection: int
    attempt: int
    in_flight: int
    action: str = ""

    @property
    def kind(self) -> str:
        return PATHS.get(self.path.removeprefix(_ELSEWHERE).partition("?")[0], "")

    @property
    def streamed(self) -> bool:
        return isinstance(self.body, dict) and self.body.get("stream") is True and self.kind not in _WHOLE


class Action(NamedTuple):
    """What is done about a call; the name goes into the journal."""

    name: str
    steps: Iterable[Step]


class Journal:
    """Every call in the order of arrival, in memory and, where `path` is given, as a line of JSON each.

    A line is written before the call is answered, so no answer is without its line, whoever is killed.
    """

    def __init__(self, path: Path | None = None, calls: Iterable[Call] = ()) -> None:
        self._calls = list(calls)
        self._news = threading.Condition()
        self._file = path.open("ab") if path else None

    @classmethod
    def load(cls, path: Path) -> Self:
        """The journal that a process wrote."""
        return cls(calls=(Call(**json.loads(line)) for line in path.read_bytes().splitlines()))

    def add(self, call: Call) -> None:
        with self._news:
            self._calls.append(call)
            if self._file:
                self._file.write(dump(call._asdict()) + b"\n")
                self._file.flush()
            self._news.notify_all()

    def wait_for(self, *, calls: int = 1, prompts: int = 0) -> None:
        """Waits until so many calls have come, with so many different prompts. Fails after `PATIENCE` seconds."""
        with self._news:
            have_come = self._news.wait_for(
                lambda: len(self._calls) >= calls and len({call.prompt for call in self._calls}) >= prompts, PATIENCE
            )
        assert have_come, f"only {len(self.calls)} calls have come"

    def close(self) -> None:
        if self._file:
            self._file.close()

    @property
    def calls(self) -> list[Call]:
        """A snapshot."""
        with self._news:
            return list(self._calls)

    @property
    def by_prompt(self) -> Counter[str]:
        """How often each prompt was asked."""
        return Counter(call.prompt for call in self.calls)

    @property
    def peak(self) -> int:
        """The most calls that were open at once."""
        return max((call.in_flight for call in self.calls), default=0)

    def busiest(self, seconds: float = 60.0, cost: Callable[[Call], float] = lambda _: 1) -> float:
        """The most calls, or the highest sum of their `cost`, that any window of so many seconds holds."""
        most, total, window = 0.0, 0.0, deque[Call]()
        for call in self.calls:
            window.append(call)
            total += cost(call)
            while window[0].time <= call.time - seconds:
                total -= cost(window.popleft())
            most = max(most, total)
        return most


# --- Answers: functions of the prompt --------------------------------------------------------------------------------


def answer_to(prompt: str) -> str:
    """The content that answers this prompt."""
    return f"echo:{hashlib.sha256(prompt.encode()).hexdigest()[:12]}"


def vector_to(text: str, dimensions: int = 8) -> list[float]:
    """The embedding of this text; its numbers are the same in single precision."""
    digest = hashlib.sha256(text.encode()).digest()
    return [digest[i % len(digest)] / 256 - 0.5 for i in range(dimensions)]


def image_to(prompt: str, number: int = 0) -> bytes:
    """The picture of this prompt: a dot, and a text that no other prompt's has."""
    return png(comment=hashlib.sha256(f"{number}:{prompt}".encode()).hexdigest().encode())


def tokens_in(text: str) -> int:
    return len(text) // 4 + 1


def shuffled(low: float, high: float, seed: int = 0) -> Callable[[str], float]:
    """A latency between `low` and `high` seconds that looks random and is the same for the same prompt."""
    return lambda prompt: low + (high - low) * hashlib.sha256(f"{seed}:{prompt}".encode()).digest()[0] / 255


def filled(schema: Body, prompt: str, root: Body | None = None) -> Any:
    """The least that fits this JSON Schema: its texts are the answer to the prompt."""
    root = root or schema
    while "$ref" in schema or "anyOf" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema["anyOf"][0]
    if "const" in schema or "enum" in schema:
        return schema.get("enum", [schema.get("const")])[0]
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: filled(each, prompt, root) for name, each in schema.get("properties", {}).items()}
    if kind == "array":
        return [filled(schema["items"], prompt, root)] * schema.get("minItems", 0)
    least = schema.get("minimum", 1)
    return {"string": answer_to(prompt), "integer": least, "number": least, "boolean": True}.get(kind)


def prompt_of(body: Any) -> str:
    """The last user message, or the text to complete or to embed; several texts are joined by newlines."""
    if not isinstance(body, dict):
        return ""
    asked = next((body[key] for key in ("messages", "input", "prompt") if key in body), "")
    if isinstance(asked, list) and any(isinstance(each, dict) for each in asked):
        asked = [each for each in asked if isinstance(each, dict) and each.get("role") == "user"][-1:]
    return _text(asked)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(map(_text, value))
    if isinstance(value, dict):
        return _text(value.get("content", value.get("text", "")))
    return value if isinstance(value, str) else ""


def _content(asked: Body, prompt: str) -> str:
    form: Any = asked.get("response_format") or asked.get("text", {}).get("format") or {}
    if form.get("type") not in {"json_schema", "json_object"}:
        return answer_to(prompt)
    schema = form.get("json_schema", form).get("schema", {"properties": {"echo": {"type": "string"}}})
    return json.dumps(filled(schema, prompt))


def body_for(kind: str, asked: Body, prompt: str) -> Body:
    """The whole body that answers."""
    model = asked.get("model", MODEL)
    if kind == "embeddings":
        texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        used = {"prompt_tokens": tokens_in(prompt), "total_tokens": tokens_in(prompt)}
        return {"object": "list", "model": model, "data": [*_vectors(asked, texts)], "usage": used}
    if kind == "moderations":
        texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        return {"id": "modr-1", "model": model, "results": [verdict_on(_text(text)) for text in texts]}
    if kind in {"images", "image_edits"}:
        used = {"input_tokens": tokens_in(prompt), "output_tokens": 7, "total_tokens": tokens_in(prompt) + 7}
        return {"created": 1, "data": [*_images(asked, prompt)], "usage": used}
    content = _content(asked, prompt)
    spent, made = tokens_in(prompt), tokens_in(content)
    if kind == "responses":
        item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": content}]}
        used = {"input_tokens": spent, "output_tokens": made, "total_tokens": spent + made}
        base = {"id": "resp_1", "object": "response", "created_at": 1, "model": model, "status": "completed"}
        return base | {"error": None, "output": [item], "usage": used}
    used = {"prompt_tokens": spent, "completion_tokens": made, "total_tokens": spent + made}
    if kind == "chat":
        said = {"message": {"role": "assistant", "content": content}}
        base = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model}
        return base | {"choices": [{"index": 0, **said, "finish_reason": "stop"}], "usage": used}
    texts = asked["prompt"] if isinstance(asked["prompt"], list) else [asked["prompt"]]
    choices = [{"index": i, "text": _content(asked, text), "finish_reason": "stop"} for i, text in enumerate(texts)]
    base = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": model}
    return base | {"choices": choices, "usage": used}


def verdict_on(text: str) -> Body:
    """What is said of a text: that it is violent where it says so."""
    scores = {"violence": 0.9 if "violent" in text else 0.1, "sexual/minors": 0.0}
    flags = {name: score > 0.5 for name, score in scores.items()}
    return {"flagged": any(flags.values()), "categories": flags, "category_scores": scores}


def _vectors(asked: Body, texts: list[Any]) -> Iterator[Body]:
    for index, text in enumerate(texts):
        vector: Any = vector_to(_text(text), asked.get("dimensions", 8))
        if asked.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        yield {"object": "embedding", "index": index, "embedding": vector}


def _images(asked: Body, prompt: str) -> Iterator[Body]:
    for number in range(int(asked.get("n", 1))):
        if asked.get("response_format") == "url":
            yield {"url": f"https://images.example/{number}"}
        else:
            yield {"b64_json": base64.b64encode(image_to(prompt, number)).decode()}


def good(call: Call, headers: Params = NOTHING) -> Good:
    """The reply that this call should get."""
    asked = call.body if isinstance(call.body, dict) else {}
    return Good(
        body_for(call.kind, asked, call.prompt) if call.kind else MODELS,
        kind=call.kind,
        streamed=call.streamed,
        usage=bool((asked.get("stream_options") or {}).get("include_usage")),
        headers=headers,
        path=call.path,
        key=call.headers.get("authorization", "").removeprefix("Bearer "),
        prompt=call.prompt,
    )


def act(call: Call, fault: str, params: Params = NOTHING) -> Action:
    """The fault with this name in `tests.faults.FAULTS`, for a script to return."""
    return Action(fault, steps(good(call), fault, params))


def refused(code: int, name: str, headers: Params = NOTHING) -> Action:
    return Action(name, status(code, _REFUSALS[code], headers)(Good({}), {}))


# --- The server ------------------------------------------------------------------------------------------------------


class Request(NamedTuple):
    """One HTTP request; the names of its headers are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes
    closes: bool

    @classmethod
    def take(cls, buffer: bytearray) -> Self | None:
        """Cuts one off the front of `buffer`, once it is whole; bodies have a Content-Length."""
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        first, *lines = buffer[:end].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        size = end + 4 + int(headers.get("content-length", 0))
        if len(buffer) < size:
            return None
        method, path, version = first.split(" ")
        raw = bytes(buffer[end + 4 : size])
        del buffer[:size]
        return cls(method, path, headers, raw, version == "HTTP/1.0" or headers.get("connection") == "close")

    def parsed(self) -> Any:
        """The JSON, or the fields of a form (a file is an object), or the text that is neither."""
        kind, _, boundary = self.headers.get("content-type", "").partition("; boundary=")
        if kind == "multipart/form-data":
            return _form(self.raw.split(f"--{boundary}".encode())[1:-1])
        try:
            return json.loads(self.raw)
        except ValueError:
            return self.raw.decode("utf-8", "replace")


def _form(parts: list[bytes]) -> Body:
    found: Body = {}
    for name, value in map(_field, parts):
        if name.endswith("[]"):
            found.setdefault(name, []).append(value)
        else:
            found[name] = value
    return found


def _field(part: bytes) -> tuple[str, Any]:
    """Name and value of a part of a form (RFC 7578)."""
    lines, _, value = part.removeprefix(b"\r\n").removesuffix(b"\r\n").partition(b"\r\n\r\n")
    told = Parser().parsestr(lines.decode(), headersonly=True)
    name, file = (str(told.get_param(key, "", "content-disposition")) for key in ("name", "filename"))
    if not file:
        return name, value.decode()
    return name, {"filename": file, "type": told.get_content_type(), "base64": base64.b64encode(value).decode()}


Answer: TypeAlias = Callable[["Connection", Request], AbstractContextManager[Iterator[Step]]]
"""Gives the steps that answer a request, and takes note of when they are played."""


class Connection(asyncio.Protocol):
    """One connection: a request at a time, whose steps are played to the end or until the client is gone."""

    transport: asyncio.Transport

    def __init__(self, number: int, answer: Answer, connections: set[Connection]) -> None:
        self.number = number
        self.stale = False
        self._answer = answer
        self._connections = connections
        self._buffer = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        # asyncio does this only for sockets made with IPPROTO_TCP; without it, small writes wait for delayed ACKs.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # a client may go as it likes
        self._connections.discard(self)
        self.lost.set()
        if self._task:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next()

    def _next(self) -> None:
        if self._task is None and not self.transport.is_closing() and (request := Request.take(self._buffer)):
            self._task = asyncio.get_running_loop().create_task(self._play(request))

    async def _play(self, request: Request) -> None:
        with self._answer(self, request) as played:
            for step in played:
                if isinstance(step, bytes):
                    self.transport.write(step)
                    await self._writable.wait()
                elif isinstance(step, End):
                    self._end(step)
                else:
                    await asyncio.sleep(step)
        self._task = None
        if request.closes:
            self.transport.close()
        self._next()

    def _end(self, end: End) -> None:
        if end is End.RESET:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()
        elif end is End.CLOSE:
            self.transport.close()
        else:
            self.stale = True


class Endpoint:
    """The endpoint, from `with` to its end.

    What `script` raises, or a marker that names no fault, is raised where the `with` ends.

    Args:
        script: Decides about a call; `None` leaves it to what follows.
        latency: Seconds before an answer, or a function of the prompt that gives them.
        admit: Calls that may be in flight; more get 429.
        rate: Calls per `window` seconds; more get 429 with Retry-After, and all get `x-ratelimit-*` headers.
        journal: A file to append the journal to.
        port: Where to listen; 0 takes a free one.
    """

    journal: Journal
    origin: str

    def __init__(
        self,
        script: Callable[[Call], Action | None] | None = None,
        *,
        latency: float | Callable[[str], float] = 0.0,
        admit: int | None = None,
        rate: int | None = None,
        window: float = 60.0,
        journal: Path | None = None,
        port: int = 0,
    ) -> None:
        self.accepted = 0
        self._script = script
        self._latency = latency if callable(latency) else lambda _: latency
        self._admit = admit
        self._ration = Ration(rate, window) if rate else None
        self._path, self._port = journal, port
        self._attempts: Counter[str] = Counter()
        self._in_flight = 0
        self._connections: set[Connection] = set()
        self._failures: list[Exception] = []

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    @property
    def url(self) -> str:
        """The full URL of the chat endpoint."""
        return f"{self.base_url}/chat/completions"

    def __enter__(self) -> Self:
        listener = socket.create_server(("127.0.0.1", self._port), backlog=1024)
        self.origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.journal = Journal(self._path)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, args=(listener,), name="endpoint", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self.journal.close()
        if self._failures and kind is None:
            raise self._failures[0]

    def _run(self, listener: socket.socket) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(listener))

    async def _serve(self, listener: socket.socket) -> None:
        server = await self._loop.create_server(self._accept, sock=listener)
        await self._stop.wait()
        server.close()
        for connection in tuple(self._connections):
            connection.transport.abort()
            await connection.lost.wait()

    def _accept(self) -> Connection:
        self.accepted += 1
        return Connection(self.accepted, self._answer, self._connections)

    @contextmanager
    def _answer(self, connection: Connection, request: Request) -> Iterator[Iterator[Step]]:
        """Counts the call as in flight while its steps are played; what goes wrong with them is kept for the end."""
        self._in_flight += 1
        try:
            yield self._steps(connection, request)
        except Exception as error:  # noqa: BLE001 - the server's thread has nobody to raise it to
            self._failures.append(error)
            connection.transport.abort()
        finally:
            self._in_flight -= 1

    def _steps(self, connection: Connection, request: Request) -> Iterator[Step]:
        """Puts the call into the journal before its first step."""
        body = request.parsed()
        prompt = prompt_of(body)
        self._attempts[prompt] += not connection.stale
        call = Call(
            time=time.monotonic(),
            method=request.method,
            path=request.path,
            headers=request.headers,
            body=body,
            prompt=prompt,
            connection=connection.number,
            attempt=self._attempts[prompt],
            in_flight=self._in_flight,
        )
        action = Action("stale", [End.CLOSE]) if connection.stale else self._action(call)
        self.journal.add(call._replace(action=action.name))
        yield from action.steps

    def _action(self, call: Call) -> Action:
        """What is done about a call, by everything that has a say in it, in this order."""
        if self._script and (action := self._script(call)):
            return action
        if self._admit is not None and call.in_flight > self._admit:
            return refused(429, "429-admit")
        headers = self._ration.take(call.time) if self._ration else {}
        return refused(429, "429-rate", headers) if "retry-after" in headers else self._routed(call, headers)

    def _routed(self, call: Call, headers: Params) -> Action:
        if call.method == "GET" and call.path == "/v1/models":
            return Action("models", play(render(Good(MODELS, headers=headers))))
        if not call.kind or call.method != "POST":
            return refused(404, "404", headers)
        if not isinstance(call.body, dict) or _ASKED[call.kind] not in call.body:
            return refused(422, "422", headers)
        fault, params = named(call.prompt, call.attempt) or ("answer", NOTHING)
        reply = good(call, headers)
        plain = fault == "answer" or call.path.startswith(_ELSEWHERE)
        action = Action("answer", play(render(reply))) if plain else Action(fault, steps(reply, fault, params))
        return action._replace(steps=itertools.chain([self._latency(call.prompt)], action.steps))


class Ration:
    """Admits `rate` calls in any window of so many seconds, and says in headers what is left."""

    def __init__(self, rate: int, seconds: float) -> None:
        self._rate, self._seconds = rate, seconds
        self._admitted: deque[float] = deque()

    def take(self, now: float) -> Params:
        """Takes one call's share; `retry-after` is among the headers if there was none left."""
        while self._admitted and self._admitted[0] <= now - self._seconds:
            self._admitted.popleft()
        headers = {}
        if len(self._admitted) < self._rate:
            self._admitted.append(now)
        else:
            headers["retry-after"] = str(math.ceil((self._admitted[0] + self._seconds - now) * 1000) / 1000)
        left = self._rate - len(self._admitted)
        reset = math.ceil((self._admitted[0] + self._seconds - now) * 1000)
        return headers | {
            "x-ratelimit-limit-requests": str(self._rate),
            "x-ratelimit-remaining-requests": str(left),
            "x-ratelimit-reset-requests": f"{reset // 1000}s{reset % 1000}ms",
        }


@contextmanager
def swallowing() -> Iterator[int]:
    """A port that swallows connections: its queue is full, and is emptied only once a client waits for too long."""

    def give_in() -> None:
        for _ in held:
            full.accept()

    held = [socket.socket() for _ in range(4)]
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as stack:
        for each in held:
            stack.enter_context(each).setblocking(False)
            each.connect_ex(full.getsockname())
        patience = threading.Timer(10, give_in)
        patience.start()
        yield full.getsockname()[1]
        patience.cancel()
        patience.join()


@contextmanager
def refusing() -> Iterator[str]:
    """The chat URL of a port that is ours and refuses every connection."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/v1/chat/completions"


def main() -> None:
    """Serves until it is interrupted or killed; the first line on stdout is the base URL."""
    parser = argparse.ArgumentParser(prog="python -m tests.endpoint", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, nargs="+", default=[0.0], metavar="S", help="fixed, or from and to")
    parser.add_argument("--admit", type=int)
    parser.add_argument("--rate", type=int, help="calls per window")
    parser.add_argument("--window", type=float, default=60.0, metavar="S")
    parser.add_argument("--journal", type=Path)
    given = vars(parser.parse_args())
    latency = shuffled(*given["latency"]) if len(given["latency"]) > 1 else given["latency"][0]
    with Endpoint(**given | {"latency": latency}) as endpoint, suppress(KeyboardInterrupt):
        print(endpoint.base_url, flush=True)  # noqa: T201 - this is its output
        signal.pause()


if __name__ == "__main__":
    main()
