"""Each stream has its own plan: which ones gain columns, with which options, and what a wrong one is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from connector import ConfigError, Connector
from connector.base.records import IDLE, Idle, Message, Outcome, Record
from connector.run.transform import Transform
from tests.endpoint import Endpoint, answer_to

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "Base {{ text }}"}]}
SCHEMA = {"type": "object", "properties": {"mood": {"type": "string", "enum": ["good", "bad"]}}}


def transform(**config: Any) -> Transform:
    return Connector({"model": "m", "prompt": "{{ text }}", "metadata": "none", "cache": "none", **config}).transform()


def columns(found: dict[str, Any] | None) -> list[str] | None:
    return None if found is None else list(found)


@pytest.mark.parametrize(
    ("streams", "gaining"),
    [
        (None, {"reviews", "replies", "users"}),
        (["reviews"], {"reviews"}),
        ('["re*"]', {"reviews", "replies"}),
        ({"users": {}, "rep*": {"metadata": "none"}}, {"users", "replies"}),
    ],
)
def test_streams_are_named_by_name_or_glob(streams: Any, gaining: set[str]) -> None:
    made = transform(streams=streams)
    assert {name for name in ("reviews", "replies", "users") if made.open(name) is not None} == gaining


def test_a_stream_s_prompt_takes_the_model_of_the_environment_that_a_request_format_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "e")
    made = transform(model=None, prompt=None, request_format=REQUEST, streams={"s": {"prompt": "{{ text }}"}})
    assert made.open("s") is not None
    assert made.plan.requests.model == "e"


def test_a_name_goes_before_a_glob_and_the_first_glob_before_the_next() -> None:
    formats = {name: {"response_format": {name: "{{ content }}"}} for name in ("r*", "rev*", "reviews")}
    made = transform(streams=formats)
    assert [columns(made.open(name)) for name in ("reviews", "reviewers")] == [["reviews"], ["r*"]]


@pytest.mark.parametrize(
    ("base", "own", "gained"),
    [
        ({}, {}, ["content"]),
        ({"response_format": {"a": "{{ content }}"}}, {}, ["a"]),
        ({"response_format": {"a": "{{ content }}"}}, {"output_schema": SCHEMA}, ["mood"]),
        ({"response_format": {"a": "{{ content }}"}}, {"response_format": None}, ["content"]),
        ({"output_schema": SCHEMA}, {"response_format": '{"b": "{{ parsed.mood }}"}'}, ["b"]),
        ({}, {"metadata": "status"}, ["content", "_llm"]),
        ({"metadata": "full"}, {"metadata": "none"}, ["content"]),
    ],
)
def test_a_stream_s_own_options_replace_those_of_all(base: Any, own: Any, gained: list[str]) -> None:
    assert columns(transform(**base, streams={"s": own}).open("s", ["text"])) == gained


def test_every_gained_column_admits_null() -> None:
    found = transform(output_schema=SCHEMA, metadata="full").open("s", ["text"]) or {}
    assert found["mood"] == {"type": ["null", "string"], "enum": ["good", "bad", None]}
    assert found["_llm"]["type"] == ["null", "object"]


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"streams": []}, "streams: is neither a list of stream names nor an object"),
        ({"streams": "1"}, "streams: is neither a list of stream names nor an object"),
        ({"streams": [1]}, "streams: is neither a list of stream names nor an object"),
        ({"streams": {"a": 1}}, "streams: the options of 'a' are not an object"),
        ({"streams": "[a"}, "streams: is not JSON"),
        ({"streams": {"a": {"concurrency": 1}}}, "streams.a: concurrency: is not an option that a stream can have"),
        ({"streams": {"a": {"prompt": "{{"}, "b": {"metadata": "x"}}}, r"streams.a: prompt[^$]*\nstreams.b: metadata"),
        ({"streams": ["a"], "prompt": None}, "streams.a: request_format: is missing"),
        ({"streams": {"a": {"model": "x"}}, "request_format": REQUEST}, "streams.a: model: has no effect beside this"),
    ],
)
def test_what_is_wrong_with_a_stream_s_options_is_reported_at_once(config: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        transform(**config)


def test_a_missing_column_is_reported_for_the_stream_that_lacks_it() -> None:
    made = transform(streams=["a*"])
    assert made.open("b", ["id"]) is None
    with pytest.raises(ConfigError, match=r'stream "a1": .*there is no column "text" in the input; there are: id'):
        made.open("a1", ["id"])
    assert columns(made.open("a1")) == ["content"]


def given() -> Iterator[Record | Message | Idle]:
    for index in range(30):
        yield Message(index, b"m") if index % 3 else Record(index, {"text": f"row {index}"}, "s")
    yield IDLE
    raise ConfigError("broken")


def test_an_error_of_the_input_is_reported_after_everything_before_it(endpoint: Endpoint) -> None:
    made = transform(url=endpoint.base_url)
    made.open("s", ["text"])
    found: list[Outcome | Message] = []
    with pytest.raises(ConfigError, match="broken"):
        found.extend(each for each in made.run(given()) if not isinstance(each, Idle))
    assert [each.index if isinstance(each, Message) else each.record.index for each in found] == list(range(30))
    assert all(each.columns["content"] == answer_to(f"row {i}") for i, each in enumerate(found) if i % 3 == 0)  # type: ignore[union-attr]
    assert str(made.summary).startswith("10 rows")


def test_a_stream_that_never_comes_is_reported(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    made = transform(url=endpoint.base_url, streams=["s", "revuews"])
    made.open("s")
    assert all(isinstance(each, Idle) for each in made.run(iter(())))
    assert caplog.messages == ["streams: the input had no stream 'revuews'"]
