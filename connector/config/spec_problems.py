"""Says in plain words what is wrong with a config that does not fit the spec. Needs jsonschema, which is large."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from jsonschema import Draft7Validator
from jsonschema.exceptions import ValidationError

from connector.base.errors import Problem
from connector.base.records import JSON, Schema
from connector.base.suggestions import did_you_mean
from connector.config.problems import path_of, without_passwords

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


def problems_of(value: JSON, schema: Schema) -> list[Problem]:
    """Returns one problem for each place where a value does not fit a schema (draft-07)."""
    errors = Draft7Validator(schema).iter_errors(value)
    return [_problem(error) for error in sorted(errors, key=lambda error: list(map(str, error.absolute_path)))]


def _problem(error: ValidationError) -> Problem:
    path = path_of(error.absolute_path)
    if error.validator == "oneOf" and isinstance(error.schema, dict):
        return _branch_problem(error, path)
    return Problem(path, _said(error))


def _branch_problem(error: ValidationError, path: str) -> Problem:
    """Returns the problem of the alternative whose constant `type` matches, since that one is meant."""
    kinds = [branch["properties"]["type"]["const"] for branch in error.schema["oneOf"]]  # type: ignore[index]
    found = error.instance.get("type") if isinstance(error.instance, dict) else None
    if found not in kinds:
        return Problem(f"{path}.type", _no_choice(found, kinds))
    inner = [each for each in error.context or () if each.schema_path[0] == kinds.index(found)]
    return _problem(inner[0]) if inner else Problem(path, without_passwords(error.message, error.instance))


def _said(error: ValidationError) -> str:
    schema = error.schema if isinstance(error.schema, dict) else {}
    found = "the value" if schema.get("writeOnly") else _shown(error.instance)
    expected = schema.get("pattern_descriptor")
    if expected:
        return f"{found} is not {expected}"
    value: Any = error.validator_value
    if error.validator == "type":
        return f"{found} is not {_TYPES.get(str(value), value)}"
    if error.validator == "enum":
        return _no_choice(error.instance, list(map(str, value)))
    if error.validator in _BOUNDS:
        return f"{found} is not {_BOUNDS[error.validator]} {value}"
    if error.validator == "required":
        present: Any = error.instance
        missing = [name for name in value if name not in present]
        return f"{', '.join(missing)} is missing"
    return without_passwords(error.message, error.instance)


def _no_choice(found: object, choices: Sequence[str]) -> str:
    meant = did_you_mean(found, choices) if isinstance(found, str) else ""
    return f"{_shown(found)} is not one of {', '.join(choices)}{meant and f': {meant}'}"


def _shown(value: object) -> str:
    text = without_passwords(json.dumps(value, ensure_ascii=False, default=str), value)
    return text if len(text) <= 80 else text[:79] + "…"  # noqa: PLR2004 - fits a line
