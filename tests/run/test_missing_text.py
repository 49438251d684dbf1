"""A row that has null where the endpoint wants a text or a picture is an error before anything is sent."""

from __future__ import annotations

from typing import Any, Final

import pytest

from connector import Config
from connector.base.errors import TemplateError
from connector.base.records import Record
from connector.base.values import dumps
from connector.endpoints import KINDS, load
from connector.run.plan import Plan

X: Final = "{{ text }}"
PLACES: Final[tuple[tuple[str, dict[str, Any], str], ...]] = (
    ("chat", {"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": X}]}, "messages[1].content"),
    ("chat", {"messages": [{"role": "user", "content": [{"type": "text", "text": X}]}]}, "messages[0].content[0].text"),
    ("chat", {"messages": [{"role": "assistant", "content": X}]}, "messages[0].content"),
    *(
        (
            "chat",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, part]}]},
            f"messages[0].content[1].{path}",
        )
        for part, path in (
            ({"type": "image_url", "image_url": X}, "image_url"),
            ({"type": "image_url", "image_url": {"url": X, "detail": "low"}}, "image_url.url"),
            ({"type": "input_audio", "input_audio": {"data": X, "format": "wav"}}, "input_audio.data"),
        )
    ),
    ("completions", {"prompt": X}, "prompt"),
    ("completions", {"prompt": ["a", X]}, "prompt[1]"),
    ("embeddings", {"input": X}, "input"),
    ("embeddings", {"input": [X]}, "input[0]"),
    ("moderations", {"input": X}, "input"),
    ("moderations", {"input": [{"type": "text", "text": X}]}, "input[0].text"),
    ("moderations", {"input": [{"type": "image_url", "image_url": {"url": X}}]}, "input[0].image_url.url"),
    ("images", {"prompt": X}, "prompt"),
    ("image_edits", {"prompt": X}, "prompt"),
    *(
        (kind, body, path)
        for kind in ("responses", "realtime")
        for body, path in (
            ({"input": X}, "input"),
            ({"input": [{"role": "user", "content": X}]}, "input[0].content"),
            (
                {"input": [{"content": "a"}, {"role": "user", "content": [{"type": "input_text", "text": X}]}]},
                "input[1].content[0].text",
            ),
            ({"input": [{"content": [{"type": "input_image", "image_url": X}]}]}, "input[0].content[0].image_url"),
        )
    ),
)
LEGITIMATE: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("chat", {"messages": [{"role": "user", "content": "a"}], "stop": X, "user": X, "temperature": X}),
    ("chat", {"messages": [{"role": "assistant", "content": X, "tool_calls": []}]}),
    ("responses", {"input": [{"content": [{"type": "input_image", "image_url": X, "file_id": "f"}]}]}),
    ("responses", {"input": "a", "instructions": X}),
    ("completions", {"prompt": "a", "suffix": X}),
    ("embeddings", {"input": "a", "dimensions": X}),
)
NULLS: Final[dict[str, Any]] = {"None": None, "NaN": float("nan")}


def requests(kind: str, body: Any) -> Any:
    path = load(kind).PATH
    return Plan(Config(url=f"http://localhost/v1{path}", endpoint=kind, request_format=body)).requests


def test_the_table_has_every_kind() -> None:
    assert {kind for kind, _, _ in PLACES} == set(KINDS)


@pytest.mark.parametrize("null", NULLS.values(), ids=NULLS)
@pytest.mark.parametrize(("kind", "body", "path"), PLACES)
def test_null_where_a_text_or_an_image_is_required_is_an_error_of_the_row(
    kind: str, body: Any, path: str, null: Any
) -> None:
    made = requests(kind, body)
    with pytest.raises(TemplateError) as caught:
        made.call(Record(0, {"text": null}))
    assert caught.value.message == (
        f'request_format.{path}: column "text" is null; {{{{ text | default("…") }}}} says what to send instead'
    )
    assert made.body({"text": "a"})


@pytest.mark.parametrize(("kind", "body"), LEGITIMATE)
def test_elsewhere_null_stays_null(kind: str, body: Any) -> None:
    assert requests(kind, body).body({"text": None}) == dumps(_with_null(body))


def test_a_null_from_a_template_of_json_text_is_an_error_too() -> None:
    made = requests("chat", '{"messages": [{% for t in texts %}{"role": "user", "content": {{ t }}}{% endfor %}]}')
    assert made.body({"texts": ["a"]})
    with pytest.raises(TemplateError, match=r"request_format.messages\[0\].content is null, but the endpoint needs"):
        made.body({"texts": [None]})


def test_what_is_not_a_request_of_the_kind_is_left_to_the_endpoint() -> None:
    for kind in KINDS:
        for body in (
            {"messages": 1, "input": 2, "prompt": 3},
            {"messages": [1, {}], "input": [[1], {}], "prompt": [[]]},
        ):
            assert load(kind).missing_text(body) is None


def _with_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_null(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_null(each) for each in value]
    return None if value == X else value
