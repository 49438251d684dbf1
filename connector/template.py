"""JSON whose string leaves are templates: parsed once, compiled once into ONE Jinja2 template, rendered for each row.

The compiled template builds the structure itself (a dict display whose leaves are expressions), so a row's text can
never break or change the JSON around it, and a leaf that is one whole `{{ expression }}` keeps its native type.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson
from jinja2 import ChainableUndefined, TemplateSyntaxError, UndefinedError, nodes
from jinja2.exceptions import SecurityError
from jinja2.meta import find_undeclared_variables

from connector.environment import MAX_STEPS, MAX_TEXT, STEPS, Environment, filtered
from connector.errors import ConfigError, Problem, TemplateError
from connector.inference import of_expression, of_value
from connector.jsontext import escape
from connector.records import JSON, Schema
from connector.values import NullError, is_null

ROW: Final = "record"
"""The name by which a template reaches the whole row: `{{ record["Order No."] }}`."""

_RESULT: Final = "__result__"
_SHOWN: Final = 60
_STRICT: Final = Environment()
_LENIENT: Final = Environment(undefined=ChainableUndefined)


class Leaf(NamedTuple):
    """One templated string: where it stands (a dotted path), its source, and its expression where it is one alone."""

    path: str
    source: str
    tree: nodes.Template
    expression: nodes.Expr | None

    def names(self) -> set[str]:
        """The names that it reads."""
        return find_undeclared_variables(self.tree) - set(_STRICT.globals)


class Template:
    """A compiled JSON structure (or JSON text with control blocks around its parts).

    Args:
        source: The structure, or its JSON text. Text that is JSON only once rendered is a template as a whole.
        path: What the user calls it, for messages: `request_format`.
        lenient: What is missing is null, rather than an error: a reply need not have every field.

    Raises:
        ConfigError: It is neither JSON nor a template, or uses what templates may not; lists every bad leaf.
    """

    def __init__(self, source: JSON, path: str, *, lenient: bool = False) -> None:
        self.path = path
        self._environment = _LENIENT if lenient else _STRICT
        self.leaves: list[Leaf] = []
        self._problems: list[Problem] = []
        structure, is_text = _parsed(source, path)
        self.structure = None if is_text else structure
        body = self._text_body(structure) if is_text else self._body(structure)
        if self._problems:
            raise ConfigError(self._problems)
        self.evaluate: Callable[[Mapping[str, Any]], Any] = _compiled(self._environment, body, is_text=is_text)

    @property
    def names(self) -> set[str]:
        """Every name that it reads."""
        return set().union(*(leaf.names() for leaf in self.leaves))

    def required(self) -> dict[str, str]:
        """The names it cannot do without, each with the path of the first leaf that needs it."""
        found: dict[str, str] = {}
        for leaf in self.leaves:
            for name in leaf.names() - _optional(leaf.tree) - {ROW}:
                found.setdefault(name, leaf.path)
        return found

    def columns(self, names: Schema) -> dict[str, Schema]:
        """The schema of each key of the structure, over the names that `names`, an object schema, describes."""
        leaves = {leaf.path: leaf for leaf in self.leaves}

        def schema_of(value: JSON, path: str) -> Schema:
            if isinstance(value, dict):
                properties = {key: schema_of(each, f"{path}.{key}") for key, each in value.items()}
                return {"type": "object", "properties": properties}
            if isinstance(value, str) and path in leaves:
                expression = leaves[path].expression
                return {"type": "string"} if expression is None else of_expression(expression, names)
            return of_value(value)

        return {key: schema_of(value, f"{self.path}.{key}") for key, value in (self.structure or {}).items()}

    def render(self, row: Mapping[str, Any]) -> Any:
        """Renders for one row. About 6 µs for a usual chat request.

        Raises:
            TemplateError: The row lacks a column, holds a null where a text stands, or an expression fails on it.
        """
        try:
            return self.evaluate(row)
        except Exception as error:  # noqa: BLE001 - an expression can fail in any way on a row's values
            raise self._explained(row, error) from None

    def _body(self, structure: JSON) -> list[nodes.Node]:
        blocks: list[nodes.Node] = []
        result = self._node(structure, self.path, blocks)
        return [*blocks, nodes.Assign(nodes.Name(_RESULT, "store"), result)]

    def _node(self, value: JSON, path: str, blocks: list[nodes.Node]) -> nodes.Expr:
        if isinstance(value, dict):
            return nodes.Dict(
                [
                    nodes.Pair(
                        self._leaf(key, f"{path}.{key}", blocks, key=True), self._node(item, f"{path}.{key}", blocks)
                    )
                    for key, item in value.items()
                ]
            )
        if isinstance(value, list):
            return nodes.List([self._node(item, f"{path}[{i}]", blocks) for i, item in enumerate(value)])
        if isinstance(value, str):
            return self._leaf(value, path, blocks)
        return nodes.Const(value)

    def _leaf(self, source: str, path: str, blocks: list[nodes.Node], *, key: bool = False) -> nodes.Expr:
        if "{" not in source:
            return nodes.Const(source)
        tree = self._tree(source, path)
        expression = _whole(tree, source)
        if tree.body and not all(_is_constant(node) for node in tree.body):
            self.leaves.append(Leaf(path, source, tree, None if key else expression))
        if expression is not None:
            return filtered(expression, "_text" if key else "_native")
        if all(isinstance(node, nodes.Output) for node in tree.body):
            parts = [part for node in tree.body for part in node.nodes]  # type: ignore[attr-defined]
            return nodes.Concat([_text_part(part) for part in parts]) if parts else nodes.Const("")
        for output in tree.find_all(nodes.Output):
            output.nodes = [
                part if isinstance(part, nodes.TemplateData) else filtered(part, "_spend") for part in output.nodes
            ]
        name = f"__leaf{len(blocks)}__"
        blocks.append(nodes.AssignBlock(nodes.Name(name, "store"), None, tree.body))
        return nodes.Name(name, "load")

    def _text_body(self, source: str) -> list[nodes.Node]:
        tree = self._tree(source, self.path)
        self.leaves.append(Leaf(self.path, source, tree, None))
        try:
            escape(tree.body)
        except ValueError as error:
            self._problems.append(Problem(self.path, str(error)))
        return [nodes.AssignBlock(nodes.Name(_RESULT, "store"), None, tree.body)]

    def _tree(self, source: str, path: str) -> nodes.Template:
        try:
            return self._environment.checked(source)
        except (TemplateSyntaxError, SecurityError) as error:
            self._problems.append(Problem(path, f"{_short(source)} is not a template that can run: {error.message}"))
            return nodes.Template([])

    def _explained(self, row: Mapping[str, Any], error: Exception) -> TemplateError:
        """Finds the leaf that fails, by rendering them one at a time, and says what is wrong in the user's words."""
        for leaf in self.leaves:
            try:
                Template([leaf.source], leaf.path).evaluate(row)
            except Exception as inner:  # noqa: BLE001 - as in render
                return TemplateError(f"{leaf.path}: {_reason(inner, leaf, row)}")
        return TemplateError(f"{self.path}: {_message(error)}")


def _parsed(source: JSON, path: str) -> tuple[JSON, bool]:
    if not isinstance(source, str):
        return source, False
    try:
        return json.loads(source), False
    except ValueError as error:
        if "{{" in source or "{%" in source:
            return source, True
        raise ConfigError([Problem(path, f"is not JSON: {error}")]) from None


def _compiled(environment: Environment, body: list[nodes.Node], *, is_text: bool) -> Any:
    tree = nodes.Template(body, lineno=1).set_environment(environment)
    for node in tree.find_all(nodes.Node):
        node.lineno = node.lineno or 1
    code = environment.compile(tree, "template", "template")
    template = environment.template_class.from_code(environment, code, {})
    shared = dict(environment.globals)
    new_context, root = template.new_context, template.root_render_func
    bounded = any(isinstance(node, nodes.AssignBlock) for node in body) or next(tree.find_all(nodes.For), None)

    def render(row: Mapping[str, Any]) -> Any:
        names = {**shared, ROW: row, **row}
        if bounded:
            names[STEPS] = [MAX_STEPS, MAX_TEXT]
        context = new_context(names, shared=True)
        deque(root(context), maxlen=0)
        result = context.vars[_RESULT]
        return orjson.loads(result) if is_text else result

    return render


def _whole(tree: nodes.Template, source: str) -> nodes.Expr | None:
    """The expression, where the source is one whole `{{ expression }}`; a comment beside it makes it a text."""
    if len(tree.body) != 1 or not isinstance(tree.body[0], nodes.Output) or "{#" in source:
        return None
    parts = tree.body[0].nodes
    return parts[0] if len(parts) == 1 and not isinstance(parts[0], nodes.TemplateData) else None


def _is_constant(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Output) and all(isinstance(part, nodes.TemplateData) for part in node.nodes)


def _text_part(part: nodes.Expr) -> nodes.Expr:
    return nodes.Const(part.data) if isinstance(part, nodes.TemplateData) else filtered(part, "_text")


def _optional(tree: nodes.Template) -> set[str]:
    """The names that a template says how to do without, by `default` or by a test for `defined`."""
    guarded: Iterator[nodes.Node] = (
        node.node
        for node in tree.find_all((nodes.Filter, nodes.Test))
        if node.name in ("default", "d", "defined", "undefined") and node.node is not None
    )
    return {
        name.name for node in guarded for name in (node, *node.find_all(nodes.Name)) if isinstance(name, nodes.Name)
    }


def _reason(error: Exception, leaf: Leaf, row: Mapping[str, Any]) -> str:
    names = sorted(leaf.names() - {ROW})
    if isinstance(error, NullError):
        nulls = [name for name in names if is_null(row.get(name))]
        column = f'column "{nulls[0]}"' if nulls else _short(leaf.source)
        name = nulls[0] if nulls else "…"
        return f'{column} is null; {{{{ {name} | default("…") }}}} says what to send instead'
    missing = [name for name in names if name not in row]
    if isinstance(error, UndefinedError) and missing:
        return f'there is no column "{missing[0]}"; there are: {", ".join(map(str, row)) or "none"}'
    return f"{_short(leaf.source)} fails on this row: {_message(error)}"


def _message(error: Exception) -> str:
    return str(error) or type(error).__name__


def _short(source: str) -> str:
    return repr(source if len(source) <= _SHOWN else source[: _SHOWN - 1] + "…")
