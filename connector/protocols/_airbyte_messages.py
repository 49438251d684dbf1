"""Builds Airbyte's messages (protocol version 0.2) as plain dicts: its model classes cost ten times as much."""

from __future__ import annotations

import time
from typing import Final

from connector.base.errors import (
    ConfigError,
    ConnectorError,
    DatabaseUnavailableError,
    FatalError,
    LedgerUnavailableError,
    OutageError,
    RateLimitError,
    RecordError,
    RetryableError,
    StorageError,
)
from connector.base.records import JSON, Outcome
from connector.base.streams import Limited, Selection
from connector.protocols import PlatformMessage

_TOO_MANY: Final = 429
_REFUSALS: Final = frozenset(range(400, 500)) - {408, 409, 425, _TOO_MANY}
"""The statuses of a request that stays refused until it is changed."""


def record(outcome: Outcome, selection: Selection) -> PlatformMessage:
    """Returns the RECORD of a row. A failed row lists the columns that are null for that reason."""
    content: PlatformMessage = {
        "stream": selection.name,
        "data": selection.keeps(outcome.row),
        "emitted_at": time.time_ns() // 1_000_000,
    }
    if outcome.status.is_failure:
        nulled = [name for name in outcome.columns if selection.fields is None or name in selection.fields]
        changes = [{"field": name, "change": "NULLED", "reason": "SOURCE_RETRIEVAL_ERROR"} for name in nulled]
        content["meta"] = {"changes": changes}
    return {"type": "RECORD", "record": content}


def state(stream: str, content: JSON, count: int) -> PlatformMessage:
    """Returns the STATE of a stream; `count` is the number of records since the state before it."""
    described = {"stream_descriptor": {"name": stream}, "stream_state": content}
    return {
        "type": "STATE",
        "state": {"type": "STREAM", "stream": described, "sourceStats": {"recordCount": float(count)}},
    }


def status(stream: str, value: str, reasons: list[JSON] | None = None) -> PlatformMessage:
    """Returns the status of a stream; `value` is STARTED, RUNNING, COMPLETE or INCOMPLETE."""
    content: PlatformMessage = {"stream_descriptor": {"name": stream}, "status": value}
    return _trace("STREAM_STATUS", stream_status=content | ({"reasons": reasons} if reasons else {}))


def estimate(stream: str, rows: int) -> PlatformMessage:
    """Returns the estimate of how many records a stream will have."""
    return _trace("ESTIMATE", estimate={"name": stream, "type": "STREAM", "row_estimate": rows})


def limited(limit: Limited) -> list[JSON]:
    """Returns the reason of a stream that waits for the endpoint. `quota_reset` is in milliseconds since 1970."""
    quota = {} if limit.until is None else {"rate_limited": {"quota_reset": int(limit.until * 1000)}}
    return [{"type": "RATE_LIMITED", **quota}]


def reasons(error: BaseException, last: Limited | None) -> list[JSON]:
    """Returns why a stream ended early, if the protocol has a name for it; `last` is the last rate limit it met."""
    if not isinstance(error, RateLimitError | OutageError) or error.http_status != _TOO_MANY:
        return []
    if isinstance(error, RateLimitError) and error.wait is not None:
        last = Limited(time.time() + error.wait)
    return limited(last or Limited(None))


def failure(error: ConnectorError) -> PlatformMessage:
    """Returns the error trace that a platform shows: `message` is for the user, `internal_message` for support."""
    internal = error.detail or f"{type(error).__name__}: {error.message}"
    kind = _failure_type(error)
    return _trace("ERROR", error={"message": error.message, "internal_message": internal, "failure_type": kind})


def log(level: str, text: str) -> PlatformMessage:
    """Returns a log message; `level` is a name of Python's logging."""
    known = {"WARNING": "WARN", "CRITICAL": "FATAL"}.get(level, level)
    return {"type": "LOG", "log": {"level": known, "message": text}}


def _failure_type(error: ConnectorError) -> str:
    """Returns `config_error` if the user can fix it, `transient_error` if it passes, else `system_error`."""
    match error:
        case OutageError(http_status=int(code)) if code in _REFUSALS:
            return "config_error"
        case OutageError() | RetryableError() | DatabaseUnavailableError() | LedgerUnavailableError():
            return "transient_error"
        case ConfigError() | FatalError() | RecordError() if not isinstance(error, StorageError):
            return "config_error"
    return "system_error"


def _trace(kind: str, **content: JSON) -> PlatformMessage:
    return {"type": "TRACE", "trace": {"type": kind, "emitted_at": time.time() * 1000, **content}}
