"""Server-sent events: the same events come out however the bytes are cut, and nothing makes the parser stumble."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from connector.base.errors import ReplyError
from connector.http.sse import DONE, ERROR, Event, beginning, events, is_stream

STREAM = (
    "\ufeff: a comment\n\n"
    'data: {"a": "café 🙂 \u2028"}\r\n\r\n'
    "event: message\rid: 7\rdata:no space\rretry: 1\r\r"
    "data: one\r\ndata:  two\ndata\ndata:\r\n\n"
    "\n\r\n\r\ndata: [DONE]\n\n"
    "data: left over"
).encode()
EVENTS = [
    '{"a": "café 🙂 \u2028"}'.encode(),
    b"no space",
    b"one\n two\n\n",
    DONE,
    b"left over",
]


def parsed(*chunks: bytes) -> list[bytes]:
    return [data for data, name in events(chunks) if name != ERROR]


def cut(data: bytes, at: list[int]) -> list[bytes]:
    bounds = sorted(each % (len(data) + 1) for each in at)
    return [data[start:end] for start, end in zip([0, *bounds], [*bounds, len(data)], strict=True)]


@given(st.lists(st.integers(0, 10**6)))
def test_wherever_the_bytes_are_cut_the_events_are_the_same(at: list[int]) -> None:
    assert parsed(*cut(STREAM, at)) == EVENTS


def test_events_are_the_same_byte_by_byte_and_cut_in_two_at_every_place() -> None:
    assert parsed(*(STREAM[i : i + 1] for i in range(len(STREAM)))) == EVENTS
    for i in range(len(STREAM)):
        assert parsed(STREAM[:i], STREAM[i:]) == EVENTS


LINES = st.sampled_from(
    [b"data: x", b"data:", b"data", b": c", b"", b"event: e", b"datax: y", b"data : z", b" data: w", b"\xff\0"]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])


@given(st.lists(st.tuples(LINES, ENDS)), st.lists(st.integers(0, 10**6), max_size=5))
def test_lines_may_end_in_any_of_the_three_ways(lines: list[tuple[bytes, bytes]], at: list[int]) -> None:
    """A CR before an empty line that ends in LF is one end, so such a pair is left out."""
    assume(not any(one[1] == b"\r" and other == (b"", b"\n") for one, other in pairwise(lines)))
    stream = b"".join(line + end for line, end in lines)
    plain = b"".join(line + b"\n" for line, _ in lines)
    assert parsed(*cut(stream, at)) == parsed(plain)


@given(st.binary(), st.lists(st.integers(0, 10**6), max_size=5))
def test_random_bytes_never_raise_and_are_cut_anywhere(data: bytes, at: list[int]) -> None:
    assert parsed(*cut(data, at)) == parsed(data)


@given(
    st.lists(st.sampled_from([b"d", b"ata", b"data", b":", b" ", b"\r", b"\n", b"\xef\xbb\xbf", b"\xef", b"x", b""]))
)
def test_the_pieces_of_events_never_raise_either(chunks: list[bytes]) -> None:
    assert parsed(*chunks) == parsed(b"".join(chunks))


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"", []),
        (b"\n\n\n", []),
        (b": only\n: comments\n\n", []),
        (b"event: x\n\n", []),
        (b"data: a\n\n", [b"a"]),
        (b"data: a", [b"a"]),
        (b"data: a\n", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data:\n\n", [b""]),
        (b"data\n\n", [b""]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\n: comment\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"datum: a\n\n", []),
        (b" data: a\n\n", []),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: \xef\xbb\xbfa\n\n", [b"\xef\xbb\xbfa"]),
        (b"\xef\xbb", []),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: [DONE]", [DONE]),
        (b"<!DOCTYPE html>\n\n<html>", []),
    ],
)
def test_events_are_what_the_standard_says(stream: bytes, expected: list[bytes]) -> None:
    assert parsed(stream) == expected


def test_an_event_is_passed_on_as_soon_as_its_blank_line_arrives() -> None:
    taken: list[bytes] = []

    def chunks() -> Iterator[bytes]:
        for chunk in (b"data: a\n", b"\n", b"data: b\r\n\r", b"data: c"):
            taken.append(chunk)
            yield chunk

    stream = events(chunks())
    assert next(stream)[0] == b"a"
    assert len(taken) == 2
    assert next(stream)[0] == b"b"
    assert len(taken) == 3
    assert list(stream) == [(b"c", b"")]


def test_blank_lines_split_between_chunks_are_still_blank() -> None:
    """The LF of a CRLF that comes in a chunk of its own is no second line end, but the next LF is."""
    assert parsed(b"data: a\r", b"\n", b"\n", b"data: b\r", b"\n", b"\r\n") == [b"a", b"b"]
    assert parsed(b"data: a\r", b"", b"\n", b"data: b\n\n") == [b"a\nb"]


def test_a_long_event_in_many_small_chunks_is_put_together_in_linear_time() -> None:
    chunks = [b"data: ", *([b"x" * 10] * 200_000), b"\n\n"]
    assert parsed(*chunks) == [b"x" * 2_000_000]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b'error: {"code": 500}\n\n', [(b'{"code": 500}', ERROR)]),
        (b"data: a\nerror: x\n\ndata: [DONE]\n\n", [(b"x", ERROR), (b"a", b""), (DONE, b"")]),
        (b"event: error\ndata: x\n\n", [(b"x", ERROR)]),
        (b"event: error\n\n", [(b"", ERROR)]),
        (b"event:error\rdata", [(b"", ERROR)]),
        (b"event: message\ndata: a\n\ndata: b\n\n", [(b"a", b"message"), (b"b", b"")]),
        (b"event: error\n: x\n\ndata: b\n\n", [(b"", ERROR), (b"b", b"")]),
        (b'data: a\n\n{"error": "x"}\n', [(b"a", b""), (b'{"error": "x"}', ERROR)]),
        (b"data: a\n\nupstream connect error", [(b"a", b""), (b"upstream connect error", ERROR)]),
        (b"<!DOCTYPE html>\n\n<html>", [(b"<!DOCTYPE html>", ERROR), (b"<html>", ERROR)]),
        (b"datum: a\n\n data: b\n\n", [(b"datum: a", ERROR), (b"data: b", ERROR)]),
    ],
)
def test_a_line_or_an_event_that_reports_a_failure_is_an_event_named_error(
    stream: bytes, expected: list[Event]
) -> None:
    assert list(events([stream])) == expected


@pytest.mark.parametrize(
    "line", [": c", "id: 7", "id", "retry: 9", "retry", "event", "event: x", " ", "d", "dat", "eve", "re", "i"]
)
def test_a_standard_field_or_its_truncated_name_is_not_a_failure(line: str) -> None:
    assert list(events([b"data: a\n\n" + line.encode()])) == [(b"a", b"")]


@pytest.mark.parametrize("name", ["ping", "keepalive", "keep-alive", "heartbeat"])
def test_a_ping_is_dropped_whatever_its_data(name: str) -> None:
    for data in ("", "data: {}\n", "data: pong\n", "data: 17\ndata: 18\n"):
        assert list(events([f"event: {name}\n{data}\ndata: a\n\n".encode()])) == [(b"a", b"")]


def peak(chunks: Iterator[bytes]) -> int:
    """The most bytes of memory that a stream takes while it is read."""
    tracemalloc.start()
    try:
        for _ in events(chunks):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "stream",
    [
        (b"data:ab\n" * 200_000, b"\n"),
        (b"data: ", *[b"abc"] * 200_000),
        (b"\n" * 1_000_000, b"data: x\n\n"),
        (b"data: " + b"x" * 600_000, b"\n\n"),
        (b":\n" * 500_000,),
        (b"data:\r" * 200_000,),
    ],
    ids=["lines", "chunks", "blank", "one", "comments", "empty"],
)
def test_an_event_takes_little_more_memory_than_its_bytes_however_it_is_cut(stream: tuple[bytes, ...]) -> None:
    assert peak(iter(stream)) < 3_000_000


def test_an_event_above_the_size_limit_is_refused() -> None:
    assert [*events([b"data: " + b"x" * 90 + b"\n\n"] * 5, 100)] == [(b"x" * 90, b"")] * 5
    for stream in ((b"data: " + b"x" * 101,), (b"data: " + b"x" * 20 + b"\n",) * 6, (b"data: xyz",) * 20):
        with pytest.raises(ReplyError, match="larger than"):
            [*events(stream, 100)]


@pytest.mark.parametrize("line", [b"\n", b":\r", b"\r\n", b"id\n", b"x\n"])
def test_a_stream_of_very_short_lines_is_refused_early(line: bytes) -> None:
    chunks = iter([line * 1000] * 1000)
    with pytest.raises(ReplyError, match="one for 4 bytes"):
        [*events(chunks, 10_000)]
    assert len([*chunks]) > 900


@given(st.lists(st.binary(max_size=3)), st.integers(1, 7))
def test_the_beginning_of_a_reply_is_returned_without_leading_blanks(parts: list[bytes], least: int) -> None:
    blank = [b"\n \r", b"\xef", b"\xbb\xbf", b"\t"] * 3
    rest = iter([*blank, *parts, b"{}1234567"])
    head = beginning(rest, least)
    assert not head.startswith((b" ", b"\t", b"\r", b"\n"))
    assert len(head) >= least
    assert (head + b"".join(rest)).endswith(b"".join(parts).lstrip(b" \t\r\n\xef\xbb\xbf") + b"{}1234567")


@pytest.mark.parametrize("start", ["data:{}", "event: x", "id: 1", "retry: 9", ": hello", "\ufeff\r\ndata: {}"])
def test_a_stream_is_known_by_its_first_field_whatever_the_content_type_says(start: str) -> None:
    assert is_stream(start.encode(), "application/json")
