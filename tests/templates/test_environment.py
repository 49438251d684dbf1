"""What a template may not do: leave its sandbox, change its row, or use up the machine. And what it may: the filters.

The bombs go off in a process of their own (`python -m tests.templates.test_environment`), whose memory is limited.
"""

from __future__ import annotations

import copy
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self

import pytest

from connector.base.errors import ConfigError, ConnectorError, TemplateError
from connector.base.values import dumps
from connector.templates.metering import MAX_FUEL, weight
from connector.templates.template import Template
from tests.patience import PATIENCE

CALLS: Final = 16_000_000  # of Python functions and of C's: eight for each step of the two renderings that a bomb gets
MEGABYTES: Final = 200
MEGABYTE: Final = "c" * 10**6

ESCAPES: Final = (
    "{{ ''.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ ''['__cl' ~ 'ass__'] }}",
    "{{ x['__class__']['__init__'] }}",
    "{{ ''|attr('__class__') }}",
    "{{ x|attr('upper') }}",
    "{{ [x]|map(attribute='__class__')|list }}",
    "{{ [x]|map(attribute='__class__.__mro__')|list }}",
    "{{ [x]|map('attr', '__class__')|list }}",
    "{{ [x]|groupby('__class__') }}",
    "{{ [x]|sort(attribute='__class__') }}",
    "{{ [x]|unique(attribute='__class__')|list }}",
    "{{ [x]|sum(attribute='__class__') }}",
    "{{ [x]|join(attribute='__class__') }}",
    "{{ [x]|max(attribute='__class__') }}",
    "{{ [x]|selectattr('__class__')|list }}",
    "{{ x.upper.__self__ }}",
    "{{ x.upper['__self__'] }}",
    "{{ x.format('a') }}",
    "{{ '{0.__class__}'.format(x) }}",
    "{{ '{0.__class__}'['format'](x) }}",
    "{{ '{a.__class__}'.format_map({'a': x}) }}",
    "{{ ('{0.__class__}'|safe).format(x) }}",
    "{{ ('{0.__class__}'|e)['format_map']({}) }}",
    "{{ x.translate }}",
    "{{ x.encode() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__ }}",
    "{{ lipsum() }}",
    "{{ joiner('a')() }}",
    "{{ namespace(a=1) }}",
    "{% set ns = namespace(a=1) %}{% set ns.a = 2 %}",
    "{{ dict(a=1) }}",
    "{{ request.application.__globals__ }}",
    "{{ config.items() }}",
    "{{ url_for.__globals__ }}",
    "{{ get_flashed_messages.__globals__ }}",
    "{{ self }}",
    "{{ self._TemplateReference__context }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self['_TemplateReference__context'] }}",
    "{{ context }}",
    "{{ environment }}",
    "{{ __fuel__ }}",
    "{{ __result__ }}",
    "{% set __fuel__ = [10**12] %}{{ x }}",
    "{% for __fuel__ in [1] %}{{ x }}{% endfor %}",
    "{% with __fuel__ = [10**12] %}{{ x }}{% endwith %}",
    "{{ range.__self__ }}",
    "{{ range.__globals__ }}",
    "{{ range(3).__class__ }}",
    "{{ range(3).count(1) }}",
    "{{ (xs|map('upper')).gi_frame }}",
    "{{ (xs|map('upper'))['gi_frame'] }}",
    "{{ (xs|map('upper')).gi_frame.f_back.f_globals }}",
    "{{ (xs|map('upper')).send }}",
    "{% for a in xs %}{{ loop._iterator }}{% endfor %}",
    "{% for a in xs %}{{ loop.__class__ }}{% endfor %}",
    "{% for a in xs %}{{ loop._undefined }}{% endfor %}",
    "{% for a in xs recursive %}{{ loop(xs) }}{% endfor %}",
    "{% macro m() %}{% endmacro %}{{ m.__globals__ }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% call x() %}{% endcall %}",
    "{% include 'a' %}",
    "{% import 'a' as a %}",
    "{% from 'a' import b %}",
    "{% extends 'a' %}",
    "{% block a %}{{ super() }}{% endblock %}",
    "{% autoescape true %}{% endautoescape %}",
    "{% do xs.append(1) %}",
    "{% debug %}",
    "{{ x|pprint }}",
    "{{ x|xmlattr }}",
    "{{ xs|random }}",
    "{{ x|urlize }}",
    "{{ x|wordwrap(1) }}",
    "{{ x|filesizeformat }}",
    "{{ x|_native }}",
    "{{ xs|map('_loop', -10)|list }}",
    "{{ xs|map('_text')|list }}",
    "{{ xs|map(7)|list }}",
    "{{ x|_loop(0) }}",
    "{{ x is nonsense }}",
    "{{ xs.__class__ }}",
    "{{ xs['__class__'] }}",
    "{{ d.__init__ }}",
    "{{ record.__class__ }}",
    "{{ record['__class__'] }}",
    "{{ record.keys.__self__ }}",
    "{{ when.__reduce__() }}",
    "{{ when.tzinfo }}",
    "{{ when.fromtimestamp(0) }}",
    "{{ x() }}",
    "{{ 1() }}",
    "{{ range }}",
    "{{ x.upper }}",
)

MISSING: Final = {"{{ [x]|sort(attribute='__class__') }}", "{{ [x]|max(attribute='__class__') }}"}

MUTATIONS: Final = (
    "{{ xs.append(1) }}",
    "{{ xs.extend([1]) }}",
    "{{ xs.insert(0, 1) }}",
    "{{ xs.pop() }}",
    "{{ xs.clear() }}",
    "{{ xs.sort() }}",
    "{{ xs.reverse() }}",
    "{{ xs['append'](1) }}",
    "{% set _ = xs.append(1) %}{{ x }}",
    "{{ d.update(a=1) }}",
    "{{ d.pop('k') }}",
    "{{ d.setdefault('new', 1) }}",
    "{{ d.clear() }}",
    "{{ d.popitem() }}",
    "{{ record.update(x='y') }}",
    "{{ record.clear() }}",
    "{{ record.__setitem__('x', 1) }}",
    "{% set record.x = 1 %}",
    "{% set d.k = 1 %}",
    "{% set xs[0] = 1 %}",
    "{% set x = 'changed' %}{{ x }}",
    "{% set record = 1 %}{{ record }}",
    "{% for x in xs %}{{ x }}{% endfor %}",
    "{% with x = 1 %}{{ x }}{% endwith %}",
    "{{ xs|sort(reverse=true) }}",
    "{{ xs|reverse|list }}",
    "{{ xs|batch(2, 'z')|list }}",
    "{{ xs|unique|list }}",
    "{{ [1]|sum(start=xs) }}",
    "{{ xs + [1] }}",
    "{{ d|dictsort }}",
    "{{ d|items|list }}",
    "{{ xs|map('upper')|list }}",
)

ROW: Final[dict[str, Any]] = {
    "x": "text",
    "xs": ["b", "a", "B"],
    "d": {"k": ["v"]},
    "when": datetime(2024, 5, 17, 12, 30, tzinfo=UTC),
}

BOMBS: Final[dict[str, str]] = {
    "repeated text": "{{ 'a' * 10**9 }}",
    "repeated emoji": "{{ ('🙂' * 60000000)|length }}",
    "repeated list": "{{ ([0] * 60000000)|length }}",
    "repeated bytes": "{{ (raw * 10**9)|length }}",
    "repeated NUL": "{{ '\\0' * 30000000 }}",
    "number times text": "{{ 10**9 * 'a' }}",
    "lists of one list": "{{ [['x' * 1000] * 1000] * 1000 }}",
    "a billion laughs": "{% set a = ['lol'] * 10 %}" + "{% set a = [a,a,a,a,a,a,a,a,a,a] %}" * 9 + "{{ a }}",
    "laughs in objects": "{% set a = 'lol' %}" + "{% set a = {'a':a,'b':a,'c':a,'d':a} %}" * 15 + "{{ a }}",
    "laughs as JSON": "{{ ([[['x' * 1000] * 1000] * 1000] * 1000)|tojson }}",
    "long range": "{{ range(10**9)|list|length }}",
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
    "many nested loops": "{% for i in range(99) %}" * 15 + "x" + "{% endfor %}" * 15,
    "constant in a loop": "{% for i in range(99999) %}" + "x" * 10000 + "{% endfor %}",
    "emoji in a loop": "{% for i in range(99999) %}" + "🙂" * 5000 + "{% endfor %}",
    "large body of a loop": "{% for i in range(99999) %}" + "{% if i %}{% endif %}" * 1000 + "{% endfor %}",
    "text made in a loop": "{% for i in range(99999) %}{{ ('a' * 1000000)|length }}{% endfor %}",
    "cell in a loop": "{% for i in range(99999) %}{{ cell }}{% endfor %}",
    "cell a thousand times": "{{ cell }}" * 1000 + "x",
    "list a thousand times": "{{ numbers }}" * 1000 + "x",
    "list a thousand times by ~": "{{ " + "~".join(["numbers"] * 1000) + " }}",
    "list a thousand times by join": "{{ ([numbers] * 1000)|join }}",
    "search in a loop": "{% for i in range(99999) %}{{ 'b' in cell }}{% endfor %}",
    "count in a loop": "{% for i in range(99999) %}{% if cell.count('b') %}{% endif %}{% endfor %}",
    "filter in a loop": "{% for i in range(99999) %}{% if cell|upper %}{% endif %}{% endfor %}",
    "test in a loop": "{% for i in range(99999) %}{% if cell is lower %}{% endif %}{% endfor %}",
    "slice in a loop": "{% for i in range(99999) %}{% if cell[1:] %}{% endif %}{% endfor %}",
    "comparison in a loop": "{% set a = [[0] * 500] * 500 %}{% set b = [[0] * 500 + []] * 500 %}"
    "{% for i in range(99999) %}{{ a == b }}{% endfor %}",
    "block in a loop": "{% for i in range(99999) %}{% set a %}{{ cell }}{% endset %}{% endfor %}",
    "test by filter": "{{ range(99999)|select('in', range(99999)|list)|list|length }}",
    "join": "{{ range(99999)|join('x' * 100000) }}",
    "join of repeats": "{{ (['x' * 100000] * 10000)|join|length }}",
    "join as a method": "{{ ('x' * 1000000).join(range(99999)|map('string')) }}",
    "join of maps": "{{ range(99999)|map('center', 60000)|join|length }}",
    "replace": "{{ ('a' * 1000000)|replace('a', 'a' * 100000) }}",
    "replace of nothing": "{{ ('a' * 1000000)|replace('', 'a' * 100000) }}",
    "replace chain": "{{ 'aaaaaaaaaa'" + "|replace('a', 'aaaaaaaaaa')" * 10 + " }}",
    "replace as a method": "{{ ('a' * 1000000).replace('a', 'a' * 100000) }}",
    "doubling by ~": "{% set a = 'aaaaaaaaaa' %}" + "{% set a = a~a~a~a~a~a~a~a~a~a %}" * 10 + "{{ a }}",
    "doubling by +": "{% set a = 'aaaaaaaaaa' %}" + "{% set a = a + a %}" * 30 + "{{ a }}",
    "doubling of lists": "{% set a = [1] * 10 %}" + "{% set a = a + a %}" * 30 + "{{ a }}",
    "center": "{{ 'x'|center(10**9) }}",
    "center, constant": "{{ 'x'|center(1000000000) }}",
    "center, named": "{{ 'x'|center(width=10**9) }}",
    "center, spread": "{{ 'x'|center(*[10**9]) }}",
    "batch": "{{ [1]|batch(10**9, 0)|list }}",
    "slice": "{{ [1]|slice(10**9)|list }}",
    "indent": "{{ 'a\nb'|indent(10**9) }}",
    "indent by a text": "{{ ('a\r' * 100000)|indent('x' * 100000) }}",
    "format": "{{ '%1000000000d'|format(1) }}",
    "format operator": "{{ '%1000000000d' % 1 }}",
    "format, many": "{{ ('%(a)999d' * 1000000 % {'a': 1})|length }}",
    "format, long values": "{{ ('%(a)s' * 100000 % {'a': cell})|length }}",
    "format, width as a value": "{{ '%*d' % (1000000000, 1) }}",
    "format, precision": "{{ '%.1000000000f' % 1.0 }}",
    "power": "{{ 10 ** (10 ** 8) }}",
    "powers": "{{ ((7 ** 1000) ** 1000) % 7 }}",
    "product": "{% set a = 2 ** 4000 %}" + "{% set a = a * a %}" * 20 + "{{ a % 7 }}",
    "number from a text": "{{ ('f' * 1000000)|int(0, 16) % 7 }}",
    "round down": "{{ 5|round(-1000000000) }}",
    "round up": "{{ 5|round(1000000000, 'ceil') }}",
    "whole number of an exponent": "{{ far|int }}",
    "exponent, rounded": "{{ far|round(0, 'floor') }}",
    "exponent in a format": "{{ '%d' % far }}",
    "sum of lists": "{{ range(99999)|batch(1)|sum(start=[])|length }}",
    "urlencode": "{{ ('é' * 30000000)|urlencode|length }}",
    "wordcount": "{{ ('ab ' * 9000000)|wordcount }}",
    "title": "{{ ('ab ' * 9000000)|title|length }}",
    "split": "{{ ('ab ' * 9000000).split()|length }}",
    "split at commas": "{{ ('ab,' * 9000000).split(',')|length }}",
    "splitlines": "{{ ('ab\n' * 9000000).splitlines()|length }}",
    "list of characters": "{{ ('🙂' * 7000000)|list|length }}",
    "sorted characters": "{{ ('ab' * 9000000)|sort|length }}",
    "grouped characters": "{{ ('ab' * 9000000)|groupby('x')|list|length }}",
    "long sort": "{{ range(10**9)|sort|length }}",
    "long groupby": "{{ range(99999)|groupby('x')|list|length }}",
    "trim of many": "{{ ('a' * 1000000)|trim('b' * 1000000 ~ 'a') }}",
    "strip of many": "{{ ('a' * 1000000).strip('b' * 1000000 ~ 'a') }}",
    "strftime": "{{ when.strftime('%c' * 1000000) }}",
    "escape": "{{ ('<' * 60000000)|e|length }}",
    "fuel from a negative width": "{% set a = 'x'|center(-10**15) %}{{ 'a' * 10**9 }}",
    "fuel from a negative batch": "{% set a = [1]|batch(-10**15)|list %}{{ 'a' * 10**9 }}",
    "fuel from a negative repeat": "{% set a = 'x' * -10**15 %}{{ 'a' * 10**9 }}",
    "fuel from no number": "{% set a = [1]|batch('nan'|float)|list %}{{ 'a' * 10**9 }}",
    "fuel from infinity": "{% set a = [1]|batch(-('inf'|float))|list %}{{ 'a' * 10**9 }}",
    "fuel from the compiler's filter": "{{ [[1]]|map('_loop', -10**15)|map('list')|list }}{{ 'a' * 10**9 }}",
    "long attribute": "{{ range(99999)|map(attribute='a.' * 100000, default=1)|list|length }}",
    "many attributes": "{{ range(99999)|map('string')|sort(attribute='0,' * 10000)|length }}",
    "long attribute of few": "{{ [1]|groupby('a.' * 1000000, default=1) }}",
    "format of bytes": "{{ raw % 1000000000 }}",
    "strftime of a time": "{{ clock.strftime('%c' * 1000000) }}",
    "JSON of JSON": "{{ '\\'" + "|tojson" * 40 + " }}",
    "long filter chain": "{{ x" + "|trim" * 5000 + " }}",
    "long default chain": "{{ x" + "|default('y')" * 300 + " }}",
    "long sum": "{{ " + "+".join(["x"] * 5000) + " }}",
    "nested lists": "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "nested parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "nested filters": "{{ " + "(" * 95 + "x" + ")|trim" * 95 + " }}",
    "nested conditions": "{% if 1 %}" * 500 + "{% endif %}" * 500,
    "nested signs": "{{ " + "-" * 5000 + "1 }}",
    "nested nots": "{{ " + "not " * 5000 + "1 }}",
    "JSON around a cell": '{"a": [{% for i in range(99999) %}"{{ cell }}",{% endfor %}0]}',
    "JSON around a constant": '{"a": [{% for i in range(99999) %}"' + "x" * 10000 + '",{% endfor %}0]}',
    "JSON around a list": '{"a": [{% for i in range(99999) %}{{ [cell] }},{% endfor %}0]}',
}


def render(source: str, **row: Any) -> Any:
    return Template([source], "request_format").render(row)[0]


# --- Safety ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lenient", [False, True], ids=["strict", "lenient"])
@pytest.mark.parametrize("source", ESCAPES)
def test_no_known_way_out_of_the_sandbox_is_open(source: str, lenient: bool) -> None:
    """It is refused; or what it reaches for is missing, which a lenient template and a sort let through."""
    try:
        result = Template([source], "request_format", lenient=lenient).render(ROW)
    except (ConfigError, TemplateError):
        return
    assert source in MISSING or lenient
    assert dumps(result) in (b"[null]", b"[[]]", b"[[null]]", b'["text"]', b'[["text"]]', b'[[[null,["text"]]]]')


@pytest.mark.parametrize("source", MUTATIONS)
def test_a_template_cannot_change_its_row(source: str) -> None:
    row = copy.deepcopy(ROW)
    with suppress(ConnectorError):
        Template([source, "{{ x }}"], "request_format").render(row)
    assert row == ROW


@pytest.fixture(scope="module")
def blasts() -> dict[str, dict[str, Any]]:
    """What became of each bomb, by its name."""
    command = [sys.executable, "-m", "tests.templates.test_environment"]
    done = subprocess.run(command, capture_output=True, cwd=Path(__file__).parents[2], timeout=PATIENCE, check=False)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {each["name"]: each for each in found}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_after_few_steps_and_with_little_memory(name: str, blasts: dict[str, dict[str, Any]]) -> None:
    assert name in blasts, "the process did not survive this one, or one before it"
    blast = blasts[name]
    assert blast["class"] in ("ConfigError", "TemplateError"), blast
    assert "MemoryError" not in blast["message"]
    assert blast["calls"] < CALLS, blast


class Calls:
    """Counts the calls of functions, Python's and C's, while it is entered: the same number on any machine."""

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self) -> Self:
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _count(self, _frame: FrameType, event: str, _value: object) -> None:
        self.number += event in ("call", "c_call")


def explode() -> Iterator[dict[str, Any]]:
    """Sets off every bomb, with `MEGABYTES` more of memory than there is in use now, and counts the calls it makes."""
    more = {"raw": b"%1000000000d", "clock": datetime(2024, 5, 17, tzinfo=UTC).time(), "numbers": [0.5] * 10**5}
    row = {**ROW, **more, "cell": MEGABYTE, "far": Decimal("1E+999999999")}
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + MEGABYTES * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for name, source in BOMBS.items():
        with Calls() as calls:
            try:
                body = Template(source if source.startswith('{"') else [source], "request_format").render(row)
                result = {"class": "", "message": f"rendered {len(dumps(body))} bytes"}
            except ConnectorError as error:
                result = {"class": type(error).__name__, "message": error.message}
        yield {"name": name, **result, "calls": calls.number}


def test_fuel_is_for_one_rendering_and_not_for_the_run() -> None:
    template = Template(["{{ cell }}{{ cell }}!"], "request_format")
    for _ in range(2 * MAX_FUEL // len(MEGABYTE)):
        assert len(template.render({"cell": MEGABYTE})[0]) == 2 * len(MEGABYTE) + 1


def test_weighing_ends_where_it_is_beyond_all_limits() -> None:
    value: list[Any] = ["lol"]
    for _ in range(100):
        value = [value, value]
    assert weight(value) > MAX_FUEL


def test_a_cell_of_a_megabyte_may_be_worked_on() -> None:
    source = (
        "{{ (cell|trim|upper|replace('C', 'd')).split('x')[0]|truncate(9) }} {{ cell|wordcount }} {{ 'd' in cell }}"
    )
    assert render(source, cell=MEGABYTE) == "dddddd... 1 false"


def test_a_list_of_ten_thousand_may_be_looped_over() -> None:
    rows = [{"name": f"n{i}", "text": "t" * 20} for i in range(10_000)]
    source = "{% for row in rows if row.name %}{{ loop.index }}. {{ row.name|upper }}: {{ row.text }}\n{% endfor %}"
    assert render(source, rows=rows).endswith("10000. N9999: tttttttttttttttttttt\n")


@pytest.mark.parametrize(
    ("source", "known"),
    [("{{ x|wordwrap }}", "wordcount"), ("{{ x is nonsense }}", "defined"), ("{{ x|_native }}", "tojson")],
)
def test_a_filter_or_test_that_there_is_not_is_reported_with_those_that_there_are(source: str, known: str) -> None:
    with pytest.raises(ConfigError, match=rf"there are: .*\b{known}\b") as caught:
        Template([source], "request_format")
    assert " _" not in str(caught.value)


def test_a_column_with_a_private_name_is_reached_by_the_row() -> None:
    with pytest.raises(ConfigError, match='record\\["self"\\]'):
        render("{{ self }}", self="me")
    assert render('{{ record["self"] }}', self="me") == "me"
    assert render('{{ record["__typename"] }}', __typename="T") == "T"


# --- The usual filters and methods -----------------------------------------------------------------------------------

NUMBERS: Final = [3, 1, 2]
PEOPLE: Final = [{"name": "Bo", "age": 3}, {"name": "al", "age": 1}, {"name": "Cy", "age": 3}]

USUAL: Final[list[tuple[str, Any]]] = [
    ("{{ n|abs }}", 7),
    ("{{ xs|batch(2)|list }}", [[3, 1], [2]]),
    ("{{ xs|batch(2, 0)|list }}", [[3, 1], [2, 0]]),
    ("{{ s|capitalize }}", "Some <b>text</b> "),
    ("{{ 'a'|center(3) }}", " a "),
    ("{{ xs|count }}", 3),
    ("{{ nothing|default('d') }}", "d"),
    ("{{ nothing|d('d') }}", "d"),
    ("{{ missing|default('d') }}", "d"),
    ("{{ nan|default('d') }}", "d"),
    ("{{ ''|default('d') }}", ""),
    ("{{ ''|default('d', true) }}", "d"),
    ("{{ {'b': 1, 'a': 2}|dictsort }}", [["a", 2], ["b", 1]]),
    ("{{ '<&'|e }}", "&lt;&amp;"),
    ("{{ '<'|escape|escape }}", "&lt;"),
    ("{{ '<'|e|forceescape }}", "&amp;lt;"),
    ("{{ xs|first }}", 3),
    ("{{ '1.5'|float }}", 1.5),
    ("{{ '%.2f %s'|format(1.234, 'a') }}", "1.23 a"),
    ("{{ '%(a)s'|format(a=1) }}", "1"),
    ("{{ '%5.1f|%s' % (1.25, 'a') }}", "  1.2|a"),
    ("{% for age, group in people|groupby('age') %}{{ age }}:{{ group|length }} {% endfor %}", "1:1 3:2 "),
    ("{% for g in people|groupby('age') %}{{ g.grouper }}:{{ g.list|length }} {% endfor %}", "1:1 3:2 "),
    ("{{ 'a\nb'|indent(2) }}", "a\n  b"),
    ("{{ '42.5'|int }}", 42),
    ("{{ 'ff'|int(0, 16) }}", 255),
    ("{% for k, v in {'a': 1}|items %}{{ k }}{{ v }}{% endfor %}", "a1"),
    ("{{ xs|join(', ') }}", "3, 1, 2"),
    ("{{ people|join('|', attribute='name') }}", "Bo|al|Cy"),
    ("{{ [true, [1], 'é']|join(' ') }}", "true [1] é"),
    ("{{ xs|last }}", 2),
    ("{{ xs|length }}", 3),
    ("{{ 'ab'|list }}", ["a", "b"]),
    ("{{ 'AB'|lower }}", "ab"),
    ("{{ true|lower }}", "true"),
    ("{{ people|map(attribute='name')|list }}", ["Bo", "al", "Cy"]),
    ("{{ people|map(attribute='name')|map('upper')|join(',') }}", "BO,AL,CY"),
    ("{{ people|map(attribute='x', default='?')|join }}", "???"),
    ("{{ xs|max }}", 3),
    ("{{ people|min(attribute='age') }}", PEOPLE[1]),
    ("{{ xs|reject('odd')|list }}", [2]),
    ("{{ people|rejectattr('age', 'eq', 3)|map(attribute='name')|list }}", ["al"]),
    ("{{ 'a-b-c'|replace('-', '+') }}", "a+b+c"),
    ("{{ 'a-b-c'|replace('-', '+', 1) }}", "a+b-c"),
    ("{{ 'abc'|reverse }}", "cba"),
    ("{{ xs|reverse|list }}", [2, 1, 3]),
    ("{{ 2.567|round(2) }}", 2.57),
    ("{{ 2.1|round(0, 'ceil') }}", 3.0),
    ("{{ '<b>'|safe }}", "<b>"),
    ("{{ xs|select('odd')|list }}", [3, 1]),
    ("{{ people|selectattr('age', '>', 2)|map(attribute='name')|list }}", ["Bo", "Cy"]),
    ("{{ xs|slice(2)|list }}", [[3, 1], [2]]),
    ("{{ xs|sort }}", [1, 2, 3]),
    ("{{ people|sort(attribute='name')|map(attribute='name')|list }}", ["al", "Bo", "Cy"]),
    ("{{ 12|string }}", "12"),
    ("{{ [1, none]|string }}", "[1,null]"),
    ("{{ s|striptags }}", "some text"),
    ("{{ xs|sum }}", 6),
    ("{{ people|sum(attribute='age', start=0.5) }}", 7.5),
    ("{{ 'some text'|title }}", "Some Text"),
    ("{{ [1, 'é', none]|tojson }}", '[1,"é",null]'),
    ("{{ {'a': 1}|tojson(indent=2) }}", '{\n  "a": 1\n}'),
    ("{{ s|trim }}", "some <b>text</b>"),
    ("{{ 'xax'|trim('x') }}", "a"),
    ("{{ 'some long text'|truncate(9, leeway=0) }}", "some..."),
    ("{{ 'some long text'|truncate(6, true, '…', 0) }}", "some …"),
    ("{{ [1, 1, 2]|unique|list }}", [1, 2]),
    ("{{ 'é'|upper }}", "É"),
    ("{{ 'a b&é'|urlencode }}", "a%20b%26%C3%A9"),
    ("{{ {'a': 'b c'}|urlencode }}", "a=b+c"),
    ("{{ 'some text'|wordcount }}", 2),
    ("{{ s.strip().split(' ')[0] }}", "some"),
    ("{{ s.upper().startswith('SOME') }}", True),
    ("{{ ', '.join(xs) }}", "3, 1, 2"),
    ("{{ s.replace('some', 'any').strip() }}", "any <b>text</b>"),
    ("{{ 'a,b'.partition(',')[2] }}", "b"),
    ("{{ xs.index(1) }}", 1),
    ("{{ people[0].get('name') }}", "Bo"),
    ("{{ people[0].get('x', 'none') }}", "none"),
    ("{% for k, v in people[0].items() %}{{ k }}={{ v }} {% endfor %}", "name=Bo age=3 "),
    ("{{ record.keys()|list|length }}", 6),
    ("{{ when.strftime('%d.%m.%Y') }}", "17.05.2024"),
    ("{{ when.year + 1 }}", 2025),
    ("{{ when.isoformat() }}", "2024-05-17T00:00:00+00:00"),
    ("{{ range(3)|list }}", [0, 1, 2]),
    ("{{ range(3) }}", [0, 1, 2]),
    ("{{ 2 ** 10 + 7 // 2 - 7 % 4 * 1.5 }}", 1022.5),
    ("{{ -n if n < 0 else n }}", 7),
    ("{{ 'ab' * 2 + 'c' }}", "ababc"),
    ("{{ 'yes' if 'text' in s and n is not none }}", "yes"),
    ("{{ 'no' if n > 0 }}", ""),
    ("{{ xs[1:] + [n] }}", [1, 2, -7]),
    ("{{ xs[-1] ~ s[:4] }}", "2some"),
    ("{{ (1, 2) }}", [1, 2]),
    ("{{ {'a': (1, nan), 'b': xs|map('string')} }}", {"a": [1, None], "b": ["3", "1", "2"]}),
    ("{{ n is number and s is string and nothing is none and missing is not defined }}", True),
    ("{% set total = xs|sum %}{% if total > 5 %}{{ total }}{% elif total %}few{% else %}none{% endif %}", "6"),
    ("{% set a | upper %}x{{ s }}{% endset %}{{ a }}", "XSOME <B>TEXT</B> "),
    ("{% with a = n %}{{ a }}{% endwith %}", "-7"),
    ("{% filter upper %}a{{ s }}{% endfilter %}", "ASOME <B>TEXT</B> "),
    ("{% for i in xs %}{{ loop.index }}{{ loop.cycle('a', 'b') }}{{ ',' if not loop.last }}{% endfor %}", "1a,2b,3a"),
    ("{% for i in xs if i > 1 %}{{ loop.length }}{{ i }} {% else %}none{% endfor %}", "23 22 "),
    ("{% for i in [] %}{{ i }}{% else %}none{% endfor %}", "none"),
    ("{% for i in xs %}{% for j in xs %}{{ loop.last }}{% endfor %}{% endfor %}", "falsefalsetrue" * 3),
]


@pytest.mark.parametrize(("source", "expected"), USUAL)
def test_the_usual_filters_and_methods_work(source: str, expected: Any) -> None:
    when = datetime(2024, 5, 17, tzinfo=UTC)
    values: dict[str, Any] = {
        "n": -7,
        "s": "some <b>text</b> ",
        "xs": NUMBERS,
        "people": PEOPLE,
        "nothing": None,
        "nan": float("nan"),
    }
    row: dict[str, Any] = values | {"when": when} if "when" in source else values
    assert json.loads(dumps(render(source, **row))) == expected
    assert NUMBERS == [3, 1, 2]


@pytest.mark.parametrize(
    "source",
    [
        "{{ nothing|upper }}",
        "{{ nothing|trim }}",
        "{{ nothing|e }}",
        "{{ nothing|string }}",
        "{{ nothing|replace('a', 'b') }}",
        "{{ 'a'|replace('a', nothing) }}",
        "{{ 'a' ~ nothing }}",
        "{{ ['a', nothing]|join }}",
        "{{ ', '.join(['a', nothing]) }}",
        "{{ '%s'|format(nothing) }}",
        "{{ '%s' % nothing }}",
        "{{ '%s %s' % ('a', nothing) }}",
        "{{ '%(nothing)s' % record }}",
        "{{ nothing|truncate(3) }}",
        "{{ nothing|title }}",
        "{{ [nothing]|map('lower')|list }}",
    ],
)
@pytest.mark.parametrize("null", [None, float("nan")])
def test_a_filter_has_no_text_for_null(source: str, null: object) -> None:
    """Jinja2's own would send the model "None", or "none"."""
    with pytest.raises(TemplateError):
        render(source, nothing=null)


@pytest.mark.parametrize(
    "source",
    [
        "{{ gone|upper }}",
        "{{ usage.cost|round(4) }}",
        "{{ gone.deep.deeper }}",
        "{{ gone[0].text|trim|length }}",
        "{{ content.strip() }}",
        "{{ content|int }}",
        "{{ gone|map(attribute='x')|list }}",
        "{{ nan|float }}",
        "{{ gone|first }}",
    ],
)
def test_where_missing_values_are_let_through_null_makes_null(source: str) -> None:
    row: dict[str, Any] = {"content": None, "usage": {}, "nan": float("nan")}
    assert Template([source], "response_format", lenient=True).render(row) == [None]


def test_missing_parts_of_a_list_are_null_where_they_are_let_through() -> None:
    template = Template(["{{ xs|map(attribute='a') }}", "{{ [gone] }}", "{{ {'k': gone} }}"], "r", lenient=True)
    assert template.render({"xs": [{"a": 1}, {}]}) == [[1, None], [None], {"k": None}]


if __name__ == "__main__":
    for blast in explode():
        sys.stdout.write(json.dumps(blast) + "\n")
        sys.stdout.flush()
