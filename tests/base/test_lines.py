"""Lines of a stream come as they come, and a pause of it is told."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator

import pytest

from connector.base.errors import ConfigError
from connector.base.lines import lines


def whole(found: Iterator[bytes | None]) -> list[bytes]:
    return [line for line in found if line is not None]


@pytest.mark.parametrize("sent", [b"", b"a\nb\n", b"a\n\nb", b"\n\n", b"\xe2\x80\xa8a\r\nb\n"])
def test_lines_end_at_line_feeds_alone_and_the_last_may_have_none(sent: bytes) -> None:
    expected = sent.removesuffix(b"\n").split(b"\n") if sent else []
    read, write = os.pipe()
    with open(read, "rb", buffering=0) as stream:  # noqa: PTH123 - a descriptor
        os.write(write, sent)
        os.close(write)
        assert whole(lines(stream)) == expected
    assert whole(lines(io.BytesIO(sent))) == expected


def test_a_pause_is_seen_and_what_comes_behind_it_is_whole() -> None:
    read, write = os.pipe()
    with open(read, "rb") as stream:  # noqa: PTH123 - a descriptor
        found = lines(stream)
        os.write(write, b"first\nsec")
        assert next(found) == b"first"
        assert next(found) is None
        os.write(write, b"ond\n")
        assert next(line for line in found if line is not None) == b"second"
        os.close(write)
        assert whole(found) == []


def test_a_line_may_be_longer_than_any_buffer() -> None:
    long = b"x" * 5_000_000
    read, write = os.pipe()
    with open(read, "rb") as stream, open(write, "wb") as target:  # noqa: PTH123 - descriptors
        writer = threading.Thread(target=target.write, args=[long + b"\nend\n"])
        writer.start()
        found = lines(stream)
        assert next(line for line in found if line) == long
        writer.join()
        target.close()
        assert whole(found) == [b"end"]


def test_a_line_without_end_is_refused_before_it_fills_the_memory() -> None:
    sent = b"short\n" + b"x" * 5_000
    read, write = os.pipe()
    os.write(write, sent)  # and is left open: more may come
    with open(read, "rb") as stream:  # noqa: PTH123 - a descriptor
        for each in (stream, io.BytesIO(sent)):
            found = lines(each, most=1_000)
            assert next(found) == b"short"
            with pytest.raises(ConfigError, match="a line of more than 1,000 bytes"):
                next(found)
    os.close(write)
