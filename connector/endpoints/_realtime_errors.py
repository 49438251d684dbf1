"""Maps the errors of a realtime session to those of failed HTTP replies.

An error event has a code and a type, a closed socket a close code. Each is mapped to the HTTP status of the same
meaning, so that retry, limits, breaker and ledger need not know the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from connector.base.errors import ConnectorError, CutError
from connector.base.masking import Masker
from connector.base.records import Reply
from connector.base.regex import regex
from connector.replies.refusals import error_of, final_reply, read_error, readable

_STATUSES: Final = {
    "invalid_request_error": 400,
    "bad_request_error": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "insufficient_quota": 429,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "requests": 429,
    "tokens": 429,
    "session_expired": 503,
    "server_error": 500,
}
"""HTTP statuses by the code of an error, or else its type. A row whose session has expired is tried again."""

_REASON: Final = regex(r"(\w+)\.(\w+)")
"""The reason of a close frame as OpenAI writes it: the type and the code of an error."""

_CLOSES: Final = {
    1003: 400,
    1007: 400,
    1008: 400,
    1009: 413,
    1011: 500,
    1012: 503,
    1013: 503,
    3000: 401,
    3003: 403,
    3008: 408,
    4000: 400,
    4001: 401,
    4003: 403,
    4004: 404,
    4029: 429,
}
"""HTTP statuses by close code: RFC 6455 (section 7.4), IANA's registry, and codes of servers in the private range."""


class ErrorEvent(Exception):  # noqa: N818 - a protocol message, whose content decides which error it becomes
    """An error event or a failed response, with the error object in it."""

    def __init__(self, error: Any) -> None:
        super().__init__()
        self.error = error


def refusal_of(error: Any, headers: dict[str, str], latency_ms: int, *, now: float, mask: Masker) -> Reply:
    """Returns an error that concerns this request alone as a final reply. Raises any other, for the run to act on."""
    body = read_error({"error": error}, mask)
    raised = _error({"message": body.message, "type": body.type, "code": body.code}, 500, headers, now, mask)
    return final_reply(raised, {"error": error}, headers, latency_ms, mask)


def error_of_close(code: int, reason: str, headers: Mapping[str, str], *, now: float, mask: Masker) -> ConnectorError:
    """Returns the error for a socket that the server has closed."""
    named = _REASON.fullmatch(reason)
    kind, name = named.groups() if named else ("", "")
    status = _CLOSES.get(code, code - 4000 if 4400 <= code < 4600 else None)  # noqa: PLR2004 - HTTP's, moved up
    if status is None and not {kind, name} & _STATUSES.keys():
        detail = readable(f"close code {code} {reason}".strip(), mask)
        return CutError("the endpoint closed the session before the reply was complete", detail=detail)
    error = {"message": reason or f"closed with code {code}", "type": kind, "code": name}
    return _error(error, status or 500, headers, now, mask)


def _error(error: dict[str, str], status: int, headers: Mapping[str, str], now: float, mask: Masker) -> ConnectorError:
    """Returns the error for a known code or type, else for the given HTTP status."""
    known = (_STATUSES[name] for name in (error["code"].lower(), error["type"].lower()) if name in _STATUSES)
    return error_of(next(known, status), headers, {"error": error}, now=now, mask=mask)
