"""Base64 on its way to vectors, and replies that hold them as bytes."""

from __future__ import annotations

import base64
import json
from binascii import a2b_base64
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connector.base.vectors import opened, packed, unpacked, vectors_in

ENCODED = st.binary(max_size=12).map(lambda data: base64.b64encode(data).decode())
NEARLY = st.tuples(ENCODED, st.integers(0, 16), st.sampled_from([*'=-_/ \\"\né\0', ""])).map(
    lambda given: given[0][: given[1]] + given[2] + given[0][given[1] + 1 :]
)


def strictly(text: str) -> bytes | None:
    """What the standard library makes of it; of the other alphabet, and without padding, only what it would write."""
    try:
        return a2b_base64(text, strict_mode=True)
    except ValueError:
        pass
    for signs in (b"+/", b"-_"):
        with suppress(ValueError):
            data = base64.b64decode(text.rstrip("=") + "==", signs)
            whole = base64.b64encode(data, signs).decode()
            if text in (whole, whole.rstrip("="), whole.removesuffix("=")):
                return data
    return None


@given(ENCODED | NEARLY)
@example("QR==")  # bits beyond the last byte
@example("QU\\/+")  # what JSON has escaped
@example("QU-_")  # of base64url
@example("QU+_")  # of both
@example("QQ")  # without padding
@example("\ud83d===")
def test_it_is_decoded_as_the_standard_library_decodes_it_in_either_alphabet_or_refused_as_there(text: str) -> None:
    try:
        found: bytes | None = unpacked(text)
    except ValueError:
        found = None
    assert found == strictly(text)


def reply_of(*texts: object) -> dict[str, Any]:
    """A reply with these vectors."""
    return {"object": "list", "data": [{"index": at, "embedding": text} for at, text in enumerate(texts)], "model": "m"}


@given(vectors=st.lists(st.binary(max_size=12), min_size=1, max_size=3))
def test_a_reply_of_packed_vectors_is_opened_to_what_it_was(vectors: list[bytes]) -> None:
    body = reply_of(*(base64.b64encode(each).decode() for each in vectors))
    found = packed(json.dumps(body))
    assert found == reply_of(*vectors)
    assert vectors_in(found) == vectors
    assert opened(found) == body


@pytest.mark.parametrize("other", ["no base64!", [0.5], None, 1, {}], ids=str)
def test_a_reply_is_packed_only_if_all_of_its_vectors_are_base64(other: object) -> None:
    with pytest.raises(ValueError, match="embedding"):
        packed(json.dumps(reply_of("AACAPw==", other)))


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
    assert vectors_in(body) == []
    assert opened(body) is body
