"""What type a column has, read off samples, expressions and schemas."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from connector.base.schemas import nullable, portable
from connector.templates.expression_types import schema_of_expression
from connector.templates.jinja import JinjaTemplate
from connector.templates.schema_inference import schema_of_value
from connector.templates.template_string import TemplateString

TEXT: Final = {"type": "string"}
COUNT: Final = {"type": "integer"}
CHOICES: Final = {"type": "array", "items": {"type": "object", "properties": {"index": COUNT}}}
NAMES: Final = {
    "type": "object",
    "properties": {
        "content": TEXT,
        "usage": {"type": "object", "properties": {"total_tokens": COUNT}},
        "choices": CHOICES,
    },
}


def inferred(source: str) -> Any:
    leaf: TemplateString
    (leaf,) = JinjaTemplate([source], "t", lenient=True).strings
    assert leaf.expression is not None
    return schema_of_expression(leaf.expression, NAMES)


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ("a", TEXT),
        (1, COUNT),
        (1.5, {"type": "number"}),
        (True, {"type": "boolean"}),
        (None, {}),
        ([], {"type": "array", "items": {}}),
        ([1, 2], {"type": "array", "items": COUNT}),
        ([1, "a"], {"type": "array", "items": {}}),
        ({"a": {"b": 1}}, {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": COUNT}}}}),
    ],
)
def test_a_sample_shows_its_type(value: object, schema: object) -> None:
    assert schema_of_value(value) == schema


@pytest.mark.parametrize(
    ("expression", "schema"),
    [
        ("content", TEXT),
        ("gone", {}),
        ("gone.deeper[0].still", {}),
        ("usage.total_tokens", COUNT),
        ("usage['total_tokens']", COUNT),
        ("choices[0].index", COUNT),
        ("choices[0]['index']", COUNT),
        ("(choices|first).index", COUNT),
        ("choices[:1]", CHOICES),
        ("usage.total_tokens|default(0)", COUNT),
        ("usage.total_tokens|abs", COUNT),
        ("content|trim|upper", TEXT),
        ("content|length", COUNT),
        ("content|wordcount", COUNT),
        ("content|float", {"type": "number"}),
        ("usage.total_tokens|round(2)", {"type": "number"}),
        ("choices|tojson", TEXT),
        ("choices|map(attribute='index')|join(',')", TEXT),
        ("content ~ usage.total_tokens", TEXT),
        ("usage.total_tokens / 2", {"type": "number"}),
        ("usage.total_tokens > 2", {"type": "boolean"}),
        ("not content", {"type": "boolean"}),
        ("content is defined", {"type": "boolean"}),
        ("'a' if content", TEXT),
        ("'a' if content else 'b'", TEXT),
        ("'a' if content else 1", {}),
        ("usage.total_tokens + 1", {}),
        ("content.upper()", {}),
        ("[1, 2]", {}),
        ("1", COUNT),
    ],
)
def test_an_expression_has_the_type_of_what_it_reads(expression: str, schema: object) -> None:
    assert inferred(f"{{{{ {expression} }}}}") == schema


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, {}),
        (TEXT, {"type": ["null", "string"]}),
        ({"type": ["string", "null"]}, {"type": ["null", "string"]}),
        ({"type": "string", "enum": ["a"]}, {"type": ["null", "string"], "enum": ["a", None]}),
        ({"type": "string", "enum": ["a", None]}, {"type": ["null", "string"], "enum": ["a", None]}),
    ],
)
def test_every_column_admits_null(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    assert nullable(schema) == expected
    assert nullable(nullable(schema)) == expected


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "minLength": 3, "title": "T", "description": "d"}, {"type": "string", "description": "d"}),
        ({"type": "string", "enum": ["a"], "format": "date"}, {"type": "string", "enum": ["a"], "format": "date"}),
        ({"type": ["null", "integer"]}, {"type": ["null", "integer"]}),
        ({"type": ["string", "integer"]}, {}),
        ({"anyOf": [TEXT, COUNT]}, {}),
        ({"anyOf": [TEXT, {"type": "null"}], "default": None}, {"type": ["null", "string"]}),
        ({"oneOf": [{"type": "null"}, {"$ref": "#/$defs/A"}]}, {"type": ["null", "integer"]}),
        ({"allOf": [{"$ref": "#/$defs/A"}]}, COUNT),
        ({"$ref": "#/$defs/A"}, COUNT),
        ({"$ref": "#/$defs/a~1b"}, TEXT),
        ({"$ref": "#/$defs/gone"}, {}),
        ({"$ref": "https://example.com/schema"}, {}),
        ({"type": "array"}, {"type": "array", "items": {}}),
        ({"type": "array", "items": [TEXT]}, {"type": "array", "items": {}}),
        ({"type": "array", "items": {"$ref": "#/$defs/A"}}, {"type": "array", "items": COUNT}),
        ({"type": "object"}, {"type": "object", "properties": {}}),
        ({"type": "object", "properties": {"a": True}}, {"type": "object", "properties": {"a": {}}}),
        ({"const": 1}, {}),
    ],
)
def test_a_schema_is_cut_down_to_what_every_platform_understands(schema: dict[str, Any], expected: object) -> None:
    assert portable(schema, {"$defs": {"A": COUNT, "a/b": TEXT}}) == expected


def test_what_refers_to_itself_may_be_anything_there() -> None:
    names = "abcdefgh"
    tree = {"type": "object", "properties": {name: {"$ref": "#"} for name in names} | {"value": COUNT}}
    found = portable(tree, tree)
    inner = found["properties"].pop("a")
    assert found["properties"].pop("value") == COUNT
    assert inner == {"type": "object", "properties": {name: {} for name in names} | {"value": COUNT}}


schemas: st.SearchStrategy[Any] = st.deferred(
    lambda: (
        st.booleans()
        | st.just({"$ref": "#"})
        | st.just({"$ref": "#/properties/a"})
        | st.fixed_dictionaries({"type": st.sampled_from(["string", "null", ["string", "null"], "array", "object"])})
        | st.fixed_dictionaries({"anyOf": st.lists(schemas, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"type": st.just("array"), "items": schemas | st.lists(schemas, max_size=2)})
        | st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(st.sampled_from("abc"), schemas, max_size=3)}
        )
    )
)


@given(schemas)
def test_whatever_a_schema_says_what_is_left_is_portable(schema: Any) -> None:
    found = portable(schema, schema)
    Draft7Validator.check_schema(found)
    assert not {"$ref", "anyOf"} & set(re.findall(r"[$\w]+", json.dumps(found)))
