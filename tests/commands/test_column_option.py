"""`--column NAME=TYPE`: what each word means."""

from __future__ import annotations

import re
from typing import Any

import pytest

from connector.base.errors import ConfigError
from connector.commands._options import schema_from

TYPES = ("string", "integer", "number", "boolean", "array", "object")


@pytest.mark.parametrize("kind", TYPES)
def test_a_type_may_be_null_and_may_be_an_array(kind: str) -> None:
    assert of(kind) == {"type": kind}
    assert of(f"{kind}|null") == of(f"null | {kind}") == {"type": ["null", kind]}
    assert of(f"{kind}[]") == {"type": "array", "items": {"type": kind}}
    assert of(f"{kind}[]|null") == {"type": ["null", "array"], "items": {"type": kind}}


@pytest.mark.parametrize(
    ("words", "schema"),
    [
        ("", {"type": "string"}),
        ("good|bad", {"type": "string", "enum": ["good", "bad"]}),
        ("good|bad|null", {"type": ["null", "string"], "enum": ["good", "bad", None]}),
        ("good|null", {"type": ["null", "string"], "enum": ["good", None]}),
        ("string|integer", {"type": ["string", "integer"]}),
        ("integer|number|null", {"type": ["null", "integer", "number"]}),
        ("string|string[]", {"type": ["string", "array"], "items": {"type": "string"}}),
        ("string[]|integer[]", {"type": "array", "items": {"type": ["string", "integer"]}}),
        ("object|person", {"type": "string", "enum": ["object", "person"]}),
    ],
)
def test_words_are_types_if_all_of_them_are_else_the_allowed_values(words: str, schema: dict[str, Any]) -> None:
    assert of(words) == schema


@pytest.mark.parametrize("column", ["a=null", "a=text", "a=null|null", "a=x|", "=string", "=a|b", "a=text[]", "a: x|y"])
def test_what_is_neither_is_refused(column: str) -> None:
    with pytest.raises(ConfigError, match="write NAME=TYPE"):
        schema_from([column])


@pytest.mark.parametrize(
    ("words", "meant"),
    [("strng", "string"), ("text|null", "string"), ("int", "integer"), ("float[]", "number[]"), ("Bool", "boolean")],
)
def test_a_type_by_another_name_is_reported_with_ours(words: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f'; did you mean "{meant}"?')):
        of(words)


def of(words: str) -> Any:
    return schema_from([f"a={words}"])["properties"]["a"]
