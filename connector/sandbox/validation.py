"""Checks requests: the sandbox's key, its model, and the schema of a kind's requests.

Error bodies are those that users quote in public issue threads.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
from jsonschema import Draft202012Validator

from connector.base.records import Schema

MODEL: Final = "sandbox-1"
KEY: Final = "sk-sandbox"


class APIError(Exception):
    """A refusal in OpenAI's shape."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def form(*required: str, **properties: Schema) -> Schema:
    """Returns the schema of an object with these properties."""
    return {"type": "object", "required": list(required), "properties": properties}


TEXT: Final = {"type": "string"}
FLAG: Final = {"type": ["boolean", "null"]}
COUNT: Final = {"type": ["integer", "null"], "minimum": 1}
PARTS: Final = {"type": ["string", "array", "null"], "items": form(text=TEXT)}
FORMAT: Final = form("type", type={"enum": ["json_object", "json_schema", "text"]})
_FORMAT_SCHEMA: Final = form("json_schema", json_schema=form("name", "schema", name=TEXT, schema=form()))
RESPONSE_FORMAT: Final = FORMAT | {"if": {"properties": {"type": {"const": "json_schema"}}}, "then": _FORMAT_SCHEMA}
STREAM_OPTIONS: Final = form(include_usage=FLAG) | {"type": ["object", "null"]}
_CODES: Final = {
    "type": "invalid_type",
    "minimum": "integer_below_min_value",
    "maximum": "integer_above_max_value",
    "minItems": "empty_array",
}
_NOT_JSON: Final = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
    "correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)"
)
_PRIVATE: Final = (".localhost", ".local", ".internal")  # names that nobody can register
_FOREIGN: Final = "This sandbox answers only to names of this machine, as localhost; to others with --host 0.0.0.0."
_NO_KEY: Final = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY)."
)


def check_host(host: str) -> None:
    """Raises `APIError` if the header `Host` is a name that anybody can register.

    Its owner could have it lead to this machine: a web page of that name would then read the replies (DNS rebinding).
    """
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        if "." in name and not name.endswith(_PRIVATE):
            ip_address(name)
    except ValueError:
        raise APIError(403, _FOREIGN) from None


def check_key(authorization: str, key: str) -> None:
    """Raises `APIError` unless the header `Authorization` holds the key."""
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "bearer" or not given:
        raise APIError(401, _NO_KEY)
    if given != key:
        masked = re.sub(r"(?<=.{8}).(?=.{4})", "*", given)
        message = f"Incorrect API key provided: {masked}. The sandbox takes the key that it names when it starts."
        raise APIError(401, message, None, "invalid_api_key")


def checked(raw: bytes, request: Draft202012Validator, *, has_model: bool = True) -> dict[str, Any]:
    """Parses the body of a request. Raises `APIError` if it does not fit the schema `request`."""
    try:
        body: dict[str, Any] = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise APIError(400, _NOT_JSON) from None
    for error in request.iter_errors(body):
        where = error.json_path.removeprefix("$").removeprefix(".") or "body"
        if error.validator != "required":
            code = _CODES.get(str(error.validator), "invalid_value")
            raise APIError(400, f"Invalid '{where}': {error.message[:200]}.", where, code)
        missing = next(name for name in error.validator_value if name not in error.instance)
        where = f"{where}.{missing}".removeprefix("body.")
        raise APIError(400, f"Missing required parameter: '{where}'.", where, "missing_required_parameter")
    if has_model and body.get("model", MODEL) != MODEL:
        message = f"The model `{body['model']}` does not exist or you do not have access to it."
        raise APIError(404, message, None, "model_not_found")
    if body.get("stream_options") and not body.get("stream"):
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise APIError(400, message, "stream_options")
    return body
