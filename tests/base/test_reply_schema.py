"""Whatever a schema and a reply are: what is wrong is said before any call, and no reply takes long or ends a run."""

from __future__ import annotations

import copy
import json
import socket
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base.errors import ConfigError
from connector.base.reply_schema import ReplySchema
from connector.base.schemas import portable
from connector.config.config import Config

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)
DOUBLING = {f"d{n}": {"allOf": [{"$ref": f"#/definitions/d{n + 1}"}] * 2} for n in range(40)} | {"d40": {}}
WIDE: dict[str, Any] = {
    f"d{n}": {"type": "object", "properties": {name: {"$ref": f"#/definitions/d{n + 1}"} for name in "ab"}}
    for n in range(40)
}
TREE = {
    "type": "object",
    "oneOf": [
        {"properties": {"a": {"$ref": "#"}, "k": {"const": 1}}, "required": ["k"]},
        {"properties": {"a": {"$ref": "#"}}, "required": ["j"]},
        {"properties": {"a": {"$ref": "#"}}, "required": ["i"]},
    ],
}


def nested(levels: int, leaf: Any) -> Any:
    for _ in range(levels):
        leaf = {"a": leaf}
    return leaf


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        (
            {"properties": {"a": {"$ref": "#/definitions/x"}}},
            'at $.properties.a.$ref, "#/definitions/x" points to noth',
        ),
        ({"definitions": {"unused": {"$ref": "#/nope"}}}, 'at $.definitions.unused.$ref, "#/nope" points to nothing'),
        ({"$ref": "#"}, 'at $, "$ref" leads back to itself'),
        ({"allOf": [{"not": {"$ref": "#"}}]}, "leads back to itself"),
        ({"definitions": {"a": {"if": {"$ref": "#/definitions/b"}}, "b": {"$ref": "#/definitions/a"}}}, "leads back"),
        ({"properties": {"a": {"$ref": "https://a.example/b.json"}}}, "is not followed, and nothing is fetched"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, 'at $.properties.a.$ref, "file:///etc/passwd" is not'),
        ({"properties": {"a": {"$ref": "b.json"}}}, "nothing is fetched"),
        ({"properties": {"a": {"$ref": "#anchor"}}}, 'at $.properties.a.$ref, "#anchor" is not followed'),
        ({"$id": "https://a.example/b", "items": {"$ref": "/b"}}, '"/b" is not followed'),
        ({"items": {"$ref": "http://json-schema.org/draft-07/schema#"}}, "is not followed, and nothing is fetched"),
        ({"items": {"$dynamicRef": "#"}}, 'at $.items.$dynamicRef, "#" is not followed'),
        ({"items": {"$recursiveRef": "#"}}, 'at $.items.$recursiveRef, "#" is not followed'),
        ({"items": {"$id": "b", "not": {"$ref": "#"}}}, 'at $.items.not.$ref, the place is counted from "$id" at $'),
        ({"items": {"$ref": "#/x"}, "x": {"not": {"items": {"$ref": "#/x/not"}, "$ref": "#/x"}}}, "leads back"),
        ({"items": {"$ref": "#/x/0"}, "x": [{"items": {"$recursiveRef": "#"}}]}, "$recursiveRef"),
        ({"allOf": [{}], "not": {"$ref": "#/allOf/00"}}, '"#/allOf/00" points to nothing'),
        ({"allOf": [{}], "not": {"$ref": "#/allOf/" + "9" * 5_000}}, "points to nothing"),
        ({"properties": {"a b": {"pattern": "["}}}, 'at $.properties["a b"].pattern, "[" is not a "regex"'),
        ({"patternProperties": {"(": {}}}, "regex"),
        ({"properties": {"a": {"type": "strnig"}}}, "at $.properties.a.type"),
        ({"properties": 3}, "at $.properties"),
        ({"definitions": DOUBLING, "$ref": "#/definitions/d0"}, "unfold to more than 10,000 schemas"),
        ({"properties": json.loads('{"properties":' * 900 + "{}" + "}" * 900)}, "is nested too deeply"),
        ({"$schema": "https://json-schema.org/draft/2020-12/schema", "prefixItems": 3}, "at $.prefixItems"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_with_the_place_before_any_call(
    schema: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Config(url="http://localhost/v1", model="m", prompt="p", output_schema={"type": "object", **schema})
    assert told in str(caught.value)
    assert str(caught.value).startswith("output_schema: is ")
    assert len(str(caught.value)) < 1000


TYPEBOX: Final[dict[str, Any]] = {
    "$id": "T0",
    "type": "object",
    "properties": {"id": {"type": "integer"}, "nodes": {"type": "array", "items": {"$ref": "T0"}}},
    "required": ["id"],
}


@pytest.mark.parametrize(
    "schema",
    [
        TYPEBOX,
        {"properties": {"id": {}, "nodes": {"items": TYPEBOX}}},
        {"properties": {"other": TYPEBOX, "nodes": {"items": TYPEBOX}}},
        {"$defs": {"Node": TYPEBOX}, "$ref": "T0"},
        {"definitions": {"a/b~c%d é": TYPEBOX}, "allOf": [{"$ref": "T0"}]},
        {
            "$defs": {
                "A": {"$id": "A", "properties": {"nodes": {"items": {"$ref": "B"}}}},
                "B": {
                    "$id": "B",
                    "required": ["id"],
                    "allOf": [{"$ref": "A"}, {"properties": {"id": {"type": "integer"}}}],
                },
            },
            "$ref": "A",
        },
        {"$id": "https://a.example/b.json", "properties": {"nodes": {"items": TYPEBOX}}},
    ],
    ids=["itself", "below", "twice", "module", "odd place", "each other", "below an address"],
)
def test_references_to_an_id_without_a_path_are_followed(schema: dict[str, Any]) -> None:
    before = copy.deepcopy(schema)
    checked = ReplySchema(schema)
    assert checked.problem({"id": 1, "nodes": [{"id": 2, "nodes": [{"id": 3}]}]}, 99) is None
    assert checked.problem({"id": 1, "nodes": [{"id": 2, "nodes": [{"id": "three"}]}]}, 99) is not None
    assert schema == before


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"$id": "L", "anyOf": [{"$ref": "L"}]}, "leads back to itself"),
        ({"properties": {"a": TYPEBOX, "b": {**TYPEBOX, "required": []}}}, "is not usable"),
        ({"properties": {"a": TYPEBOX, "b": {"$id": "http://a.example/"}}}, "is not usable"),
        ({"properties": {"a": {**TYPEBOX, "not": {"$ref": "#/x"}}}, "x": {}}, "is not usable"),
        ({"properties": {"a": TYPEBOX, "b": {"$ref": "T1"}}}, '"T1" is not followed'),
        ({"properties": {"a": {"const": TYPEBOX}, "b": {"$ref": "T0"}}}, '"T0" is not followed'),
        (
            {
                "$defs": {f"d{n}": {"$id": f"d{n}", "anyOf": [{"$ref": f"d{n + 1}"}] * 2} for n in range(30)}
                | {"d30": {"$id": "d30"}},
                "$ref": "d0",
            },
            "unfold to more than 10,000 schemas",
        ),
    ],
)
def test_an_id_that_is_ambiguous_or_unbounded_is_refused(schema: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ReplySchema(schema)


@pytest.mark.parametrize("length", [300, 3_000])
def test_definitions_may_be_linked_in_a_chain_of_any_length(length: int) -> None:
    """Large generated schemas link hundreds of definitions; each link is a level of the reply."""
    chain = {
        f"d{n}": {"type": "object", "properties": {"x": {"$ref": f"#/definitions/d{n + 1}"}}} for n in range(length)
    }
    schema = {"definitions": {**chain, f"d{length}": {}}, "$ref": "#/definitions/d0"}
    checked = ReplySchema(schema)
    assert checked.problem(nested(99, {}), 999) is None
    assert checked.problem({"x": {"x": 1}}, 99) == 'at $.x.x, 1 is not of type "object"'
    assert len(json.dumps(portable(schema, schema))) < 10_000


def test_a_chain_of_mere_references_that_is_too_long_is_called_that() -> None:
    chain = {f"d{n}": {"$ref": f"#/definitions/d{n + 1}"} for n in range(3_000)}
    with pytest.raises(ValueError, match="too long a chain of references"):
        ReplySchema({"definitions": {**chain, "d3000": {}}})


@pytest.mark.parametrize("form", ["http://{}/a.json", "https://{}/a.json", "//{}/a.json"])
def test_nothing_is_ever_fetched(form: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        with pytest.raises(ValueError, match="nothing is fetched"):
            ReplySchema({"$ref": form.format(f"127.0.0.1:{server.getsockname()[1]}")})
        with pytest.raises(BlockingIOError):
            server.accept()


def test_no_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('{"enum": ["a secret"]}')
    with pytest.raises(ValueError, match="nothing is fetched") as caught:
        ReplySchema({"properties": {"a": {"$ref": f"file://{tmp_path}/secret.json"}}})
    assert "a secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        (r"^\p{L}+$", "Größe", "a1"),
        (r"(?<year>\d{4})", "in 2026", "soon"),
        (r"^\d+$", "12", "x"),
        (r"^(?!no).*$", "yes", "no"),
        (r"^(a|b)\1$", "aa", "ab"),
        (r"^\u00e9\/$", "é/", "e/"),
        ("^[\\w-]+$", "a-b", "a b"),
    ],
)
def test_patterns_mean_what_they_mean_in_ecma_script(pattern: str, fits: str, does_not: str) -> None:
    schema = ReplySchema({"pattern": pattern})
    assert schema.problem(fits, 9) is None
    assert "does not match" in (schema.problem(does_not, 9) or "")


@pytest.mark.parametrize("pattern", [r"^(a+)+$", r"^(a|a)*$", r"^(a|aa)+$", r"(.*a){20}$", r"^(?=(a+)+$)a*a*a*a*$"])
def test_no_pattern_takes_more_than_linear_time_or_a_bounded_number_of_steps(pattern: str) -> None:
    """With one that backtracks freely, this test would not end."""
    schema = ReplySchema({"pattern": pattern})
    text = "a" * 60_000 + "b"
    assert schema.problem(text, len(text)) is not None


def test_what_a_pattern_that_looks_around_cannot_be_held_to_in_bounded_steps_is_said() -> None:
    text = "a" * 100_000
    assert "it has 100,000 characters" in (ReplySchema({"pattern": "^(?=a)"}).problem(text, len(text)) or "")


@pytest.mark.parametrize("levels", [1, 3, 30, 99])
def test_a_schema_that_refers_to_itself_is_held_to_replies_of_any_depth(levels: int) -> None:
    """With one that tries each way again at each level, this test would not end."""
    schema = ReplySchema(TREE)
    assert schema.problem(nested(levels, {"i": 1}), 9) is not None
    tree: dict[str, Any] = {"i": 1}
    for _ in range(levels):
        tree = {"a": tree, "i": 1}
    assert schema.problem(tree, 9) is None


def test_twenty_thousand_objects_are_unique_at_once() -> None:
    schema = ReplySchema({"uniqueItems": True})
    assert schema.problem([{"a": number} for number in range(20_000)], 9) is None
    assert "non-unique" in (schema.problem([{"a": 1}] * 20_000, 9) or "")


def test_what_is_wrong_is_shown_with_its_place_in_bounded_length() -> None:
    schema = ReplySchema({"properties": {"a": {"items": {"type": "integer"}}, "b" * 9_000: {"enum": [1]}}})
    assert schema.problem({"a": [1, "x"]}, 9) == 'at $.a[1], "x" is not of type "integer"'
    for value in ({"a": ["x" * 8_000_000]}, {"b" * 9_000: "y" * 1000}):
        assert len(schema.problem(value, 9) or "") < 700


@pytest.mark.parametrize("value", [10**400, -(10**30), 1e308, 2**64])
def test_numbers_of_any_size_are_numbers(value: float) -> None:
    assert ReplySchema({"type": "number"}).problem(value, 9) is None


@given(
    JSON, st.sampled_from([TREE, {"uniqueItems": True}, {"type": "string", "pattern": r"^\p{L}"}, {"const": 10**30}])
)
def test_no_value_is_too_odd(value: Any, schema: dict[str, Any]) -> None:
    problem = ReplySchema(schema).problem(value, 9)
    assert problem is None or problem.startswith("at $")


def test_a_later_draft_is_followed_where_the_schema_names_it() -> None:
    items = {"properties": {"a": {"prefixItems": [{"type": "integer"}]}}}
    later = ReplySchema({**items, "$schema": "https://json-schema.org/draft/2020-12/schema"})
    assert later.problem({"a": ["x"]}, 9) is not None
    assert ReplySchema(items).problem({"a": ["x"]}, 9) is None


def test_columns_of_definitions_that_unfold_without_end_are_declared_in_bounded_size() -> None:
    schema = {"definitions": WIDE, "$ref": "#/definitions/d0"}
    assert len(json.dumps(portable(schema, schema))) < 2_000_000


def test_of_what_does_not_fit_only_the_first_is_put_into_words() -> None:
    """With one that does so for each of the twenty thousand, this test would take minutes."""
    schema = ReplySchema({"items": {"enum": [{"x": number} for number in range(2_000)]}})
    told = schema.problem([{"x": 2}, *[{"x": -1}] * 20_000], 160_000)
    assert told is not None
    assert told.startswith("at $[1], ")


@pytest.mark.parametrize(
    "many",
    [
        {"enum": [{"x": number} for number in range(2_000)]},
        {"patternProperties": {f"{number}b": {} for number in range(2_000)}},
        {"anyOf": [{"required": [str(number)]} for number in range(500)]},
    ],
    ids=lambda many: next(iter(many)),
)
def test_a_long_reply_is_not_held_to_thousands_of_alternatives_at_each_of_its_parts(many: dict[str, Any]) -> None:
    schema = ReplySchema({"items": many})
    assert "3,000,000 characters, too many to try up to " in (schema.problem([], 3_000_000) or "")
    assert "too many" not in (schema.problem([{}], 100_000) or "")


@pytest.mark.parametrize(
    "value", [[10**300 + i for i in range(5_000)], {"a": [{"b": 2**64 + i} for i in range(5_000)]}]
)
def test_too_many_integers_of_one_double_are_not_compared_with_each_other(value: Any) -> None:
    """The library would compare each with each, for minutes."""
    nested = {"properties": {"a": {"uniqueItems": True}}}
    for schema in ({"uniqueItems": True}, nested):
        assert "5,000 integers beyond 64 bits" in (ReplySchema(schema).problem(value, 2_000_000) or "")
    assert ReplySchema({"type": ["array", "object"]}).problem(value, 2_000_000) is None


def test_integers_beyond_64_bits_are_unique_by_all_of_their_digits() -> None:
    schema = ReplySchema({"uniqueItems": True})
    few = [10**300 + i for i in range(100)]
    assert schema.problem(few, 30_000) is None
    assert schema.problem([*few, few[0]], 30_000) is not None
