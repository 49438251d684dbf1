"""What a failed reply means: an HTTP status and a body, in any shape that servers use, become one of our errors.

Statuses alone mislead: quota comes as 429, a wrong key as 400, a client's mistake as 500. So the body's own code and
words are read first, where they are sure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from connector.errors import (
    AuthenticationError,
    BadRequestError,
    ConnectorError,
    NotFoundError,
    QuotaError,
    RateLimitError,
    ServerError,
)
from connector.records import Reply
from connector.retry import asked_wait
from connector.values import dumps, loads

_LONGEST: Final = 500
_READ: Final = 2**16
_DEEPEST: Final = 5
_RETRYABLE: Final = frozenset({408, 409, 425})
_QUOTA: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "insufficient_credits", "credit_limit"})
_KEY: Final = frozenset({"invalid_api_key", "invalid_authentication", "account_deactivated", "authentication_error"})
_FILTERED: Final = frozenset({"content_filter", "content_policy_violation", "moderation_blocked"})
_FINAL: Final = ("invalid_", "image_")  # of a response that failed: `invalid_prompt`, `image_too_large`, …
_BUDGET: Final = 412  # Portkey: its own budget is used up
_DENIED: Final = 446  # Portkey: a guardrail denied the request
_MODEL: Final = frozenset({"model_not_found", "model_not_available", "invalid_model"})
_HTML: Final = re.compile(r"<(script|style)\b.*?(?:</\1>|\Z)|<[^<>]*>", re.DOTALL | re.IGNORECASE)
_STATUS: Final = re.compile(r"[45][0-9]{2}")
_MESSAGES: Final = ("message", "error", "detail", "msg", "title", "error_message")


class Fault(NamedTuple):
    """What an error body says: its message, and its code and type where it has them."""

    message: str
    code: str = ""
    type: str = ""

    @property
    def names(self) -> set[str]:
        """Its code and its type, lower case."""
        return {self.code.lower(), self.type.lower()}


def read_fault(body: Any) -> Fault:
    """Finds the message in an error body of any shape: OpenAI's, FastAPI's, problem+json, plain text, HTML."""
    if isinstance(body, bytes | bytearray | str):
        text = body if isinstance(body, str) else bytes(body).decode("utf-8", "replace")
        text = text.lstrip("\ufeff \t\r\n").removeprefix("data:").lstrip()
        try:
            return _found(loads(text), _DEEPEST) if text.startswith(("{", "[")) else Fault(_plain(text))
        except ValueError:
            return Fault(_plain(text))
    return _found(body, _DEEPEST)


def _found(body: Any, depth: int) -> Fault:
    if not depth:
        return Fault("")
    if isinstance(body, list):
        return Fault("; ".join(filter(None, (_found(each, depth - 1).message for each in body[:3]))))
    if not isinstance(body, dict):
        return Fault(_plain(str(body)))
    error = body.get("error")
    if error and isinstance(error, dict):
        inner = _found({key: value for key, value in error.items() if key != "error"}, depth - 1)
        return inner if inner.message else inner._replace(message=_as_json(error))
    message = next((body[key] for key in _MESSAGES if body.get(key)), None)
    if isinstance(message, dict | list):
        return _found(message, depth - 1)
    loc = body.get("loc")
    where = ".".join(str(part) for part in loc if isinstance(part, str | int)) + ": " if isinstance(loc, list) else ""
    code, kind = body.get("code"), body.get("type")
    return Fault(
        _plain(where + str(message)) if message is not None else "",
        str(code) if isinstance(code, str | int) else "",
        kind if isinstance(kind, str) else "",
    )


def error_of(
    status: int, headers: Mapping[str, str], body: Any, *, now: float = 0.0, mask: Callable[[str], str] = str
) -> ConnectorError:
    """The error that a failed reply stands for; `now` is the wall clock in seconds, for a Retry-After date.

    An error inside a 200 has `status` 200: it is judged by its own code where that is an HTTP status or a known name,
    else taken as the server's fault.
    """
    fault = read_fault(body)
    if 200 <= status < 400 and _STATUS.fullmatch(fault.code):  # noqa: PLR2004 - HTTP's classes of status
        status = int(fault.code)
    told = f"HTTP {status}" + (f": {shown(fault.message, mask)}" if fault.message else "")
    wait = asked_wait(headers, now=now)
    should_retry = headers.get("x-should-retry", "").lower()
    fatal = _fatal(status, fault, told)
    if fatal is not None:
        return fatal
    is_final = status < 400 and fault.code.startswith(_FINAL)  # noqa: PLR2004 - HTTP's class of errors
    if should_retry == "false" or is_final:
        return BadRequestError(told, http_status=status)
    if status == 429 or "rate_limit_exceeded" in fault.names:  # noqa: PLR2004 - Too Many Requests
        return RateLimitError(f"the endpoint's rate limit is reached ({told})", http_status=status, wait=wait)
    if _is_retryable(status) or should_retry == "true":
        return ServerError(f"the endpoint failed ({told})", http_status=status, wait=wait)
    if 300 <= status < 400:  # noqa: PLR2004 - HTTP's class of redirects
        target = shown(headers.get("location", "nowhere"), mask)
        return BadRequestError(
            f"the endpoint redirects to {target}, where no key is sent: change url", http_status=status
        )
    return BadRequestError(f"the endpoint refuses this request ({told})", http_status=status)


def refusal(reply: Reply) -> BadRequestError:
    """The error of a row whose request was refused for good, by the reply that is kept of it."""
    told = f"the endpoint refuses this request (HTTP {reply.status}: {reply.body['error']['message']})"
    return BadRequestError(told, http_status=reply.status)


def is_filtered(reply: Reply) -> bool:
    """Whether a refusal was a filter's: by Azure's, OpenAI's or Portkey's sign for it."""
    error = reply.body["error"]
    return reply.status == _DENIED or not _FILTERED.isdisjoint((error.get("code"), error.get("type")))


def _is_retryable(status: int) -> bool:
    return status in _RETRYABLE or status >= 500 or status < 300  # noqa: PLR2004 - HTTP's classes of status


def _fatal(status: int, fault: Fault, told: str) -> ConnectorError | None:
    if fault.names & _QUOTA or status == 402 or (status == _BUDGET and "budget" in fault.message.lower()):  # noqa: PLR2004 - Payment Required
        return QuotaError(
            f"the account has no credit left ({told}): add credit, then run the same command again", http_status=status
        )
    if status == 401 or (fault.names & _KEY and status < 500):  # noqa: PLR2004 - Unauthorized
        return AuthenticationError(
            f"the endpoint refuses the key ({told}): set api_key or OPENAI_API_KEY", http_status=status
        )
    if status == 403:  # noqa: PLR2004 - Forbidden
        return AuthenticationError(
            f"the key may not do this ({told}): use another key, model or region", http_status=status
        )
    if fault.names & _MODEL and status < 500:  # noqa: PLR2004 - HTTP's class of server errors
        return NotFoundError(f"the endpoint does not have this model ({told}): change model", http_status=status)
    if status in (404, 405):
        return NotFoundError(
            f"nothing answers at this URL ({told}): check url, its /v1 and the model", http_status=status
        )
    return None


def shown(text: str, mask: Callable[[str], str]) -> str:
    """A text without secrets, cut to a readable length: in this order, or half a secret would be left over."""
    text = mask(text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _plain(text: str) -> str:
    """A text fit for one line: HTML without its tags, white space folded."""
    text = text[:_READ]
    if "<" in text and ">" in text:
        text = _HTML.sub(" ", text)
    return " ".join(text.split())


def _as_json(value: object) -> str:
    try:
        return _plain(dumps(value).decode())
    except TypeError:  # nested too deeply, or half of a character
        return ""
