"""What a rendering may use up: every operation of a template pays for what it reads and makes.

A config may be written by someone else than the owner of the machine, and `{{ "x" * 10**9 }}` would fill its memory.
So each rendering has fuel: a byte that is read or made takes one unit, anything else that takes time takes `STEP`. What
makes far more than it is given pays beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from sys import getsizeof
from typing import Any, Final

from jinja2 import pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context

from connector.base.values import text

FUEL: Final = "__fuel__"
"""The context's name for what is left: `[units]`."""

MAX_FUEL: Final = 32 * 2**20
"""The units of one rendering: so many bytes, or a million steps. The slowest operations make a second of it."""

STEP: Final = 32
"""What an item, a call, or a node in the body of a loop takes."""

_LOOK_UP: Final = 8 * STEP  # a part of a dotted attribute: one that is missing raises and catches several errors
_SPLIT: Final = 8  # a byte of a text that is cut up, since each piece is an object of its own
_SPLITTING: Final = frozenset("indent rsplit split splitlines striptags title urlencode wordcount".split())
_ITERATING: Final = frozenset(
    "batch groupby join list map max min reject rejectattr select selectattr slice sort sum unique".split()
)
_CHEAP: Final = frozenset("abs count first float int items last length round safe string".split())
_PATH: Final = re.compile(r"[.,]")
_MAX_BITS: Final = 4096
_WIDTH: Final = 4  # bytes of a character, at most


def charge(context: Context, cost: float) -> None:
    """Pays for an operation. Raises `SecurityError` where the fuel does not suffice."""
    fuel = context.parent[FUEL]
    fuel[0] -= cost
    if fuel[0] < 0:
        raise SecurityError("its texts, lists or loops grow larger than one row may make them")


def weight(value: object) -> int:
    """The bytes of a value with all that is in it, as often as it is in it. Beyond `MAX_FUEL` it stops counting."""
    if isinstance(value, str):
        return getsizeof(value)
    total, rest = 0, [value]
    while rest and total <= MAX_FUEL:
        item = rest.pop()
        total += getsizeof(item)
        if isinstance(item, Collection) and not isinstance(item, str | bytes):
            rest += item
            rest += item.values() if isinstance(item, Mapping) else ()
    return total


def reading(name: str, value: object) -> int:
    """What it costs the filter or method `name` to read `value`."""
    if not isinstance(value, str):
        return 0 if name in _CHEAP else weight(value)
    return getsizeof(value) * (STEP if name in _ITERATING else _SPLIT if name in _SPLITTING else 1)


def growth(name: str, value: Any, *args: Any, **options: Any) -> float:
    """What the filter or method `name` makes, where its arguments can make it large."""
    grows = _GROWTH.get(name)
    return max(0, grows(value, *args, **options)) if grows else 0  # 0 for NaN as well


def looked_into(context: Context, name: str, value: Any, args: Iterable[object]) -> Any:
    """The same value; if the filter `name` looks for a long `attribute` of each item, each item pays for its length."""
    parts = sum(len(_PATH.findall(arg)) for arg in args if isinstance(arg, str)) if name in _ITERATING else 0
    return counted(context, value, _LOOK_UP * parts) if parts else value


def operation(operator: str, left: object, right: object) -> int:
    """What it costs to reckon `left operator right`."""
    if operator == "+":
        return weight(left) + weight(right)
    for value, times in ((left, right), (right, left)):
        if operator == "*" and isinstance(value, Sequence) and isinstance(times, int):
            return weight(value) * abs(times)
    if operator == "**" and isinstance(left, int) and isinstance(right, int):
        return STEP * left.bit_length() * abs(right)
    return 0


def made(context: Context, value: Any) -> Any:
    """The same value, paid for: an iterator's items as they are taken."""
    if isinstance(value, str | list | tuple | dict):
        charge(context, weight(value))
    elif isinstance(value, Iterator):
        return counted(context, value)
    elif isinstance(value, int) and value.bit_length() > _MAX_BITS:
        raise SecurityError(f"a whole number has more than {_MAX_BITS} bits")
    return value


@pass_context
def counted(context: Context, values: Iterable[Any], cost: int = STEP) -> Iterator[Any]:
    """The same values, each paid for as it is taken."""
    for value in values:
        charge(context, cost)
        yield value


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
    "replace": _replaced,
    "round": lambda _, precision=0, *__, **___: STEP * abs(precision),  # 10 to the power of it is reckoned
    "slice": lambda _, slices, *__, **___: 64 * slices,
    "strftime": lambda _, *args, **options: 256 * weight([*args, *options.values()]),  # what C's strftime may fill
    **dict.fromkeys(("lstrip", "rstrip", "strip", "trim"), _trimmed),
}
