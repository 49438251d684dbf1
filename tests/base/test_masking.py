"""Secrets stay secret: known ones exactly, others by their look."""

from __future__ import annotations

import pickle
from base64 import b64encode, urlsafe_b64encode

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from connector.base.masking import MASK, Masker, is_word, passwords_in, secrets_of_header, spellings

KEY = "a1b2c3-Very.Secret/+=key"


def test_a_known_secret_is_masked_wherever_it_is() -> None:
    mask = Masker([KEY])
    assert mask(KEY) == MASK
    assert mask(f"key={KEY}, again {KEY}{KEY}!") == f"key={MASK}, again {MASK}{MASK}!"


@given(st.text(min_size=4), st.text(), st.text())
def test_no_known_secret_is_ever_left(secret: str, before: str, after: str) -> None:
    assume(secret not in MASK * 3 and not is_word(secret))
    assert secret not in Masker([secret])(f"{before}{secret}{after}").replace(MASK, "")


def test_of_secrets_within_one_another_the_longest_counts() -> None:
    assert Masker(["secret7", "secret7-and-more"])("secret7-and-more secret7") == f"{MASK} {MASK}"


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


@pytest.mark.parametrize(
    ("name", "value", "secrets"),
    [
        ("x-portkey-provider", "openai", []),
        ("anthropic-version", "2023-06-01", []),
        ("HTTP-Referer", "https://example.com", []),
        ("X-Title", "Reviews of our customers", []),
        ("Authorization", "Bearer abcd1234efgh", ["Bearer abcd1234efgh", "abcd1234efgh"]),
        ("X-Api-Key", "abcd1234", ["abcd1234", "abcd1234"]),
        ("Cookie", "session=abcd1234efgh; theme=dark", ["session=abcd1234efgh; theme=dark", "abcd1234efgh"]),
        ("X-Team", "a1b2c3d4e5f6g7h8i9", ["a1b2c3d4e5f6g7h8i9"]),
        ("X-Team", "team sk-abcd1234", ["team sk-abcd1234"]),
    ],
)
def test_a_header_is_secret_by_what_it_is_called_or_looks_like(name: str, value: str, secrets: list[str]) -> None:
    assert list(secrets_of_header(name, value)) == secrets


@pytest.mark.parametrize("word", ["ollama", "EMPTY", "none", "openai", "lm-studio", "sk-no-key-required"])
def test_a_word_that_is_sent_as_a_key_is_still_a_word(word: str) -> None:
    sentence = f"the {word} error came from {word}.com"
    assert Masker([word])(sentence) == Masker()(sentence)
    assert Masker([word]).value({"content": sentence}) == {"content": sentence}


def test_a_known_secret_is_masked_in_every_spelling() -> None:
    mask = Masker([KEY])
    for spelling in spellings(KEY):
        assert mask(f"<{spelling}>") == f"<{MASK}>"
        assert mask.value({spelling: ["x", spelling, 1]}) == {MASK: ["x", MASK, 1]}
        assert mask.fields({"a": f"b {spelling}", "c": "d"}) == {"a": f"b {MASK}", "c": "d"}


def test_a_known_secret_is_masked_in_every_spelling_in_a_large_reply_as_well() -> None:
    mask, vector = Masker([KEY]), "A" * (1 << 16)
    for spelling in spellings(KEY):
        value = {"data": [{"embedding": vector}, {"embedding": f"{vector}{spelling}{vector}"}]}
        assert mask.value(value, orjson.dumps(value))["data"][1] == {"embedding": f"{vector}{MASK}{vector}"}


def escapes(character: str) -> list[str]:
    """A character as it is, and as JSON, URLs and HTML may have it, in JSON or a URL within another one too."""
    code = ord(character)
    url, entities = f"%{code:02X}", (f"&#{code};", f"&#x{code:02x};", f"&#x{code:X};", f"&amp;#{code};")
    in_json = [f"{slashes}{form}{code:02x}" for slashes in ("\\", "\\\\") for form in ("u00", "x")]
    return [character, url, url.lower(), f"%25{code:02X}", *entities, *in_json, *(["\\/"] if character == "/" else [])]


@given(
    st.tuples(*(st.sampled_from(escapes(character)) for character in KEY)).map("".join),
    *(st.lists(st.sampled_from(["a", "%", "%4", "\\", "&", "&amp;", "%41", "\\u0041", "é", " "])),) * 2,
)
def test_a_known_secret_is_masked_whichever_of_its_characters_are_escaped(
    secret: str, before: list[str], after: list[str]
) -> None:
    """A nested text is decoded again: the arguments of a tool call would show the key as a column."""
    start, end = "".join(before) + " ", " " + "".join(after) + " "
    mask = Masker([KEY])
    assert mask(f"{start}{secret}{end}{secret}.") == f"{start}{MASK}{end}{MASK}."
    value = {"arguments": start + secret}
    assert mask.value(value, orjson.dumps(value)) == {"arguments": start + MASK}
    assert mask.fields({"a": secret}) == {"a": MASK}
    assert mask.cut(f"{secret}{end}", len(secret) - 1) in ("", MASK, mask(f"{secret}{end}")[: len(secret) - 1])


@given(st.binary(max_size=9), st.binary(max_size=9))
def test_a_known_secret_is_masked_within_whatever_is_encoded_with_it(before: bytes, after: bytes) -> None:
    for encode in (b64encode, urlsafe_b64encode, bytes.hex):
        text = encode(before + KEY.encode() + after)
        assert MASK in Masker([KEY])(text if isinstance(text, str) else text.decode())


@given(st.text("ab-", max_size=40), st.integers(0, 60), st.integers(1, 5))
def test_no_cut_leaves_half_a_secret(before: str, most: int, times: int) -> None:
    cut = Masker([KEY]).cut(before + KEY * times + "and so on", most)
    assert len(cut) <= most
    assert KEY[:3] not in cut


def test_masking_leaves_a_value_without_secrets_as_it_is() -> None:
    value = {"content": "fine", "big": 2**80, "list": [1.5, None, True]}
    assert Masker([KEY]).value(value) == value


def test_a_copy_in_another_process_masks_the_same() -> None:
    assert pickle.loads(pickle.dumps(Masker([KEY])))(f"{KEY}") == MASK


def test_the_user_of_a_database_is_not_a_password_and_that_of_a_web_server_may_be_a_key() -> None:
    assert not any(passwords_in(["postgresql://postgres@host/postgres"]))
    assert "fiRstPart9" in passwords_in(["https://fiRstPart9@host/v1"])
    assert "fiRstPart9" in passwords_in(["postgresql:fiRstPart9@host/shop"])
    for url in ("mysql://root@fiRstPart9@host/shop", "mysql://root%3AfiRstPart9@host/shop"):
        assert "fiRstPart9" not in Masker(passwords_in([url]))(url)


@pytest.mark.parametrize("url", ["postgresql://u:fiRstPart9@secondPart7 z", "postgresql://u:fiRstPart9@ secondPart7"])
def test_a_password_with_a_blank_behind_its_at_sign_is_masked_whole(url: str) -> None:
    shown = Masker(passwords_in([url]))(f"failed to resolve host 'secondPart7 z', ' secondPart7': {url}")
    assert "fiRstPart9" not in shown
    assert "secondPart7" not in shown
