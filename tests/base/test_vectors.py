"""Base64 on its way to vectors, and replies that hold them as bytes."""

from __future__ import annotations

import base64
from binascii import a2b_base64
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connector.base.vectors import Packed, opened, packed_in, unpacked, with_vector

ENCODED = st.binary(max_size=12).map(lambda data: base64.b64encode(data).decode())
NEARLY = st.tuples(ENCODED, st.integers(0, 16), st.sampled_from([*'=-_/ \\"\né\0', ""])).map(
    lambda given: given[0][: given[1]] + given[2] + given[0][given[1] + 1 :]
)


def strictly(text: str) -> bytes | None:
    try:
        return a2b_base64(text, strict_mode=True)
    except ValueError:
        return None


@given(ENCODED | NEARLY)
@example("QR==")  # bits beyond the last byte
@example("QU\\/+")  # what JSON has escaped
@example("QU-_")  # of base64url
@example("\ud83d===")
def test_it_is_decoded_as_the_standard_library_decodes_it_or_refused_as_there(text: str) -> None:
    try:
        found: bytes | None = unpacked(text)
    except ValueError:
        found = None
    assert found == strictly(text)


@given(data=st.binary())
def test_a_reply_whose_vector_is_packed_is_opened_to_what_it_was(data: bytes) -> None:
    body = {"model": "m", "data": [{"index": 0, "embedding": base64.b64encode(data).decode()}]}
    packed = with_vector(body, Packed(data))
    assert packed_in(packed) == Packed(data)
    assert opened(packed) == body


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": None},
        {"data": []},
        {"data": "text"},
        {"data": ["text"]},
        {"data": [{}]},
        {"data": [{"embedding": "AACAPw=="}]},
        {"data": [{"embedding": [1.0]}]},
    ],
)
def test_a_reply_in_which_nothing_is_packed_stays_as_it_is(body: dict[str, Any]) -> None:
    assert packed_in(body) is None
    assert opened(body) is body
