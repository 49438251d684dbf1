"""Plain templates are filled in without Jinja2, and nobody can tell: the same bodies, names and errors."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Any
from unittest.mock import Mock, patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connector.base.errors import ConfigError, TemplateError
from connector.templates.plain import AS_TEXT, NotPlainError, Plain
from connector.templates.template import Template

NAMES = st.sampled_from(["a", "b", "items", "Größe"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=5,
)
ROWS = st.dictionaries(NAMES, VALUES, max_size=4)
PATHS = st.builds("".join, st.lists(st.sampled_from([".a", ".items", "['b']", "[0]", ".x"]), max_size=2))
LEAVES = st.one_of(
    st.builds("{{{{ {}{} }}}}".format, NAMES, PATHS),
    st.builds(
        "{}{{{{ {} }}}}{}{{{{- {}{} -}}}} {{# c #}}".format, st.sampled_from(["", "x {} "]), NAMES, NAMES, NAMES, PATHS
    ),
    st.sampled_from(
        ["text", "{", "{# nothing #}", "a {b} c", "{{ a | upper }}", "{{ record.a }}", "{{ range }}", "{{ k }}"]
    ),
)
STRUCTURES = st.recursive(
    LEAVES | st.none() | st.integers() | st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "a.b", "b", "{{ a }}"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def outcome(template: Template, row: dict[str, Any]) -> str:
    """What a template renders to, or what it says. As text: NaN is not equal to itself, and 1 is equal to True."""
    try:
        return repr(template.render(row))
    except TemplateError as error:
        return error.message


def told(template: Template) -> Any:
    """What a template says of itself."""
    names = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}}
    reads = [(string.path, string.place, string.reads()) for string in template.strings]
    members = [template.reads_members_of(name) for name in ("a", "b", "k")]
    structure, required = template.structure, template.required()
    columns = template.columns(names) if isinstance(structure, dict) else None
    return structure, template.names, template.reads_row, required, reads, members, columns


def both(structure: Any, **settings: Any) -> tuple[Template, Template]:
    """The template as it is, and as it would be if none were plain; with both, what they say when they are refused."""
    made = []
    for plain in (Plain, Mock(side_effect=NotPlainError)):
        with patch("connector.templates.template.Plain", plain):
            made.append(Template(structure, "request_format", constants={"k": "constant"}, **settings))
    return made[0], made[1]


@given(STRUCTURES, ROWS, st.booleans())
def test_nobody_can_tell_which_way_a_row_was_rendered(structure: Any, row: dict[str, Any], lenient: bool) -> None:
    template, slowly = both([structure], lenient=lenient)
    assert outcome(template, row) == outcome(slowly, row)


@given(st.dictionaries(st.sampled_from(["x", "y"]), STRUCTURES), st.booleans())
def test_nobody_can_tell_which_way_a_template_was_understood(structure: Any, fixed_keys: bool) -> None:
    template, slowly = both(structure, fixed_keys=fixed_keys, options={"{{ a }}": "prompt"})
    assert told(template) == told(slowly)


@given(
    st.lists(
        st.sampled_from(
            [*"{}%# ab._[]'\"\r\n-|", "{{", "}}", AS_TEXT, "{{ a }}", "not", "none", "__", "ö", "²", "a.a."]
        )
    ).map("".join)
)
@example("{{ a.a² }}")
@example(f"{{{{ a{'.a' * 100} }}}}")
def test_nobody_can_tell_which_way_a_text_was_understood(source: str) -> None:
    seen = []
    for plain in (Plain, Mock(side_effect=NotPlainError)):
        with patch("connector.templates.template.Plain", plain):
            try:
                template = Template([source], "request_format")
            except ConfigError as error:
                seen.append(error.message)
            else:
                seen.append(repr((outcome(template, {"a": "1", "b": {"a": [2]}}), told(template))))
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("structure", "row", "body"),
    [
        ({"m": "x", "c": ["A {{ a }}{{ b }}!"]}, {"a": "1", "b": "2"}, {"m": "x", "c": ["A 12!"]}),
        (["{{ a.b[1]['c'] }}"], {"a": {"b": [0, {"c": 5}]}}, [5]),
        ({"n": "{{ n }}", "o": "{{ o }}"}, {"n": None, "o": {"x": [1.5]}}, {"n": None, "o": {"x": [1.5]}}),
        ({1: "{{ n }}"}, {"n": 7}, {"1": 7}),
    ],
)
def test_what_is_plain_is_filled_in(structure: Any, row: dict[str, Any], body: Any) -> None:
    assert Plain(structure, "request_format", (), {}).fill(row) == body


@pytest.mark.parametrize(
    "source", ["{{ a | upper }}", "{% if a %}x{% endif %}", "{{ a + b }}", "{{ record }}", "{{ 1 }}"]
)
def test_what_is_more_needs_jinja(source: str) -> None:
    with pytest.raises(NotPlainError):
        Plain([source], "request_format", (), {})


def test_a_constant_needs_jinja_and_comes_before_a_column_of_its_name() -> None:
    template = Template(["{{ k }}"], "request_format", constants={"k": 1})
    assert template.render({}) == [1]
    assert template.render({"k": 2}) == [1]


@pytest.mark.parametrize("row", [{}, {"a": None}, {"a": 1}, {"a": ["x"]}, {"a": b"x"}, {"a": "x" * 2**22}])
def test_a_row_that_does_not_fit_is_left_to_jinja(row: dict[str, Any]) -> None:
    structure = ["{{ a }}!", "{{ a }}?"]
    plain = Plain(structure, "request_format", (), {})
    with pytest.raises((LookupError, TypeError)):
        plain.fill(row)


@pytest.mark.parametrize("source", ["{{ a }}", "{{ a }}!"])
def test_a_value_that_has_no_form_fails_its_row_alone(source: str) -> None:
    template, slowly = both([source])
    row = {"a": datetime(2026, 1, 1, tzinfo=tzinfo())}  # type: ignore[abstract]  # its offset is not implemented
    with pytest.raises(TemplateError, match="fails on this row: a tzinfo subclass must implement utcoffset"):
        template.render(row)
    assert outcome(template, row) == outcome(slowly, row)
