"""Templates that are JSON only after rendering, such as a list of messages made by a loop.

The text before an expression shows whether it is inside a JSON string or outside, and it is escaped accordingly.
"""

from __future__ import annotations

from typing import Final

from jinja2 import nodes

from connector.templates.environment import apply_filter

_IN_STRING: Final = "_in_string"
_VALUE: Final = "_value"


def escape(body: list[nodes.Node], *, in_string: bool = False) -> bool:
    """Escapes each expression for its place, inside a JSON string or outside; returns whether the body ends in one.

    Raises `ValueError` for a block that begins inside a string and ends outside it, or that would change escaped text.
    """
    for node in body:
        match node:
            case nodes.Output():
                in_string = _escape_output(node, in_string=in_string)
            case nodes.AssignBlock():
                as_text(node)  # not part of the JSON until it is used there
            case nodes.FilterBlock():
                raise ValueError(f"line {node.lineno}: a filter block would change the JSON: filter the values instead")
            case _:
                branches = [getattr(node, name, None) or [] for name in ("body", "else_")]
                branches += [branch.body for branch in getattr(node, "elif_", [])]
                if any(escape(branch, in_string=in_string) != in_string for branch in branches):
                    raise ValueError(f"line {node.lineno}: a block must end as it begins, inside a JSON string or not")
    return in_string


def _escape_output(node: nodes.Output, *, in_string: bool) -> bool:
    for i, part in enumerate(node.nodes):
        if isinstance(part, nodes.TemplateData):
            in_string = _ends_in_string(part.data, in_string=in_string)
        elif in_string or not _is_separator(part):
            node.nodes[i] = apply_filter(part, _IN_STRING if in_string else _VALUE)
    return in_string


def as_text(block: nodes.Node) -> None:
    """Makes every expression in the block yield the text of its value, and charges for it."""
    for output in block.find_all(nodes.Output):
        output.nodes = [
            part if isinstance(part, nodes.TemplateData) else apply_filter(part, "_spend") for part in output.nodes
        ]


def example(body: list[nodes.Node]) -> str:
    """Returns what an escaped body renders to if every value is an empty text; `null` if that depends on the row."""
    rendered = ""
    for part in (part for node in body for part in (node.nodes if isinstance(node, nodes.Output) else [node])):
        if isinstance(part, nodes.TemplateData):
            rendered += part.data
        elif isinstance(part, nodes.Filter) and part.name in (_IN_STRING, _VALUE):
            rendered += "" if part.name == _IN_STRING else '""'
        else:
            return "null"
    return rendered


def _is_separator(part: nodes.Expr) -> bool:
    """Returns whether the expression writes JSON punctuation, as `{{ "," if not loop.last }}` does."""
    if isinstance(part, nodes.CondExpr):
        return _is_separator(part.expr1) and (part.expr2 is None or _is_separator(part.expr2))
    return isinstance(part, nodes.Const) and part.value in ("", ",", ", ")


def _ends_in_string(data: str, *, in_string: bool) -> bool:
    for char in data.replace("\\\\", "").replace('\\"', ""):
        in_string ^= char == '"'
    return in_string
