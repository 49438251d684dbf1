"""What a value is in templates: nulls are null, no text shows an address, the config's names win, fuel is a row's."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pandas as pd
import pytest

from connector import Config
from connector.base.errors import TemplateError
from connector.base.values import dumps
from connector.run import requests
from connector.run.plan import Plan
from connector.templates.filters import FILTERS
from connector.templates.template import Template
from tests.base.test_value_types import NULLS

ROW: Final = {"t": "some text", "n": 3, "d": {"a": 1}, "xs": ["b", "a"], "html": "<a>"}
NO_VALUES: Final = ("t.upper", "d.items", "range", "[t.upper]", "(t.upper,)", "{'a': t.upper}", "[[d.items]]")
_ADDRESS: Final = re.compile(r"0x[0-9a-f]{4}|<built-in|<bound|<class|<generator|object at|dict_items")
ITERATORS: Final = ("xs | map('upper')", "d.items()", "d.keys()", "xs | select")
USES: Final = (
    "{{ {}[%s] }}",
    "{{ [1] | map(%s) | list }}",
    "{{ t | groupby(%s) }}",
    "{{ %s }}",
    "a {{ %s }}",
    "{{ (%s) ~ 'x' }}",
    "{{ 'x' ~ (%s) }}",
    "{{ '%%s' %% (%s) }}",
    "{{ '%%r' %% (%s) }}",
    "{{ '%%a %%s' %% (%s, 1) }}",
    "{{ '%%(a)s' %% {'a': %s} }}",
    "{{ ('%%s' | safe) %% (%s) }}",
    "{{ '%%s' | format(%s) }}",
    "{{ '%%(a)s' | format(a=%s) }}",
    "{{ ['%%s'] | map('format', %s) | list }}",
    "{{ [%s] | join }}",
    "{{ ', '.join([%s]) }}",
    "{{ xs | join(%s) }}",
    "{{ t.replace('e', %s) }}",
    "{{ (html | e).replace('l', %s) }}",
    "{{ (html | safe).replace('a', %s) }}",
    "{{ (html | e).center(9, %s) }}",
    "{{ t | replace('e', %s) }}",
    "{{ html | e | replace('l', %s) }}",
    "{{ {'a': %s} | urlencode }}",
    "{{ [['a', %s]] | urlencode }}",
    "{{ {'a': %s} | tojson }}",
    "{{ [%s] | tojson }}",
    "{{ [%s] | string }}",
    "{{ missing | default(%s) }}",
    "{{ (%s) if n else 1 }}",
    "{%% for x in [%s] %%}{{ x }}{%% endfor %%}",
    "{%% set x = %s %%}{{ x }}",
    "{%% filter upper %%}{{ %s }}{%% endfilter %%}",
    "{{ [%s] | first }}",
    "{{ [%s] | batch(2, t.upper) | list }}",
    "{{ xs | batch(3, %s) | list }}",
    "{{ 'x' | int(%s) }}",
    "{{ t | truncate(3, true, %s) }}",
    "{{ t | trim(%s) }}",
    "{{ t | indent(%s) }}",
    *(
        "{{ (%s) | " + name + " }}"
        for name in sorted(FILTERS)
        if name not in ("batch", "slice", "groupby", "map", "image")
    ),
)


@pytest.mark.parametrize("use", USES)
def test_no_operator_and_no_filter_shows_an_address(use: str) -> None:
    """It would differ in every run, so that the ledger would never know the request again."""
    for value in (*NO_VALUES, *ITERATORS):
        try:
            rendered = dumps(Template([use % value], "t").render(ROW)).decode()
        except TypeError:  # of a list, once it is encoded
            continue
        except TemplateError as error:
            rendered = " ".join(re.findall("0x[0-9a-f]{4}", error.message))  # Python's words may name its objects
        assert not _ADDRESS.search(rendered), value


@pytest.mark.parametrize("value", NO_VALUES)
@pytest.mark.parametrize("use", USES[3:15])
def test_what_is_not_a_value_is_the_row_s_error_wherever_a_text_is_made_of_it(use: str, value: str) -> None:
    with pytest.raises(TemplateError, match=r"put \(\) after its name|is not JSON|neither"):
        Template([use % value], "t").render(ROW)


def test_a_format_prints_numbers_as_numbers_and_anything_else_as_its_text() -> None:
    row = {"price": Decimal("1.5"), "n": np.int64(7), "at": pd.Timestamp("2024-05-17"), "xs": [1, None], "b": b"x"}
    (shown,) = Template(["{{ '%.2f %03d %s %s %s' % (price, n, at, xs, b) }}"], "t").render(row)
    assert shown == "1.50 007 2024-05-17T00:00:00 [1,null] eA=="


@pytest.mark.parametrize("null", NULLS.values(), ids=NULLS)
def test_templates_see_every_null_as_null(null: Any) -> None:
    row = {"v": null}
    for source, expected in (
        ("{{ v }}", None),
        ("{{ record.v }}", None),
        ("{{ v | default('d') }}", "d"),
        ("x{{ v | d('d') }}", "xd"),
        ("{{ record.v | default('d') }}", "d"),
        ("{{ v or 'other' }}", "other"),
        ("{{ v is none }}", True),
        ("{{ v == none }}", True),
        ("{{ record | tojson }}", '{"v":null}'),
        ("{% if v %}yes{% else %}no{% endif %}", "no"),
        ("{{ [v] }}", [None]),
        ("{{ [v] | first | default('d') }}", "d"),
    ):
        assert Template([source], "t").render(row) == [expected], source
    for source in (
        "x {{ v }}",
        "{{ v ~ 'x' }}",
        "{{ v | upper }}",
        "{{ v | safe }}",
        "{{ '%s' % v }}",
        "{{ [v] | join }}",
    ):
        with pytest.raises(TemplateError, match='column "v" is null'):
            Template([source], "t").render(row)


def test_numbers_of_numpy_are_computed_with_as_python_s() -> None:
    row = {"n": np.int8(100), "xs": np.array([1, 2]), "sure": np.bool_(True)}
    assert Template(["{{ n * 100 }}", "{{ xs[1] }}", "{{ xs | sum }}", "{{ 1 if sure else 0 }}"], "t").render(row) == [
        10_000,
        2,
        3,
        1,
    ]


def test_numbers_keep_their_digits() -> None:
    row = {"d": Decimal("12345678901234567.890"), "i": 2**70, "small": Decimal("1.10")}
    strings = ["{{ d }}", "{{ i }}", "x{{ d }}", "x{{ i }}", "{{ [d, i] | tojson }}", "{{ small }}", "x{{ small }}"]
    config = Config(url="http://localhost/v1/embeddings", request_format={"x": strings})
    exact, whole = "12345678901234567.890", str(2**70)
    expected = f'{{"x":[{exact},{whole},"x{exact}","x{whole}","[{exact},{whole}]",1.10,"x1.10"]}}'
    assert Plan(config).requests.body(row).decode() == expected


def test_the_config_s_names_come_before_a_row_s(caplog: pytest.LogCaptureFixture) -> None:
    """A row must not choose the model, whose price is another."""
    template = Template(
        ["{{ model.id }}", "{{ record.model.id }}", "{{ record['model']['id'] }}"], "t", constants=CONSTANTS
    )
    assert template.render({"model": {"id": "dear"}}) == ["cheap", "dear", "dear"]
    models: Any = [{"name": "a", "id": "cheap"}]
    config = Config(url="http://localhost/v1", models=models, request_format={"model": "{{ model.id }}"})
    requests.warn_of_clash.cache_clear()  # another test may have had it say so
    for _ in range(2):
        assert Plan(config).requests.body({"model": {"id": "dear"}}) == b'{"model":"cheap"}'
    (warning,) = caplog.records
    assert warning.getMessage() == (
        'the input has a column "model", but model in request_format is the config\'s: '
        'write record["model"] for the column'
    )


CONSTANTS: Final = {"model": {"id": "cheap"}}


def test_all_strings_of_a_row_have_one_budget_also_where_one_of_them_fails() -> None:
    """A string that would do alone fails where the strings before it have used the fuel up."""
    costly = "{% for i in range(300) %}{{ t }}{% endfor %}"
    row = {"t": "x" * 50_000}
    assert Template([costly], "t").render(row)
    with pytest.raises(TemplateError, match=r"^t\[2\]: .* are larger than one row may make them"):
        Template([costly] * 50, "t").render(row)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("{{ price / 0 }}", "division by zero"),
        ("{{ price // 0 }}", "division by zero"),
        ("{{ 0 * price / 0 }}", "its result is not a number, or too large for one"),
        ("{{ huge * huge }}", "its result is not a number, or too large for one"),
        ("{{ huge % 3 }}", "its result is not a number, or too large for one"),
        ("{{ 2.0 ** 5000 }}", "its result is not a number, or too large for one"),
        ("{{ 1 / 0 }}", "division by zero"),
    ],
)
def test_what_cannot_be_computed_is_said_in_words(source: str, told: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template([source], "request_format").render({"price": Decimal("9.90"), "huge": Decimal("1E+999999")})
    assert str(caught.value).endswith(told)
