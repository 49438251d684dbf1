"""One call: whatever an endpoint sends back becomes a reply that can be stored, or one of our errors."""

from __future__ import annotations

import contextlib
import encodings
import itertools
import json
import tracemalloc
from base64 import b64encode
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from random import Random
from typing import Any, Final

import orjson
import pytest
import responses

from connector import endpoints
from connector.base.clock import Clock
from connector.base.errors import (
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConnectorError,
    CutError,
    FatalError,
    NotFoundError,
    PermissionDeniedError,
    QuotaError,
    RateLimitError,
    RecordError,
    ReplyError,
    RetryableError,
    ServerError,
)
from connector.base.masking import Masker, spellings
from connector.base.records import Reply, Status
from connector.base.stop import Stop
from connector.base.values import text
from connector.calls import client
from connector.calls.client import Client
from connector.config.config import Config
from connector.endpoints import _shapes
from connector.http.deadline import Deadline
from connector.http.pool import RawResponse
from connector.http.transport import Response, Settings, Transport, joined_chunks
from connector.ledger.sqlite import SqliteLedger
from connector.replies.refusals import error_of, is_filtered
from connector.run import passthrough
from tests.endpoint import Endpoint, answer_to
from tests.endpoints.test_every_shape import STREAMS, changed, good_bodies
from tests.faults import FAULTS, Fault

KEY: Final = "sk-secret-0123456789abcdef"
URL: Final = "http://endpoint.test/v1/chat/completions"
JSON: Final = "application/json"
SSE: Final = "text/event-stream"
CHAT: Final = endpoints.load("chat")
WHOLE: Final[dict[str, Any]] = {
    "id": "c1",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "café 🙂"}, "finish_reason": "stop"}],
}


def client_to(url: str, transport: Transport, **clock: Any) -> Client:
    return Client(transport, CHAT, url, Masker([KEY]), Clock(**clock))


@pytest.fixture
def transport() -> Iterator[Transport]:
    """With a key that every server of these tests may echo; a reply may have a megabyte."""
    headers = {"Authorization": f"Bearer {KEY}"}
    found = Transport(Settings(timeout=10, headers=headers, max_response_bytes=10**6))
    yield found
    found.close()


class Canned:
    """An endpoint that always sends the same."""

    def __init__(self, transport: Transport, mock: responses.RequestsMock) -> None:
        self.transport = transport
        self.mock = mock

    def __call__(
        self,
        body: bytes | str,
        content_type: str | None = JSON,
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        self.mock.upsert(responses.POST, URL, body=body, status=status, content_type=content_type, headers=headers)
        return client_to(URL, self.transport)(b"{}")

    def error(self, *args: Any, **kwargs: Any) -> ConnectorError:
        with pytest.raises(ConnectorError) as caught:
            self(*args, **kwargs)
        return caught.value


@pytest.fixture
def canned(transport: Transport) -> Iterator[Canned]:
    with responses.RequestsMock() as mock:
        yield Canned(transport, mock)


def content_of(reply: Reply) -> str | None:
    answer = CHAT.answer(reply.body)
    assert answer.status is Status.SUCCESS
    return answer.content


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def delta(content: str, finish: str | None = None) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]})


DONE: Final = b"data: [DONE]\n\n"
STREAM: Final = delta("café ") + delta("🙂") + delta("", "stop") + DONE
OVERLOADED: Final = {"error": {"message": "Overloaded", "type": "server_error", "code": None}}


# --- Dispatch: by what came, not by what was asked for ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        (json.dumps(WHOLE).encode(), JSON),
        (json.dumps(WHOLE, ensure_ascii=False).encode(), JSON),
        (json.dumps(WHOLE, ensure_ascii=False).encode(), f"{JSON}; charset=utf-8"),
        (json.dumps(WHOLE, ensure_ascii=False).encode(), f'{JSON}; charset="UTF-8"; x=y'),
        (json.dumps(WHOLE, ensure_ascii=False).encode(), f"{JSON}; charset=nonsense"),
        (json.dumps(WHOLE, ensure_ascii=False).encode(), "text/plain; charset=iso-8859-1"),
        (json.dumps(WHOLE).encode(), "text/html"),
        (json.dumps(WHOLE).encode(), "application/octet-stream"),
        (json.dumps(WHOLE).encode(), None),
        (b"\xef\xbb\xbf" + json.dumps(WHOLE).encode(), JSON),
        (b"\r\n\n  " + json.dumps(WHOLE).encode() + b"\n\n", JSON),
        (json.dumps(WHOLE, ensure_ascii=False).encode("utf-16"), f"{JSON}; charset=utf-16"),
        (json.dumps(WHOLE, ensure_ascii=False).encode("utf-16"), JSON),
        (json.dumps(WHOLE, ensure_ascii=False).encode("utf-32"), JSON),
        *(
            (json.dumps({**WHOLE, "id": "\ud800"}).encode(), f"{JSON}; charset={name}")
            for name in ("base64", "rot13", "idna", "undefined", "\0")
        ),
        (json.dumps(WHOLE).encode(), SSE),
        (b"\xef\xbb\xbf\r\n " + json.dumps(WHOLE, ensure_ascii=False).encode(), SSE),
        *(
            (
                mark + b'{"id": "\\ud800", ' + json.dumps(WHOLE, ensure_ascii=False).encode()[1:],
                f"{JSON}; charset={name}",
            )
            for mark in (b"", b"\xef\xbb\xbf")
            for name in ("iso-8859-1", "windows-1252", "utf-16", "nonsense")
        ),
        (STREAM, SSE),
        (STREAM, "Text/Event-Stream; charset=UTF-8"),
        (STREAM, "text/event-stream;charset=iso-8859-1"),
        (STREAM, JSON),
        (STREAM, None),
        (b": ping\n\n" + STREAM, "text/plain"),
        (b"\n\nevent: x\n" + STREAM, JSON),
        (b"\xef\xbb\xbf" + STREAM, SSE),
        (b"\xef\xbb\xbf" + STREAM, JSON),
    ],
)
def test_the_reply_is_read_as_what_it_is(canned: Canned, raw: bytes, content_type: str | None) -> None:
    assert content_of(canned(raw, content_type)) == "café 🙂"


@pytest.mark.parametrize("raw", ["25227143063332189585438", "1.10", "0.12345678901234567890123", "1e400", "9" * 5_000])
@pytest.mark.parametrize(
    "around", ['{{"score": {}}}', '{{"half": "\\ud83d", "score": {}}}', '{{"score": {}, "half": "\\ud83d"}}']
)
def test_numbers_keep_their_digits(canned: Canned, raw: str, around: str) -> None:
    body = canned(around.format(raw)).body
    assert text(body["score"]) == raw
    assert body.get("half", "\ufffd") == "\ufffd"
    with SqliteLedger(None) as ledger:
        ledger.put([(b"k", Reply(200, body, {}))])
        assert text(ledger.get([b"k"]).known[b"k"].body["score"]) == raw


@pytest.mark.parametrize("vector", ['"AADOQgAAAD8AAKC/"', "[1.5, 2]", "[1e400]", '"\\ud83d"'])
@pytest.mark.parametrize("raw", ["1e400", "-1e400", "9" * 400, "[0.5, 1e309]", '["\\udc00", 1e400]', "7"])
def test_what_an_embeddings_reply_holds_beside_its_vector_is_the_same_from_the_ledger(
    transport: Transport, raw: str, vector: str
) -> None:
    body = f'{{"data": [{{"embedding": {vector}}}], "usage": {{"total_tokens": {raw}}}}}'
    with responses.RequestsMock() as mock, SqliteLedger(None) as ledger:
        mock.post(URL, body=body, content_type=JSON)
        reply = Client(transport, endpoints.load("embeddings"), URL, Masker([]), Clock())(b"{}")
        ledger.put([(b"k", reply)])
        assert repr(ledger.get([b"k"]).known[b"k"].body) == repr(reply.body)


@pytest.mark.parametrize("before", [b"", b"1", b"12", b"1" * 6_000])
def test_a_vector_that_spells_a_secret_is_masked(transport: Transport, before: bytes) -> None:
    vector = b64encode(before + KEY.encode() + b"\0" * 6).decode()
    with responses.RequestsMock() as mock:
        mock.post(URL, json={"data": [{"embedding": vector}]})
        reply = Client(transport, endpoints.load("embeddings"), URL, Masker([KEY]), Clock())(b"{}")
        assert "***" in reply.body["data"][0]["embedding"]


def test_a_letter_in_the_encoding_that_the_header_names_is_that_letter(canned: Canned) -> None:
    body = {"choices": [{"message": {"content": "café"}}]}
    raw = json.dumps(body, ensure_ascii=False).encode("iso-8859-1")
    assert content_of(canned(raw, f"{JSON}; charset=iso-8859-1")) == "café"
    assert content_of(canned(raw, JSON)) == "café"
    assert content_of(canned(raw, f"{JSON}; charset=utf-8")) == "café"


def test_characters_of_windows_1252_are_decoded(canned: Canned) -> None:
    raw = json.dumps(WHOLE, ensure_ascii=False).replace("café 🙂", "“Grüße” für 5 €").encode("cp1252")
    for charset in ("", "; charset=iso-8859-1", "; charset=us-ascii", "; charset=utf-8"):
        assert content_of(canned(raw, f"{JSON}{charset}")) == "“Grüße” für 5 €"


@pytest.mark.parametrize(
    "content_type",
    [
        f"{JSON}; charset=windows-1251",
        f"{JSON} ; Charset = 'Windows-1251'",
        f"text/plain; charset=utf-8, {JSON}; charset=windows-1251",
        f"{JSON}; charset=windows-1251, {JSON}; charset=windows-1251",
    ],
)
def test_the_last_charset_counts_however_it_is_written(canned: Canned, content_type: str) -> None:
    raw = json.dumps(WHOLE, ensure_ascii=False).replace("café 🙂", "Жук").encode("cp1251")
    assert content_of(canned(raw, content_type)) == "Жук"


@pytest.mark.parametrize("charset", ["x-sjis", "shift_jis", "nonsense", "iso-2022-jp"])
def test_letters_of_another_charset_are_not_taken_for_windows_ones(canned: Canned, charset: str) -> None:
    raw = json.dumps(WHOLE, ensure_ascii=False).replace("café 🙂", "日本").encode("shift_jis").replace(b"m", b"\xff", 1)
    assert "valid text in its charset" in canned.error(raw, f"{JSON}; charset={charset}").message


@pytest.mark.parametrize("charset", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("told", ["", "; charset=utf-16", "; charset=utf-32", "; charset=utf-8"])
def test_wide_letters_are_known_without_a_byte_order_mark_whatever_the_charset_says(
    canned: Canned, charset: str, told: str
) -> None:
    assert content_of(canned(json.dumps(WHOLE, ensure_ascii=False).encode(charset), f"{JSON}{told}")) == "café 🙂"
    refusal = json.dumps({"error": {"message": f"{KEY} may not say café"}}).encode(charset)
    assert "*** may not say café" in str(canned(refusal, f"{JSON}{told}", 400).body)


def test_an_error_is_read_in_its_charset_too(canned: Canned) -> None:
    refusal = json.dumps({"error": {"message": "Жук"}}, ensure_ascii=False).encode("cp1251")
    assert canned(refusal, f"{JSON}; charset=windows-1251", 400).body["error"]["message"] == "Жук"


@pytest.mark.parametrize("charset", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_the_key_is_masked_in_wide_letters_though_the_last_of_them_is_cut(canned: Canned, charset: str) -> None:
    long = Canned(Transport(Settings(max_response_bytes=2**23)), canned.mock)
    for end in (b"x", b"x" * 2**20 + b"xxx"):
        raw = f"{KEY} is wrong".encode(charset) + end
        for told in (str(long(raw, JSON, 400).body), long.error(raw, JSON).message):
            assert "*** is wrong" in told
            assert "x00" not in told
    long.transport.close()


@pytest.mark.parametrize("wide", ["utf-8", "utf-16-le"])
def test_a_long_error_that_is_read_in_part_ends_in_no_half_of_a_key(monkeypatch: pytest.MonkeyPatch, wide: str) -> None:
    monkeypatch.setattr(client, "MODEST", 2**17)
    raw = ("x" * 2**17 + f" {KEY} is wrong" + "x" * 2**17).encode(wide)
    start = raw.index(KEY.encode(wide))
    for end in range(start, start + len(KEY.encode(wide))):  # of what is read
        told = client._beginning(iter([raw[:end], raw[end:]]), f"text/plain; charset={wide}", Masker([KEY]))  # noqa: SLF001 - the end of it is not shown anywhere
        assert len(told) > 2**15
        assert "sk-" not in told


@pytest.mark.parametrize("broken", [b"Gr\xc3\xbc\xc3\x9fe \xf0\x9f", b"Gr\xc3\xbc\xc3\x9fe \xff", b"\x81 \x8d"])
def test_bytes_that_are_invalid_in_their_charset_are_no_success(canned: Canned, broken: bytes) -> None:
    raw = json.dumps(WHOLE).replace("caf\\u00e9 \\ud83d\\ude42", "{}").encode().replace(b"{}", broken)
    for charset in ("", "; charset=utf-8"):
        assert isinstance(canned.error(raw, f"{JSON}{charset}"), ReplyError)


def test_a_reply_carries_what_is_known_of_the_call(transport: Transport) -> None:
    with responses.RequestsMock() as mock:
        mock.post(URL, json=WHOLE, headers={"X-Request-Id": "req_1"}, status=246)
        reply = client_to(URL, transport, monotonic=itertools.count(100, 0.25).__next__)(b'{"a": 1}')
        assert mock.calls[0].request.body == b'{"a": 1}'
    assert (reply.status, reply.body, reply.attempts, reply.cached) == (246, WHOLE, 1, False)
    assert reply.headers["x-request-id"] == "req_1"
    assert reply.latency_ms == 250


def test_null_for_an_error_is_not_an_error(canned: Canned) -> None:
    assert content_of(canned(json.dumps(WHOLE | {"error": None}))) == "café 🙂"


# --- Streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stream",
    [
        delta("café 🙂", "stop"),
        delta("café 🙂") + DONE,
        delta("café 🙂", "stop").rstrip(b"\n"),
        STREAM + b": ping\n\n" + event({"late": "after the end"}) + b"data: junk\n\n",
        b"data:\n\n" + b"data: \n\n" + STREAM.replace(b"\n\n", b"\n\ndata:\n\n"),
        STREAM.replace(b"[DONE]", b" [DONE] "),
    ],
)
def test_a_stream_that_says_that_it_is_whole_is(canned: Canned, stream: bytes) -> None:
    assert content_of(canned(stream, SSE)) == "café 🙂"


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (b"", "empty stream"),
        (b": ping\n\n: ping\n\n", "empty stream"),
        (delta("Hel") + delta("lo"), "ended before the reply did"),
        (delta("Hel") + b'data: {"choices": [{"delta": {"content": "l', "cut in the middle of an event"),
        (delta("Hello", "stop") + b'data: {"usage": {"prompt_tok', "cut in the middle of an event"),
        (event({"id": "c1"}), "ended before the reply did"),
    ],
)
def test_a_stream_that_was_cut_is_never_a_reply(canned: Canned, stream: bytes, said: str) -> None:
    error = canned.error(stream, SSE)
    assert type(error) is CutError
    assert said in error.message


def test_a_stream_with_nothing_but_its_end_is_an_empty_reply(canned: Canned) -> None:
    assert CHAT.answer(canned(DONE, SSE).body).status is Status.INVALID_OUTPUT


@pytest.mark.parametrize(
    "junk", [b"data: junk\n\n", b"data: {\n\n", b"data: [1]\n\n", b'data: "x"\n\n', b"data: 7\n\n"]
)
def test_junk_among_the_events_is_not_a_reply(canned: Canned, junk: bytes) -> None:
    error = canned.error(delta("Hel") + junk + delta("lo", "stop") + DONE, SSE)
    assert type(error) is ReplyError
    assert error.message.endswith(f": {junk.removeprefix(b'data: ').strip().decode()}")


UNKNOWN: Final = (
    {"code": 1302, "message": "Too busy"},
    {"detail": "Too busy"},
    {"detail": [{"msg": "Too busy"}]},
    {"status": "failure", "message": "Too busy"},
    {"object": "error", "message": "Too busy"},
    {"msg": "Too busy", "ret": 7, "choices": None},
    {"base_resp": {"status_code": 1002, "status_msg": "Too busy"}},
    {"state": "Too busy"},
)


class Held(Transport):
    """Sends a stream on a connection that stays open behind it, or is lost, and notes how long it is waited for."""

    def __init__(self, *chunks: bytes, loss: ConnectorError | None = None, is_held: bool = True) -> None:
        super().__init__(Settings())
        self.chunks = chunks
        self.is_held = is_held
        self.loss = loss
        self.waits: list[float] = []

    def post(self, url: str, body: object, content_type: str = "", deadline: object = None) -> Response:
        del url, body, content_type, deadline
        time = Deadline(600, monotonic=lambda: 0.0)

        def pieces() -> Generator[bytes, None, bool]:
            yield from self.chunks
            self.waits.append(time.left())
            if self.is_held:
                raise self.loss or time.late()
            return True

        raw = RawResponse(200, {"content-type": SSE}, pieces(), lambda _: None)
        return Response(raw, 10**8, RuntimeError, time)  # type: ignore[arg-type]  # it translates nothing here


LONG: Final = b": a comment\n" * 100_000  # more than is decoded as it comes


@pytest.mark.parametrize(
    "chunks",
    [(STREAM,), (LONG, STREAM), (LONG + STREAM,), (LONG, *(STREAM[i : i + 1] for i in range(len(STREAM))))],
    ids=["of a few events", "that is long", "in one piece", "byte by byte"],
)
def test_a_connection_that_stays_open_behind_a_stream_is_waited_for_half_a_second(chunks: Sequence[bytes]) -> None:
    held = Held(*chunks)
    assert content_of(client_to(URL, held)(b"{}")) == "café 🙂"
    assert held.waits == [0.5]


def chat_chunk(delta: dict[str, Any], reason: str | None = None, **beside: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return b"data: " + json.dumps({"choices": [choice], **beside}).encode() + b"\n\n"


USAGE: Final = {"prompt_tokens": 3, "completion_tokens": 2}
TEXT: Final = chat_chunk({"role": "assistant", "content": "yes"})
FINISH: Final = chat_chunk({"content": ""}, "stop")
USAGE_CHUNK: Final = b"data: " + json.dumps({"choices": [], "usage": USAGE}).encode() + b"\n\n"
TOOL: Final = chat_chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]})
SECOND: Final = TEXT.replace(b'"index": 0', b'"index": 1')
SECOND_FINISH: Final = FINISH.replace(b'"index": 0', b'"index": 1')
COMPLETION: Final = (
    b'data: {"choices": [{"text": "yes"}]}\n\ndata: {"choices": [{"text": "", "finish_reason": "stop"}]}\n\n'
)
RESPONSE: Final = (
    b'data: {"type": "response.completed", "response": {"object": "response", "status": "completed", "output": '
    b'[{"type": "message", "content": [{"type": "output_text", "text": "yes"}]}]}}\n\n'
)

ENDED: Final[dict[str, tuple[str, dict[str, Any], Sequence[bytes], float]]] = {
    "an empty delta": ("chat", {}, (TEXT, FINISH), 5),
    "a token limit": ("chat", {}, (TEXT, chat_chunk({}, "length")), 5),
    "usage with the end": ("chat", {}, (TEXT, chat_chunk({}, "stop", usage=USAGE)), 0.5),
    "usage with each piece": ("chat", {}, (chat_chunk({"content": "yes"}, usage=USAGE), FINISH), 0.5),
    "usage behind it": ("chat", {}, (TEXT, FINISH, USAGE_CHUNK), 0.5),
    "usage behind the last piece": ("chat", {}, (chat_chunk({"content": "yes"}, "stop"), USAGE_CHUNK), 0.5),
    "half of the usage behind it": ("chat", {}, (TEXT, FINISH, USAGE_CHUNK[:30]), 5),
    "a comment behind it": ("chat", {}, (TEXT, FINISH, b": ping\n\n"), 5),
    "a long stream": ("chat", {}, (LONG, TEXT, FINISH), 600),
    "a property called n": ("chat", {"n": 1, "tools": [{"properties": {"n": {}}}]}, (TEXT, FINISH), 5),
    "both of two choices": ("chat", {"n": 2}, (TEXT, SECOND, SECOND_FINISH, FINISH), 5),
    "two choices in turn": ("chat", {"n": 2}, (TEXT, FINISH, SECOND, SECOND_FINISH, USAGE_CHUNK), 0.5),
    "a completion": ("completions", {"prompt": [1, 2]}, (COMPLETION,), 5),
    "a completion of a packed prompt": ("completions", {"prompt": ["a"]}, (COMPLETION,), 5),
    "a response": ("responses", {}, (RESPONSE,), 0.5),
}
"""Kind, request, chunks, and the seconds for which more is waited for."""

NOT_ENDED: Final[dict[str, tuple[dict[str, Any], Sequence[bytes]]]] = {
    "a reason with the text": ({}, (chat_chunk({"content": "yes"}, "stop"),)),
    "a reason with each piece": ({}, (chat_chunk({"content": "y"}, "stop"), chat_chunk({"content": "es"}, "stop"))),
    "a reason from the start": ({}, (chat_chunk({"role": "assistant"}, "stop"),)),
    "more text behind it": ({}, (TEXT, FINISH, TEXT)),
    "a tool call that the server may make": ({}, (TOOL, chat_chunk({}, "tool_calls"))),
    "the usage of a step that the server may go on from": ({}, (TOOL, chat_chunk({}, "tool_calls"), USAGE_CHUNK)),
    "one with a text behind it": ({}, (TOOL, TEXT, chat_chunk({}, "tool_calls"))),
    "one that ends as a text does": ({}, (TEXT, TOOL, FINISH)),
    "one of two choices": ({"n": 2}, (TEXT, FINISH)),
    "the usage before the second choice": ({"n": 2}, (TEXT, FINISH, USAGE_CHUNK)),
    "the middle of the second choice": ({"n": 2}, (TEXT, FINISH, SECOND)),
    "one of two prompts": ({"prompt": ["a", "b"]}, (TEXT, FINISH, USAGE_CHUNK)),
    "a number of choices that is a text": ({"n": "2"}, (TEXT, FINISH)),
    "no reason": ({}, (TEXT, TEXT)),
}


@pytest.fixture(params=[False, True], ids=["read", "relayed"])
def is_relayed(request: pytest.FixtureRequest) -> bool:
    found: bool = request.param
    return found


def said(held: Held, kind: str, request: dict[str, Any], is_relayed: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    """Returns the text of a reply as JSON; with its events around it if they are relayed."""
    endpoint = endpoints.load(kind)
    url = URL.replace("/chat/completions", endpoint.PATH)
    if not is_relayed:
        reply = Client(held, endpoint, url, Masker([]), Clock())(json.dumps(request).encode())
        return json.dumps(endpoint.answer(reply.body).content)
    monkeypatch.setattr(passthrough, "transport_of", lambda *_: held)
    config = Config.load({"url": url, "model": "m", "prompt": "x", "max_retries": 0})
    return json.dumps([*passthrough.stream(config, {**request, "stream": True}, clock=Clock(), stop=Stop())])


@pytest.mark.parametrize(("kind", "asked", "chunks", "seconds"), ENDED.values(), ids=ENDED)
def test_a_reply_whose_text_has_ended_is_whole_if_its_connection_is_held_or_cut_then(
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    asked: dict[str, Any],
    chunks: Sequence[bytes],
    seconds: float,
    is_relayed: bool,
) -> None:
    for loss in (None, CutError("the connection was lost")):
        held = Held(*chunks, loss=loss)
        assert '"yes"' in said(held, kind, asked, is_relayed, monkeypatch)
        assert held.waits == [5 if seconds == 600 and is_relayed else seconds]  # which keeps nothing back


@pytest.mark.parametrize(("asked", "chunks"), NOT_ENDED.values(), ids=NOT_ENDED)
def test_a_reply_whose_text_may_go_on_is_not_whole_if_its_connection_is_held_or_cut(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], chunks: Sequence[bytes], is_relayed: bool
) -> None:
    for loss in (None, CutError("the connection was lost")):
        held = Held(*chunks, loss=loss)
        with pytest.raises((APITimeoutError, CutError)):
            said(held, "chat", asked, is_relayed, monkeypatch)
        assert held.waits == [600]


def test_a_stream_that_ends_in_the_middle_of_its_second_choice_is_cut(
    monkeypatch: pytest.MonkeyPatch, is_relayed: bool
) -> None:
    held = Held(TEXT, FINISH, SECOND, is_held=False)
    with pytest.raises(CutError, match="ended before the reply did"):
        said(held, "chat", {"n": 2}, is_relayed, monkeypatch)


@pytest.mark.parametrize("end", [b"data: [DONE]\n\n", b'event: error\ndata: {"message": "no"}\n\n'])
def test_what_follows_the_end_of_a_stream_or_its_failure_is_ignored(canned: Canned, end: bytes) -> None:
    event = (
        b"data: " + json.dumps({"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}).encode() + b"\n\n"
    )
    behind = b"data: {not JSON\n\n" * 3 + b"data: 7\n\n"
    if b"DONE" in end:
        assert content_of(canned(event + end + behind, SSE)) == "x"
    else:
        assert canned.error(event + end + behind, SSE).message == canned.error(event + end, SSE).message


@pytest.mark.parametrize("pieces", [2, 5_000])
def test_nor_does_it_matter_that_it_is_too_large(canned: Canned, pieces: int) -> None:
    """Of a long stream what is left is packed before anybody looks for its end."""
    stream, behind = delta("x") * pieces + delta("", "stop"), b": nothing at all\n" * 300_000
    assert content_of(canned(stream + DONE + behind, SSE)) == "x" * pieces
    assert "larger than max_response_bytes" in canned.error(stream + behind, SSE).message


def test_signs_of_life_count_towards_the_memory_limit(canned: Canned) -> None:
    """Each is small, and takes some microseconds."""
    error = canned.error(b"data: {}\n\n" * 100_000, SSE)
    assert "too many values" in error.message


def test_a_charset_is_one_that_servers_have_and_takes_linear_time(canned: Canned) -> None:
    """Python's `punycode` is quadratic, and each name that it does not know stays in its memory."""
    raw = json.dumps({**WHOLE, "id": "\u00e9"}, ensure_ascii=False)
    assert isinstance(canned.error(raw.encode("punycode"), f"{JSON}; charset=punycode"), CutError)
    canned.error(b"x", f"{JSON}; charset=nobody-has-this")
    assert not {each for each in vars(encodings)["_cache"] if "nobody" in each}
    thai = json.dumps(WHOLE, ensure_ascii=False).replace("café 🙂", "สวัสดี").encode("cp874")
    assert content_of(canned(thai, f"{JSON}; charset=cp874")) == "สวัสดี"


@pytest.mark.parametrize("frame", UNKNOWN)
def test_a_frame_of_unknown_shape_discredits_the_text_before_it_and_is_quoted(canned: Canned, frame: Any) -> None:
    for stream in (
        delta("Hello") + event(frame) + DONE,
        delta("Hello", "stop") + event(frame) + DONE,
        event(frame) + DONE,
        event(frame),
        event(frame) + delta("Hello", "stop") + DONE,
    ):
        error = canned.error(stream, SSE)
        assert type(error) is ServerError
        assert "Too busy" in error.message


@pytest.mark.parametrize(
    "line",
    [
        b"error: Too busy",
        b'error: {"code": 503, "message": "Too busy"}',
        b'error:{"error": {"message": "Too busy"}}',
        b'{"error": {"message": "Too busy"}}',
        b"Too busy",
        b"message: Too busy",
        b"event: error\ndata: Too busy",
        b'event: error\ndata: {"reason": "Too busy"}',
        b'event:error\ndata:["Too busy"]',
        b'event: error\ndata: {"choices": [], "message": "Too busy"}',
    ],
)
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n", b"\r\r"])
def test_a_line_or_an_event_that_reports_a_failure_discredits_the_text_before_it(
    canned: Canned, line: bytes, end: bytes
) -> None:
    for stream in (
        delta("Hello") + line + end + b"\n" + DONE,
        b": first\n" + line + end + b"\n" + DONE,
        delta("Hello", "stop") + line + end,
    ):
        error = canned.error(stream, SSE)
        assert type(error) is ServerError
        assert "Too busy" in error.message


def test_an_event_named_error_counts_even_without_a_word(canned: Canned) -> None:
    error = canned.error(delta("Hello") + b"event: error\n\n" + DONE, SSE)
    assert type(error) is ServerError
    assert "without a message" in error.message


def test_what_a_line_says_of_the_request_is_a_refusal_of_it(canned: Canned) -> None:
    reply = canned(b'error: {"code": 400, "message": "the context size is exceeded"}\n\n' + DONE, SSE)
    assert (reply.status, reply.body["error"]["message"]) == (400, "the context size is exceeded")


@pytest.mark.parametrize(
    "frame",
    [
        {},
        {"type": "ping"},
        {"id": "c1", "model": "m"},
        {"object": "chat.completion.chunk", "id": "c1"},
        {"choices": []},
        {"usage": {"prompt_tokens": 1}},
        {"choices": None, "usage": {"prompt_tokens": 1}},
        {"x_groq": {"id": "req_1"}},
        {"prompt_filter_results": [{"index": 0}]},
        {"error": None, "id": "c1"},
    ],
)
def test_a_frame_that_servers_send_beside_the_text_harms_nothing(canned: Canned, frame: Any) -> None:
    for stream in (event(frame) + STREAM, delta("café 🙂") + event(frame) + DONE):
        assert content_of(canned(stream, SSE)) == "café 🙂"


EMPTY: Final[tuple[Any, ...]] = (
    {},
    {"message": ""},
    {"message": "", "type": "", "param": "", "code": None},
    {"code": 0, "message": ""},
    {"code": "0", "message": "success"},
    {"code": 200, "message": "OK"},
    {"message": None, "details": []},
    {"error": {"message": ""}},
    [],
    [{}],
    "",
    " ",
    "null",
    0,
    False,
)


@pytest.mark.parametrize("error", EMPTY)
def test_an_empty_error_is_ignored(canned: Canned, error: Any) -> None:
    chunks = [delta("café 🙂"), delta("", "stop")]
    mended = [event(json.loads(chunk.removeprefix(b"data: ")) | {"error": error}) for chunk in chunks]
    assert content_of(canned(json.dumps(WHOLE | {"error": error}))) == "café 🙂"
    assert content_of(canned(b"".join(mended) + DONE, SSE)) == "café 🙂"


def test_a_reply_with_nothing_but_an_empty_error_has_failed(canned: Canned) -> None:
    for raw, kind in ((json.dumps({"error": {"message": ""}}), JSON), (event({"error": {"code": 0}}), SSE)):
        assert type(canned.error(raw, kind)) is ServerError


@pytest.mark.parametrize(
    "choice",
    [
        {"finish_reason": "abort"},
        {"finish_reason": "stop", "native_finish_reason": "MALFORMED_FUNCTION_CALL"},
        {"finish_reason": "error", "error": {"code": 502, "message": "upstream"}},
        {"finish_reason": None, "error": {"message": "upstream"}},
    ],
)
def test_a_reply_that_was_broken_off_is_a_cut_one_whole_and_streamed(canned: Canned, choice: Any) -> None:
    message = {"index": 0, "message": {"content": "Hel"}} | choice
    end = event({"choices": [{"index": 0, "delta": {}} | choice]})
    for raw, kind in ((json.dumps({"choices": [message]}), JSON), (delta("Hel") + end + DONE, SSE)):
        error = canned.error(raw, kind)
        assert type(error) is CutError
        assert error.message.startswith("the endpoint broke off the reply (")


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("levels", [100, 150, 250, 900, 5000])
def test_a_reply_beyond_a_hundred_levels_is_refused_whole_and_streamed(canned: Canned, levels: int) -> None:
    deep = b"[" * levels + b"]" * levels
    whole = json.dumps(WHOLE).encode()[:-1] + b', "deep": ' + deep + b"}"
    part = b'data: {"choices": [{"index": 0, "delta": {"content": "x"}, "deep": ' + deep + b"}]}\n\n"
    for raw, kind in ((whole, JSON), (whole, SSE), (part + delta("", "stop") + DONE, SSE)):
        error = canned.error(raw, kind)
        assert type(error) is ReplyError
        assert error.message == "the reply is nested too deeply to be kept"


def test_a_hundred_levels_are_kept(canned: Canned) -> None:
    assert canned(json.dumps(WHOLE | {"deep": nested(99)})).body["deep"] == nested(99)


def test_the_end_of_a_stream_is_read_so_that_the_connection_serves_again(transport: Transport) -> None:
    with Endpoint() as endpoint:
        client = client_to(endpoint.url, transport)
        for marker in ("", "[[fault:200-overloaded]]", "[[fault:sse-error-done]]", "[[fault:400]]", ""):
            body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": f"x {marker}"}]}
            try:
                client(orjson.dumps(body))
            except ServerError:
                assert marker
        assert {call.connection for call in endpoint.journal.calls} == {1}


# --- Errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OVERLOADED["error"], ServerError),
        ("something", ServerError),
        ({"message": "Slow down", "code": 429}, RateLimitError),
        ({"message": "No credit", "type": "insufficient_quota"}, QuotaError),
        ({"message": "Wrong key", "code": "invalid_api_key"}, AuthenticationError),
    ],
)
def test_an_error_inside_a_200_is_one_whole_and_streamed(canned: Canned, error: Any, expected: type) -> None:
    frame = {"error": error}
    for raw, kind in (
        (json.dumps(frame), JSON),
        (json.dumps(WHOLE | frame), JSON),
        (event(frame), SSE),
        (delta("Hel") + event(frame), SSE),
        (delta("Hel") + event(frame) + DONE, SSE),
        (delta("Hel") + event(frame) + event(OVERLOADED) + delta("lo", "stop") + DONE, SSE),
        (b"event: error\n" + event(frame), SSE),
    ):
        assert type(canned.error(raw, kind)) is expected


def test_a_refusal_inside_a_200_is_a_final_reply(canned: Canned) -> None:
    for code in (400, "invalid_value", None):
        frame = {"error": {"message": "Too long", "code": code, "type": "invalid_request_error"}}
        kept = {"error": {"message": "Too long", "type": "invalid_request_error", "code": str(code or "")}}
        for raw, kind in ((json.dumps(frame), JSON), (json.dumps(frame), SSE), (delta("Hel") + event(frame), SSE)):
            reply = canned(raw, kind)
            assert (reply.status, reply.body) == (400, kept)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, AuthenticationError),
        (402, QuotaError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (408, ServerError),
        (409, ServerError),
        (425, ServerError),
        (429, RateLimitError),
        (500, ServerError),
        (503, ServerError),
    ],
)
@pytest.mark.parametrize("kind", [JSON, SSE, "text/html", None])
def test_a_failing_status_becomes_its_error(canned: Canned, status: int, expected: type, kind: str | None) -> None:
    error = canned.error(b"", kind, status, {"retry-after": "7"})
    assert type(error) is expected
    assert error.http_status == status
    assert getattr(error, "wait", 7) == 7


@pytest.mark.parametrize("status", [400, 412, 413, 422, 446])
def test_a_refusal_of_this_request_is_a_final_reply_that_gives_the_same_error_again(
    canned: Canned, status: int
) -> None:
    reply = canned(json.dumps({"error": {"message": "No.", "type": "t", "code": "c"}}), JSON, status)
    assert (reply.status, reply.body) == (status, {"error": {"message": "No.", "type": "t", "code": "c"}})
    again = error_of(reply.status, {}, reply.body, now=0.0)
    assert isinstance(again, BadRequestError)
    assert again.message == f"the endpoint refuses this request (HTTP {status}: No.)"


@pytest.mark.parametrize(
    ("raw", "expected", "said"),
    [
        (b"", ReplyError, "the reply is empty"),
        (b" \n", ReplyError, "the reply is empty"),
        (b"<html><body>Welcome to nginx</body></html>", ReplyError, "'Welcome to nginx': does url point to an API?"),
        (b"OK", ReplyError, "not JSON but 'OK'"),
        (b'[{"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}]', ServerError, "overloaded"),
        (b"[1, 2]", ReplyError, "not an object: [1, 2]"),
        (b'"text"', ReplyError, "not an object"),
        (b"null", ReplyError, "not an object"),
        (b'{"a": NaN}', ReplyError, "not JSON"),
        (b'{"choices": [{"message": {"con', CutError, "cut in the middle of its JSON"),
        (b"{", CutError, "cut"),
        (b'{"a": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", ReplyError, "nested too deeply"),
        (b'{"a": ' + b"[" * 500 + b"]" * 500 + b"}", ReplyError, "nested too deeply"),
        (b'{"a": "\\ud83d", "b": ' + b"[" * 300 + b"]" * 300 + b"}", ReplyError, "nested too deeply"),
    ],
)
def test_a_200_that_is_not_a_reply_is_reported_as_what_it_is(
    canned: Canned, raw: bytes, expected: type, said: str
) -> None:
    error = canned.error(raw, "text/html")
    assert type(error) is expected
    assert said in error.message


def test_events_nested_too_deeply_are_no_reply_either(canned: Canned) -> None:
    deep = b'{"choices": [{"delta": {"content": "x"}}], "deep": ' + b"[" * 300 + b"]" * 300 + b"}"
    assert type(canned.error(b"data: " + deep + b"\n\n" + DONE, SSE)) is ReplyError


# --- What is kept can be stored --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("a\ud83d", "a\ufffd"),
        ("\ude42b", "\ufffdb"),
        ("a\ud83d\ude42b", "a🙂b"),
        ("\ud83d\ud83d\ude42", "\ufffd🙂"),
        ("\0", "\0"),
    ],
)
def test_half_of_a_character_becomes_the_replacement_character(canned: Canned, sent: str, kept: str) -> None:
    whole = {**WHOLE, "choices": [{"message": {"content": sent, sent: sent}}], "é": sent}
    reply = canned(json.dumps(whole))
    assert content_of(reply) == kept
    assert reply.body["é"] == reply.body["choices"][0]["message"][kept] == kept
    orjson.dumps(reply.body)
    streamed = canned(b"".join(map(delta, sent)) + delta("", "stop") + event({"choices": [], "é": sent}), SSE)
    assert content_of(streamed) == kept
    assert streamed.body["é"] == kept
    orjson.dumps(streamed.body)


# --- Secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 100, 190, 470, 485, 499])
def test_no_key_is_left_in_a_message_a_detail_or_a_body(canned: Canned, before: int) -> None:
    echo = f"{'.' * before}{KEY} and Bearer {KEY}"
    cases: list[tuple[bytes, str, int]] = [
        (json.dumps({"error": {"message": echo, "type": "t"}}).encode(), JSON, status)
        for status in (200, 400, 401, 429, 500)
    ]
    cases += [
        (f"<p>{echo}</p>".encode(), "text/html", 200),
        (f"<p>{echo}</p>".encode(), "text/html", 400),
        (echo.encode(), "text/plain", 200),
        (json.dumps([echo]).encode(), JSON, 200),
        (f'{{"a": "{echo}'.encode(), JSON, 200),
        (delta("x") + f"data: {echo}\n\n".encode(), SSE, 200),
        (delta("x") + f"data: {echo}\n\n".encode() + delta("y"), SSE, 200),
        (delta("x") + event([echo]) + delta("y"), SSE, 200),
        (delta("x") + event({"error": echo}), SSE, 200),
        (delta("x") + event({"error": {"message": echo, "code": 400}}), SSE, 200),
        (json.dumps({"error": {"message": "No.", "type": echo, "code": echo}}).encode(), JSON, 400),
    ]
    for raw, kind, status in cases:
        try:
            told = str(canned(raw, kind, status).body)
        except ConnectorError as error:
            told = f"{error.message} {error.detail} {error.__cause__} {error.__context__}"
        for part in (KEY, KEY[:9], KEY[-6:]):
            assert part not in told, (raw, told)


def test_a_client_says_nothing_of_its_key(transport: Transport) -> None:
    assert KEY not in repr(client_to(URL, transport))


# --- Every fault of the table ----------------------------------------------------------------------------------------

CASES: Final = [
    pytest.param(fault, streamed, id=f"{name}-{'streamed' if streamed else 'whole'}")
    for name, fault in FAULTS.items()
    for streamed in (False, True)
    if "chat" in fault.kinds and not fault.deadline and (fault.streamed if streamed else fault.whole) is not None
]


@pytest.fixture(scope="module")
def table() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        yield endpoint


@pytest.mark.parametrize(("fault", "streamed"), CASES)
def test_every_fault_is_what_the_table_says(
    table: Endpoint, transport: Transport, fault: Fault, streamed: bool
) -> None:
    prompt = f"row 7 [[fault:{fault.name}]]"
    body = {"model": "m", "stream": streamed, "messages": [{"role": "user", "content": prompt}]}
    status = fault.streamed if streamed else fault.whole
    client = client_to(table.url, transport)
    if status is Status.ERROR:
        expected = FatalError if fault.effect == "run" else RetryableError if fault.retried else RecordError
        with pytest.raises(expected) as caught:
            raise refused(client(orjson.dumps(body)))
        assert KEY not in caught.value.message + caught.value.detail
        return
    reply = client(orjson.dumps(body))
    orjson.dumps(reply.body)
    answer = CHAT.answer(reply.body)
    unmet = CHAT.expectation(body, ())
    if answer.status is Status.SUCCESS and unmet is not None and unmet(reply.body, answer):
        answer = answer._replace(status=Status.INVALID_OUTPUT)
    assert (answer.status if reply.status < 400 else Status.FILTERED if is_filtered(reply) else None) is status
    if status is Status.SUCCESS:
        assert answer.content == answer_to(prompt) + fault.tail


def refused(reply: Reply) -> RecordError:
    """What a final reply that is no answer means to its row."""
    assert reply.status >= 300
    return RecordError(str(reply.body))


@pytest.mark.parametrize("value", ["{}", "[]", "0", '{"a":0}'])
def test_a_reply_that_would_take_far_more_memory_than_it_has_bytes_is_refused(canned: Canned, value: str) -> None:
    many = ",".join([value] * (900_000 // (len(value) + 1)))
    body = f'{{"choices": [], "more": [{many}]}}'
    tracemalloc.start()
    try:
        for sent, kind in ((body, JSON), (f"data: {body}\n\n{DONE.decode()}", SSE)):
            assert "too many values" in canned.error(sent, kind).message
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 15_000_000


def test_a_large_reply_of_text_or_numbers_is_accepted(canned: Canned) -> None:
    choice = {"message": {"content": "One, two; {three} and four, said the fox to the hen. " * 15_000}}
    vectors = [{"embedding": [0.123456789012345678 + number for number in range(1000)]} for _ in range(8)]
    assert canned(json.dumps({"choices": [choice], "data": vectors})).status == 200


def test_a_stream_of_many_short_pieces_may_be_longer_than_a_reply(canned: Canned) -> None:
    around = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "usage": None}
    piece = event(around | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": " to"}}]})
    reply = canned(piece * 12_000 + delta("", "stop") + b"data: [DONE]\n\n", SSE)
    assert content_of(reply) == " to" * 12_000


def test_a_stream_of_short_pieces_of_a_tool_call_may_be_longer_than_a_reply(canned: Canned) -> None:
    around = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "usage": None}

    def piece(call: dict[str, Any]) -> bytes:
        return event(around | {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0} | call]}}]})

    begun = piece({"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}})
    pieces = piece({"function": {"arguments": " 1,"}}) * 12_000
    reply = canned(begun + pieces + delta("", "tool_calls") + b"data: [DONE]\n\n", SSE)
    (call,) = reply.body["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "f", "arguments": " 1," * 12_000}


@pytest.mark.parametrize(
    "part",
    [
        '{"choices":[{"delta":{"tool_calls":[{"index":%d,"function":{"name":"f"}}]}}]}',
        '{"choices":[{"delta":{"tool_calls":[{"index":%d,"function":{"arguments":"1"}}]}}]}',
        '{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"call_%d","function":{"arguments":"1"}}]}}]}',
        '{"choices":[{"delta":{},"logprobs":{"content":[{},{},{},{}]}}]}',
        '{"choices":[{"delta":{"x":[{},{},{}]}}]}',
        '{"choices":[],"x%d":1}',
    ],
)
def test_a_stream_that_leaves_far_more_than_a_reply_may_take_is_refused(
    monkeypatch: pytest.MonkeyPatch, canned: Canned, part: str
) -> None:
    monkeypatch.setattr(client, "MODEST", 2**16)
    small = Canned(Transport(Settings(max_response_bytes=10**5)), canned.mock)
    pieces = [f"data: {part % number if '%' in part else part}\n\n" for number in range(5_000)]
    tracemalloc.start()
    try:
        told = small.error("".join([*pieces, DONE.decode()]), SSE).message
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "too many values" in told or "larger than" in told
    assert peak < 2_000_000
    small.transport.close()


@pytest.mark.parametrize(
    ("path", "events"),
    [
        ("chat", ({"choices": [{"index": n, "delta": {}}]} for n in range(102))),
        ("chat", ({"choices": [{"delta": {"tool_calls": [{"index": n}]}}]} for n in range(102))),
        ("responses", ({"type": "response.output_item.added", "output_index": n, "item": {}} for n in range(102))),
        ("responses", ({"type": "response.refusal.delta", "content_index": n, "delta": "a"} for n in range(102))),
        ("responses", ({"type": "response.content_part.added", "content_index": n, "part": {}} for n in range(102))),
    ],
)
def test_a_stream_has_only_so_many_parts(
    monkeypatch: pytest.MonkeyPatch, path: str, events: Iterator[dict[str, Any]]
) -> None:
    monkeypatch.setattr(_shapes, "MOST_PARTS", 100)
    with pytest.raises(ReplyError, match="the reply has more than 100 parts: ask for less at once"):
        endpoints.load(path).fold(events)


def test_a_stream_that_is_followed_has_only_so_many_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shapes, "MOST_PARTS", 100)
    events = [{"choices": [{"index": n, "delta": {}}]} for n in range(102)]
    with pytest.raises(ReplyError, match="the reply has more than 100 parts"):
        deque(map(endpoints.load("chat").end_of_stream(b"{}").follow, events))


@pytest.mark.parametrize("request_", ["{}", '{"n": 1, "seed": 1e400}', '{"x": %s}' % ("[" * 300 + "]" * 300)])
def test_after_the_last_choice_only_the_usage_is_waited_for_whatever_the_request_holds(request_: str) -> None:
    end = endpoints.load("chat").end_of_stream(request_.encode())
    end.follow({"choices": [{"index": 0, "delta": {"content": "a"}}]})
    assert end.patience is None
    end.follow({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    assert end.patience is not None


@pytest.mark.parametrize("size", [1, 1000])
def test_a_body_takes_its_own_memory_however_small_its_pieces_are(size: int) -> None:
    tracemalloc.start()
    try:
        assert len(joined_chunks((bytes(size) for _ in range(10**5 // size)), 10**5)) == 10**5
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 250_000
    with pytest.raises(ReplyError, match="larger than max_response_bytes = 10"):
        joined_chunks(iter([b"x" * 6, b"x" * 6]), 10)


@pytest.mark.parametrize("kind", ["chat", "completions", "responses", "embeddings", "images"])
def test_no_shape_of_a_reply_or_stream_is_more_than_an_error_of_its_row(canned: Canned, kind: str) -> None:
    """Whatever else `Client` raised would be told as a fault of the program."""
    random, endpoint = Random(f"13 {kind}"), endpoints.load(kind)
    streams = STREAMS.get(kind) or [[{"choices": [{"index": 0, "text": "a"}]}]]
    for _ in range(150):
        events = changed(random.choice(streams), random)
        texts = [json.dumps(event) for event in events] + random.choice([[], ["[DONE]"], ["{"]])
        names = random.choice(["", "", "event: error\n", "event: x\n"])
        sent = [("".join(f"{names}data: {text}\n\n" for text in texts), SSE)]
        sent += [(json.dumps(changed(random.choice(good_bodies(kind)), random)), JSON)]
        for body, content_type in sent:
            canned.mock.upsert(responses.POST, URL, body=body, content_type=content_type)
            with contextlib.suppress(ConnectorError):
                Client(canned.transport, endpoint, URL, Masker(["canary"]), Clock())(b"{}")


# --- The key comes back in nothing that is kept or shown -------------------------------------------------------------

CANARY: Final = "cn4-Very+Secret/canary=5f0c7d21e9"
CHOICE: Final = {"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}
BODIES: Final[dict[str, Any]] = {
    "content": {"choices": [CHOICE | {"message": {"role": "assistant", "content": "it is {}"}}]},
    "model": {"model": "m-{}", "choices": [CHOICE]},
    "finish reason": {"choices": [CHOICE | {"finish_reason": "{}"}]},
    "refusal": {"choices": [CHOICE | {"message": {"role": "assistant", "refusal": "no: {}"}}]},
    "tool call": {
        "choices": [CHOICE | {"message": {"tool_calls": [{"function": {"name": "f", "arguments": '{"a": "{}"}'}}]}}]
    },
    "name of a field": {"{}": 1, "choices": [CHOICE]},
    "id": {"id": "{}", "choices": [CHOICE]},
    "error in a 200": {"error": {"message": "bad {}", "code": "{}", "type": "invalid_request_error"}},
}
ERRORS: Final = {
    "message": '{"error": {"message": "wrong: {}", "code": "{}", "type": "{}"}}',
    "text": "wrong: {}",
    "page": "<html><body>{}</body></html>",
    "cut at the most that is read": "x" * (2**16 - 20) + "{}",
    "cut behind many": "{} " * 3_000,
    "stream": 'data: {"error": {"message": "{}"}}',
}
HEADERS: Final = ("x-request-id", "x-litellm-call-id", "x-litellm-response-cost", "retry-after", "location")


def kept_of(mask: Masker, mock: responses.RequestsMock, **answer: Any) -> str:
    """All that is kept, or shown, of one answer."""
    mock.upsert(responses.POST, URL, **answer)
    transport = Transport(Settings(timeout=10))
    try:
        return repr(Client(transport, CHAT, URL, mask, Clock())(b"{}"))
    except ConnectorError as error:
        return f"{error!r} {error} {error.message} {error.detail}"
    finally:
        transport.close()


def filled(value: Any, spelling: str) -> Any:
    """The value with a spelling of the key in each of its blanks."""
    if isinstance(value, dict):
        return {filled(name, spelling): filled(each, spelling) for name, each in value.items()}
    if isinstance(value, list):
        return [filled(each, spelling) for each in value]
    return value.replace("{}", spelling) if isinstance(value, str) else value


@pytest.mark.parametrize("spelling", sorted(spellings(CANARY)))
def test_no_spelling_of_the_key_comes_back_in_any_part_of_a_reply(spelling: str) -> None:
    mask = Masker([CANARY])
    hidden = (*spellings(CANARY), CANARY[:12])
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        for name, body in BODIES.items():
            kept = kept_of(mask, mock, body=json.dumps(filled(body, spelling)), content_type=JSON)
            assert "***" in kept, name
            assert not [each for each in hidden if each in kept], name
        for name, text in ERRORS.items():
            for status in (400, 401, 404, 429, 500):
                kept = kept_of(mask, mock, body=text.replace("{}", spelling), status=status, content_type="text/plain")
                assert not [each for each in hidden if each in kept], name
        for name in HEADERS:
            for status in (200, 302, 400, 500):
                kept = kept_of(mask, mock, body=json.dumps(WHOLE), status=status, headers={name: f"a {spelling}"})
                assert not [each for each in hidden if each in kept], name


@pytest.mark.parametrize("spelling", sorted(spellings(CANARY)))
def test_no_key_comes_back_in_the_pieces_of_a_stream(spelling: str) -> None:
    middle = len(spelling) // 2
    body = delta(spelling[:middle]) + delta(spelling[middle:]) + delta("", "stop") + DONE
    with responses.RequestsMock() as mock:
        kept = kept_of(Masker([CANARY]), mock, body=body, content_type=SSE)
    assert "***" in kept
    assert spelling not in kept
