"""The types of options, each with the validation of its values."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from connector import stores
from connector.base import schemas
from connector.base.errors import ConfigError
from connector.base.masking import bare_url, looks_secret
from connector.base.records import JSON, Schema
from connector.base.regex import regex
from connector.base.secrets import ResolvedSecret, secret
from connector.config.given import undecodable
from connector.config.problems import unknown
from connector.http.auth import SCHEMES
from connector.ledger import Url as LedgerUrl
from connector.ledger import location_of
from connector.templates.template import Template

SECRET: Final[dict[str, JsonValue]] = {"airbyte_secret": True, "multiwoven_secret": True, "writeOnly": True}
STREAM_OPTIONS: Final = (
    *("model", "system_prompt", "prompt", "request_format", "response_format", "output_schema", "max_repairs"),
    *("tools", "tool_choice", "image_columns", "image_detail", "is_stream", "metadata", "on_error", "prices", "where"),
)
"""The options that a stream can override; all others apply to all calls of a run."""

SECRET_TEXT: Final[dict[str, JsonValue]] = {"type": "string", "writeOnly": True, "format": "password"}
JSON_TEXT: Final[dict[str, JsonValue]] = {"type": "string", "format": "json", "multiline": True}

_NOT_IN_URL: Final = regex(r"[\x00-\x20\x7f-\x9f\u2028\u2029\ud800-\udfff\\]")  # RFC 3986, section 2


def parsed_json(value: JSON) -> JSON:
    """Parses JSON text; returns any other value as it is."""
    if not isinstance(value, str):
        return value
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON: {error}") from None
    _are_texts(parsed)
    return parsed


def _are_texts(value: JSON, path: str = "") -> None:
    """Raises `ValueError` if a text in a JSON value holds a lone surrogate, which an escape can make."""
    odd = next(undecodable(value, path), None)
    if odd is not None:
        raise ValueError(f"holds half of a surrogate pair{f' at {odd}' if odd else ''}: remove it")


def _is_array(value: JSON) -> JSON:
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        raise ValueError("is not an array of objects")
    return value


def _tool_choice(value: JSON) -> JSON:
    """Returns a word or an object; the latter may be given as JSON text."""
    value = parsed_json(value) if isinstance(value, str) and value.lstrip().startswith("{") else value
    if isinstance(value, str | dict):
        return value
    raise ValueError("is neither a word nor an object")


def _is_auth(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", value):
        raise ValueError(f"is neither {' nor '.join(SCHEMES)} nor the name of a header")
    return value


def _arguments(value: Any) -> Any:
    """Splits a command into a program and its arguments, as a shell does; returns a list as it is."""
    try:
        arguments = shlex.split(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"cannot be split into arguments ({error}): write a list of texts") from None
    if not isinstance(arguments, list | tuple) or not all(isinstance(each, str) for each in arguments):
        raise ValueError("is neither a text nor a list of texts")
    return arguments


def _is_command(value: Sequence[str]) -> tuple[str, ...]:
    if value and not value[0].strip():
        raise ValueError("names no program: write it first, then its arguments")
    if any("\0" in argument for argument in value):
        raise ValueError("holds a NUL character: remove it")
    return tuple(value)


def _is_query(value: JSON) -> dict[str, str | SecretStr]:
    """Returns parameters as text; those that come from the environment or look secret, as secrets."""
    if not isinstance(value, dict) or not all(
        isinstance(each, str | int | float | SecretStr) for each in value.values()
    ):
        raise ValueError("is not an object of texts")
    return {name: each if isinstance(each, SecretStr) else _parameter(name, str(each)) for name, each in value.items()}


def _parameter(name: str, text: str) -> str | SecretStr:
    found = secret(text)
    value = found.get_secret_value()
    return found if value != text or looks_secret(name, value) else value


def _seconds(value: JSON) -> JSON:
    return float(value) if isinstance(value, str) else value


def _is_url(url: str) -> str:
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValueError("a URL must not hold a user name or password: use api_key or headers")
    if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname:
        raise ValueError(f"{bare_url(url)!r} is not an http:// or https:// URL, nor a ws:// or wss:// one")
    if odd := _NOT_IN_URL.search(url):
        raise ValueError(f"holds the character U+{ord(odd[0]):04X}, which no URL has: remove it")
    return url


def _is_proxy(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_proxy = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its message may quote a part of the password
        is_proxy = False
    if not is_proxy or _NOT_IN_URL.search(url):
        raise ValueError("must look like http://host:port")
    return url


def _is_path(path: str) -> str:
    """Expands `~`, as a shell does."""
    if "\0" in path:
        raise ValueError("holds a NUL character: remove it")
    return os.path.expanduser(path)  # noqa: PTH111 - Path raises where there is no home


def _is_ledger(place: str) -> str:
    """Returns a URL as it is, since its variables are read when the ledger is opened; any other place as a path."""
    return place if isinstance(location_of(place), LedgerUrl) and "://" in place else _is_path(place)


def _is_template(value: JSON, info: ValidationInfo) -> JSON:
    return None if value is None else _compiling(value, value, info)


def _is_text_template(value: str | None, info: ValidationInfo) -> str | None:
    return None if value is None else _compiling(value, [value], info)


def _is_condition(value: str | None, info: ValidationInfo) -> str | None:
    if value is not None and "{" not in value:
        raise ValueError(f"is the same for every row: write an expression over its columns, such as {{{{ {value} }}}}")
    return _is_text_template(value, info)


def _compiling(value: Any, source: JSON, info: ValidationInfo) -> Any:
    """Returns `value` if `source` compiles as a template; raises one problem for each bad leaf."""
    name = info.field_name or ""
    try:
        named = {value: name} if isinstance(value, str) else None  # a single text is called "prompt", not "prompt[0]"
        structure = Template(source, name, fixed_keys=name == "response_format", options=named).structure
    except ConfigError as error:
        raise PydanticCustomError("template", "{problems}", {"problems": error.problems}) from None
    _are_texts(structure, name)
    return value


def _is_schema(value: Schema) -> Schema:
    if value.get("type") != "object":
        raise ValueError('is not the schema of an object: it needs "type": "object"')
    schemas.checker_of(value)
    return value


def _are_headers(value: dict[str, Any]) -> dict[str, SecretStr]:
    headers: dict[str, SecretStr] = {}
    for name, each in value.items():
        text = each.get_secret_value() if isinstance(each, SecretStr) else each
        if not isinstance(text, str | int | float) or any(char in f"{name}{text}" for char in "\r\n\0"):
            raise ValueError(f"the header {name!r} is not one line of text")
        headers[name] = each if isinstance(each, ResolvedSecret) else secret(str(text))
    return headers


def _are_streams(value: Any) -> dict[str, dict[str, Any]]:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        value = dict.fromkeys(value)
    if not isinstance(value, dict) or not value:
        raise ValueError("is neither a list of stream names nor an object of them")
    wrong = [name for name, overrides in value.items() if not isinstance(overrides, dict | None)]
    if wrong:
        raise ValueError(f"the options of {wrong[0]!r} are not an object")
    return {name: overrides or {} for name, overrides in value.items()}


def _is_store(value: Any, info: ValidationInfo) -> Any:
    if value is None or isinstance(value, BaseModel):
        return value
    options = stores.load(value["type"]).Options
    if problems := unknown(value, options, f"{info.field_name}."):
        raise PydanticCustomError("options", "{problems}", {"problems": problems})
    return options.model_validate(value)


class Model(BaseModel):
    """A model as gateways list it. Prices are USD per 1,000,000 tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: str
    id: str
    kind: str | None = None
    region: str | None = None
    description: str | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0)
    input_price: float | None = Field(default=None, ge=0)
    output_price: float | None = Field(default=None, ge=0)


_FROM_JSON: Final = BeforeValidator(parsed_json)

ProxyUrl = Annotated[str, AfterValidator(_is_proxy)]
FilePath = Annotated[str, AfterValidator(_is_path)]
LedgerPlace = Annotated[str, AfterValidator(_is_ledger)]
Url = Annotated[str, AfterValidator(_is_url)]
JsonTemplate = Annotated[Any, AfterValidator(_is_template), WithJsonSchema(JSON_TEXT)]
TextTemplate = Annotated[str | None, AfterValidator(_is_text_template)]
Condition = Annotated[str | None, AfterValidator(_is_condition)]
OutputSchema = Annotated[dict[str, Any], _FROM_JSON, AfterValidator(_is_schema), WithJsonSchema(JSON_TEXT)]
HeadersOption = Annotated[dict[str, Any], _FROM_JSON, AfterValidator(_are_headers), WithJsonSchema(JSON_TEXT)]
StreamsOption = Annotated[Any, _FROM_JSON, AfterValidator(_are_streams), WithJsonSchema(JSON_TEXT)]
InputOption = Annotated[Any, AfterValidator(_is_store)]
OutputOption = Annotated[Any, AfterValidator(_is_store)]
JsonArray = Annotated[list[Any], _FROM_JSON, AfterValidator(_is_array), WithJsonSchema(JSON_TEXT)]
ToolChoice = Annotated[Any, BeforeValidator(_tool_choice), WithJsonSchema({"type": "string"})]
AuthOption = Annotated[str, AfterValidator(_is_auth)]
ApiKey = Annotated[SecretStr | Callable[[], str], WithJsonSchema(SECRET_TEXT)]
Command = Annotated[Sequence[str], BeforeValidator(_arguments), AfterValidator(_is_command)]
QueryOption = Annotated[dict[str, Any], _FROM_JSON, AfterValidator(_is_query), WithJsonSchema(JSON_TEXT)]
Models = Annotated[list[Model], _FROM_JSON, WithJsonSchema(JSON_TEXT)]
Names = Annotated[str | tuple[str, ...], WithJsonSchema({"type": "string"})]
Seconds = Annotated[
    float,
    BeforeValidator(_seconds),
    WithJsonSchema(
        {"type": "string", "pattern": r"^\s*\+?(\d+\.?\d*|\.\d+)\s*$", "pattern_descriptor": "a number of seconds"}
    ),
]


class Http(BaseModel):
    """The nested `config` object, in which AI Squared's connector has its timeout."""

    model_config = ConfigDict(frozen=True, title="HTTP", defer_build=True, json_schema_extra={"order": 3})

    timeout: Seconds = Field(
        default=30.0,
        gt=0,
        title="HTTP timeout",
        description="Seconds that a whole call may take, from connecting to the last byte of the reply.",
        examples=["30"],
        json_schema_extra={"order": 0, "default": "30"},
    )
    connect_timeout: Seconds = Field(
        default=5.0,
        gt=0,
        title="Connect timeout",
        description="Seconds that connecting may take, TLS included; the HTTP timeout limits it, too.",
        examples=["5"],
        json_schema_extra={"order": 1, "default": "5"},
    )
