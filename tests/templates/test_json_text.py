"""Where an expression stands in a text that becomes JSON, and how it is escaped for that."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import nodes

from connector.templates.environment import Environment
from connector.templates.json_text import escape, example
from connector.templates.template import Template

ENVIRONMENT = Environment()


def parts(source: str) -> str:
    """The filters that its expressions get, in order: s for one in a string, v for one outside, - for none."""
    tree = ENVIRONMENT.parse_checked(source)
    escape(tree.body)
    names = {"_in_string": "s", "_value": "v"}
    found = [part for output in tree.find_all(nodes.Output) for part in output.nodes]
    found = [part for part in found if not isinstance(part, nodes.TemplateData)]
    return "".join(names.get(getattr(part, "name", ""), "-") for part in found)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('{"a": {{ x }}}', "v"),
        ('{"a": "{{ x }}"}', "s"),
        ('{"a": "{{ x }}{{ y }}", "b": {{ z }}}', "ssv"),
        ('{"a\\"": {{ x }}}', "v"),
        ('{"a\\\\": {{ x }}}', "v"),
        ('{"a\\\\\\"": "{{ x }}"}', "s"),
        ('{"{{ k }}": {{ v }}}', "sv"),
        ('[{% for x in xs %}"{{ x }}"{{ "," if not loop.last }}{% endfor %}]', "s-"),
        ('[{% for x in xs %}{{ x }}{{ ", " if not loop.last else "" }}{% else %}{{ y }}{% endfor %}]', "v-v"),
        ('{"a": "{{ "," }}"}', "s"),
        ('{"a": {{ "," if x else y }}}', "v"),
        ('{% if a %}{"a": {{ x }}}{% elif b %}["{{ y }}"]{% else %}{{ z }}{% endif %}', "vsv"),
        ('{% with a = 1 %}["{{ a }}", {{ a }}]{% endwith %}', "sv"),
    ],
)
def test_an_expression_is_escaped_for_where_it_stands(source: str, expected: str) -> None:
    assert parts(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '{% if a %}"{% endif %}',
        '{"a": "{% for x in xs %}x"{% endfor %}}',
        '{% if a %}"x"{% else %}"{% endif %}',
        '{% if a %}"x"{% elif b %}"{% endif %}',
        '"{% with a = 1 %}"{% endwith %}',
        "{% filter upper %}{{ x }}{% endfilter %}",
    ],
)
def test_a_block_that_would_break_the_json_is_refused_with_its_line(source: str) -> None:
    with pytest.raises(ValueError, match="line 3: "):
        escape(ENVIRONMENT.parse_checked("\n\n" + source).body)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('{"a": {{ x }}, "b": "<{{ y }}>"}', '{"a": "", "b": "<>"}'),
        ("{ {{ k }}: 1 }", '{ "": 1 }'),
        ("[{% for x in xs %}{% endfor %}]", "null"),
        ('[{{ x }}{{ "," }}{{ y }}]', "null"),
        ("", ""),
    ],
)
def test_a_text_without_control_blocks_has_an_example(source: str, expected: str) -> None:
    body = ENVIRONMENT.parse_checked(source).body
    escape(body)
    assert example(body) == expected


scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text()


@given(st.lists(st.tuples(st.text(), scalars), max_size=4), scalars)
def test_whatever_a_row_holds_the_json_around_it_stays(pairs: list[tuple[str, Any]], value: Any) -> None:
    source = (
        '{"pairs": [{% for key, item in pairs %}{ {{ key }}: {{ item }}, "text": "{{ key }}\\\\{{ key }}\\"" }'
        '{{ "," if not loop.last }}{% endfor %}], "value": {% if value is none %}{{ value }}{% else %}'
        '"{{ value }}"{% endif %}, "end": true}'
    )
    body = Template(source, "t").render({"pairs": pairs, "value": value})
    assert list(body) == ["pairs", "value", "end"]
    assert body["pairs"] == [{key: item} | {"text": f'{key}\\{key}"'} for key, item in pairs]
    assert body["value"] == (value if value is None or isinstance(value, str) else json.dumps(value))
