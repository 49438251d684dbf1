"""Puts what is wrong with a config into plain words: its path, what was found, and what is expected."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from jsonschema.exceptions import ValidationError as SchemaError
from pydantic import ValidationError

from connector.base.errors import Problem

_TYPES: Final = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "object": "an object",
    "string": "a text",
}
_BOUNDS: Final = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
}


def of_schema(errors: Iterable[SchemaError]) -> list[Problem]:
    """Returns one problem for each error that a JSON Schema validator found."""
    return [_problem(error) for error in sorted(errors, key=lambda error: list(map(str, error.absolute_path)))]


def of_validation(error: ValidationError) -> list[Problem]:
    """Returns one problem for each error that the model's own validators found."""
    found: list[Problem] = []
    for each in error.errors(include_url=False, include_input=False):
        inner = each.get("ctx", {}).get("problems")
        found += inner or [Problem(_path(each["loc"]), each["msg"].removeprefix("Value error, "))]
    return found


def unknown(data: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    """Returns a warning for each unknown option, with the one that was probably meant."""
    names = list(known)
    found = []
    for name in data:
        if name not in names:
            near = get_close_matches(str(name), names, n=1)
            found.append(f'there is no option "{name}"' + (f'; did you mean "{near[0]}"?' if near else ""))
    return found


def _problem(error: SchemaError) -> Problem:
    path = _path(error.absolute_path)
    if error.validator == "oneOf" and isinstance(error.schema, dict):
        return _branch_problem(error, path)
    return Problem(path, _said(error))


def _branch_problem(error: SchemaError, path: str) -> Problem:
    """Returns the error of the alternative whose constant matches, since that one is meant."""
    kinds = [branch["properties"]["type"]["const"] for branch in error.schema["oneOf"]]  # type: ignore[index]
    found = error.instance.get("type") if isinstance(error.instance, dict) else None
    if found not in kinds:
        return Problem(f"{path}.type", f"{_shown(found)} is not one of {', '.join(kinds)}")
    inner = [each for each in error.context or () if each.schema_path[0] == kinds.index(found)]
    return _problem(inner[0]) if inner else Problem(path, error.message)


def _said(error: SchemaError) -> str:
    schema = error.schema if isinstance(error.schema, dict) else {}
    found = "the value" if schema.get("writeOnly") else _shown(error.instance)
    expected = schema.get("pattern_descriptor")
    if expected:
        return f"{found} is not {expected}"
    value: Any = error.validator_value
    if error.validator == "type":
        return f"{found} is not {_TYPES.get(str(value), value)}"
    if error.validator == "enum":
        return f"{found} is not one of {', '.join(map(str, value))}"
    if error.validator in _BOUNDS:
        return f"{found} is not {_BOUNDS[error.validator]} {value}"
    if error.validator == "required":
        present: Any = error.instance
        missing = [name for name in value if name not in present]
        return f"{', '.join(missing)} is missing"
    return str(error.message)


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:79] + "…"  # noqa: PLR2004 - fits a line


def _path(parts: Iterable[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")
