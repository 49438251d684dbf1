"""A fast check whether a config certainly fits the spec, as most do.

Everything else is left to `connector.config.spec_problems`, which says what is wrong.
"""

from __future__ import annotations

import re
from typing import Any, Final

from connector.base.records import JSON, Schema

_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "string": str,
}
_ANNOTATIONS: Final = frozenset(
    {
        *("$schema", "title", "description", "default", "examples", "format", "order", "multiline", "writeOnly"),
        *("airbyte_secret", "multiwoven_secret", "pattern_descriptor", "x-request-format", "x-response-format"),
    }
)


def surely_fits(value: JSON, schema: Schema) -> bool:
    """Returns whether a value certainly fits a schema (draft-07). `False` may only mean that it is uncertain."""
    kind = _TYPES.get(str(schema.get("type")))
    if kind is None or not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        return False
    return all(word in _ANNOTATIONS or _obeys(value, word, said) for word, said in schema.items())


def _obeys(value: Any, word: str, said: Any) -> bool:
    match word:
        case "type":
            return True
        case "enum":
            return bool(value in said)
        case "const":
            return bool(value == said)
        case "minimum":
            return bool(value >= said)
        case "exclusiveMinimum":
            return bool(value > said)
        case "maximum":
            return bool(value <= said)
        case "minLength":
            return bool(len(value) >= said)
        case "pattern":
            return re.search(said, value) is not None
        case "required":
            return all(name in value for name in said)
        case "properties":
            return all(name not in value or surely_fits(value[name], each) for name, each in said.items())
        case "oneOf":
            meant = [each for each in said if _may_be(value, each)]
            return len(meant) == 1 and surely_fits(value, meant[0])
    return False


def _may_be(value: dict[str, JSON], branch: Schema) -> bool:
    """Returns whether an object contradicts none of the constants that distinguish a branch from the others."""
    constants = {name: each["const"] for name, each in branch.get("properties", {}).items() if "const" in each}
    return all(value.get(name, constant) == constant for name, constant in constants.items())
