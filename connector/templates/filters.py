"""The filters and tests that a template may use: Jinja2's, without those that are useless in requests.

Each is charged for what it reads and makes. A filter that returns a text refuses null, as a text with an expression in
it does: `default` says what to send instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from sys import getsizeof
from typing import Any, Final

import jinja2.filters
import jinja2.tests
from jinja2 import ChainableUndefined, pass_context, pass_environment
from jinja2.environment import Environment
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, Undefined

from connector.base.regex import regex
from connector.base.values import (
    NullError,
    computable,
    default,
    in_string,
    is_null,
    json_value,
    native,
    native_list,
    text,
    tojson,
    without_tags,
)
from connector.templates.images import url_of
from connector.templates.metering import (
    STEP,
    charge,
    charged,
    charged_items,
    charged_look_ups,
    cost_of_growth,
    cost_of_reading,
    weight,
)

_FROM_JINJA: Final = frozenset(
    "abs batch capitalize center count dictsort e escape first float forceescape format groupby indent int items join "
    "last length list lower map max min reject rejectattr replace reverse round safe select selectattr slice sort "
    "string striptags sum title trim truncate unique upper urlencode wordcount".split()
)
_OF_TEXT: Final = frozenset(
    "capitalize center e escape forceescape format indent lower replace safe string striptags title trim truncate "
    "upper wordcount".split()
)
_COMPARING: Final = frozenset("== eq equalto != ne > gt greaterthan >= ge < lt lessthan <= le in lower upper".split())
_WIDE: Final = regex(r"\*|\d{4}")
_WIDEST: Final = 1000
IMAGE_ROOT: Final = "__image_root__"
"""The name of the folder of images in the context."""

_IMAGE: Final = 4  # bytes per unit of fuel: images are large, but only passed on


def join(context: Context, separator: object, values: Iterable[Any]) -> str:
    """Returns the texts of the values with the separator between them."""
    between, parts = text(separator), _texts(context, values)
    charge(context, sum(map(getsizeof, parts)) + len(parts) * 4 * len(between))
    return between.join(parts)


def percent(context: Context, template: Any, values: Any) -> Any:
    """Returns `template % values`. Raises `NullError` if one of the values is null."""
    template = text(template)
    charge(context, weight(values))
    if isinstance(values, dict):
        values = {name: _printable(context, value) for name, value in values.items()}
    elif isinstance(values, tuple):
        values = tuple(_printable(context, value) for value in values)
    else:
        values = _printable(context, values)
    if _WIDE.search(template):
        raise SecurityError(f"a format makes a value wider than {_WIDEST - 1}")
    charge(context, template.count("%") * (_WIDEST + weight(values)))
    if isinstance(values, dict):
        values = {name: value for name, value in values.items() if not is_null(value)}
    elif any(map(is_null, values if isinstance(values, tuple) else [values])):
        raise NullError("a format cannot take null")
    return template % values


def _printable(context: Context, value: Any) -> Any:
    """Returns a value for `%`: a number or null as it is, anything else as its text."""
    value = computable(value)
    charge(context, cost_of_growth("int", value))
    return value if isinstance(value, str | int | float | Decimal) or is_null(value) else text(value)


@pass_context
def _concat(context: Context, values: Iterable[Any]) -> str:
    parts = _texts(context, values)
    charge(context, sum(map(getsizeof, parts)))
    return "".join(parts)


def once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Returns the object of these names and values.

    Raises:
        ValueError: A name comes twice: one that a row gives would take the place of one that the config gives.
    """
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise ValueError(f'an object cannot have the name "{name}" twice')
        made[name] = value
    return made


def _texts(context: Context, values: Iterable[Any]) -> list[str]:
    return [value if type(value) is str else _spend(context, value) for value in values]


@pass_context
def _join(context: Context, values: Iterable[Any], d: object = "", attribute: str | int | None = None) -> str:
    if attribute is not None:
        values = map(jinja2.filters.make_attrgetter(context.environment, attribute), values)
    return join(context, d, values)


@pass_context
def _format(context: Context, template: str, *args: Any, **options: Any) -> Any:
    return percent(context, template, options or args)


def _urlencode(value: Any) -> str:
    if isinstance(value, str) or not isinstance(value, Iterable):
        return jinja2.filters.do_urlencode(text(value))
    pairs = value.items() if isinstance(value, Mapping) else value
    return jinja2.filters.do_urlencode([(text(name), text(each)) for name, each in pairs])


def _replace(value: str, old: object, new: object, count: int | None = None) -> str:
    return value.replace(text(old), text(new), -1 if count is None else count)


@pass_environment
def _sum(environment: Environment, values: Iterable[Any], attribute: str | int | None = None, start: Any = 0) -> Any:
    if not isinstance(start, int | float | Decimal):
        raise TypeError("a sum starts with a number")
    return jinja2.filters.FILTERS["sum"](environment, values, attribute, start)


@pass_context
def _image(context: Context, value: object) -> str:
    if isinstance(value, Undefined):
        text(value)  # raises an error that says what is missing
    url = url_of(value, context.parent[IMAGE_ROOT])
    charge(context, STEP + len(url) // _IMAGE)
    return url


@pass_context
def _display(context: Context, value: Any) -> Any:
    charge(context, weight(value))
    if isinstance(value, dict):
        return {key: native(item) for key, item in value.items()}
    return type(value)(map(native, value))


@pass_context
def _read(context: Context, value: Any) -> Any:
    charge(context, weight(value))
    return value


@pass_context
def _slice(context: Context, value: Any, start: int | None, stop: int | None, step: int | None) -> Any:
    return None if _is_let_through(context, value) else charged(context, value[start:stop:step])


def _paid(function: Callable[..., str]) -> Callable[..., str]:
    """Returns a filter that turns anything into a text, and charges for it."""

    @pass_context
    def call(context: Context, value: Any, *args: Any, **options: Any) -> str:
        result = function(value, *args, **options)
        charge(context, STEP + weight(result))
        return result

    return call


def _metered(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the filter `name`, which charges for its work. In a lenient environment it turns null into null."""
    passed = _passed(function)

    @pass_context
    def call(context: Context, value: Any, *args: Any, **options: Any) -> Any:
        if _is_let_through(context, value):
            return None
        if name in _OF_TEXT and not isinstance(value, str):
            value = text(value)
        charge(context, STEP + cost_of_reading(name, value) + cost_of_growth(name, value, *args, **options))
        value = charged_look_ups(context, name, value, (*args, *options.values()))
        return charged(context, function(*passed(context), value, *args, **options))

    return call


def _comparing(function: Callable[..., bool]) -> Callable[..., bool]:
    """Returns a test that charges for reading its arguments."""

    @pass_context
    def call(context: Context, *values: Any) -> bool:
        charge(context, sum(map(weight, values)))
        return function(*values)

    return call


def _is_let_through(context: Context, value: object) -> bool:
    missing = is_null(value) or isinstance(value, ChainableUndefined)
    return missing and issubclass(context.environment.undefined, ChainableUndefined)


def _passed(function: Callable[..., Any]) -> Callable[[Context], tuple[Any, ...]]:
    """Returns a function for the extra arguments (such as the context) that Jinja2 passes before the value."""
    match getattr(getattr(function, "jinja_pass_arg", None), "name", None):
        case "context":
            return lambda context: (context,)
        case "eval_context":
            return lambda context: (context.eval_ctx,)
        case "environment":
            return lambda context: (context.environment,)
    return lambda _: ()


_spend: Final = _paid(text)

_OWN: Final[Mapping[str, Callable[..., Any]]] = {
    "format": _format,
    "join": _join,
    "list": native_list,
    "replace": _replace,
    "string": text,
    "striptags": without_tags,
    "sum": _sum,
    "urlencode": _urlencode,
}

FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    **{name: _metered(name, _OWN.get(name, jinja2.filters.FILTERS[name])) for name in _FROM_JINJA},
    "default": default,
    "d": default,
    "image": _image,
    "tojson": _paid(tojson),
}
"""The filters that a template may use, by name."""

READING: Final = frozenset({"image"})
"""Filters that may read a file. Only requests have them: a reply must never be able to name one."""

INTERNAL: Final[Mapping[str, Callable[..., Any]]] = {
    "_text": text,
    "_native": native,
    "_in_string": _paid(in_string),
    "_value": _paid(json_value),
    "_spend": _spend,
    "_concat": _concat,
    "_object": once,
    "_display": _display,
    "_read": _read,
    "_slice": _slice,
    "_loop": charged_items,
}
"""Filters that only the compiler may use."""

_ALL_TESTS: Final[Mapping[str, Any]] = {**jinja2.tests.TESTS, "none": is_null}
TESTS: Final[Mapping[str, Callable[..., Any]]] = {
    name: _comparing(test) if name in _COMPARING else test for name, test in _ALL_TESTS.items()
}
"""The tests that a template may use, by name."""
