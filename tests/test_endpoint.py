"""The loopback endpoint does what it says, so that what the other tests prove with it is true."""

from __future__ import annotations

import gzip
import itertools
import json
import signal
import socket
import struct
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base.records import Status
from tests.endpoint import (
    MODEL,
    PATHS,
    Action,
    Call,
    Endpoint,
    Journal,
    Request,
    act,
    answer_to,
    body_for,
    filled,
    prompt_of,
    refusing,
    shuffled,
    vector_to,
)
from tests.faults import FAULTS, TAIL, End, Good, steps

ROOT = Path(__file__).parents[1]
CHAT = "/v1/chat/completions"


def chat(prompt: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}], **more}


@contextmanager
def client(origin: str) -> Iterator[HTTPConnection]:
    connection = HTTPConnection(urlsplit(origin).netloc, timeout=5)
    try:
        yield connection
    finally:
        connection.close()


def post(origin: str, body: Any, path: str = CHAT) -> tuple[int, dict[str, str], bytes]:
    """One call over a connection of its own: status, headers, body."""
    with client(origin) as connection:
        connection.request("POST", path, json.dumps(body), {"Authorization": "Bearer sk-test"})
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read()


def raw(origin: str, body: Any, path: str = CHAT) -> bytes:
    """All the bytes that come back until the connection ends."""
    sent = json.dumps(body).encode()
    found = bytearray()
    with socket.create_connection((urlsplit(origin).hostname, urlsplit(origin).port), timeout=5) as peer:
        head = f"POST {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {len(sent)}\r\n\r\n"
        peer.sendall(head.encode() + sent)
        while data := peer.recv(65536):
            found += data
    return bytes(found)


def unchunked(data: bytes) -> bytes:
    found, rest = b"", data
    while rest and (size := int(rest.partition(b"\r\n")[0], 16)):
        rest = rest.partition(b"\r\n")[2]
        found, rest = found + rest[:size], rest[size + 2 :]
    return found


def objects(events: bytes) -> list[Any]:
    """The JSON of each event, without the final [DONE]."""
    lines = [line.removeprefix(b"data: ") for line in events.split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


def content(chunks: list[Any]) -> str:
    deltas = (choice["delta"] for chunk in chunks for choice in chunk["choices"])
    return "".join(delta.get("content") or "" for delta in deltas)


@pytest.fixture(scope="module")
def shared() -> Iterator[Endpoint]:
    with Endpoint() as running:
        yield running


# --- Answers ---------------------------------------------------------------------------------------------------------


def test_each_kind_answers_the_prompt_as_a_function_of_it() -> None:
    with Endpoint() as endpoint:
        said = json.loads(post(endpoint.origin, chat("hi", model="m"))[2])
        assert said["model"] == "m"
        assert said["choices"][0]["message"]["content"] == answer_to("hi")
        texts = json.loads(post(endpoint.origin, {"prompt": ["hi", "ho"]}, "/v1/completions")[2])["choices"]
        assert [choice["text"] for choice in texts] == [answer_to("hi"), answer_to("ho")]
        response = json.loads(post(endpoint.origin, {"input": "hi"}, "/v1/responses")[2])
        assert response["output"][0]["content"][0]["text"] == answer_to("hi")
        vectors = json.loads(post(endpoint.origin, {"input": ["hi", "ho"]}, "/v1/embeddings")[2])["data"]
        assert [each["embedding"] for each in vectors] == [vector_to("hi"), vector_to("ho")]


def test_embeddings_come_as_base64_and_in_the_size_asked_for() -> None:
    asked = {"input": "hi", "encoding_format": "base64", "dimensions": 3}
    found = body_for("embeddings", asked, "hi")["data"][0]["embedding"]
    assert list(struct.unpack("<3f", b64decode(found))) == vector_to("hi", 3)


def test_a_stream_holds_the_same_answer_and_its_usage_where_asked_for() -> None:
    with Endpoint() as endpoint:
        _, headers, body = post(endpoint.origin, chat("hi", stream=True, stream_options={"include_usage": True}))
        assert headers["content-type"].startswith("text/event-stream")
        assert body.endswith(b"data: [DONE]\n\n")
        assert content(objects(body)) == answer_to("hi")
        assert objects(body)[-1]["usage"]["total_tokens"] > 0
        responses = objects(post(endpoint.origin, {"input": "hi", "stream": True}, "/v1/responses")[2])
        assert "".join(event.get("delta", "") for event in responses) == answer_to("hi")
        assert responses[-1]["type"] == "response.completed"
        texts = objects(post(endpoint.origin, {"prompt": "hi", "stream": True}, "/v1/completions")[2])
        assert "".join(chunk["choices"][0]["text"] for chunk in texts) == answer_to("hi")


def test_a_json_schema_is_filled_with_what_fits() -> None:
    schema = {
        "type": "object",
        "$defs": {"mood": {"enum": ["good", "bad"]}},
        "properties": {
            "echo": {"type": "string"},
            "stars": {"type": "integer", "minimum": 2},
            "sure": {"type": ["boolean", "null"]},
            "mood": {"$ref": "#/$defs/mood"},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            "none": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        },
    }
    expected = {
        "echo": answer_to("hi"),
        "stars": 2,
        "sure": True,
        "mood": "good",
        "tags": [answer_to("hi")],
        "none": None,
    }
    assert filled(schema, "hi") == expected
    asked = chat("hi", response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    assert json.loads(body_for("chat", asked, "hi")["choices"][0]["message"]["content"]) == expected
    assert json.loads(
        body_for("chat", chat("hi", response_format={"type": "json_object"}), "hi")["choices"][0]["message"]["content"]
    ) == {"echo": answer_to("hi")}


def test_the_prompt_is_the_last_user_message_however_it_is_written() -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "x"}}]
    messages = [{"role": "user", "content": "first"}, {"role": "assistant", "content": "no"}]
    assert prompt_of({"messages": [*messages, {"role": "user", "content": parts}]}) == "look\n"
    assert prompt_of({"messages": messages}) == "first"
    assert prompt_of({"input": ["a", "b"]}) == "a\nb"
    assert prompt_of("not JSON") == prompt_of({"messages": 7}) == ""


def test_models_are_listed_and_other_paths_and_bodies_refused() -> None:
    with Endpoint() as endpoint, client(endpoint.origin) as connection:
        connection.request("GET", "/v1/models")
        assert json.loads(connection.getresponse().read())["data"][0]["id"] == MODEL
        assert post(endpoint.origin, chat("hi"), "/v1/v1/chat/completions")[0] == 404
        assert post(endpoint.origin, {"prompt": "hi"})[0] == 422
        assert post(endpoint.origin, ["hi"])[0] == 422
        assert [call.action for call in endpoint.journal.calls] == ["models", "404", "422", "422"]


def test_a_shuffled_latency_is_the_same_for_the_same_prompt() -> None:
    latency = shuffled(1, 2, seed=3)
    times = [latency(str(i)) for i in range(50)]
    assert times == [latency(str(i)) for i in range(50)]
    assert len(set(times)) > 20
    assert all(1 <= each <= 2 for each in times)


# --- Journal and limits ----------------------------------------------------------------------------------------------


def test_the_journal_tells_who_asked_what_on_which_connection() -> None:
    with Endpoint() as endpoint, client(endpoint.origin) as connection:
        for _ in range(2):
            connection.request("POST", CHAT, json.dumps(chat("hi")), {"X-Mine": "1"})
            connection.getresponse().read()
        post(endpoint.origin, chat("ho"))
        calls = endpoint.journal.calls
    assert [(call.prompt, call.attempt, call.connection) for call in calls] == [
        ("hi", 1, 1),
        ("hi", 2, 1),
        ("ho", 1, 2),
    ]
    assert calls[0].headers["x-mine"] == "1"
    assert calls[0].body == chat("hi")
    assert endpoint.journal.by_prompt == {"hi": 2, "ho": 1}
    assert endpoint.accepted == 2


def call_at(time: float, in_flight: int = 1) -> Call:
    return Call(time, "POST", CHAT, {}, None, "", 1, 1, in_flight)


@given(st.lists(st.integers(0, 100)))
def test_the_busiest_window_is_the_one_that_counting_finds(times: list[int]) -> None:
    times.sort()
    counted = max((sum(start <= time < start + 10 for time in times) for start in times), default=0)
    assert Journal(calls=map(call_at, times)).busiest(10) == counted
    assert Journal(calls=map(call_at, times)).busiest(10, cost=lambda _: 3) == 3 * counted


def test_above_what_is_admitted_calls_get_429() -> None:
    with Endpoint(admit=2) as endpoint, client(endpoint.origin) as first, client(endpoint.origin) as second:
        for connection in (first, second):
            connection.request("POST", CHAT, json.dumps(chat("[[fault:hang-body]]")))
            connection.getresponse()
        assert post(endpoint.origin, chat("hi"))[0] == 429
    assert [call.in_flight for call in endpoint.journal.calls] == [1, 2, 3]
    assert endpoint.journal.peak == 3


def test_above_the_rate_calls_get_429_and_are_told_how_long_to_wait() -> None:
    with Endpoint(rate=1) as endpoint:
        status, headers, _ = post(endpoint.origin, chat("hi"))
        assert (status, headers["x-ratelimit-remaining-requests"]) == (200, "0")
        status, headers, _ = post(endpoint.origin, chat("hi"))
        assert status == 429
        assert 50 < float(headers["retry-after"]) <= 60
        assert headers["x-ratelimit-reset-requests"].partition("s")[0] in {"59", "60"}


@given(st.lists(st.integers(1, 60)))
def test_a_request_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    sent = b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}" * 2
    buffer, found, at = bytearray(), [], 0
    for cut in [*cuts, len(sent)]:
        buffer += sent[at : at + cut]
        at += cut
        while request := Request.take(buffer):
            found.append((request.path, request.parsed()))
    assert found == [("/v1/x", {})] * 2
    assert not buffer


# --- Scripts and markers ---------------------------------------------------------------------------------------------


def test_markers_follow_one_another_and_then_the_answer_comes() -> None:
    prompt = "x [[fault:503;times=2]][[fault:429;retry-after=0.2;times=1]]"
    with Endpoint() as endpoint:
        replies = [post(endpoint.origin, chat(prompt)) for _ in range(4)]
    assert [status for status, _, _ in replies] == [503, 503, 429, 200]
    assert replies[2][1]["retry-after"] == "0.2"
    assert [call.action for call in endpoint.journal.calls] == ["503", "503", "429", "answer"]


def test_a_script_decides_before_the_markers_do() -> None:
    def script(call: Call) -> Action | None:
        return act(call, "400") if call.attempt == 1 else None

    with Endpoint(script) as endpoint:
        assert [post(endpoint.origin, chat("hi"))[0] for _ in range(2)] == [400, 200]


def test_a_marker_that_names_no_fault_fails_the_test_that_wrote_it() -> None:
    with pytest.raises(KeyError, match="no-such"), Endpoint() as endpoint:
        assert raw(endpoint.origin, chat("[[fault:no-such]]")) == b""


def test_a_redirect_within_the_origin_leads_to_the_answer_and_one_away_where_it_says() -> None:
    with Endpoint() as endpoint:
        status, headers, _ = post(endpoint.origin, chat("[[fault:307]]"))
        assert status == 307
        assert post(endpoint.origin, chat("[[fault:307]]"), headers["location"])[0] == 200
        _, headers, _ = post(endpoint.origin, chat("[[fault:302;to=http://127.0.0.1:1/v1?a=b]]"))
        assert headers["location"] == "http://127.0.0.1:1/v1?a=b"


# --- The table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_row_of_the_table_agrees_with_itself(fault: Any) -> None:
    statuses = {fault.whole, fault.streamed} - {None}
    assert FAULTS[fault.name] is fault
    assert fault.about
    assert fault.kinds <= set(PATHS.values())
    assert statuses
    if fault.retried or fault.effect == "run":
        assert statuses == {Status.ERROR}
    assert not (fault.retried and fault.effect == "run")
    assert fault.retried or not fault.deadline


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_can_be_played_for_each_kind_that_it_names(fault: Any) -> None:
    asked = {"messages": [], "prompt": "hi", "input": "hi"}
    for kind, streamed in itertools.product(fault.kinds, (False, True)):
        if (fault.streamed if streamed else fault.whole) is None:
            continue
        good = Good(body_for(kind, asked, "hi"), kind=kind, streamed=streamed and kind != "embeddings", usage=True)
        played = list(itertools.islice(steps(good, fault.name, {"x-more": "1"}), 20))
        assert played
        assert all(isinstance(step, bytes | float | End) for step in played)
        sent = b"".join(step for step in played if isinstance(step, bytes))
        assert not sent or sent.startswith(b"HTTP/1.")


def ends_early(reply: bytes) -> bool:
    head, _, body = reply.partition(b"\r\n\r\n")
    return len(body) < int(head.rpartition(b"content-length: ")[2])


def is_latin_1(reply: bytes) -> bool:
    return b"charset=iso-8859-1" in reply and b'{"\xe9": 1' in reply


def unzips(reply: bytes) -> bool:
    return b'"total_tokens"' in gzip.decompress(reply.partition(b"\r\n\r\n")[2])


def bombs(reply: bytes) -> bool:
    packed = unchunked(reply.partition(b"\r\n\r\n")[2])
    padded = gzip.decompress(packed)
    return len(padded) > 2 * 2**20 > 100 * len(packed) and "choices" in json.loads(padded)


def is_huge_json(reply: bytes) -> bool:
    return len(reply) > 2**20 and "choices" in json.loads(unchunked(reply.partition(b"\r\n\r\n")[2]))


def has_tail(reply: bytes) -> bool:
    said = content(objects(unchunked(reply.partition(b"\r\n\r\n")[2])))
    return said.encode("utf-16", "surrogatepass").decode("utf-16").endswith(TAIL)


WIRE: list[tuple[str, bool, Callable[[bytes], bool]]] = [
    ("100", False, lambda reply: reply.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")),
    ("103", True, lambda reply: reply.startswith(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n")),
    ("204", False, lambda reply: reply.startswith(b"HTTP/1.1 204 ") and b"length" not in reply),
    ("400-echo", False, lambda reply: reply.endswith(b'may not say: [[fault:400-echo]]"}')),
    ("429", False, lambda reply: b"retry-after" not in reply),
    ("502", False, lambda reply: b"text/html" in reply and b"<h1>" in reply),
    ("bad-chunk", True, lambda reply: b"\r\n\r\nzz\r\n" in reply),
    ("bom", False, lambda reply: b"\r\n\r\n\xef\xbb\xbf{" in reply),
    ("bytewise", False, lambda reply: reply.endswith(b"}}")),
    ("close", False, lambda reply: reply == b""),
    ("cut-body", False, ends_early),
    (
        "cut-body",
        True,
        lambda reply: b"chunked" in reply and b"[DONE]" not in reply and not reply.endswith(b"\r\n0\r\n\r\n"),
    ),
    ("duplicate-keys", False, lambda reply: reply.count(b'"object"') == 2),
    ("gzip", False, unzips),
    ("gzip-bomb;mib=2", False, bombs),
    ("http10", False, lambda reply: reply.startswith(b"HTTP/1.0 200") and b"length" not in reply),
    ("huge;mib=2", False, is_huge_json),
    ("json-deep", False, lambda reply: b"[" * 20_000 in reply),
    ("json-unasked", True, lambda reply: b"application/json" in reply and b"data:" not in reply),
    ("latin-1", False, is_latin_1),
    ("no-length", True, lambda reply: b"chunked" not in reply and reply.endswith(b"data: [DONE]\n\n")),
    ("sse-cr", True, lambda reply: b"}\r\r\r\n" in reply),
    ("sse-crlf", True, lambda reply: b"}\r\n\r\n\r\n" in reply),
    ("sse-cut", True, lambda reply: b"[DONE]" not in reply and reply.endswith(b"\r\n0\r\n\r\n")),
    (
        "sse-cut-close",
        True,
        lambda reply: b"chunked" not in reply and reply.endswith(b"}\n\n") and b"stop" not in reply,
    ),
    ("sse-error", True, lambda reply: b'data: {"error"' in reply and b"[DONE]" not in reply),
    ("sse-error-done", True, lambda reply: b'data: {"error"' in reply and b"[DONE]" in reply),
    ("sse-split-utf8", True, has_tail),
    ("sse-surrogates", True, lambda reply: b'"\\ude42"' in reply and has_tail(reply)),
    ("sse-unasked", False, lambda reply: b"text/event-stream" in reply),
    ("stale-close", False, lambda reply: reply.endswith(b"}}")),
    ("untyped", False, lambda reply: b"content-type" not in reply),
    ("usage-none", True, lambda reply: b"usage" not in reply),
    ("utf-16", False, lambda reply: b"\r\n\r\n\xff\xfe{" in reply),
]


@pytest.mark.parametrize(("marker", "streamed", "shows"), WIRE, ids=[f"{row[0]}-{row[1]}" for row in WIRE])
def test_a_fault_shows_on_the_wire(
    shared: Endpoint, marker: str, streamed: bool, shows: Callable[[bytes], bool]
) -> None:
    more = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
    assert shows(raw(shared.origin, chat(f"[[fault:{marker}]]", **more)))


@pytest.mark.parametrize("fault", ["reset", "reset-body"])
def test_a_reset_is_a_reset(shared: Endpoint, fault: str) -> None:
    with pytest.raises(ConnectionResetError):
        raw(shared.origin, chat(f"[[fault:{fault}]]"))


@pytest.mark.parametrize("fault", [fault.name for fault in FAULTS.values() if fault.deadline])
def test_only_the_client_ends_a_call_that_hangs(shared: Endpoint, fault: str) -> None:
    """Whatever comes, there is no end in sight."""
    sent = json.dumps(chat(f"[[fault:{fault}]]", stream=FAULTS[fault].whole is None)).encode()
    with socket.create_connection((urlsplit(shared.origin).hostname, urlsplit(shared.origin).port)) as peer:
        peer.sendall(b"POST %b HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (CHAT.encode(), len(sent), sent))
        peer.settimeout(0.06)
        found = b""
        with pytest.raises(TimeoutError):  # noqa: PT012 - the bytes before the silence belong to it
            for _ in range(5):
                found += (data := peer.recv(65536))
                assert data
            raise TimeoutError
        assert not found.endswith((b"}}", b"0\r\n\r\n"))


def test_a_stale_connection_is_closed_upon_the_next_request_without_a_byte() -> None:
    with Endpoint() as endpoint, client(endpoint.origin) as connection:
        connection.request("POST", CHAT, json.dumps(chat("[[fault:stale-next]]")))
        assert connection.getresponse().read()
        connection.request("POST", CHAT, json.dumps(chat("hi")))
        with pytest.raises(ConnectionError):
            connection.getresponse()
        assert [call.action for call in endpoint.journal.calls] == ["stale-next", "stale"]


def test_a_port_can_refuse_connections() -> None:
    with refusing() as url, pytest.raises(ConnectionRefusedError):
        post(url, chat("hi"))


# --- Processes -------------------------------------------------------------------------------------------------------


@contextmanager
def process(module: str, *arguments: str) -> Iterator[str]:
    """Runs a server of ours; gives the origin that it prints."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip().removesuffix("/v1")
        finally:
            server.send_signal(signal.SIGKILL)


def test_the_journal_of_a_process_survives_its_death(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    with process("tests.endpoint", "--journal", str(path), "--admit", "4") as origin:
        assert post(origin, chat("hi"))[0] == 200
        assert post(origin, chat("[[fault:500]]"))[0] == 500
    journal = Journal.load(path)
    assert [(call.prompt, call.action) for call in journal.calls] == [("hi", "answer"), ("[[fault:500]]", "500")]
    assert journal.peak == 1


def test_the_stub_echoes_the_marker_and_counts() -> None:
    with process("tests.bench.stub", "--stream-chunks", "3", "--latency", "0.01") as origin:
        said = json.loads(post(origin, chat('Say [[row "7"]]'))[2])
        assert said["choices"][0]["message"]["content"] == 'echo:row "7"'
        streamed = objects(post(origin, chat("Say [[row 8]]", stream=True))[2])
        assert content(streamed) == "echo:row 8 word word"
        assert streamed[-1]["usage"] == said["usage"]
        with client(origin) as connection:
            connection.request("GET", "/stats")
            stats = json.loads(connection.getresponse().read())
        assert (stats["calls"], stats["peak_in_flight"]) == (2, 1)
