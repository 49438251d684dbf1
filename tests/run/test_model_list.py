"""The list of models is read in any shape that servers give it, to its last page, and shown."""

from __future__ import annotations

import json
from contextlib import closing
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector import cli
from connector.base.clock import Clock
from connector.base.errors import APITimeoutError, BadRequestError, RateLimitError, ReplyError
from connector.base.masking import Masker
from connector.config.config import Config
from connector.http.transport import Settings, Transport
from connector.run.model_list import Model, models, models_in, paged
from connector.run.runtime import transport_of
from tests.check.helpers import answer
from tests.endpoint import Action, Call, Endpoint


@pytest.mark.parametrize(
    "body",
    [
        {"object": "list", "data": [{"id": "a"}, {"id": "b"}]},
        {"models": [{"name": "a"}, {"model": "b"}]},
        [{"id": "a"}, {"id": "b"}],
        ["a", "b"],
        {"data": {"models": [{"id": "a"}, {"id": "b"}, {"no": "id"}, 7]}},
    ],
)
def test_the_shapes_of_servers_are_understood(body: Any) -> None:
    assert [each.id for each in models_in(body)] == ["a", "b"]


def test_owner_and_time_are_taken_under_any_of_their_names() -> None:
    body = [
        {"id": "a", "object": "model", "created": 1700000000, "owned_by": "x"},
        {"id": "b", "created_at": "2023-11-14T22:13:20Z", "organization": "y"},
        {"id": "c", "created": "long ago", "owned_by": None},
    ]
    assert models_in(body) == [
        Model("a", "x", 1700000000, "model"),
        Model("b", "y", 1700000000),
        Model("c"),
    ]


@pytest.mark.parametrize("body", [None, 1, "text", {}, {"data": None}, {"error": {"message": "no"}}])
def test_a_reply_that_is_not_a_list_is_reported(body: Any) -> None:
    with pytest.raises(BadRequestError, match="no list of models"):
        models_in(body)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_json_is_a_list_or_reported_as_none(body: Any) -> None:
    try:
        assert all(each.id for each in models_in({"data": body}))
    except BadRequestError:
        assert not isinstance(body, list)


def test_an_endless_list_ends_once_nothing_new_comes() -> None:
    pages: list[str] = []

    def get(url: str) -> Any:
        pages.append(url)
        return {"data": [{"id": "a"}], "has_more": True, "last_id": "a"}

    assert [each.id for each in paged(get, "http://h/models")] == ["a"]
    assert len(pages) == 2


@pytest.mark.parametrize(
    "link", ["http://elsewhere/models?page=2", "https://h/models", "http://[::1", "//h:x/models", "http://h@[/"]
)
def test_a_list_is_never_continued_at_another_server(link: str) -> None:
    assert len(list(paged(lambda _: {"data": [{"id": "a"}], "next": link}, "http://h/models"))) == 1


def paging(call: Call) -> Any:
    if "after=b" in call.path:
        return answer(200, {"data": [{"id": "c", "owned_by": "x", "created": 1700000000}], "has_more": False})
    return answer(200, {"data": [{"id": "a"}, {"id": "b"}], "has_more": True, "last_id": "b"})


def test_models_lists_all_pages(capsys: pytest.CaptureFixture[str]) -> None:
    with Endpoint(paging) as endpoint:
        assert cli.run(["models", "--url", endpoint.url]) == 0
        assert capsys.readouterr().out.split() == [
            *("id", "owner", "created"),
            *("a", "-", "-"),
            *("b", "-", "-"),
            *("c", "x", "2023-11-14"),
        ]
        assert cli.run(["models", "--url", endpoint.url, "--format", "json"]) == 0
    assert [each["id"] for each in json.loads(capsys.readouterr().out)] == ["a", "b", "c"]


def test_half_of_a_character_in_a_name_is_replaced() -> None:
    with Endpoint(lambda _: answer(200, {"data": [{"id": "a\ud800", "owned_by": "\udfff"}]})) as endpoint:
        config = Config.load({"url": endpoint.url, "model": "m", "prompt": "x"})
        with closing(transport_of(config, Masker([]))) as transport:
            assert models(transport, config.models_url, Masker([]), Clock()) == [Model("a\ufffd", "\ufffd")]


def test_a_server_without_a_list_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with Endpoint(lambda _: answer(404, {"detail": "Not Found"})) as endpoint:
        assert cli.run(["models", "--url", endpoint.url]) == 3
    assert "nothing answers at this URL" in capsys.readouterr().err


def test_all_pages_share_one_deadline_and_one_size() -> None:
    """A server that always has another page, each in time and small enough by itself."""
    now = [0.0]

    def another(call: Call) -> Action:
        now[0] += 4.0
        page = {"data": [{"id": f"{call.path}-{now[0]}-{number}"} for number in range(100)], "has_more": True}
        return answer(200, {**page, "last_id": f"{now[0]}"})

    def listed(settings: Settings) -> list[Model]:
        with closing(Transport(settings, monotonic=lambda: now[0])) as transport:
            return models(transport, f"{endpoint.base_url}/models", Masker(), Clock())

    with Endpoint(script=another) as endpoint:
        with pytest.raises(APITimeoutError):
            listed(Settings(timeout=10))
        assert len(endpoint.journal.calls) <= 3
        with pytest.raises(ReplyError, match="the list of models is larger than max_response_bytes = 20000"):
            listed(Settings(timeout=1e6, max_response_bytes=20_000))


def test_a_list_that_would_take_far_more_memory_than_it_has_bytes_is_refused() -> None:
    with (
        Endpoint(lambda _: answer(200, {"data": [{}] * 40_000})) as endpoint,
        closing(Transport(Settings(max_response_bytes=200_000))) as transport,
        pytest.raises(ReplyError, match="too many values"),
    ):
        models(transport, f"{endpoint.base_url}/models", Masker(), Clock())


def test_a_list_that_is_limited_until_a_date_says_how_long_from_now() -> None:
    until = f"retry-after: {formatdate(1_700_000_030, usegmt=True)}"
    clock = Clock(time=lambda: 1_700_000_000.0)
    with Endpoint(lambda _: answer(429, {"error": "slow down"}, "application/json", until)) as endpoint:
        config = Config.load({"url": endpoint.url, "model": "m", "prompt": "x"})
        with closing(transport_of(config, Masker())) as transport, pytest.raises(RateLimitError) as limited:
            models(transport, config.models_url, Masker(), clock)
    assert limited.value.wait == 30
