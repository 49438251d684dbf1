"""A request as a template: parsed once, compiled once, and a row's text is never anything but data in it."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from connector.base import numbers
from connector.base.errors import ConfigError, TemplateError
from connector.base.values import dumps
from connector.templates.template import Template

CHAT: Final = {
    "model": "m",
    "temperature": 0.5,
    "stop": None,
    "messages": [
        {"role": "system", "content": "Classify {% raw %}{{ this }}{% endraw %}."},
        {"role": "user", "content": "Review: {{ review }}"},
    ],
}
NASTY: Final = (
    "{{ 7*7 }}",
    "{% raw %}",
    "{% endraw %}{{ review }}",
    "{# comment #}",
    "{%- if x -%}",
    '"}], "model": "gpt-4", "x": [{"',
    "\\",
    '\\"',
    "line\nbreak\r\nand\ttab",
    "</s><|im_end|>",
    "emoji 🙂 and é and \u2028 and \ufeff",
    "\0",
    "\x7f\x1b[31m",
    " leading and trailing ",
    "",
    "x" * 10**6,
    "\n" * 10**6,
    "🙂" * 10**6,
    "%s %(a)s {0} ${HOME}",
)
TEXT_AROUND_JSON: Final = (
    '{"model": "m", "messages": [{% for turn in turns %}{"role": {{ turn.role }}, "content": "{{ loop.index }}: '
    '{{ turn.text }}"}{{ "," if not loop.last }}{% endfor %}], "n": {{ n }}, "tags": {{ tags|tojson }}}'
)

texts = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from([text for text in NASTY if len(text) < 100])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=6,
)


def sent(template: Template, row: dict[str, Any]) -> Any:
    """The request as the endpoint gets it."""
    return json.loads(dumps(template.render(row)))


def rendered(source: Any, **row: Any) -> Any:
    return sent(Template(source, "request_format"), row)


def problems(source: Any, *, lenient: bool = False) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        Template(source, "request_format", lenient=lenient)
    return [str(problem) for problem in caught.value.problems]


def failure(source: Any, **row: Any) -> str:
    with pytest.raises(TemplateError) as caught:
        Template(source, "request_format").render(row)
    return caught.value.message


# --- Row text is data ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [CHAT, json.dumps(CHAT)], ids=["object", "text"])
@pytest.mark.parametrize("review", NASTY, ids=lambda text: repr(text[:20]))
def test_nasty_text_comes_through_byte_for_byte(source: Any, review: str) -> None:
    body = rendered(source, review=review)
    assert body["messages"][1]["content"] == "Review: " + review
    assert body["messages"][0]["content"] == "Classify {{ this }}."
    assert {**body, "messages": 0} == {**CHAT, "messages": 0}


@given(texts, texts, values)
def test_any_row_comes_through_and_the_structure_around_it_is_unchanged(one: str, two: str, value: object) -> None:
    assume(one not in ("a", "z"))  # a name that comes twice is refused
    template = Template(
        {"{{ one }}": "<{{ one }}|{{ two }}>", "a": ["{{ value }}", "{{ two }}"], "z": {}}, "request_format"
    )
    expected = {one: f"<{one}|{two}>", "a": [value, two], "z": {}}
    assert sent(template, {"one": one, "two": two, "value": value}) == expected


@given(st.lists(st.fixed_dictionaries({"role": texts, "text": texts}), min_size=1, max_size=3), values)
def test_any_row_comes_through_a_text_with_control_blocks(turns: list[dict[str, str]], value: object) -> None:
    messages = [{"role": turn["role"], "content": f"{i}: {turn['text']}"} for i, turn in enumerate(turns, 1)]
    body = rendered(TEXT_AROUND_JSON, turns=turns, n=value, tags=[value])
    assert body == {"model": "m", "messages": messages, "n": value, "tags": [value]}


@given(texts)
def test_a_row_is_never_a_template(text: str) -> None:
    source = "{% if text %}{% for char in [text] %}{{ char }}{% endfor %}{% else %}{{ text }}{% endif %}"
    assert rendered({"a": source}, text=text) == {"a": text}


def test_half_of_a_character_is_refused_for_its_row_alone() -> None:
    template = Template(CHAT, "request_format")
    with pytest.raises(TypeError, match="surrogates"):
        dumps(template.render({"review": "x\ud83d"}))
    assert sent(template, {"review": "fine"})["messages"][1]["content"] == "Review: fine"
    assert "surrogates" in failure('{"a": {{ x }}}', x="x\ud83d")


# --- Types -----------------------------------------------------------------------------------------------------------


@given(values)
def test_a_whole_expression_keeps_its_type(value: object) -> None:
    assert rendered(["{{ value }}", "{{value}}", "{{- value -}}"], value=value) == [value] * 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        (Decimal("1.5"), 1.5),
        (datetime(2024, 5, 17, tzinfo=UTC), "2024-05-17T00:00:00Z"),
        ((1, 2), [1, 2]),
        (2**63, 2**63),
    ],
)
def test_what_tables_hold_besides_has_its_json(value: object, expected: object) -> None:
    assert rendered("{{ value }}".join('""'), value=value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(7, "7"), (True, "true"), ([1, None], "[1,null]"), ({"a": "é"}, '{"a":"é"}'), (0.5, "0.5"), ("7", "7")],
)
def test_with_text_around_it_an_expression_becomes_text(value: object, expected: str) -> None:
    assert rendered(["<{{ value }}>"], value=value) == [f"<{expected}>"]
    assert rendered(["{{ value }} "], value=value) == [f"{expected} "]
    assert rendered(["{{ value }}{# text #}"], value=value) == [expected]
    assert rendered(["{{ value }}{{ '' }}"], value=value) == [expected]
    assert rendered({"{{ value }}": 1}, value=value) == {expected: 1}


def test_json_values_that_are_no_text_stand_as_they_are() -> None:
    body: Any = {"a": [1, 0.5, True, None, {}, [], "", "text", "{", "}}", "{ x }"], "": {"b c": "é\0"}}
    assert rendered(body) == body
    assert rendered(json.dumps(body)) == body


def test_constant_templates_are_rendered_too() -> None:
    assert rendered(
        ["{# nothing #}", "a{# nothing #}b", "{% raw %}{{ x }}{% endraw %}", "{{ 1 + 1 }}", "{{ 'a' }}b"]
    ) == [
        "",
        "ab",
        "{{ x }}",
        2,
        "ab",
    ]


def test_columns_whose_names_are_no_identifiers_are_reached_by_the_row() -> None:
    row = {"Order No.": 7, "items": "column", "keys": None, "é": 1}
    source = ['{{ record["Order No."] }}', "{{ record.items }}", "{{ items }}", "{{ record.keys }}", "{{ é }}"]
    assert rendered(source, **row) == [7, "column", "column", None, 1]


def test_a_column_goes_before_what_is_called_like_it() -> None:
    assert rendered(["{{ range }}", "{{ record }}"], range="r", record="me") == ["r", "me"]


def test_the_row_as_a_whole_is_an_object() -> None:
    assert rendered(["{{ record }}", "{{ record|tojson }}"], a=1, b="é") == [{"a": 1, "b": "é"}, '{"a":1,"b":"é"}']


def test_an_optional_column_may_lack() -> None:
    source = ['{{ a|default("d") }}', "{% if a is defined %}{{ a }}{% endif %}", '{{ record.get("a", "g") }}']
    assert rendered(source) == ["d", "", "g"]
    assert rendered(source, a="x") == ["x", "x", "x"]


def test_leaves_do_not_see_each_others_variables() -> None:
    source = ["{% set x = 1 %}{% set y %}{{ x }}{% endset %}{{ y }}", "{{ x }}", "{% if true %}{{ x }}{% endif %}"]
    assert rendered(source, x="column") == ["1", "column", "column"]


def test_white_space_of_a_prompt_is_kept() -> None:
    assert rendered(["\n {{ a }}\n\n", "{% if a %}\n x\n{% endif %}\n"], a="a") == ["\n a\n\n", "\n x\n\n"]


def test_one_template_serves_many_threads_at_once() -> None:
    template = Template(
        {"a": "{% for x in xs %}{{ x }}{% endfor %}", "b": "{{ i }}", "c": "{{ i }}!"}, "request_format"
    )
    wrong: list[Any] = []

    def work(i: int) -> None:
        for _ in range(200):
            body = template.render({"i": i, "xs": [i] * 3})
            if body != {"a": str(i) * 3, "b": i, "c": f"{i}!"}:
                wrong.append(body)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- Text around JSON ------------------------------------------------------------------------------------------------


def test_a_loop_over_a_list_column_makes_the_messages() -> None:
    turns = [{"role": "user", "text": 'a "quote"'}, {"role": "assistant", "text": "{{ 7*7 }}\n"}]
    assert rendered(TEXT_AROUND_JSON, turns=turns, n=None, tags={"a": "</s>"}) == {
        "model": "m",
        "messages": [
            {"role": "user", "content": '1: a "quote"'},
            {"role": "assistant", "content": "2: {{ 7*7 }}\n"},
        ],
        "n": None,
        "tags": {"a": "</s>"},
    }


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('{"a": {{ x }}}', {"a": 'a"b'}),
        ('{"a": "{{ x }}", "b": [{{ n }}, {{ x|upper }}]}', {"a": 'a"b', "b": [1, 'A"B']}),
        ("{ {{ x }}: 1 }", {'a"b': 1}),
        ('{"a\\"{{ x }}\\\\": "{{ xs|join(",") }}"}', {'a"a"b\\': "1,2"}),
        ('{"a": [{{ xs[0] }}{{ ", " }}{{ xs[1] }}]}', {"a": [1, 2]}),
        ('{"a": {% if n %}{{ x }}{% else %}null{% endif %}}', {"a": 'a"b'}),
        ('{"a": {% if not n %}1{% elif x %}"{{ x }}"{% else %}null{% endif %}}', {"a": 'a"b'}),
        ('{"a": "{% if n %}{{ x }}{% endif %}!"}', {"a": 'a"b!'}),
        ('{"a": [{% for x in xs %}{{ x }}{% if not loop.last %},{% endif %}{% endfor %}]}', {"a": [1, 2]}),
        ('{% set y = x ~ 1 %}{"a": {{ y }}}', {"a": 'a"b1'}),
        ('{% set y %}<{{ x }}>{% for i in xs %}{{ i }}{% endfor %}{% endset %}["{{ y }}", {{ y }}]', ['<a"b>12'] * 2),
        ('{% with y = x %}{"a": "{{ y }}"}{% endwith %}', {"a": 'a"b'}),
        ('{# a "comment #}{"a": "{{ x|tojson }}", "b": {{ x|tojson }}}', {"a": '"a\\"b"', "b": 'a"b'}),
        ('{"a": {{ nothing }}, "b": {{ nan }}, "c": "{{ nothing|default("-") }}"}', {"a": None, "b": None, "c": "-"}),
    ],
)
def test_a_value_is_escaped_for_where_it_stands(source: str, expected: Any) -> None:
    assert rendered(source, x='a"b', n=1, xs=[1, 2], nothing=None, nan=float("nan")) == expected


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ('{"a": {% if x %}"b{% endif %}"}', "must end as it begins"),
        ('{"a": "{% for x in xs %}", "b": "{% endfor %}"}', "not a valid template"),
        ('{% filter upper %}{"a": {{ x }}}{% endfilter %}', "filter block"),
        ('{"a": "{{ x }}",}', "is not JSON"),
        ('{"a": "{{ x }}" "b": 1}', "is not JSON"),
        ("{'a': {{ x }}}", "is not JSON"),
        ('{"a": {{ x }}', "is not JSON"),
        ('{"a": {{ x }', "not a valid template"),
        ("no JSON at all", "is not JSON"),
        ('{"a": NaN}', "is not JSON"),
        ('{"a": 1e999}', "is not JSON"),
        ("", "is not JSON"),
    ],
)
def test_what_cannot_become_json_is_refused_beforehand(source: str, match: str) -> None:
    assert any(match in problem for problem in problems(source))


def test_what_is_not_json_once_rendered_fails_its_row_and_says_so() -> None:
    source = '{"a": [{% for x in xs %}{{ x }},{% endfor %}]}'
    assert "request_format: what it renders to is not JSON: " in failure(source, xs=[1])
    assert rendered(source, xs=[]) == {"a": []}


# --- Errors ----------------------------------------------------------------------------------------------------------


def test_a_missing_column_is_reported_with_its_leaf_and_the_columns_that_there_are() -> None:
    expected = 'request_format.messages[1].content: there is no column "review"; there are: text, Order No.'
    assert failure(CHAT, **{"text": "", "Order No.": 1}) == expected


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ({"a": "{{ gone }}"}, "request_format.a"),
        ({"a": ["x", {"b": "{{ gone }}!"}]}, "request_format.a[1].b"),
        ({"a": "{% if gone %}{% endif %}"}, "request_format.a"),
        ({"a": "{{ gone.deeper[0] }}"}, "request_format.a"),
        ({"a": "{{ gone|upper }}"}, "request_format.a"),
        ({"a": "{{ x ~ gone }}"}, "request_format.a"),
        ({"a": "{{ [x, gone] }}"}, "request_format.a"),
        ({"a": "{{ {'k': gone} }}"}, "request_format.a"),
        ({"a": "{{ gone == 1 }}"}, "request_format.a"),
        ({"a": "{{ gone + 1 }}"}, "request_format.a"),
        ({"a": "{% for i in gone %}{% endfor %}"}, "request_format.a"),
        ({"{{ gone }}": 1}, "request_format.{{ gone }}"),
        ({"a": "{{ record.gone }}"}, "request_format.a"),
        ({"a": '{{ record["gone"] }}'}, "request_format.a"),
        ('{"a": {{ gone }}}', "request_format"),
        ('{"a": [{% for i in xs %}"{{ gone }}"{% endfor %}]}', "request_format"),
    ],
)
def test_wherever_it_is_missing(source: Any, path: str) -> None:
    assert failure(source, x="x", xs=[1]) == f'{path}: there is no column "gone"; there are: x, xs'


def test_a_row_without_columns_says_so() -> None:
    assert failure(["{{ x }}"]).endswith('there is no column "x"; there are: none')


def test_columns_that_it_can_do_without_are_not_blamed() -> None:
    assert 'no column "b"' in failure(["{{ a|default('') }}{{ b }}"])
    assert 'column "b" is null' in failure(["{{ a|default('') }}{{ b }}"], a=None, b=None)


def test_every_column_that_is_required_is_known_before_any_row_is_seen() -> None:
    template = Template(
        {
            "a": "{{ one }} {{ two|default('') }}",
            "b": "{% for turn in turns %}{{ turn.x }}{{ loop.index }}{{ range(2)|list }}{% endfor %}",
            "{{ key }}": "{% if three is defined %}{{ three }}{% endif %}{% set x = one %}{{ x }}",
            "c": "{{ record.other }}{{ 'constant' }}",
        },
        "request_format",
    )
    assert template.required() == {
        "key": "request_format.{{ key }}",
        "one": "request_format.a",
        "turns": "request_format.b",
    }
    assert template.names == {"one", "two", "three", "turns", "key"}


@pytest.mark.parametrize("null", [None, float("nan"), Decimal("NaN")])
def test_null_in_a_text_is_an_error_that_says_what_to_do(null: object) -> None:
    expected = 'request_format.a: column "x" is null; {{ x | default("…") }} says what to send instead'
    assert failure({"a": "Review: {{ x }}"}, x=null) == expected
    assert failure({"a": "{% if true %}{{ x }}{% endif %}"}, x=null) == expected
    assert failure({"a": "{{ x|upper }}"}, x=null) == expected
    assert failure({"a": '{{ x|default("-") }}{{ y.x }}'}, x=null, y={"x": null}).startswith(
        "request_format.a: '{{ x|default(\"-\") }}{{ y.x }}' is null"
    )
    assert rendered(['<{{ x|default("none") }}>', "{{ x }}"], x=null) == ["<none>", None]
    assert 'column "x" is null' in failure({"{{ x }}": 1}, x=null)
    assert 'column "x" is null' in failure('{"a": "{{ x }}", "b": {{ x }}}', x=null)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ x / 0 }}", "division by zero"),
        ("{{ x.gone }}", "has no attribute 'gone'"),
        ("{{ x[5] }}", "has no element 5"),
        ("{{ x + 'a' }}", "unsupported operand"),
        ("{{ x.upper }}", "has no attribute 'upper'"),
        ("{{ 'a'.upper }}", "put () after its name"),
        ("{{ [1]|first|trim(1) }}", "object of type 'int' has no len"),
        ("{{ xs|first }}", "No first item, sequence was empty."),
    ],
)
def test_an_expression_that_fails_on_a_row_is_quoted_with_what_is_wrong(source: str, said: str) -> None:
    message = failure([source], x=1, xs=[])
    assert message.startswith(f"request_format[0]: {source!r} fails on this row: ")
    assert said in message


def test_a_message_never_quotes_a_whole_cell() -> None:
    for source in ("{{ x() }}", "{{ {}[x] }}", "{{ x.gone }}", "{{ [][x] }}", "{{ x|float + x }}", "{{ range(x) }}"):
        assert len(failure([source], x="c" * 10**6)) < 500


def test_all_bad_leaves_are_reported_at_once_and_long_ones_shortened() -> None:
    found = problems(
        {"a": "{{ x", "b": ["{{ x|nope }}", "fine"], "c": "{% include 'x' %}", "d": "{{ " + "x" * 99, "e": 1}
    )
    assert [problem.split(": ")[0] for problem in found] == [
        f"request_format.{name}" for name in ("a", "b[0]", "c", "d")
    ]
    assert all("is not a valid template" in problem for problem in found)
    assert "…" in found[3]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"x", datetime(2024, 5, 17, tzinfo=UTC), {1}])
def test_a_value_that_is_not_json_is_refused(value: object) -> None:
    (problem,) = problems({"a": [value]})
    assert problem == f"request_format.a[0]: {value!r} is not JSON"


def test_an_integer_of_any_size_is_json() -> None:
    assert rendered({"a": [10**15]}) == {"a": [10**15]}
    Template({"a": [10**400]}, "response_format")


def test_a_key_that_is_not_text_becomes_one() -> None:
    assert rendered({1: "{{ x }}", None: 2}, x=1) == {"1": 1, "None": 2}


@pytest.mark.parametrize("depth", [120, 400, 5000])
def test_what_is_nested_too_deeply_is_refused(depth: int) -> None:
    nested: Any = "{{ x }}"
    for _ in range(depth):
        nested = [nested]
    assert problems(nested)[-1].endswith("nested too deeply")
    assert problems("[" * depth + '"x"' + "]" * depth)[-1].endswith("nested too deeply")


@pytest.mark.parametrize("number", ["9" * 1_300, "9" * 5_000, "0x" + "f" * 5_000, "1" + "_0" * 5_000])
def test_a_number_of_thousands_of_digits_is_refused(number: str) -> None:
    with pytest.raises(ConfigError, match="4096 bits"):
        Template({"a": f"{{{{ {number} }}}}"}, "t")


def test_a_structure_of_a_usual_depth_is_fine() -> None:
    nested: Any = "{{ x }}"
    for _ in range(30):
        nested = {"a": [nested]}
    assert "7" in json.dumps(rendered(nested, x=7))


TOKENS: Final = (
    "{{ }} {% %} {# #} {%- -}} x xs record loop range self none true 1 2 0.5 'a' \"b\" | upper tojson default join map "
    "round sort batch replace ( ) [ ] { } . , : = == + - * ** ~ % / if elif else endif for in endfor set endset with "
    "endwith filter endfilter raw endraw is not defined and or recursive block macro"
).split(" ")


@given(st.lists(st.sampled_from([*TOKENS, " ", "\n"]), max_size=25), st.booleans())
def test_whatever_a_template_is_it_runs_or_says_why_not(tokens: list[str], lenient: bool) -> None:
    source = " ".join(tokens)
    for structure in ([source], {source: 1}, '{"a": ' + source + "}", ["{{ " + source + " }}"]):
        with suppress(ConfigError, TemplateError):
            template = Template(structure, "t", lenient=lenient)
            assert template.names >= template.required().keys()
            template.render({"x": "text", "xs": [3, "a", None], "record": {"x": 1}})


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("{% for loop in xs %}{% endfor %}", "loop variable"),
        ("{{ x.get(a=1, a=2) }}", "keyword argument repeated"),
        ("{% for x in xs %}" * 25 + "{% endfor %}" * 25, "nested"),
    ],
)
def test_what_only_the_compiler_finds_is_reported_as_well(source: str, match: str) -> None:
    (problem,) = problems([source])
    assert problem.startswith("request_format: is not a valid template: ")
    assert match in problem


# --- Lenient: what is missing is null --------------------------------------------------------------------------------


def test_where_it_is_lenient_what_is_missing_is_null() -> None:
    template = Template(
        {
            "label": "{{ parsed.label }}",
            "deep": "{{ choices[0].message.tool_calls[0].function.name }}",
            "cost": "{{ usage.cost }}",
            "text": "{{ content }}",
        },
        "response_format",
        lenient=True,
    )
    assert template.render({"content": "x", "choices": []}) == {"label": None, "deep": None, "cost": None, "text": "x"}


def test_but_a_text_has_no_place_for_null_even_then() -> None:
    template = Template({"ok": "{{ gone }}", "text": "{{ label }} {{ gone }}"}, "response_format", lenient=True)
    with pytest.raises(TemplateError, match=r'^response_format\.text: .*default\("…"\)'):
        template.render({"label": "x"})


def test_the_leaf_that_fails_is_blamed_and_not_one_that_does_without() -> None:
    template = Template({"a": "{{ gone }}", "b": "{{ x / 0 }}"}, "response_format", lenient=True)
    with pytest.raises(TemplateError, match=r"^response_format\.b: .*division by zero"):
        template.render({"x": 1})


def test_no_row_takes_the_place_of_a_name_that_the_config_gives() -> None:
    twice = {"model": "m", "{{ name }}": "{{ value }}"}
    texts = (
        '{"model": "m"{% if name %}, "{{ name }}": "{{ value }}"{% endif %}}',
        '{"model": "m", {{ name }}: 1{% if 0 %}{% endif %}}',
    )
    for template in (Template(twice, "r"), *(Template(text, "r") for text in texts)):
        assert template.render({"name": "user", "value": "u"}).keys() == {"model", "user"}
        with pytest.raises(TemplateError, match=r'^r: .*the name "model" twice'):
            template.render({"name": "model", "value": "theirs"})


def test_a_name_that_a_reply_gives_may_be_there_already() -> None:
    template = Template({"o": {"a": 1, "{{ content }}": 2}}, "response_format", lenient=True, fixed_keys=True)
    assert template.render({"content": "a"}) == {"o": {"a": 2}}


@pytest.mark.parametrize("number", [b"9" * 5_000, b"1e99999", b"1.10"])
def test_a_text_with_control_blocks_keeps_every_digit_of_a_row_s_number(number: bytes) -> None:
    row = numbers.loads(b'{"n":' + number + b"}")
    assert numbers.dumps(Template('{"a": {{ n }}{% if 0 %}{% endif %}}', "r").render(row)) == b'{"a":' + number + b"}"


def test_a_string_that_fails_on_record_is_blamed_although_a_constant_has_the_name_of_its_column() -> None:
    template = Template(
        {"a": "{{ record.model.name }} {{ model.id }}"}, "r", constants={"model": {"id": "m", "name": "n"}}
    )
    with pytest.raises(TemplateError, match=r"^r\.a: .* has no attribute 'name'"):
        template.render({"model": "theirs"})


# --- Columns ---------------------------------------------------------------------------------------------------------


def test_the_types_of_the_columns_are_read_off_the_expressions() -> None:
    template = Template(
        {
            "text": "{{ content }}",
            "joined": "{{ content }} {{ usage.total_tokens }}",
            "glued": "{{ content ~ 1 }}",
            "tokens": "{{ usage.total_tokens }}",
            "nested": {"tokens": "{{ usage.total_tokens|default(0) }}", "constant": 1.5},
            "unknown": "{{ parsed.x }}",
            "flag": "{{ usage.total_tokens > 5 }}",
            "words": "{{ content|wordcount }}",
        },
        "response_format",
        lenient=True,
    )
    names = {
        "type": "object",
        "properties": {
            "content": {"type": "string"},
            "usage": {"type": "object", "properties": {"total_tokens": {"type": "integer"}}},
        },
    }
    assert template.columns(names) == {
        "text": {"type": "string"},
        "joined": {"type": "string"},
        "glued": {"type": "string"},
        "tokens": {"type": "integer"},
        "nested": {"type": "object", "properties": {"tokens": {"type": "integer"}, "constant": {"type": "number"}}},
        "unknown": {},
        "flag": {"type": "boolean"},
        "words": {"type": "integer"},
    }
