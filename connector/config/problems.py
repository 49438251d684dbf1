"""Puts what is wrong with a config into plain words: its path, what was found, and what is expected."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, get_args

from jsonschema.exceptions import ValidationError as SchemaError
from pydantic import BaseModel, ValidationError

from connector.base.errors import Problem
from connector.base.masking import Masker, passwords_in
from connector.base.suggestions import did_you_mean

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
    for each in error.errors(include_url=False):
        inner = each.get("ctx", {}).get("problems")
        is_unknown = each["type"] == "extra_forbidden"
        said = "there is no such option: remove it" if is_unknown else each["msg"].removeprefix("Value error, ")
        found += inner or [Problem(_path(each["loc"]), _without_passwords(said, each["input"]))]
    return found


def unknown(data: Mapping[str, Any], model: type[BaseModel], where: str = "") -> list[Problem]:
    """Returns one problem for each option that a model lacks, those inside options too, with the nearest name."""
    found: list[Problem] = []
    for name, value in data.items():
        field = model.model_fields.get(name)
        if field is None:
            meant = did_you_mean(str(name), model.model_fields) or "remove it"
            found.append(Problem(f"{where}{_without_passwords(str(name), name)}", f"there is no such option: {meant}"))
        elif (inner := _model_in(field.annotation)) is not None:
            parts = {"": value} if not isinstance(value, list) else {f"[{at}]": each for at, each in enumerate(value)}
            for place, part in parts.items():
                found += unknown(part, inner, f"{where}{name}{place}.") if isinstance(part, Mapping) else []
    return found


def known(data: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Returns the options that a model has, without the others."""
    return {
        name: known(value, inner) if isinstance(value, Mapping) and inner is not None else value
        for name, value in data.items()
        if (field := model.model_fields.get(name)) is not None
        for inner in (_model_in(field.annotation),)
    }


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Returns the model of an option that is an object of options, or a list of such."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


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
        return Problem(f"{path}.type", _no_choice(found, kinds))
    inner = [each for each in error.context or () if each.schema_path[0] == kinds.index(found)]
    return _problem(inner[0]) if inner else Problem(path, _without_passwords(error.message, error.instance))


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
        return _no_choice(error.instance, list(map(str, value)))
    if error.validator in _BOUNDS:
        return f"{found} is not {_BOUNDS[error.validator]} {value}"
    if error.validator == "required":
        present: Any = error.instance
        missing = [name for name in value if name not in present]
        return f"{', '.join(missing)} is missing"
    return _without_passwords(error.message, error.instance)


def _no_choice(found: object, choices: Sequence[str]) -> str:
    meant = did_you_mean(found, choices) if isinstance(found, str) else ""
    return f"{_shown(found)} is not one of {', '.join(choices)}{meant and f': {meant}'}"


def _shown(value: object) -> str:
    text = _without_passwords(json.dumps(value, ensure_ascii=False, default=str), value)
    return text if len(text) <= 80 else text[:79] + "…"  # noqa: PLR2004 - fits a line


def _without_passwords(text: str, value: object) -> str:
    """Returns a text about a value without what may be a password in that, as it may be a mistyped URL."""
    return Masker(passwords_in(_texts(value)))(text)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in (*value, *value.values()):
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _path(parts: Iterable[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")
