"""Names in a response format that no reply has: proved before the first call, or seen in the first replies.

A lenient template makes null of them, so a misspelt name would fill a column with nulls that all count as successes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from connector.base.errors import Problem
from connector.base.records import ANY, Schema
from connector.base.suggestions import closest
from connector.templates.plain import Path
from connector.templates.template import Template

_ALIKE: Final = 0.85  # as a name is with one wrong letter: servers have fields of their own, such as `usage.cost`
_TEXT: Final = "content"


def misspelt(response: Template, names: Schema) -> list[Problem]:
    """Returns one problem for each name that is certainly wrong by `names`, the schema of what a reply has."""
    return [
        Problem(string.path, unguarded(found, path))
        for string in response.strings
        for path in string.reads()
        if (found := _misspelt(path, names)) is not None
    ]


def unguarded(problem: str, path: Path) -> str:
    """Returns a problem with the other way out of it: to say that the name may be absent."""
    return f"{problem}, or write {{{{ {_spelt(path)} | default(none) }}}}"


def _misspelt(path: Path, schema: Schema) -> str | None:
    parsed = _properties(_properties(schema).get("parsed", ANY))
    for place, key in enumerate(path):
        owner, known = _spelt(path[:place]), _properties(schema)
        if isinstance(key, int) or key in known:
            schema = schema.get("items", ANY) if isinstance(key, int) else known[key]
        elif schema.get("type") == "array":
            return f'"{owner}" is a list and has no "{key}": change it to "{owner}[0].{key}"'
        elif owner == _TEXT:
            return f'"{owner}" is a text and has no "{key}": change it to "parsed.{key}"'
        elif not owner and key in parsed:
            return f'"{key}" is a part of the structured reply: change it to "parsed.{key}"'
        elif _is_near(key, known) or (known and _is_closed(schema)):
            return _lack(owner, key, known)
        else:
            return None
    return None


def absent(path: Path, reply: Any, known: Schema) -> str | None:
    """Returns what is wrong with a name that this reply lacks and `known`, the schema of every reply, does not tell."""
    for place, key in enumerate(path):
        fields = _properties(known)
        is_there = key in reply if isinstance(reply, dict) else isinstance(reply, list) and key in range(len(reply))
        if not is_there:
            if reply is None or isinstance(key, int) or key in fields:
                return None
            return _lack(_spelt(path[:place]), key, {**fields, **reply} if isinstance(reply, dict) else {})
        reply = reply[key]
        known = known.get("items", ANY) if isinstance(key, int) else fields.get(key, ANY)
    return None


def _lack(owner: str, key: str, there: Iterable[str]) -> str:
    """Returns that `owner`, or the reply itself, has no `key`, and what it has."""
    names = sorted(map(str, there))
    near = closest(key, names, 1)
    change = f'"{owner}.{near[0]}"'.replace('".', '"') if near else f"one of {', '.join(names)}" if names else "another"
    return f'{f"{owner} of " if owner else ""}a reply has no "{key}": change it to {change}'


def _properties(schema: Schema) -> dict[str, Schema]:
    found: dict[str, Schema] = schema.get("properties", {})
    return found


def _is_near(name: str, known: Iterable[str]) -> bool:
    """Returns whether a name is a known one with a letter too many, too few or wrong, or with letters exchanged."""
    return bool(closest(name, known, 1, _ALIKE)) or any(sorted(each) == sorted(name) for each in known)


def _is_closed(schema: Schema) -> bool:
    return schema.get("additionalProperties") is False and not schema.get("patternProperties")


def _spelt(path: Path) -> str:
    """Returns a path as a template spells it: `choices[0].message`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")
