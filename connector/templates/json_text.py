"""Templates that are JSON only once they are rendered, such as a list of messages made by a loop.

The text before an expression says whether it stands inside a JSON string or outside; it is escaped accordingly.
"""

from __future__ import annotations

from typing import Final

from jinja2 import nodes

from connector.templates.environment import apply_filter

_IN_STRING: Final = "_in_string"
_VALUE: Final = "_value"


def escape(body: list[nodes.Node], *, in_string: bool = False) -> bool:
    """Escapes every expression for where it stands, inside a JSON string or outside; returns where the body ends.

    Raises `ValueError` where a block would begin inside a string and end outside it, or change what was escaped.
    """
    for node in body:
        match node:
            case nodes.Output():
                in_string = _escape_output(node, in_string=in_string)
            case nodes.AssignBlock():
                as_text(node)  # it is not part of the JSON until it is used there
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
    """Makes every expression inside yield the text of its value, charged for."""
    for output in block.find_all(nodes.Output):
        output.nodes = [
            part if isinstance(part, nodes.TemplateData) else apply_filter(part, "_spend") for part in output.nodes
        ]


def example(body: list[nodes.Node]) -> str:
    """Returns what an escaped body could render to, every value an empty text; `null` if that depends on the row."""
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
    """Returns whether the template itself writes punctuation here, as in `{{ "," if not loop.last }}`."""
    if isinstance(part, nodes.CondExpr):
        return _is_separator(part.expr1) and (part.expr2 is None or _is_separator(part.expr2))
    return isinstance(part, nodes.Const) and part.value in ("", ",", ", ")


def _ends_in_string(data: str, *, in_string: bool) -> bool:
    for char in data.replace("\\\\", "").replace('\\"', ""):
        in_string ^= char == '"'
    return in_string
