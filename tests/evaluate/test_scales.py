"""An answer is held to the truth by its kind, whatever way the two are written."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("rapidfuzz", reason="the extra evaluate is not installed")

from connector.base.errors import ConfigError
from connector.evaluate.scales import Scale, Target, mark, read, targets

LABEL = {"type": ["string", "null"], "enum": ["good", "bad", None]}


@pytest.mark.parametrize(
    ("scale", "answer", "truth", "right", "amount"),
    [
        ("category", "Good.", "good", True, None),
        ("category", "bad", "good", False, None),
        ("category", None, "good", False, None),
        ("boolean", True, "yes", True, None),
        ("boolean", False, "1", False, None),
        ("boolean", "maybe", "1", False, None),
        ("number", 3.0, "3", True, 0),
        ("number", 2.5, "3", False, 0.5),
        ("number", "many", 3, False, None),
        ("number", float("nan"), 3, False, None),
        ("number", 10**400, 10**400, True, None),
        ("number", 1e308, -1e308, False, None),
        ("number", 1e100, -1e100, False, 2e100),
        ("text", "The pump failed.", "the pump  failed", False, 1.0),
        ("text", "The pump failed. ", "The pump failed.", True, 1.0),
        ("list", ["b", "A"], '["a", "b"]', True, 1.0),
        ("list", ["a", "c"], "a; b", False, 0.5),
        ("list", [], "[]", True, 1.0),
        ("list", None, "[]", False, None),
        ("list", "[" * 100_000, "[]", False, 0),
    ],
)
def test_right_is_what_its_scale_says(scale: Scale, answer: Any, truth: Any, right: bool, amount: float | None) -> None:
    target = Target("x", ("x",), ("x",), scale)
    assert mark(read(answer, target), read(truth, target), scale) == (right, amount)


def test_labels_of_a_schema_are_compared_to_the_letter() -> None:
    (target,) = targets("label", {"label": LABEL}, ["text", "label"], [{"label": "Good"}])
    assert target.is_fixed
    assert not mark(read("good", target), read("Good", target), target.scale).is_right


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (["a", "b"] * 5, "category"),
        ([f"text {n}" for n in range(9)], "text"),
        ([1, 2.5, 3], "number"),
        ([True, False], "boolean"),
        ([["a"], []], "list"),
    ],
)
def test_without_a_schema_the_truth_tells_the_scale(values: list[Any], scale: str) -> None:
    (target,) = targets("content", {"content": {}}, ["content"], [{"content": each} for each in values])
    assert target.scale == scale


def test_objects_are_held_field_by_field() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "zip": {"type": "integer"}}}
    rows = [{"place": json.dumps({"city": name, "zip": 1})} for name in ("Rome", "Rome", "Oslo", "Oslo")]
    found = targets("address=place", {"address": schema}, ["place"], rows)
    assert [(each.name, each.scale, each.truth) for each in found] == [
        ("address.city", "category", ("place", "city")),
        ("address.zip", "number", ("place", "zip")),
    ]
    (one,) = targets("address.zip=place.zip", {"address": schema}, ["place"], rows)
    assert one.path == ("address", "zip")


def test_the_only_column_is_meant_and_what_is_not_there_is_reported() -> None:
    (found,) = targets("gold", {"label": LABEL}, ["gold"], [])
    assert found.path == ("label",)
    with pytest.raises(ConfigError, match=r'no column "labl" in the input.*did you mean "label"'):
        targets("labl", {"label": LABEL}, ["label"], [])
    with pytest.raises(ConfigError, match="write ANSWER=gold"):
        targets("gold", {"label": LABEL, "why": {}}, ["gold"], [])
