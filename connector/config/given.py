"""Adds values from the environment to a config, and converts it into the form that the spec describes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, SecretStr

from connector.base import environment
from connector.base.environment import HALF
from connector.base.secrets import secret

_VARIABLES: Final = {
    "url": "OPENAI_BASE_URL",
    "api_key": "OPENAI_API_KEY",
    "model": "OPENAI_MODEL",
    "organization": "OPENAI_ORG_ID",
    "project": "OPENAI_PROJECT",
}
_JSON_OPTIONS: Final = (
    *("request_format", "response_format", "output_schema", "models", "tools", "tool_choice"),
    *("headers", "query", "streams", "batch"),
)
_NAMES: Final = ("primary_key", "image_columns")


def from_environment(data: dict[str, Any]) -> dict[str, Any]:
    """Adds options that the config leaves out, and resolves `${NAME}` in the key.

    A command replaces OPENAI_API_KEY. A request format names its model itself, unless it is one of `models`.
    """
    given = set(data)
    if data.get("api_key_command"):
        given.add("api_key")
    if data.get("request_format") and not data.get("models"):
        given.add("model")
    for name, variable in _VARIABLES.items():
        if name not in given and (value := environment.variable(variable)):
            data[name] = f"${{{variable}}}" if name == "api_key" else value
    if isinstance(data.get("api_key"), str):
        data["api_key"] = secret(data["api_key"])
    return data


def undecodable(value: Any, path: str = "") -> Iterator[str]:
    """Yields the path of each text in a config that UTF-8 cannot hold."""
    if isinstance(value, str):
        if HALF.search(value):
            yield path
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from (path for _ in undecodable(name))
            yield from undecodable(each, f"{path}.{name}".removeprefix("."))
    elif isinstance(value, list | tuple):
        for place, each in enumerate(value):
            yield from undecodable(each, f"{path}[{place}]")


def as_text(data: dict[str, Any]) -> dict[str, Any]:
    """Returns the config as the spec describes it: JSON and seconds as text, the options of a store as an object."""
    result = dict(data)
    for name in _JSON_OPTIONS:
        if name in data and not isinstance(data[name], str):
            result[name] = json.dumps(data[name], default=str)
    for name in _NAMES:
        if isinstance(data.get(name), list | tuple) and all(isinstance(each, str) for each in data[name]):
            result[name] = ", ".join(data[name])
    if isinstance(data.get("api_key"), SecretStr):
        result["api_key"] = data["api_key"].get_secret_value()
    elif callable(data.get("api_key")):
        del result["api_key"]
    for name, value in result.items():
        if isinstance(value, BaseModel):
            result[name] = value.model_dump(mode="json", exclude_none=True)
    http = result.get("config")
    if isinstance(http, dict):
        result["config"] = {
            name: str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
            for name, value in http.items()
        }
    return result
