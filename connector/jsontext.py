"""Templates around JSON: text that is JSON only once it is rendered, such as a list of messages made by a loop.

Every expression in it is escaped for where it stands, which is read off the text before it: inside a JSON string or
outside.
"""

from __future__ import annotations

from jinja2 import nodes

from connector.environment import filtered


def escape(body: list[nodes.Node], *, in_string: bool = False) -> bool:
    """Escapes every expression for where it stands, inside a JSON string or outside; returns where the body ends.

    Raises `ValueError` where a block would begin inside a string and end outside it.
    """
    for node in body:
        if isinstance(node, nodes.Output):
            for i, part in enumerate(node.nodes):
                if isinstance(part, nodes.TemplateData):
                    in_string = _ends_in_string(part.data, in_string=in_string)
                elif in_string or not _is_separator(part):
                    node.nodes[i] = filtered(part, "_in_string" if in_string else "_value")
            continue
        branches = [getattr(node, name, None) or [] for name in ("body", "else_")]
        branches += [branch.body for branch in getattr(node, "elif_", [])]
        if any(escape(branch, in_string=in_string) != in_string for branch in branches):
            raise ValueError(f"line {node.lineno}: a block must not begin inside a JSON string and end outside it")
    return in_string


def _is_separator(part: nodes.Expr) -> bool:
    """Whether it is punctuation that the template itself writes, as in `{{ "," if not loop.last }}`."""
    if isinstance(part, nodes.CondExpr):
        return _is_separator(part.expr1) and (part.expr2 is None or _is_separator(part.expr2))
    return isinstance(part, nodes.Const) and part.value in ("", ",", ", ")


def _ends_in_string(data: str, *, in_string: bool) -> bool:
    for char in data.replace("\\\\", "").replace('\\"', ""):
        in_string ^= char == '"'
    return in_string
