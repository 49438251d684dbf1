"""A key is held against the provider that the URL points to, before it is sent anywhere."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector import Config
from connector.base.masking import Masker
from connector.check._address import candidates
from connector.check._key import problem
from connector.check._model import near
from connector.check._providers import PROVIDERS, provider_of_host
from connector.endpoints import load

GROQ, OPENAI = "https://api.groq.com/openai/v1", "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"url": OPENAI, "api_key": "sk-ant-api03-abcdefgh"}, "url to https://api.anthropic.com/v1"),
        ({"url": GROQ, "api_key": "hf_abcdefgh12345678"}, "url points to Groq, so it was not sent"),
        ({"url": GROQ, "api_key": "sk-abcdefgh12345678"}, "keys of Groq begin with gsk"),
        ({"url": "https://openrouter.ai/api/v1", "api_key": "xai-abcdefgh1234"}, "one of xAI's"),
        ({"url": OPENAI}, "OpenAI needs one (its keys begin with sk)"),
        ({"url": "https://api.mistral.ai/v1"}, "Mistral needs one: set api_key"),
    ],
)
def test_a_key_of_another_provider_is_not_sent(options: dict[str, Any], told: str) -> None:
    found = problem(Config(**options))
    assert found is not None
    assert told in found
    assert str(options.get("api_key", "none")) not in found
    assert Masker()(found) == found


@pytest.mark.parametrize(
    "options",
    [
        {"url": OPENAI, "api_key": "sk-proj-abcdefgh"},
        {"url": "https://api.deepseek.com/v1", "api_key": "sk-abcdefgh"},
        {"url": "http://localhost:4000/v1", "api_key": "sk-ant-api03-abcdefgh"},
        {"url": "http://localhost:4000/v1"},
        {"url": OPENAI, "headers": {"Authorization": "Bearer x"}},
        {"url": GROQ, "query": {"key": "x"}},
        {"url": "https://notopenai.com/v1"},
    ],
)
def test_what_may_well_be_right_is_left_to_the_endpoint(options: dict[str, Any]) -> None:
    assert problem(Config(**options)) is None


@given(st.sampled_from(PROVIDERS))
def test_every_provider_is_found_by_the_host_of_its_url(provider: Any) -> None:
    assert provider_of_host(provider.base_url.split("/")[2]) == provider


def test_the_likeliest_url_comes_first_and_the_given_one_never() -> None:
    found = list(candidates("https://h/v1/v1/chat/completions", "chat"))
    assert found[0] == "https://h/v1/chat/completions"
    assert "https://h/v1/v1/chat/completions" not in found
    assert len(found) == len(set(found))
    assert next(candidates("https://openrouter.ai/v1", "chat")) == "https://openrouter.ai/api/v1/chat/completions"


@given(st.text(alphabet="/v12chatompleins.", max_size=40), st.sampled_from(["chat", "embeddings"]))
def test_candidates_stay_on_the_server_whatever_the_path(path: str, kind: str) -> None:
    for url in candidates(f"http://h:1/{path}", kind):
        assert url.startswith("http://h:1/")
        assert url.endswith("/chat/completions" if kind == "chat" else "/embeddings")


def test_near_models_are_of_the_right_kind() -> None:
    offered = ["gpt-4o", "gpt-4o-mini", "text-embedding-3-small", "whisper-1"]
    assert near("gpt4o", offered, "chat") == "did you mean gpt-4o, gpt-4o-mini?"
    assert near("text-embed-3", offered, "embeddings") == "did you mean text-embedding-3-small?"
    assert near("zephyr", [], "chat") == ""
    assert (
        load("chat").other_purpose("gpt-4o"),
        load("embeddings").other_purpose("gpt-4o"),
        load("chat").other_purpose("whisper-1"),
    ) == (
        None,
        "chat",
        "audio",
    )
