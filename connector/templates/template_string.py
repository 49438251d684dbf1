"""One templated string: which columns it reads, and why it fails on a row, in a message for the user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

from jinja2 import Environment, UndefinedError, nodes
from jinja2.meta import TrackingCodeGenerator

from connector.base.regex import regex
from connector.base.suggestions import there_are
from connector.base.values import NullError, is_null
from connector.templates.plain import AS_TEXT, OF_CONFIG, ROW, Path

_SHOWN: Final = 60
_QUOTED: Final = 300
_ADDRESS: Final = regex(r" at 0x[0-9A-Fa-f]{1,16}")
_GLOBALS: Final = {ROW, "range"}
_GUARDS: Final = ("default", "d", "defined", "undefined")


class TemplateString(NamedTuple):
    """A string of a template's JSON.

    `path` is where it is (`request_format.messages[0].content`), `place` the name of that in messages: the option in
    which it was written. `expression` is set if the string is a single expression, whose value then keeps its type.
    """

    path: str
    source: str
    tree: nodes.Template
    expression: nodes.Expr | None
    place: str

    def names(self) -> set[str]:
        """Returns the columns that it reads by name."""
        tracker = TrackingCodeGenerator(cast("Environment", self.tree.environment))
        tracker.optimizer = None  # it would compute constants here, where nothing is charged for them
        tracker.visit(self.tree)
        return tracker.undeclared_identifiers - _GLOBALS

    def reads_row(self) -> bool:
        """Returns whether it reads the row as a whole: `record`."""
        return any(map(_is_row, self.tree.find_all(nodes.Name)))

    def required(self) -> list[str]:
        """Returns the names that a row must have, as neither `default` nor a test for `defined` guards them."""
        guarded = (
            node.node
            for node in self.tree.find_all((nodes.Filter, nodes.Test))
            if node.name in _GUARDS and node.node is not None
        )
        optional = {
            each.name for node in guarded for each in (node, *node.find_all(nodes.Name)) if isinstance(each, nodes.Name)
        }
        return sorted(self.names() - optional)

    def reads(self) -> list[Path]:
        """Returns the paths, such as `("choices", 0, "message")`, that it reads without a guard.

        A guard is a `default` after it, or a condition anywhere that tests it.
        """
        names, found, guarded = self.names() | {ROW}, dict[Path, None](), set[Path]()

        def visit(node: nodes.Node, *, is_guarded: bool = False) -> None:
            path = _path(node)
            if path is not None:
                if path[0] in names:
                    path = path[1:] if path[0] == ROW else path
                    guarded.add(path) if is_guarded else found.setdefault(path)
                return
            is_test = isinstance(node, nodes.Filter | nodes.Test) and node.name in _GUARDS
            for field, child in node.iter_fields():
                for each in child if isinstance(child, list) else (child,):
                    if isinstance(each, nodes.Node):
                        tested = field == "test" or (is_test and field == "node")
                        called = isinstance(node, nodes.Call) and field == "node" and isinstance(each, nodes.Getattr)
                        visit(each.node if called else each, is_guarded=is_guarded or tested)  # type: ignore[attr-defined]  # of a Getattr

        visit(self.tree)
        return [path for path in found if path and not any(path[: len(each)] == each for each in guarded)]

    def reason(self, error: Exception, row: Mapping[str, Any]) -> str:
        """Returns why the string fails on this row, and what to do about it."""
        if isinstance(error, NullError):
            name = next((name for name in self.required() if is_null(row.get(name))), None)
            null = quoted_source(self.source) if name is None else f'column "{name}"'
            return f'{null} is null; {{{{ {name or "…"} | default("…") }}}} says what to send instead'
        missing = next((name for name in (*self.required(), *self._keys()) if name not in row), None)
        if isinstance(error, UndefinedError) and missing:
            return f'there is no column "{missing}"; {there_are(missing, map(str, row))}'
        return f"{quoted_source(self.source)} fails on this row: {error_text(error)}"

    def _keys(self) -> list[str]:
        """Returns the columns that it reads as members of the row: `record.name`, `record["name"]`."""
        called = [call.node for call in self.tree.find_all(nodes.Call)]
        attributes = [node for node in self.tree.find_all(nodes.Getattr) if node not in called]
        keys = [node.attr for node in attributes if _is_row(node.node)]
        items = [node for node in self.tree.find_all(nodes.Getitem) if _is_row(node.node)]
        return keys + [node.arg.value for node in items if isinstance(node.arg, nodes.Const)]


def path_of(node: nodes.Node) -> Path | None:
    """Returns a name and the constant keys that follow it, without a leading `record`; `None` for anything else."""
    path = _path(node)
    return path[1:] if path is not None and path[0] == ROW else path


def _path(node: nodes.Node) -> Path | None:
    match node:
        case nodes.Name(name=name, ctx="load"):
            return (name,)
        case (
            nodes.Getattr(node=owner, attr=key) | nodes.Getitem(node=owner, arg=nodes.Const(value=str() | int() as key))
        ):
            path = _path(owner)
            return None if path is None else (*path, key)
        case _:
            return None


def _is_row(node: nodes.Expr) -> bool:
    return isinstance(node, nodes.Name) and node.name == ROW


def error_text(error: Exception) -> str:
    """Returns the error's message, or else its class, shortened, since it may quote a whole cell.

    Memory addresses, which Python quotes, are left out: they differ between runs, and one cause would count as many.
    """
    if isinstance(error, ArithmeticError) and not isinstance(next(iter(error.args), ""), str):  # a class, or a number
        return (
            "division by zero"
            if isinstance(error, ZeroDivisionError)
            else "its result is not a number, or too large for one"
        )
    return _ADDRESS.sub("", str(error) or type(error).__name__)[:_QUOTED]


def quoted_source(source: str) -> str:
    """Returns a template in quotes for a message, shortened."""
    source = source.removesuffix(AS_TEXT).rpartition(OF_CONFIG)[2]
    return repr(source if len(source) <= _SHOWN else source[: _SHOWN - 1] + "…")
