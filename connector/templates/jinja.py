"""JSON whose strings are templates, compiled once into ONE Jinja2 template, rendered for each row.

The compiled template builds the structure itself (a dict display with expressions in place of its strings). So a row's
text can never break or change the JSON around it, and a string that is one `{{ expression }}` keeps the value's type.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import orjson
from jinja2 import ChainableUndefined, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context

from connector.base import numbers
from connector.base.decoding import loads
from connector.base.errors import ConfigError, Problem, TemplateError
from connector.base.records import JSON, Schema
from connector.base.values import NullError, computable
from connector.templates.environment import MAX_DEPTH, TOO_DEEP, Environment, apply_filter, depth
from connector.templates.expression_types import schema_of_expression
from connector.templates.filters import IMAGE_ROOT, once
from connector.templates.json_text import as_text, escape, example
from connector.templates.metering import FUEL, MAX_FUEL
from connector.templates.plain import AS_TEXT, ROW
from connector.templates.template_string import TemplateString, error_text, path_of, quoted_source

_RESULT: Final = "__result__"
_STRICT: Final = Environment()
_LENIENT: Final = Environment(undefined=ChainableUndefined)


class JinjaTemplate:
    """A `connector.templates.template.Template` of any kind. If `is_text`, its source is JSON only after rendering.

    Raises:
        ConfigError: It is not a template, or uses what templates may not. Lists all bad strings.
    """

    def __init__(
        self,
        source: JSON,
        path: str,
        *,
        is_text: bool = False,
        lenient: bool = False,
        fixed_keys: bool = False,
        constants: Mapping[str, Any] | None = None,
        image_root: Path | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.path = path
        self._options = dict(options or {})
        self._constants = dict(constants or {})
        self._image_root = image_root
        self._fixed_keys = fixed_keys
        self._environment = _LENIENT if lenient else _STRICT
        self.strings: list[TemplateString] = []
        self._problems: list[Problem] = []
        self.structure = None if is_text else source
        try:
            tree = _shallow(self._text_body(source) if is_text else self._body(source))
            self.evaluate = _compiled(self._environment, tree, self._constants, is_text=is_text)
        except RecursionError:
            self._problems.append(Problem(path, TOO_DEEP))
        except (SyntaxError, TemplateSyntaxError) as error:  # by Python, on the code that Jinja2 made, or by Jinja2
            self._problems.append(Problem(path, f"is not a valid template: {error}"))
        if self._problems:
            raise ConfigError(self._problems)

    @property
    def names(self) -> set[str]:
        """The names that it reads."""
        return set().union(*(string.names() for string in self.strings))

    @property
    def reads_row(self) -> bool:
        """Whether it reads the row as a whole: `record`."""
        return any(string.reads_row() for string in self.strings)

    def reads_members_of(self, name: str) -> bool:
        """Returns whether it reads the object `name`, and only by its members (`{{ name.a }}`)."""
        found = False
        for tree in (string.tree for string in self.strings):
            owners = [node.node for node in tree.find_all(nodes.Getattr)]
            owners += [node.node for node in tree.find_all(nodes.Getitem) if _is_text(node.arg)]
            members = sum(isinstance(owner, nodes.Name) and owner.name == name for owner in owners)
            if members != sum(each.name == name for each in tree.find_all(nodes.Name)):
                return False
            found = found or members > 0
        return found

    def required(self) -> dict[str, str]:
        """Returns the names that a row must have, each with the place of the first string that needs it."""
        found: dict[str, str] = {}
        for string in self.strings:
            for name in string.required():
                if name not in self._constants:
                    found.setdefault(name, string.place)
        return found

    def columns_through(self, name: str) -> set[str]:
        """Returns the columns whose values go through the filter `name`."""
        return {
            str(path[0])
            for string in self.strings
            for node in string.tree.find_all(nodes.Filter)
            if node.name == name and node.node is not None and (path := path_of(node.node))
        }

    def schema_at(self, path: str, names: Schema) -> Schema | None:
        """Returns the schema of the value of the string at a path; `None` if it is not a template."""
        string = next((each for each in self.strings if each.path == path), None)
        if string is None or string.expression is None:
            return string and {"type": "string"}
        return schema_of_expression(string.expression, names)

    def render(self, row: Mapping[str, Any]) -> Any:
        """See `connector.templates.template.Template.render`."""
        try:
            return self.evaluate(row, self._resources())
        except Exception as error:  # noqa: BLE001 - a row's values can make an expression raise anything
            raise self._explained(row, error) from None

    def _resources(self) -> dict[str, Any]:
        """Returns the limits and names that the context of one rendering needs."""
        return {FUEL: [MAX_FUEL], IMAGE_ROOT: self._image_root}

    def null_at(self, path: str, row: Mapping[str, Any]) -> TemplateError:
        """Returns the error for a row that renders to null at a path of the structure."""
        path = f"{self.path}.{path}"
        string = next((string for string in self.strings if string.path == path), None)
        if string is None:
            return TemplateError(f"{path} is null, but the endpoint needs a text there: write one, or leave it out")
        return TemplateError(f"{string.place}: {string.reason(NullError(), row)}")

    def _body(self, structure: JSON) -> list[nodes.Node]:
        blocks: list[nodes.Node] = []
        result = self._node(structure, self.path, blocks)
        return [*blocks, nodes.Assign(nodes.Name(_RESULT, "store"), result)]

    def _node(self, value: JSON, path: str, blocks: list[nodes.Node]) -> nodes.Expr:
        if isinstance(value, dict):
            fixed = self._fixed_keys and path == self.path
            pairs = [
                (
                    nodes.Const(str(key)) if fixed else self._string(str(key), at, blocks, key=True),
                    self._node(item, at, blocks),
                )
                for key, item in value.items()
                for at in (f"{path}.{key}",)
            ]
            is_of_reply = self._environment is _LENIENT  # its names take no place of a config's, and it is paid for
            if is_of_reply or all(isinstance(key, nodes.Const) for key, _ in pairs):
                return nodes.Dict([nodes.Pair(*pair) for pair in pairs])
            return apply_filter(nodes.List([nodes.Tuple([*pair], "load") for pair in pairs], lineno=1), "_object")
        if isinstance(value, list):
            return nodes.List([self._node(item, f"{path}[{i}]", blocks) for i, item in enumerate(value)])
        if isinstance(value, str):
            return self._string(value, path, blocks)
        if not (value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))):
            self._problems.append(Problem(path, f"{value!r} is not JSON"))
        return nodes.Const(value)

    def _string(self, source: str, path: str, blocks: list[nodes.Node], *, key: bool = False) -> nodes.Expr:
        if "{" not in source:
            return nodes.Const(source)
        tree = self._tree(source, path)
        parts = _parts(tree)
        if parts is not None and all(isinstance(part, nodes.TemplateData) for part in parts):
            return nodes.Const("".join(part.as_const() for part in parts))
        expression = parts[0] if parts is not None and len(parts) == 1 and not self._has_comment(source) else None
        self.strings.append(TemplateString(path, source, tree, None if key else expression, self._place(source, path)))
        if expression is not None:
            return apply_filter(expression, "_text" if key else "_native")
        if parts is not None:
            return apply_filter(nodes.List(parts, lineno=1), "_concat")
        as_text(tree)
        name = f"__leaf{len(blocks)}__"
        blocks.append(nodes.AssignBlock(nodes.Name(name, "store"), None, tree.body))
        return nodes.Name(name, "load")

    def _text_body(self, source: str) -> list[nodes.Node]:
        tree = self._tree(source, self.path)
        self.strings.append(TemplateString(self.path, source, tree, None, self.path))
        try:
            escape(tree.body)
            loads(example(tree.body) if tree.body else "null")
        except ValueError as error:
            self._problems.append(Problem(self.path, f"is not JSON: {error}"))
        return [nodes.AssignBlock(nodes.Name(_RESULT, "store"), None, tree.body)]

    def _tree(self, source: str, path: str) -> nodes.Template:
        try:
            return self._environment.parse_checked(source)
        except (TemplateSyntaxError, SecurityError) as error:
            place = self._place(source, path)
            reason = (error.message or "").rstrip(".")
            self._problems.append(Problem(place, f"{quoted_source(source)} is not a valid template: {reason}"))
            return nodes.Template([])

    def _has_comment(self, source: str) -> bool:
        return "{#" in source and any(kind == "comment_begin" for _, kind, _ in self._environment.lex(source))

    def _place(self, source: str, path: str) -> str:
        """Returns the name that messages use for the place of a string."""
        return self._options.get(source.removesuffix(AS_TEXT), path)

    def _explained(self, row: Mapping[str, Any], error: Exception) -> TemplateError:
        """Returns an error that names the failing string, found by rendering the strings one at a time.

        They share the fuel of one rendering, so that they run out of it where the whole did.
        """
        lenient, resources = self._environment is _LENIENT, self._resources()
        for string in self.strings:
            try:
                alone = _alone(string.source, is_text=string.expression is None, lenient=lenient)
                alone.evaluate(row, {**self._constants, **resources})
            except Exception as inner:  # noqa: BLE001 - as in render
                return TemplateError(f"{string.place}: {string.reason(inner, row)}")
        found = "what it renders to is not JSON: " if isinstance(error, orjson.JSONDecodeError) else ""
        return TemplateError(f"{self.path}: {found}{error_text(error)}")


@lru_cache(maxsize=256)
def _alone(source: str, *, is_text: bool, lenient: bool) -> JinjaTemplate:
    return JinjaTemplate([source + AS_TEXT * is_text], "", lenient=lenient)


class _Context(Context):
    """The context of one rendering, without Jinja2's set-up for template inheritance, which is not allowed here."""

    def __init__(self, environment: Environment, parent: dict[str, Any], evaluation: nodes.EvalContext) -> None:
        self.environment = environment
        self.parent = parent
        self.vars = {}
        self.exported_vars = set()
        self.eval_ctx = evaluation
        self.name = None
        self.blocks = {}
        self.globals_keys = set()


def _shallow(body: list[nodes.Node]) -> nodes.Template:
    """Returns the tree of a whole template. Raises `RecursionError` if it is nested too deeply."""
    tree = nodes.Template(body, lineno=1)
    if depth(tree) > MAX_DEPTH:
        raise RecursionError
    return tree


def _compiled(
    environment: Environment, tree: nodes.Template, constants: dict[str, Any], *, is_text: bool
) -> Callable[[Mapping[str, Any], Mapping[str, Any]], Any]:
    tree.set_environment(environment)
    for node in tree.find_all(nodes.Node):
        node.lineno = node.lineno or 1
    code = environment.compile(tree, "template", "template")
    root = environment.template_class.from_code(environment, code, {}).root_render_func
    reserved, evaluation = environment.globals, nodes.EvalContext(environment)

    def render(row: Mapping[str, Any], resources: Mapping[str, Any]) -> Any:
        values = {name: computable(value) for name, value in row.items()}
        context = _Context(environment, {**reserved, ROW: values, **values, **constants, **resources}, evaluation)
        deque(root(context), maxlen=0)
        result = context.vars[_RESULT]
        if not is_text:
            return result
        found = numbers.loads(result)
        json.loads(result, object_pairs_hook=once, parse_int=str, parse_float=str)  # or 5,000 digits would fail here
        return found

    return render


def _is_text(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Const) and isinstance(node.value, str)


def _parts(tree: nodes.Template) -> list[nodes.Expr] | None:
    """Returns the texts and expressions that make up a template; `None` if it has control blocks."""
    if not all(isinstance(node, nodes.Output) for node in tree.body):
        return None
    return [part for node in tree.body for part in node.nodes]  # type: ignore[attr-defined]
