"""Secrets stay secret: known ones exactly, others by their look."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from connector.base.masking import MASK, Masker

KEY = "a1b2c3-Very.Secret/+=key"


def test_a_known_secret_is_masked_wherever_it_is() -> None:
    mask = Masker([KEY])
    assert mask(KEY) == MASK
    assert mask(f"key={KEY}, again {KEY}{KEY}!") == f"key={MASK}, again {MASK}{MASK}!"


@given(st.text(min_size=4), st.text(), st.text())
def test_no_known_secret_is_ever_left(secret: str, before: str, after: str) -> None:
    assume(secret not in MASK * 3)
    assert secret not in Masker([secret])(f"{before}{secret}{after}").replace(MASK, "")


def test_of_secrets_within_one_another_the_longest_counts() -> None:
    assert Masker(["secret", "secret-and-more"])("secret-and-more secret") == f"{MASK} {MASK}"


def test_what_is_too_short_to_be_a_secret_or_none_masks_nothing() -> None:
    assert Masker([None, "", "abc"])("abc and no secret") == "abc and no secret"


@pytest.mark.parametrize(
    "key",
    [
        "sk-1234567890abcdef",
        "sk-proj-Ab_Cd-1234",
        "sk-ant-api03-xyz",
        "sk_live_1234",
        "gsk_1234567890",
        "xai-1234567890",
        "hf_1234567890",
        "nvapi-1234567890",
        "pk-lf-1234",
        "AIzaSyA1234567890",
        "sk-12345*****cdef",
        "sk-1234...cdef",
        "sk-…cdef",
        "sk-********************cdef",
    ],
)
def test_what_looks_like_a_key_is_masked_unknown_or_in_part(key: str) -> None:
    for around in ("{}", "Incorrect API key provided: {}.", '"{}"', "({})", "key={}&x=1"):
        masked = Masker()(around.format(key))
        assert key.rstrip("*.…")[:7] not in masked
        assert "cdef" not in masked
        assert MASK in masked


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_a_bearer_token_of_any_look_is_masked(scheme: str) -> None:
    assert Masker()(f"{scheme} eyJhbGciOiJIUzI1NiJ9.e30.abc_-123 was refused") == f"{scheme} {MASK} was refused"


@pytest.mark.parametrize(
    "text",
    [
        "Send a Bearer token in the Authorization header",
        "Bearer authentication is required",
        "the task-specific disk-usage of risk-taking",
        "the model gpt-4o-mini does not exist",
        "",
        "HTTP 500: café 🙂",
    ],
)
def test_other_words_stay(text: str) -> None:
    assert Masker([KEY])(text) == text


def test_what_it_knows_is_not_in_its_repr() -> None:
    assert KEY not in repr(Masker([KEY]))
