"""The quick look at whether a config fits the spec, held to jsonschema."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from connector.config.fitting import surely_fits
from connector.config.spec import spec

SPEC = spec()
ODD: Final[st.SearchStrategy[Any]] = st.sampled_from(
    [None, True, False, 0, 1, -1, 2.5, 1e9, float("nan"), "", "30", "batch", "files", "sql", "x", [], {}]
)


def samples(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that mostly fit a schema."""
    if "const" in schema:
        return st.just(schema["const"]) | ODD
    if "enum" in schema:
        return st.sampled_from(schema["enum"]) | ODD
    if "oneOf" in schema:
        return st.one_of(*map(samples, schema["oneOf"])) | ODD
    if schema["type"] == "object":
        inner = {name: samples(each) for name, each in schema.get("properties", {}).items()}
        return st.fixed_dictionaries({}, optional=inner) | ODD
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "string": st.sampled_from(["30", "640", "text"]),
        "boolean": st.booleans(),
        "integer": st.sampled_from([0, 1, 1024, 5_000, 2.0]),
        "number": st.sampled_from([0, 0.5, 101]),
    }
    return kinds[schema["type"]] | ODD


@given(
    samples(SPEC) | st.one_of(*(samples(each) for each in SPEC["properties"].values())).map(lambda one: {"input": one})
)
def test_what_surely_fits_is_valid(value: Any) -> None:
    assert not surely_fits(value, SPEC) or Draft7Validator(SPEC).is_valid(value)


@pytest.mark.parametrize("name", SPEC["properties"])
def test_every_option_with_a_usual_value_surely_fits(name: str) -> None:
    schema = SPEC["properties"][name]
    usual = [
        *schema.get("examples", ()),
        *([schema["default"]] if "default" in schema else ()),
        *schema.get("enum", ()),
    ]
    assert all(surely_fits({"url": "http://host/v1", name: value}, SPEC) for value in usual if value is not None)


def test_an_input_surely_fits_by_its_type() -> None:
    assert surely_fits({"url": "u", "input": {"type": "files", "path": "a.csv"}}, SPEC)
    assert not surely_fits({"url": "u", "input": {"type": "files"}}, SPEC)
    assert not surely_fits({"url": "u", "input": {"type": "other", "path": "a.csv"}}, SPEC)


def test_words_of_a_schema_that_it_does_not_know_leave_it_unsure() -> None:
    assert not surely_fits(1, {"type": "integer", "multipleOf": 1})
    assert not surely_fits(1, {})
