"""The exchange on a connection: how bytes become a reply, whatever pieces they come in."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base.errors import APITimeoutError, ConfigError, ConnectorError, CutError, ReplyError
from connector.http import http1
from connector.http.connection import Connection, Route
from connector.http.deadline import Deadline
from connector.http.http1 import MAX_FIELDS, MAX_HEAD, PIECE, Headers, TlsError, chunked, framed, inflated, parse_head

PARTS = st.lists(st.binary(min_size=1, max_size=30), max_size=6)


class Wire:
    """Stands in for a socket: each receive returns the next piece, and then the end."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces = iter(pieces)

    def send(self, data: bytes) -> int:
        return len(data)

    def recv(self, _: int) -> bytes:
        return next(self.pieces, b"")

    def gettimeout(self) -> float:
        return 30.0

    def settimeout(self, _: float) -> None: ...

    def close(self) -> None: ...


Seen = tuple[int, dict[str, str], bytes, bool | str]


def exchange(pieces: Iterable[bytes], method: str = "POST") -> Seen:
    """Status, fields, body, and whether the connection may serve again; or the error's class in place of that."""
    connection = Connection(Route("host", 80))
    connection.sock = Wire(pieces)
    connection.deadline = Deadline(30.0)
    status, fields, body, reusable = connection.exchange(method, b"", b"")
    taken: list[bytes] = []
    try:
        clean = yield_all(http1.pieces(body), taken)
    except ConnectorError as error:
        return status, fields, b"".join(taken), type(error).__name__
    return status, fields, b"".join(taken), reusable and clean


def yield_all(body: Iterator[bytes], taken: list[bytes]) -> bool:
    while True:
        try:
            taken.append(next(body))
        except StopIteration as end:
            return cast("bool", end.value)


def pieces_of(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [piece for start, end in pairwise(edges) if (piece := data[start:end])]


def source(pieces: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    rest = iter(pieces)
    return next(rest, b""), rest


REPLIES = {
    "length": b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{"a":1}',
    "length and more": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n",
    "length, cut": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
    "nothing": b"HTTP/1.1 204 No Content\r\n\r\n",
    "chunks": b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;x="y"\r\n{}\r\n1\r\n \r\n0\r\nX-T: 1\r\n\r\n',
    "chunks, cut": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n5\r\nab",
    "chunks, broken": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}XX\r\n0\r\n\r\n",
    "close": b'HTTP/1.1 200 OK\r\n\r\n{"a": 1}',
    "old": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "told": b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\n{}",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103\r\nL: x\r\n\r\nHTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}",
    "folds": b"HTTP/1.1 200 OK\r\nX-A: 1\r\n\t2\r\n  3\r\nX-a:4\r\nodd\r\nContent-Length : 2\r\n\r\n{}",
    "bare": b"HTTP/1.1 200 OK\nContent-Length: 8\nX-B:b\n\n{}\r\n\r\n{}",
}
WANTED: dict[str, Seen] = {
    "length": (200, {"content-type": "application/json", "content-length": "7"}, b'{"a":1}', True),
    "length and more": (200, {"content-length": "2"}, b"{}", False),
    "length, cut": (200, {"content-length": "9"}, b"{}", "CutError"),
    "nothing": (204, {}, b"", True),
    "chunks": (200, {"transfer-encoding": "chunked"}, b"{} ", True),
    "chunks, cut": (200, {"transfer-encoding": "chunked"}, b"{}ab", "CutError"),
    "chunks, broken": (200, {"transfer-encoding": "chunked"}, b"{}", "CutError"),
    "close": (200, {}, b'{"a": 1}', False),
    "old": (200, {"content-length": "2"}, b"{}", False),
    "told": (200, {"connection": "Close", "content-length": "2"}, b"{}", False),
    "interim": (200, {"content-length": "2"}, b"{}", True),
    "folds": (200, {"x-a": "1 2 3, 4", "content-length": "2"}, b"{}", True),
    "bare": (200, {"content-length": "8", "x-b": "b"}, b"{}\r\n\r\n{}", True),
}


@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_in_one_piece(name: str) -> None:
    assert exchange([REPLIES[name]]) == WANTED[name]


@pytest.mark.parametrize("name", sorted(set(REPLIES) - {"length and more"}))
def test_a_reply_byte_by_byte_is_the_same(name: str) -> None:
    assert exchange(bytes([byte]) for byte in REPLIES[name]) == WANTED[name]


@given(st.sampled_from(sorted(set(REPLIES) - {"length and more"})), st.lists(st.integers(0, 400), max_size=12))
def test_any_cutting_into_pieces_gives_the_same_reply(name: str, cuts: list[int]) -> None:
    assert exchange(pieces_of(REPLIES[name], cuts)) == WANTED[name]


@given(PARTS, st.sampled_from([b"", b";a", b'; a="b"', b" "]), st.lists(st.integers(0, 400), max_size=9), st.booleans())
def test_any_chunks_come_out_as_they_went_in(parts: list[bytes], extra: bytes, cuts: list[int], trailer: bool) -> None:
    data = b"".join(b"%X%b\r\n%b\r\n" % (len(part), extra, part) for part in parts)
    data += b"0" + extra + (b"\r\nX-Sum: 1\r\n\r\n" if trailer else b"\r\n\r\n")
    first, rest = source(pieces_of(data, cuts))
    taken: list[bytes] = []
    assert yield_all(chunked(first, lambda: next(rest, b"")), taken) is True
    assert b"".join(taken) == b"".join(parts)


def test_chunks_that_arrive_together_are_passed_on_together_without_waiting() -> None:
    def wait() -> bytes:
        pytest.fail("waited for more before handing on what had come")

    body = chunked(b"3\r\nabc\r\n2\r\nde\r\n5\r\nfg", wait)
    assert next(body) == b"abcdefg"


@pytest.mark.parametrize("size", [b"-5", b"+5", b"0x5", b"5_0", b"", b"g", b"5 5", b"1" * 17, b";x", b"\xb2"])
def test_an_invalid_chunk_size_is_refused(size: bytes) -> None:
    with pytest.raises(CutError) as caught:
        yield_all(chunked(size + b"\r\nabcde\r\n0\r\n\r\n", lambda: b""), [])
    assert "chunk" in caught.value.detail


def test_a_size_line_without_end_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(CutError):
        yield_all(chunked(b"5;", lambda: b"x" * 1000), [])


def test_endless_trailers_end_the_connection_but_not_the_reply() -> None:
    taken: list[bytes] = []
    assert yield_all(chunked(b"2\r\n{}\r\n0\r\n", lambda: b"X-Trailer: x\r\n"), taken) is False
    assert taken == [b"{}"]


def test_a_body_is_complete_if_the_connection_ends_after_the_last_chunk() -> None:
    assert yield_all(chunked(b"2\r\n{}\r\n0\r\n", lambda: b""), []) is False


@pytest.mark.parametrize("length", ["-2", "+2", "2 2", "0x2", "", "two", "2, 3", "2,", "9" * 19, "9" * 5000, "²"])
def test_an_invalid_content_length_is_refused(length: str) -> None:
    with pytest.raises(ReplyError) as caught:
        framed("POST", 200, {"content-length": length}, b"{}", lambda: b"")
    assert caught.value.detail == "content-length"


def test_repeated_equal_content_lengths_count_as_one() -> None:
    assert exchange([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length:2\r\n\r\n{}"])[2:] == (b"{}", True)


def test_chunked_wins_over_a_length() -> None:
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    assert exchange([reply])[2] == b"{}"


def test_a_transfer_coding_that_was_not_asked_for_is_refused() -> None:
    with pytest.raises(ReplyError) as caught:
        exchange([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"])
    assert "gzip" in caught.value.detail


@pytest.mark.parametrize("status", [204, 304])
def test_some_statuses_have_no_body_whatever_their_fields_say(status: int) -> None:
    reply = b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n" % status
    assert exchange([reply])[2:] == (b"", True)


def test_an_answer_to_head_has_no_body() -> None:
    assert exchange([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"], "HEAD")[2:] == (b"", True)


@pytest.mark.parametrize(
    "start",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"<html>",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_bytes_that_are_not_http_are_refused_as_soon_as_they_arrive(start: bytes) -> None:
    def wire() -> Iterator[bytes]:
        yield start
        pytest.fail("waited for more")

    with pytest.raises(ReplyError, match="not valid HTTP"):
        exchange(wire())


def test_an_answer_in_tls_is_recognized_as_tls() -> None:
    with pytest.raises(TlsError):
        exchange([b"\x15\x03\x03\x00\x02\x02\x50"])


def test_a_head_without_end_is_refused_before_it_fills_the_memory() -> None:
    def wire() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n"
        while True:
            yield b"X-Header: x\r\n" * 1000

    with pytest.raises(ReplyError, match="not valid HTTP"):
        exchange(wire())


@pytest.mark.parametrize("size", [1, 100, 100_000])
def test_answers_that_announce_another_are_refused_before_they_take_long_by_their_number(size: int) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"
    wire = iter(lambda: interim * size, b"")
    with pytest.raises(ReplyError, match="not valid HTTP"):
        exchange(wire)
    assert exchange([interim * 9 + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"])


def test_a_head_that_is_too_large_is_refused_in_one_piece_too() -> None:
    with pytest.raises(ReplyError, match="not valid HTTP"):
        exchange([b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * MAX_HEAD + b"\r\n\r\n"])


def test_too_many_fields_are_refused() -> None:
    head = b"HTTP/1.1 200 OK" + b"".join(b"\r\nX-%d: x" % number for number in range(MAX_FIELDS))
    assert len(parse_head(head)[2]) == MAX_FIELDS
    with pytest.raises(ReplyError) as caught:
        parse_head(head + b"\r\nX: x")
    assert str(MAX_FIELDS) in caught.value.detail


@given(st.binary(max_size=80))
def test_random_bytes_are_parsed_as_a_head_or_refused(data: bytes) -> None:
    try:
        status, minor, fields = parse_head(b"HTTP/1.1 " + data)
    except ReplyError:
        return
    assert 100 <= status < 1000
    assert minor == 1
    assert all(name == name.lower() for name in fields)


@given(st.binary(max_size=200))
def test_random_bytes_end_in_a_reply_or_in_an_error_of_ours(data: bytes) -> None:
    try:
        exchange([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data])
        exchange([b"HTTP/1.1 200 OK\r\n" + data])
    except ConnectorError:
        pass


def test_a_connection_that_dies_before_the_head_is_distinguished_from_one_that_dies_in_it() -> None:
    with pytest.raises(ConnectionError):
        exchange([])
    with pytest.raises(CutError):
        exchange([b"H"])
    with pytest.raises(CutError):
        exchange([b"HTTP/1.1 100 Continue\r\n\r\n"])


def deflated(data: bytes, coding: str) -> bytes:
    engine = zlib.compressobj(wbits={"gzip": 31, "deflate": 15, "raw": -15}[coding])
    return engine.compress(data) + engine.flush()


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "raw"]), st.lists(st.integers(0, 400), max_size=9))
def test_compressed_data_comes_out_whole_however_it_is_cut(data: bytes, coding: str, cuts: list[int]) -> None:
    pieces = pieces_of(deflated(data, coding), cuts)
    assert b"".join(inflated(iter(pieces), "gzip" if coding == "gzip" else "deflate")) == data


@pytest.mark.parametrize("coding", ["gzip", "deflate", "raw"])
@pytest.mark.parametrize("size", [PIECE - 1, PIECE, PIECE + 1, 40 * PIECE])
def test_decompression_goes_in_bounded_steps(coding: str, size: int) -> None:
    steps = list(inflated(iter([deflated(b"x" * size, coding)]), "gzip" if coding == "gzip" else "deflate"))
    assert sum(map(len, steps)) == size
    assert max(map(len, steps)) <= PIECE


def test_gzip_may_have_several_members() -> None:
    assert b"".join(inflated(iter([gzip.compress(b"one ") + gzip.compress(b"two")]), "x-gzip")) == b"one two"


def test_members_with_hardly_a_byte_are_refused_before_they_take_long_by_their_number() -> None:
    for content in (b"", b"x"):
        pieces = iter([gzip.compress(content) * 1000] * 1000)
        with pytest.raises(ReplyError, match="its members are empty"):
            list(inflated(pieces, "gzip"))
        assert len(list(pieces)) > 990
    events = [gzip.compress(b"x" * 100)] * 5000
    assert len(b"".join(inflated(iter(events), "gzip"))) == 500_000


def test_compressed_data_without_an_end_is_yielded_and_then_reported_as_cut() -> None:
    engine = zlib.compressobj(wbits=31)
    start = engine.compress(b"partial") + engine.flush(zlib.Z_SYNC_FLUSH)
    steps = inflated(iter([start]), "gzip")
    assert next(steps) == b"partial"
    with pytest.raises(CutError):
        next(steps)


def test_damaged_compressed_data_is_refused() -> None:
    with pytest.raises(ReplyError, match="decompressed"):
        list(inflated(iter([b"this is no gzip"]), "gzip"))


def test_empty_data_is_not_damaged() -> None:
    assert list(inflated(iter([]), "gzip")) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Key", "secret\r\nX-Evil: 1"),
        ("X-Key", "secret\n"),
        ("X-Key", "secret\r"),
        ("X-Key", "secret\0"),
        ("X-Key", "secret \u2028"),
        ("X-secret: 1\r\nX", "v"),
        ("X secret", "v"),
        ("", "secret"),
        ("secret\n", "v"),
        ("sécret", "v"),
    ],
)
def test_a_header_that_could_inject_another_is_refused_without_being_shown(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Headers({"Accept": "*/*", name: value})
    assert "headers" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_headers_are_rendered_once_the_last_of_a_name_wins_and_none_shows_in_the_repr() -> None:
    headers = Headers({"Accept": "a", "authorization": "Bearer old", "Authorization": "Bearer ö\t1"})
    assert headers.text == "Accept: a\r\nAuthorization: Bearer ö\t1\r\n"
    assert "Bearer" not in repr(headers)


def test_headers_know_their_names_in_any_case_and_no_other() -> None:
    headers = Headers({"Content-Type": "a", "x-id": "b"})
    assert "content-type" in headers
    assert "X-ID" in headers
    assert "Content-Length" not in headers


def test_a_deadline_counts_down_and_then_raises() -> None:
    now = [100.0]
    deadline = Deadline(5.0, connect=2.0, monotonic=lambda: now[0])
    assert deadline.left() == 5.0
    now[0] = 104.0
    assert deadline.to_connect().left() == 1.0
    now[0] = 105.0
    with pytest.raises(APITimeoutError, match=r"no complete reply within 5 s: raise config\.timeout"):
        deadline.left()


def test_each_connection_gets_its_own_share_of_a_deadline() -> None:
    now = [100.0]
    part = Deadline(5.0, connect=2.0, monotonic=lambda: now[0]).to_connect()
    assert part.left() == 2.0
    now[0] = 102.0
    with pytest.raises(APITimeoutError, match="no connection within 2 s"):
        part.left()
