"""The problems of a config in plain words: the path, what was found, and what is expected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from connector.base.errors import Problem
from connector.base.masking import Masker, passwords_in
from connector.base.suggestions import did_you_mean


def of_validation(error: ValidationError) -> list[Problem]:
    """Returns one problem for each error of the model's own validators."""
    found: list[Problem] = []
    for each in error.errors(include_url=False):
        inner = each.get("ctx", {}).get("problems")
        is_unknown = each["type"] == "extra_forbidden"
        said = "there is no such option: remove it" if is_unknown else each["msg"].removeprefix("Value error, ")
        found += inner or [Problem(path_of(each["loc"]), without_passwords(said, each["input"]))]
    return found


def unknown(data: Mapping[str, Any], model: type[BaseModel], where: str = "") -> list[Problem]:
    """Returns one problem for each option that a model lacks, also for nested ones, with the nearest name."""
    found: list[Problem] = []
    for name, value in data.items():
        field = model.model_fields.get(name)
        if field is None:
            meant = did_you_mean(str(name), model.model_fields) or "remove it"
            found.append(Problem(f"{where}{without_passwords(str(name), name)}", f"there is no such option: {meant}"))
        elif (inner := _model_in(field.annotation)) is not None:
            parts = {"": value} if not isinstance(value, list) else {f"[{at}]": each for at, each in enumerate(value)}
            for place, part in parts.items():
                found += unknown(part, inner, f"{where}{name}{place}.") if isinstance(part, Mapping) else []
    return found


def known(data: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Returns only the options that a model has."""
    return {
        name: known(value, inner) if isinstance(value, Mapping) and inner is not None else value
        for name, value in data.items()
        if (field := model.model_fields.get(name)) is not None
        for inner in (_model_in(field.annotation),)
    }


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Returns the model of an option that is an object of options, or a list of these."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def without_passwords(text: str, value: object) -> str:
    """Returns a text about a value with possible passwords masked, since the value may be a mistyped URL."""
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


def path_of(parts: Iterable[str | int]) -> str:
    """Returns the path of a value in a config as users write it, such as `streams[0].name`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")
