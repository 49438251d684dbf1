"""Bounds the time and memory of a rendering: every operation of a template is charged for what it reads and makes.

The author of a config may not be the owner of the machine, and `{{ "x" * 10**9 }}` would fill its memory. So each
rendering has fuel: a byte that is read or made takes one unit, anything else that takes time takes `STEP`. An operation
whose result can be far larger than its arguments is charged before it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from math import inf
from sys import getsizeof
from typing import Any, Final

from jinja2 import pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context

from connector.base.regex import regex
from connector.base.values import text

FUEL: Final = "__fuel__"
"""The name of a row's remaining fuel in the context: `[units]`."""

MAX_FUEL: Final = 32 * 2**20
"""The units of one rendering: 32 MiB read or made, or a million steps. The slowest operations use it up in a second."""

STEP: Final = 32
"""The units for an item, a call, or a node in the body of a loop."""

_LOOK_UP: Final = 8 * STEP  # per part of a dotted attribute: a missing one raises and catches several errors
_SPLIT: Final = 8  # per byte of a text that is split, since each piece is an object
_SPLITTING: Final = frozenset("indent rsplit split splitlines striptags title urlencode wordcount".split())
_ITERATING: Final = frozenset(
    "batch groupby join list map max min reject rejectattr select selectattr slice sort sum unique".split()
)
_CHEAP: Final = frozenset("abs count first float int items last length round safe string".split())
_PATH: Final = regex(r"[.,]")
MAX_BITS: Final = 4096
TOO_LONG: Final = f"a whole number has more than {MAX_BITS} bits"
_WIDTH: Final = 4  # bytes of a character, at most


def charge(context: Context, cost: float) -> None:
    """Takes `cost` units of fuel. Raises `SecurityError` if there are fewer left."""
    fuel = context.parent[FUEL]
    fuel[0] -= cost
    if fuel[0] < 0:
        raise SecurityError("its texts, lists or loops are larger than one row may make them")


def weight(value: object) -> int:
    """Returns the bytes of a value and of all that it contains, repeats included; stops counting at `MAX_FUEL`."""
    if isinstance(value, str):
        return getsizeof(value)
    total, rest = 0, [value]
    while rest and total <= MAX_FUEL:
        item = rest.pop()
        total += getsizeof(item)
        if isinstance(item, Collection) and not isinstance(item, str | bytes):
            rest.extend(item)  # += would add to each number of a NumPy array
            rest.extend(item.values() if isinstance(item, Mapping) else ())
    return total


def cost_of_reading(name: str, value: object) -> int:
    """Returns the units that the filter or method `name` takes to read `value`."""
    if not isinstance(value, str):
        return 0 if name in _CHEAP else weight(value)
    return getsizeof(value) * (STEP if name in _ITERATING else _SPLIT if name in _SPLITTING else 1)


def cost_of_growth(name: str, value: Any, *args: Any, **options: Any) -> float:
    """Returns the units for the result of the filter or method `name`, if its arguments can make that large."""
    grows = _GROWTH.get(name)
    return max(0, grows(value, *args, **options)) if grows else 0  # 0 for NaN as well


def charged_look_ups(context: Context, name: str, value: Any, args: Iterable[object]) -> Any:
    """Returns the same value, and charges each item for a dotted `attribute` that the filter looks up in it."""
    parts = sum(len(_PATH.findall(arg)) for arg in args if isinstance(arg, str)) if name in _ITERATING else 0
    return charged_items(context, value, _LOOK_UP * parts) if parts else value


def cost_of_operation(operator: str, left: object, right: object) -> int:
    """Returns the units that `left operator right` takes."""
    if operator == "+":
        return weight(left) + weight(right)
    for value, times in ((left, right), (right, left)):
        if operator == "*" and isinstance(value, Sequence) and isinstance(times, int):
            return weight(value) * abs(times)
    if operator == "**" and isinstance(left, int) and isinstance(right, int):
        return STEP * left.bit_length() * abs(right)
    return 0


def charged(context: Context, value: Any) -> Any:
    """Charges for a value and returns it; the items of an iterator are charged for as they are taken."""
    if isinstance(value, str | list | tuple | dict):
        charge(context, weight(value))
    elif isinstance(value, Iterator):
        return charged_items(context, value)
    elif isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise SecurityError(TOO_LONG)
    return value


@pass_context
def charged_items(context: Context, values: Iterable[Any], cost: int = STEP) -> Iterator[Any]:
    """Yields the same values, and charges for each as it is taken."""
    for value in values:
        charge(context, cost)
        yield value


def _whole(value: object, *_: object, **__: object) -> float:
    """Returns the units of the whole number that a decimal is: its exponent may stand for a million digits."""
    return inf if isinstance(value, Decimal) and value.is_finite() and value.adjusted() > MAX_BITS else 0


def _trimmed(value: str, chars: str | None = None) -> float:
    return len(value) * len(chars or "")


def _indented(value: str, width: int | str = 4, *_: object, **__: object) -> float:
    return _WIDTH * len(value.splitlines()) * (len(width) if isinstance(width, str) else width)


def _replaced(value: str, old: object, new: object, *_: object, **__: object) -> float:
    return _WIDTH * value.count(text(old)) * len(text(new))


_GROWTH: Final[dict[str, Callable[..., float]]] = {
    "batch": lambda _, linecount, *__, **___: 8 * linecount,
    "center": lambda _, width=80: _WIDTH * width,
    "indent": _indented,
    "int": _whole,
    "replace": _replaced,
    "round": lambda value, precision=0, *_, **__: _whole(value) + STEP * abs(precision),  # it computes 10 to that power
    "slice": lambda _, slices, *__, **___: 64 * slices,
    "strftime": lambda _, *args, **options: 256 * weight([*args, *options.values()]),  # what C's strftime may fill
    **dict.fromkeys(("lstrip", "rstrip", "strip", "trim"), _trimmed),
}
