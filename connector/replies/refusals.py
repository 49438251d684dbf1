"""What a failed reply means: an HTTP status and a body, in any shape that servers use, become one of our errors.

Statuses alone mislead: quota comes as 429, a wrong key as 400, a client's mistake as 500. So the body's own code and
words are read first, where they are sure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from connector.base.decoding import loads
from connector.base.errors import (
    AuthenticationError,
    BadRequestError,
    ConnectorError,
    FatalError,
    NotFoundError,
    QuotaError,
    RateLimitError,
    RetryableError,
    ServerError,
)
from connector.base.records import Reply
from connector.base.values import dumps
from connector.http.retry_after import asked_wait
from connector.http.sse import events

_LONGEST: Final = 500
_READ: Final = 2**16
_DEEPEST: Final = 5
_RETRYABLE: Final = frozenset({408, 409, 425})
_QUOTA: Final = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "insufficient_credits", "credit_limit", "budget_exceeded"}
)
_KEY: Final = frozenset(
    {"invalid_api_key", "invalid_authentication", "account_deactivated", "authentication_error"}
    | {"no_db_connection", "token_not_found_in_db", "expired_key"}  # LiteLLM; the first where it knows no other key
)
_UPSTREAM_KEY: Final = "litellm.authenticationerror"  # the gateway's own key is refused by whom it asks
_FILTERED: Final = frozenset({"content_filter", "content_policy_violation", "moderation_blocked"})
_FILTER: Final = "litellm.contentpolicyviolationerror"  # which keeps no code
_LIMITED: Final = "rate_limit_exceeded"
_REFUSED: Final = _FILTERED | {"invalid_request_error", "context_length_exceeded"}
_FINAL: Final = ("invalid_", "image_")  # of a response that failed: `invalid_prompt`, `image_too_large`, …
_BAD_REQUEST: Final = 400
_BUDGET: Final = 412  # Portkey: its own budget is used up
_DENIED: Final = 446  # Portkey: a guardrail denied the request
_HEADERS: Final = re.compile(r"\bx-portkey-|^invalid (?:provider|config|custom host)\b", re.IGNORECASE)
_MODEL: Final = frozenset({"model_not_found", "model_not_available", "invalid_model"})
_NO_MODEL: Final = "invalid model name passed in model="  # LiteLLM, which has no code for it
_ABSENT: Final = re.compile(
    r"(?<!/)\bmodels?\b.*(?:\bnot (?:found|exist)|n.t exist)|\b(?:no such|unknown) model\b", re.IGNORECASE
)
_NOWHERE: Final = re.compile(r"(?:not found|method not allowed)?\W*", re.IGNORECASE)  # which says nothing at all
_HTML: Final = re.compile(r"<(script|style)\b.*?(?:</\1>|\Z)|<[^<>]*>", re.DOTALL | re.IGNORECASE)
_STATUS: Final = re.compile(r"[45][0-9]{2}")
_MESSAGES: Final = ("message", "error", "detail", "msg", "title", "error_message", "html-message")
_REASONS: Final = ("errors", "validation", "invalid_params")  # RFC 9457, section 3, and what has grown beside it


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
    """Finds the message in an error body of any shape: OpenAI's, FastAPI's, problem+json, SSE, plain text, HTML."""
    if isinstance(body, bytes | bytearray | str):
        text = body if isinstance(body, str) else bytes(body).decode("utf-8", "replace")
        text = text.lstrip("\ufeff \t\r\n")
        if text.startswith(("data:", "event:")):
            text = next(filter(bytes.strip, events([text.encode("utf-8", "replace")])), b"").decode().lstrip() or text
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
    reasons: list[Any] = next((body[key] for key in _REASONS if isinstance(body.get(key), list)), [])
    told, reason = "" if message is None else str(message), _found(reasons, depth - 1).message
    told = told if reason in told else f"{told.rstrip('.')}: {reason}".removeprefix(": ")
    loc = body.get("loc")
    where = ".".join(str(part) for part in loc if isinstance(part, str | int)) + ": " if isinstance(loc, list) else ""
    code, kind = body.get("code"), body.get("type")
    return Fault(
        _plain(where + told) if told else "",
        str(code) if isinstance(code, str | int) else "",
        kind if isinstance(kind, str) else "",
    )


def error_of(
    status: int, headers: Mapping[str, str], body: Any, *, now: float = 0.0, mask: Callable[[str], str] = str
) -> ConnectorError:
    """The error that a failed reply stands for; `now` is the wall clock in seconds, for a Retry-After date.

    An error inside a 200 has `status` 200: it is judged by its own code where that is an HTTP status or a known name,
    else taken as the server's fault. One that the request is to blame for counts as a 400.
    """
    fault = read_fault(body)
    if 200 <= status < 400 and _STATUS.fullmatch(fault.code):  # noqa: PLR2004 - HTTP's classes of status
        status = int(fault.code)
    should_retry = headers.get("x-should-retry", "").lower()
    if status < 300 and (should_retry == "false" or _is_final(fault)):  # noqa: PLR2004 - HTTP's class of success
        status = 400
    told = f"HTTP {status}" + (f": {shown(fault.message, mask)}" if fault.message else "")
    wait = asked_wait(headers, now=now)
    fatal = _fatal(status, fault, told)
    if fatal is not None:
        return fatal
    if should_retry == "false":
        return BadRequestError(told, http_status=status)
    if status == 429 or _LIMITED in fault.names:  # noqa: PLR2004 - Too Many Requests
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


def final(
    error: ConnectorError, told: Any, headers: Mapping[str, str], latency_ms: int, mask: Callable[[str], str]
) -> Reply:
    """Raises what the run has to act on; a refusal of this request alone is a final reply, worth keeping.

    `told` is the body that `error` was read off. Of what it says nothing is kept that is not masked.
    """
    if isinstance(error, FatalError | RetryableError):
        raise error
    message, code, kind = (shown(text, mask) for text in read_fault(told))
    kept = {"message": message or error.message, "type": kind, "code": code}
    return Reply(error.http_status or _BAD_REQUEST, {"error": kept}, dict(headers), latency_ms)


def is_filtered(reply: Reply) -> bool:
    """Whether a refusal was a filter's: by Azure's, OpenAI's, Portkey's or LiteLLM's sign for it."""
    error = reply.body["error"]
    is_named = not _FILTERED.isdisjoint((error.get("code"), error.get("type")))
    return is_named or reply.status == _DENIED or _FILTER in error["message"].lower()


def _is_final(fault: Fault) -> bool:
    """Whether an error inside a 200 says that the request is at fault, and not the server."""
    is_refused = fault.code.startswith(_FINAL) or not _REFUSED.isdisjoint(fault.names)
    return is_refused and _LIMITED not in fault.names


def _is_retryable(status: int) -> bool:
    return status in _RETRYABLE or status >= 500 or status < 300  # noqa: PLR2004 - HTTP's classes of status


def _fatal(status: int, fault: Fault, told: str) -> ConnectorError | None:
    if fault.names & _QUOTA or status == 402 or (status == _BUDGET and "budget" in fault.message.lower()):  # noqa: PLR2004 - Payment Required
        return QuotaError(
            f"the account has no credit left ({told}): add credit, then run the same command again", http_status=status
        )
    if _UPSTREAM_KEY in fault.message.lower() and status < 500:  # noqa: PLR2004 - HTTP's class of server errors
        return AuthenticationError(
            f"the gateway's own key for this model is refused ({told}): have it changed there, or change model",
            http_status=status,
        )
    if status == 401 or (fault.names & _KEY and status < 500):  # noqa: PLR2004 - Unauthorized
        return AuthenticationError(
            f"the endpoint refuses the key ({told}): set api_key or OPENAI_API_KEY", http_status=status
        )
    if status == 403:  # noqa: PLR2004 - Forbidden
        return AuthenticationError(
            f"the key may not do this ({told}): use another key, model or region", http_status=status
        )
    if status == 400 and _HEADERS.search(fault.message):  # noqa: PLR2004 - Bad Request
        return FatalError(
            f'the gateway does not understand its headers ({told}): set headers, as {{"x-portkey-provider": "openai"}}',
            http_status=status,
        )
    if (fault.names & _MODEL or _NO_MODEL in fault.message.lower()) and status < 500:  # noqa: PLR2004 - HTTP's class of server errors
        return NotFoundError(f"the endpoint does not have this model ({told}): change model", http_status=status)
    if status in (404, 405):
        return NotFoundError(_not_found(fault, told), http_status=status)
    return None


def _not_found(fault: Fault, told: str) -> str:
    if _ABSENT.search(fault.message):
        return f"the endpoint does not have this model ({told}): change model"
    is_nothing = _NOWHERE.fullmatch(fault.message)
    what = "nothing answers at this URL" if is_nothing else "the endpoint does not have what is asked for"
    return f"{what} ({told}): check url, its /v1 and the model"


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
