"""JSON in a model's text: behind thoughts, inside a fence, and never found where there is none."""

from __future__ import annotations

from typing import Any, Final

import pytest

from connector.base.decoding import DepthError
from connector.replies.json_text import json_in

ANSWER: Final = {"label": "positive"}
JSON: Final = '{"label": "positive"}'
THOUGHTS: Final = 'The draft {"label": "negative"} is wrong: ```json\n{"label": 1}\n```'
FENCED: Final = [JSON, f"```json\n{JSON}\n```", f"```\n{JSON}\n```", f"```JSON\n{JSON}```", f"```json{JSON}```"]


@pytest.mark.parametrize("answer", FENCED)
@pytest.mark.parametrize(
    "before",
    [
        "",
        f"<think>\n{THOUGHTS}\n</think>\n\n",
        f"{THOUGHTS}\n</think>\n",
        f"{JSON}</think>",
        f"<thinking>{THOUGHTS}</thinking>",
        f"<THINK>{THOUGHTS}</THINK>\n",
        f"<thought>{THOUGHTS}</thought>\n",
        f"<reasoning>{THOUGHTS}</reasoning>\n",
        f"<seed:think>{THOUGHTS}</seed:think>\n",
        f"◁think▷{THOUGHTS}◁/think▷",
        f"[THINK]{THOUGHTS}[/THINK]",
        "<think></think>\n\n",
        f"<think>one</think>\n<think>{THOUGHTS}</think>\n",
        f"<|channel|>analysis<|message|>{THOUGHTS}<|end|><|start|>assistant<|channel|>final<|message|>",
        f"<|channel|>analysis<|message|>{THOUGHTS}<|end|><|channel|>final <|constrain|>json<|message|>",
        "\ufeff",
    ],
)
def test_thoughts_before_the_json_and_a_fence_around_it_are_left_out(before: str, answer: str) -> None:
    assert json_in(f"{before}{answer}") == ANSWER
    assert json_in(f" \n{before}{answer}\n ") == ANSWER
    for token in ("<|im_end|>", "<|return|>", "<|endoftext|>"):
        assert json_in(f"{before}{answer}{token}") == ANSWER


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ('{"a": "</think>"}', {"a": "</think>"}),
        ('<think>x</think>{"a": "</think> y"}', {"a": "</think> y"}),
        ('"</think>{}"', "</think>{}"),
        ("```\ntrue\n```", True),
        ("```7```", 7),
        ("[1]", [1]),
        ("null", None),
    ],
)
def test_json_itself_is_taken_as_it_is(content: str, value: Any) -> None:
    assert json_in(content) == value


@pytest.mark.parametrize(
    "content",
    ["", "text", f"<think>{JSON}", f"<think>{JSON}</think>", f"Here: {JSON}", f"{JSON} done", "``````", "```"],
)
def test_a_text_with_json_somewhere_is_not_json(content: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the parser's own words
        json_in(content)


def test_json_beyond_a_hundred_levels_is_refused_behind_thoughts_too() -> None:
    deep = "[" * 101 + "]" * 101
    for content in (deep, f"<think>x</think>{deep}"):
        with pytest.raises(DepthError):
            json_in(content)


def test_a_hostile_text_is_read_in_linear_steps() -> None:
    for content in ("<think>" * 200_000, "</think>" * 200_000, "<think></think>" * 20_000, "```" * 200_000):
        with pytest.raises(ValueError):  # noqa: PT011 - as above
            json_in(content)
