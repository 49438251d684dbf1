"""The Jinja2 environment that templates run in: sandboxed, immutable, strict, and bounded in time and memory.

Only the config holds templates; values of rows are always data. What a template may do is an allow-list (nodes,
filters, methods), because the author of a config may not be the owner of the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, time
from typing import Any, Final

from jinja2 import ChainableUndefined, StrictUndefined, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, LoopContext, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from connector.base.suggestions import there_are
from connector.base.values import text
from connector.templates.filters import FILTERS, INTERNAL, READING, TESTS, join, percent
from connector.templates.metering import (
    MAX_BITS,
    STEP,
    TOO_LONG,
    charge,
    charged,
    cost_of_growth,
    cost_of_operation,
    cost_of_reading,
    weight,
)

MAX_DEPTH: Final = 100
"""How deep a template may be nested. Python refuses 200 open parentheses, but takes long to find out."""

TOO_DEEP: Final = "it is nested too deeply"

_NODES: Final = frozenset(
    "Template Output TemplateData Name Const Filter Test Getattr Getitem Slice Call Keyword If For Assign AssignBlock "
    "With FilterBlock Scope CondExpr Compare Operand And Or Not Neg Pos Add Sub Mul Div FloorDiv Mod Pow Concat "
    "List Tuple Dict Pair".split()
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
    tuple: frozenset({"count", "index", "grouper", "list"}),  # the latter two are what groupby names its pairs
    date: _DATE,
    time: _DATE,
    LoopContext: frozenset(
        "cycle depth depth0 first index index0 last length nextitem previtem revindex revindex0".split()
    ),
}


class Environment(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, restricted. Attributes are looked up in the row first, so that `record.items` is the column."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, undefined: type[Undefined] = StrictUndefined) -> None:
        # Not optimized: constants would be computed at compile time, where nothing is charged for them.
        super().__init__(undefined=undefined, finalize=text, keep_trailing_newline=True, cache_size=0, optimized=False)
        reads = undefined is StrictUndefined
        self.offered = {name: each for name, each in FILTERS.items() if reads or name not in READING}
        self.filters, self.tests = {**self.offered, **INTERNAL}, dict(TESTS)
        self.globals = {"range": self.globals["range"]}

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Returns the value of a row's key, or else a safe attribute of the object."""
        if type(obj) is dict:
            try:
                return obj[attribute]
            except KeyError:
                pass
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ARG002 - Jinja2's signature
        """Returns whether the attribute is on the allow-list of the object's type."""
        return any(isinstance(obj, kind) and attr in names for kind, names in _ATTRIBUTES.items())

    def is_safe_callable(self, obj: Any) -> bool:
        """Returns whether this is an allowed method, or `range`."""
        return obj is self.globals["range"] or self.is_safe_attribute(
            getattr(obj, "__self__", None), getattr(obj, "__name__", ""), obj
        )

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Calls a method, and charges for what it reads and makes."""
        if isinstance(obj, ChainableUndefined):
            return obj
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if not isinstance(owner, str | list | tuple | date | time):
            return super().call(context, obj, *args, **kwargs)
        if isinstance(owner, str) and name == "join":
            return join(context, owner, *args)
        if isinstance(owner, str):
            args, kwargs = tuple(map(_argument, args)), {key: _argument(each) for key, each in kwargs.items()}
        charge(context, STEP + cost_of_reading(name, owner) + cost_of_growth(name, owner, *args, **kwargs))
        return charged(context, super().call(context, obj, *args, **kwargs))

    def call_filter(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Calls a filter for `map`, by a name that may come from a row."""
        if name not in self.offered:
            raise SecurityError(f'there is no filter "{name}"')
        return super().call_filter(name, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Computes `left operator right`, and charges for what it reads and makes."""
        if operator == "%" and isinstance(left, str | bytes):
            return percent(context, left, right)
        charge(context, cost_of_operation(operator, left, right))
        return charged(context, super().call_binop(context, operator, left, right))

    def parse_checked(self, source: str) -> nodes.Template:
        """Parses `source`, refuses what is not on the allow-list, and adds charges where Jinja2 has no hook for them.

        Raises `jinja2.TemplateSyntaxError` for invalid syntax, `SecurityError` for what is refused.
        """
        try:
            tree = self.parse(source)
            for node in tree.find_all(nodes.Node):
                self._check(node)
            if depth(tree) > MAX_DEPTH:
                raise SecurityError(TOO_DEEP)
        except RecursionError:
            raise SecurityError(TOO_DEEP) from None
        except ValueError:  # more digits than Python reads
            raise SecurityError(TOO_LONG) from None
        metered: nodes.Template = _Metering().visit(tree)
        return metered

    def _check(self, node: nodes.Node) -> None:
        kind = type(node).__name__
        if kind not in _NODES:
            raise SecurityError(f'a template may not use "{kind.lower()}" here')
        for role, there_is in ((nodes.Filter, self.offered), (nodes.Test, TESTS)):
            if isinstance(node, role) and node.name not in there_is:
                known = sorted(name for name in there_is if name.isalpha())
                raise SecurityError(f'there is no {kind.lower()} "{node.name}"; {there_are(node.name, known)}')
        if isinstance(node, nodes.Const) and isinstance(node.value, int) and node.value.bit_length() > MAX_BITS:
            raise SecurityError(TOO_LONG)
        name = node.name if isinstance(node, nodes.Name) else node.attr if isinstance(node, nodes.Getattr) else ""
        if name.startswith("__") or (name == "self" and isinstance(node, nodes.Name)):
            raise SecurityError(f'"{name}" is a private name: write record["{name}"] if it is a column')


def apply_filter(expression: nodes.Expr, name: str, *args: nodes.Expr) -> nodes.Filter:
    """Returns the expression with a filter applied to it."""
    return nodes.Filter(expression, name, list(args), [], None, None, lineno=expression.lineno)


def depth(node: nodes.Node) -> int:
    """Returns the depth to which the nodes are nested."""
    return 1 + max(map(depth, node.iter_child_nodes()), default=0)


def _argument(value: Any) -> Any:
    """Returns an argument for a method of a text as a plain text, since the methods of `Markup` accept any object."""
    if isinstance(value, tuple):
        return tuple(map(text, value))
    return value if value is None or isinstance(value, str | int) else text(value)


class _Metering(NodeTransformer):
    """Adds charges where Jinja2 has no hook: to loops, concatenations, displays, comparisons and slices."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 - Jinja2's name for it, as are those below
        inside = node.find_all(nodes.Node)
        cost = sum(weight(each.data) if isinstance(each, nodes.TemplateData) else STEP for each in inside)
        self.generic_visit(node)
        node.iter = apply_filter(node.iter, "_loop", nodes.Const(cost))  # type: ignore[arg-type]  # typed too widely
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802
        self.generic_visit(node)
        return apply_filter(nodes.List(node.nodes, lineno=node.lineno), "_concat")

    def visit_List(self, node: nodes.Expr) -> nodes.Filter:  # noqa: N802
        self.generic_visit(node)
        return apply_filter(node, "_display")

    visit_Dict = visit_List  # noqa: N815

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Expr:  # noqa: N802
        return self.visit_List(node) if node.ctx == "load" else node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:  # noqa: N802
        self.generic_visit(node)
        node.expr = apply_filter(node.expr, "_read")
        for operand in node.ops:
            operand.expr = apply_filter(operand.expr, "_read")
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        bounds = (node.arg.start, node.arg.stop, node.arg.step)
        return apply_filter(node.node, "_slice", *(bound or nodes.Const(None) for bound in bounds))
