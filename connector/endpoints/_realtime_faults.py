"""What goes wrong in a realtime session, as the errors that a failed HTTP reply would be.

An error event tells its kind by name only, a closed socket by a number: both are given the HTTP status that means the
same, so that retry, limits, breaker and ledger need not know the difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from connector.base.errors import ConnectorError, CutError
from connector.base.records import Reply
from connector.replies.refusals import error_of, final, read_fault, shown

_STATUSES: Final = {
    "invalid_request_error": 400,
    "bad_request_error": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "requests": 429,
    "tokens": 429,
    "session_expired": 503,
    "server_error": 500,
}
"""By the code of an error or else its type. An expired session is no fault of the row that meets it."""

_REASON: Final = re.compile(r"(\w+)\.(\w+)")
"""How OpenAI gives the reason of a close: the type and the code of an error."""

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
"""By the codes of RFC 6455 (section 7.4) and of IANA's registry, and those that servers use in the private range."""


class Fault(Exception):  # noqa: N818 - it is no error yet: what it means depends on what it says
    """An error event, or a response that failed: `told` is the error object in it."""

    def __init__(self, told: Any) -> None:
        super().__init__()
        self.told = told


def refused(told: Any, headers: dict[str, str], latency_ms: int, *, now: float, mask: Callable[[str], str]) -> Reply:
    """The refusal as a final reply; raises what the run has to act on."""
    fault = read_fault({"error": told})
    error = _error({"message": fault.message, "type": fault.type, "code": fault.code}, 500, headers, now, mask)
    return final(error, {"error": told}, headers, latency_ms, mask)


def closed(
    code: int, reason: str, headers: Mapping[str, str], *, now: float, mask: Callable[[str], str]
) -> ConnectorError:
    """The error that a socket closed by the server stands for."""
    named = _REASON.fullmatch(reason)
    kind, name = named.groups() if named else ("", "")
    status = _CLOSES.get(code, code - 4000 if 4400 <= code < 4600 else None)  # noqa: PLR2004 - HTTP's, moved up
    if status is None and not {kind, name} & _STATUSES.keys():
        detail = shown(f"close code {code} {reason}".strip(), mask)
        return CutError("the endpoint closed the session before the reply was complete", detail=detail)
    fault = {"message": reason or f"closed with code {code}", "type": kind, "code": name}
    return _error(fault, status or 500, headers, now, mask)


def _error(
    fault: dict[str, str], status: int, headers: Mapping[str, str], now: float, mask: Callable[[str], str]
) -> ConnectorError:
    """By its code or type where these are known, else of the given HTTP status."""
    known = (_STATUSES[name] for name in (fault["code"].lower(), fault["type"].lower()) if name in _STATUSES)
    return error_of(next(known, status), headers, {"error": fault}, now=now, mask=mask)
