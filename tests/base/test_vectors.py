"""Base64 on its way to vectors."""

from __future__ import annotations

import base64
from binascii import a2b_base64

from hypothesis import example, given
from hypothesis import strategies as st

from connector.base.vectors import unpacked

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
