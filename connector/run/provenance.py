"""The `_llm` column: its value, from what is known of a row's call, and its schema, from the fields of `Provenance`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, get_args, get_type_hints

from connector.base.cost import Pricing, cost_of
from connector.base.errors import ConnectorError
from connector.base.records import GROUP, Answer, Failure, Provenance, Reply, Schema, Status

Detail = Literal["full", "status", "none"]

_CONTENT_KEPT: Final = 10_000  # characters
_MESSAGE_KEPT: Final = 4_000  # characters
_NAME_KEPT: Final = 1_000  # characters of a model or a finish reason, which an endpoint may fill with megabytes
_TYPES: Final = {str: "string", int: "integer", float: "number", bool: "boolean"}


def _name(field: str) -> str:
    """Returns the name of a field in the column: its own, without the `_` that keeps it apart from a keyword."""
    return field.removesuffix("_")


def _schema_of(hint: Any) -> Schema:
    """Returns the schema of a field's type. Everything but the status admits null, as outputs need it."""
    if hint is Status:
        return {"type": "string", "enum": [status.value for status in Status]}
    kind = next((each for each in get_args(hint) if each is not type(None)), hint)
    if kind is Failure:
        return {"type": ["null", "object"], "properties": _properties(Failure)}
    return {"type": ["null", _TYPES[kind]]}


def _properties(record: type) -> dict[str, Schema]:
    return {_name(field): _schema_of(hint) for field, hint in get_type_hints(record).items()}


SCHEMA: Final[Mapping[str, Schema]] = _properties(Provenance)
"""The schema of each part of the column, by its name."""

_NAMES: Final = tuple(SCHEMA)
_ERROR_NAMES: Final = tuple(map(_name, Failure._fields))
_STATUS, _ERROR = _NAMES[:2]
_PARTS: Final = {"full": _NAMES, "status": (_STATUS, _ERROR), "none": ()}


def column(detail: Detail) -> dict[str, Schema]:
    """Returns the column with its schema, by its name; nothing where it is not wanted."""
    properties = {name: SCHEMA[name] for name in _PARTS[detail]}
    return {GROUP: {"type": "object", "properties": properties}} if properties else {}


def as_column(provenance: Provenance) -> dict[str, Any]:
    """Returns the column's value for a row, with all of its parts."""
    column: dict[str, Any] = dict(zip(_NAMES, provenance))  # noqa: B905 - for every row; the names are the record's own
    column[_STATUS] = provenance.status._value_
    if provenance.error is not None:
        column[_ERROR] = dict(zip(_ERROR_NAMES, provenance.error, strict=True))
    return column


def group(provenance: Provenance, detail: Detail) -> dict[str, Any]:
    """Returns the column's value by its name, with the parts that are wanted; nothing where the column is not."""
    if detail == "full":
        return {GROUP: as_column(provenance)}
    if detail == "none":
        return {}
    parts = as_column(provenance)
    return {GROUP: {name: parts[name] for name in _PARTS[detail]}}


def failure(kind: str, message: str, http_status: int | None = None, content: str | None = None) -> Failure:
    """Returns what went wrong with a row; of a long text of its reply, the first 10,000 characters are kept.

    Of a long message, which may quote a reply, its beginning is kept and its end, which says what to do.
    """
    if len(message) > _MESSAGE_KEPT:
        message = f"{message[: _MESSAGE_KEPT // 2]}…{message[-_MESSAGE_KEPT // 2 :]}"
    return Failure(kind, message, http_status, content[:_CONTENT_KEPT] if content else None)


def of_error(error: ConnectorError, status: Status, key: bytes, attempts: int, *, cached: bool) -> Provenance:
    """Returns what is known of a row that got no answer."""
    wrong = failure(type(error).__name__, error.message, error.http_status)
    return Provenance(status, wrong, attempts, prompt_hash=key.hex() or None, cached=cached)


def of_reply(
    reply: Reply,
    answer: Answer,
    status: Status,
    error: Failure | None,
    key: bytes,
    pricing: Pricing | None,
    *,
    cached: bool,
) -> Provenance:
    """Returns what is known of a row that got an answer. `cached`: another row, or an earlier run, has paid for it."""
    usage = answer.usage
    return Provenance(  # in the order of the fields: by name it takes twice as long, and there is one for every row
        status,
        error,
        reply.attempts,
        answer.model and answer.model[:_NAME_KEPT],
        answer.finish_reason and answer.finish_reason[:_NAME_KEPT],
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
        cost_of(reply, usage, pricing),
        reply.latency_ms,
        _request_id(reply.headers),
        key.hex() or None,
        cached or reply.cached,
    )


def _request_id(headers: Mapping[str, str]) -> str | None:
    """Returns the ID under OpenAI's name for it, else LiteLLM's, else Portkey's."""
    return headers.get("x-request-id") or headers.get("x-litellm-call-id") or headers.get("x-portkey-trace-id")
