"""The Jinja2 environment that templates run in: sandboxed, immutable, strict, and bounded in time and memory.

A template comes from the config, a row's text never does: values are only ever data. What a template may do is an
allow-list (nodes, filters, methods), because a config may be written by someone else than the owner of the machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, time
from typing import Any, Final

from jinja2 import StrictUndefined, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.runtime import Context, LoopContext, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from connector.values import default, in_string, json_value, native, text, tojson

MAX_TEXT: Final = 64 * 2**20
"""Characters that one rendering, or one operation in it, may make."""

MAX_STEPS: Final = 100_000
"""Loop iterations that one rendering may take, nested ones counted together."""

STEPS: Final = "__budget__"
"""The context's name for what is left of both: `[steps, characters]`."""

_NODES: Final = frozenset(
    "Template Output TemplateData Name Const Filter Test Getattr Getitem Slice Call Keyword If For Assign AssignBlock "
    "With FilterBlock Scope CondExpr Compare Operand And Or Not Neg Pos Add Sub Mul Div FloorDiv Mod Pow Concat "
    "List Tuple Dict Pair".split()
)
_FILTERS: Final = frozenset(
    "abs batch capitalize count d default dictsort e escape first float forceescape groupby int items join "
    "last length list lower map max min reject rejectattr replace reverse round safe select selectattr slice sort "
    "string striptags sum title tojson trim truncate unique upper urlencode wordcount center indent format".split()
)
_DATE: Final = frozenset("day hour isoformat isoweekday minute month second strftime weekday year".split())
_ATTRIBUTES: Final[Mapping[type, frozenset[str]]] = {
    str: frozenset(
        "capitalize casefold count endswith find index isalnum isalpha isdecimal isdigit islower isnumeric isspace "
        "isupper join lower lstrip partition removeprefix removesuffix replace rfind rindex rpartition rsplit rstrip "
        "split splitlines startswith strip swapcase title upper".split()
    ),
    dict: frozenset({"get", "items", "keys", "values"}),
    list: frozenset({"count", "index"}),
    tuple: frozenset({"count", "index"}),
    date: _DATE,
    time: _DATE,
    LoopContext: frozenset(
        "cycle depth depth0 first index index0 last length nextitem previtem revindex revindex0".split()
    ),
}
_WIDE: Final = re.compile(r"\*|\d{5}")


@pass_context
def _loop(context: Context, values: Iterable[Any]) -> Iterator[Any]:
    budget = context.parent[STEPS]
    for value in values:
        budget[0] -= 1
        if budget[0] < 0:
            raise SecurityError(f"loops take more than {MAX_STEPS:,} steps")
        yield value


@pass_context
def _spend(context: Context, value: object) -> str:
    rendered = text(value)
    budget = context.parent[STEPS]
    budget[1] -= len(rendered)
    _bounded(MAX_TEXT - budget[1])
    return rendered


def _concat(values: list[object]) -> str:
    parts = [text(value) for value in values]
    _bounded(sum(map(len, parts)))
    return "".join(parts)


def _bounded(size: float) -> None:
    if size > MAX_TEXT:
        raise SecurityError(f"a template makes more than {MAX_TEXT:,} characters")


def _size(value: object) -> int:
    return len(value) if isinstance(value, str | list | tuple) else 0


def _replaced_size(value: str, old: str, new: str) -> int:
    return len(value) + (value.count(old) if old else len(value) + 1) * len(new)


def _joined_size(values: list[Any], separator: str) -> int:
    return sum(len(str(value)) for value in values) + len(values) * len(separator)


def _guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Bounds a filter whose result can be far larger than its arguments, before it makes it."""

    def replace(value: Any, old: Any, new: Any, count: int | None = None) -> Any:
        _bounded(_replaced_size(str(value), str(old), str(new)))
        return str(value).replace(str(old), str(new), -1 if count is None else count)

    def join(value: Any, d: str = "", attribute: str | int | None = None) -> str:
        values = list(value)
        if attribute is not None:
            values = [item[attribute] for item in values]
        _bounded(_joined_size(values, d))
        return d.join(text(item) for item in values)

    def sized(value: Any, *args: Any, **options: Any) -> Any:
        numbers = [abs(arg) for arg in (*args, *options.values()) if isinstance(arg, int)]
        lines = value.count("\n") + 1 if isinstance(value, str) else 1
        _bounded(lines * max(numbers, default=0))
        return function(value, *args, **options)

    def formatted(value: Any, *args: Any, **options: Any) -> str:
        if _WIDE.search(str(value)):
            raise SecurityError("a format's width is too large")
        return str(value) % (options or args)

    special: dict[str, Callable[..., Any]] = {"replace": replace, "join": join, "format": formatted}
    return special.get(name, sized)


class Environment(ImmutableSandboxedEnvironment):
    """Looks into a row before anything else, so that `record.items` is the column; knows no private attributes."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, undefined: type[Undefined] = StrictUndefined) -> None:
        super().__init__(undefined=undefined, finalize=text, keep_trailing_newline=True, cache_size=0)
        wide = ("replace", "join", "center", "indent", "batch", "slice", "format")
        self.filters = {name: function for name, function in FILTERS.items() if name in _FILTERS}
        self.filters |= {name: _guarded(name, FILTERS[name]) for name in wide}
        self.filters |= {"default": default, "d": default, "tojson": tojson}
        self.filters |= {"_text": text, "_native": native, "_loop": _loop, "_spend": _spend, "_concat": _concat}
        self.filters |= {"_in_string": in_string, "_value": json_value}
        self.globals = {"range": self.globals["range"]}

    def getattr(self, obj: Any, attribute: str) -> Any:
        """A row's own key first, then what is safe of the object."""
        if type(obj) is dict:
            try:
                return obj[attribute]
            except KeyError:
                pass
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ARG002 - Jinja2's signature
        """What is on the allow-list for the object's type."""
        return any(isinstance(obj, kind) and attr in names for kind, names in _ATTRIBUTES.items())

    def is_safe_callable(self, obj: Any) -> bool:
        """The allowed methods, and `range`."""
        return obj is self.globals["range"] or self.is_safe_attribute(
            getattr(obj, "__self__", None), getattr(obj, "__name__", ""), obj
        )

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Bounds what a method can make."""
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, str) and name == "replace" and len(args) > 1:
            _bounded(_replaced_size(owner, args[0], args[1]))
        if isinstance(owner, str) and name == "join":
            args = (list(args[0]),)
            _bounded(_joined_size(args[0], owner))
        return super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Bounds what an operator can make."""
        if operator == "+":
            _bounded(_size(left) + _size(right))
        elif operator == "*":
            _bounded(max(_size(left) * abs(_number(right)), _size(right) * abs(_number(left))))
            _bounded(_bits(left) + _bits(right))
        elif operator == "**":
            _bounded(_bits(left) * abs(_number(right)))
        elif operator == "%" and isinstance(left, str) and _WIDE.search(left):
            raise SecurityError("a format's width is too large")
        return super().call_binop(context, operator, left, right)

    def checked(self, source: str) -> nodes.Template:
        """Parses `source` and refuses what is not on the allow-list; loops in it come back bounded.

        Raises `jinja2.TemplateSyntaxError` or `SecurityError`.
        """
        tree = self.parse(source)
        for node in tree.find_all(nodes.Node):
            _check(node, self.filters)
        bounded: nodes.Template = _Bounding().visit(tree)
        return bounded


def filtered(expression: nodes.Expr, name: str) -> nodes.Filter:
    """The expression with a filter put on it."""
    return nodes.Filter(expression, name, [], [], None, None, lineno=expression.lineno)


class _Bounding(NodeTransformer):
    """Puts a bound where Jinja2 has no hook for one: the steps of a loop, the size of a concatenation."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 - Jinja2's name for it
        self.generic_visit(node)
        node.iter = filtered(node.iter, "_loop")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802 - as above
        self.generic_visit(node)
        return filtered(nodes.List(node.nodes, lineno=node.lineno), "_concat")


def _check(node: nodes.Node, filters: Mapping[str, Any]) -> None:
    kind = type(node).__name__
    if kind not in _NODES:
        raise SecurityError(f"a template may not use {kind.lower()!r} here")
    if isinstance(node, nodes.Filter) and (node.name not in filters or node.name.startswith("_")):
        known = ", ".join(sorted(name for name in filters if not name.startswith("_")))
        raise SecurityError(f"there is no filter {node.name!r}; there are: {known}")
    if isinstance(node, nodes.Name) and node.name.startswith("__"):
        raise SecurityError(f"{node.name!r} is a private name")
    if isinstance(node, nodes.Getattr) and node.attr.startswith("__"):
        raise SecurityError(f"{node.attr!r} is a private attribute")


def _number(value: object) -> int:
    return value if isinstance(value, int) else 1


def _bits(value: object) -> int:
    return value.bit_length() if isinstance(value, int) else 0
