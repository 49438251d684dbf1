"""What a failed reply means: an HTTP status and a body, in any shape that servers use, become one error.

Statuses alone mislead: an empty account comes as 429, a wrong key as 400, a client's mistake as 500. So the code and
the message in the body count first, where they are unambiguous.
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
_MOST_READ: Final = 2**20  # of a raw body
_DEEPEST: Final = 5
_RETRYABLE: Final = frozenset({408, 409, 425})
_QUOTA: Final = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "insufficient_credits", "credit_limit", "budget_exceeded"}
)
_KEY: Final = frozenset(
    {"invalid_api_key", "invalid_authentication", "account_deactivated", "authentication_error"}
    | {"no_db_connection", "token_not_found_in_db", "expired_key"}  # LiteLLM; the first where no key but its own exists
)
_UPSTREAM_KEY: Final = "litellm.authenticationerror"  # the provider refuses the gateway's own key
_FILTERED: Final = frozenset({"content_filter", "content_policy_violation", "moderation_blocked"})
_FILTER: Final = "litellm.contentpolicyviolationerror"  # LiteLLM passes no code on
_LIMITED: Final = "rate_limit_exceeded"
_REFUSED: Final = _FILTERED | {"invalid_request_error", "context_length_exceeded"}
_FINAL: Final = (
    "invalid_",
    "image_",
)  # beginnings of the codes of a failed response: `invalid_prompt`, `image_too_large`, …
_BAD_REQUEST: Final = 400
_BUDGET: Final = 412  # Portkey: its own budget is used up
_DENIED: Final = 446  # Portkey: a guardrail denied the request
_HEADERS: Final = re.compile(r"\bx-portkey-|^invalid (?:provider|config|custom host)\b", re.IGNORECASE)
_MODEL: Final = frozenset({"model_not_found", "model_not_available", "invalid_model"})
_NO_MODEL: Final = "invalid model name passed in model="  # LiteLLM has no code for it
_NAMES_MODEL: Final = re.compile(r"(?<!/)\bmodels?\b", re.IGNORECASE)
_MISSING: Final = re.compile(r"\bnot (?:found|exist)|n.t exist", re.IGNORECASE)
_NO_SUCH: Final = re.compile(r"\b(?:no such|unknown) model\b", re.IGNORECASE)
_NOWHERE: Final = re.compile(r"(?:not found|method not allowed)?\W*", re.IGNORECASE)  # messages that say nothing
_HTML: Final = re.compile(r"<(script|style)\b.*?(?:</\1>|\Z)|<[^<>]*>", re.DOTALL | re.IGNORECASE)
_STATUS: Final = re.compile(r"[45][0-9]{2}")
_MESSAGES: Final = ("message", "error", "detail", "msg", "title", "error_message", "html-message")
_REASONS: Final = ("errors", "validation", "invalid_params")  # RFC 9457, section 3, and what servers have added


class ErrorBody(NamedTuple):
    """An error body's message, and its code and type if it has them."""

    message: str
    code: str = ""
    type: str = ""

    @property
    def names(self) -> set[str]:
        """The code and the type in lower case."""
        return {self.code.lower(), self.type.lower()}


def read_error(body: Any, mask: Callable[[str], str] = str) -> ErrorBody:
    """Reads an error body of any shape: OpenAI's, FastAPI's, problem+json, server-sent events, plain text, HTML.

    Raw text is masked as a whole, before a part of it is taken: that part could hold half of a secret.
    """
    if isinstance(body, bytes | bytearray | str):
        text = body if isinstance(body, str) else bytes(body[:_MOST_READ]).decode("utf-8", "replace")
        text = mask(text[:_MOST_READ]).lstrip("\ufeff \t\r\n")
        if text.startswith(("data:", "event:", "error:")):
            found = (event.data for event in events([text.encode("utf-8", "replace")]))
            text = next(filter(bytes.strip, found), b"").decode().lstrip() or text
        try:
            return _found(loads(text), _DEEPEST) if text.startswith(("{", "[")) else ErrorBody(_one_line(text))
        except ValueError:
            return ErrorBody(_one_line(text))
    return _found(body, _DEEPEST)


def _found(body: Any, depth: int) -> ErrorBody:
    if not depth:
        return ErrorBody("")
    if isinstance(body, list):
        return ErrorBody("; ".join(filter(None, (_found(each, depth - 1).message for each in body[:3]))))
    if not isinstance(body, dict):
        return ErrorBody(_one_line(str(body)))
    error = body.get("error")
    if error and isinstance(error, dict):
        inner = _found({key: value for key, value in error.items() if key != "error"}, depth - 1)
        return inner if inner.message else inner._replace(message=_as_json(error))
    message = next((body[key] for key in _MESSAGES if body.get(key)), None)
    if isinstance(message, dict | list):
        return _found(message, depth - 1)
    reasons: list[Any] = next((body[key] for key in _REASONS if isinstance(body.get(key), list)), [])
    text, reason = "" if message is None else str(message), _found(reasons, depth - 1).message
    text = text if reason in text else f"{text.rstrip('.')}: {reason}".removeprefix(": ")
    loc = body.get("loc")
    where = ".".join(str(part) for part in loc if isinstance(part, str | int)) + ": " if isinstance(loc, list) else ""
    code, kind = body.get("code"), body.get("type")
    return ErrorBody(
        _one_line(where + text) if text else "",
        str(code) if isinstance(code, str | int) else "",
        kind if isinstance(kind, str) else "",
    )


def error_of(
    status: int, headers: Mapping[str, str], body: Any, *, now: float = 0.0, mask: Callable[[str], str] = str
) -> ConnectorError:
    """Returns the error for a failed reply; `now` is the wall clock in seconds, for a Retry-After date.

    An error inside a 200 has `status` 200. Its code decides if that is an HTTP status or a known name; else the server
    is taken to have failed. One that is due to the request counts as a 400.
    """
    error = read_error(body, mask)
    if 200 <= status < 400 and _STATUS.fullmatch(error.code):  # noqa: PLR2004 - HTTP's classes of status
        status = int(error.code)
    should_retry = headers.get("x-should-retry", "").lower()
    if status < 300 and (should_retry == "false" or _is_final(error)):  # noqa: PLR2004 - HTTP's class of success
        status = 400
    quoted = f"HTTP {status}" + (f": {shown(error.message, mask)}" if error.message else "")
    wait = asked_wait(headers, now=now)
    fatal = _fatal(status, error, quoted)
    if fatal is not None:
        return fatal
    if should_retry == "false":
        return BadRequestError(quoted, http_status=status)
    if status == 429 or _LIMITED in error.names:  # noqa: PLR2004 - Too Many Requests
        return RateLimitError(f"the endpoint's rate limit is reached ({quoted})", http_status=status, wait=wait)
    if _is_retryable(status) or should_retry == "true":
        return ServerError(f"the endpoint failed ({quoted})", http_status=status, wait=wait)
    if 300 <= status < 400:  # noqa: PLR2004 - HTTP's class of redirects
        target = shown(headers.get("location", "nowhere"), mask)
        return BadRequestError(
            f"the endpoint redirects to {target}, where no key is sent: change url", http_status=status
        )
    return BadRequestError(f"the endpoint refuses this request ({quoted})", http_status=status)


def refusal(reply: Reply) -> BadRequestError:
    """Returns the error of a row whose request was refused, from the reply that was kept."""
    message = f"the endpoint refuses this request (HTTP {reply.status}: {reply.body['error']['message']})"
    return BadRequestError(message, http_status=reply.status)


def final_reply(
    error: ConnectorError, body: Any, headers: Mapping[str, str], latency_ms: int, mask: Callable[[str], str]
) -> Reply:
    """Returns a refusal of this request alone as a final reply, worth keeping. Raises any other error.

    `body` is the error body that `error` was made from. The reply holds only masked text of it.
    """
    if isinstance(error, FatalError | RetryableError):
        raise error
    message, code, kind = (shown(text, mask) for text in read_error(body, mask))
    kept = {"message": message or error.message, "type": kind, "code": code}
    return Reply(error.http_status or _BAD_REQUEST, {"error": kept}, dict(headers), latency_ms)


def is_filtered(reply: Reply) -> bool:
    """Returns whether a content filter refused, by the signs of Azure, OpenAI, Portkey and LiteLLM."""
    error = reply.body["error"]
    is_named = not _FILTERED.isdisjoint((error.get("code"), error.get("type")))
    return is_named or reply.status == _DENIED or _FILTER in error["message"].lower()


def _is_final(error: ErrorBody) -> bool:
    """Returns whether an error inside a 200 is due to the request and not to the server."""
    is_refused = error.code.startswith(_FINAL) or not _REFUSED.isdisjoint(error.names)
    return is_refused and _LIMITED not in error.names


def _is_retryable(status: int) -> bool:
    return status in _RETRYABLE or status >= 500 or status < 300  # noqa: PLR2004 - HTTP's classes of status


def _fatal(status: int, error: ErrorBody, quoted: str) -> ConnectorError | None:
    if error.names & _QUOTA or status == 402 or (status == _BUDGET and "budget" in error.message.lower()):  # noqa: PLR2004 - Payment Required
        return QuotaError(
            f"the account has no credit left ({quoted}): add credit, then run the same command again",
            http_status=status,
        )
    if _UPSTREAM_KEY in error.message.lower() and status < 500:  # noqa: PLR2004 - HTTP's class of server errors
        return AuthenticationError(
            f"the gateway's own key for this model is refused ({quoted}): have it changed there, or change model",
            http_status=status,
        )
    if status == 401 or (error.names & _KEY and status < 500):  # noqa: PLR2004 - Unauthorized
        return AuthenticationError(
            f"the endpoint refuses the key ({quoted}): set api_key or OPENAI_API_KEY", http_status=status
        )
    if status == 403:  # noqa: PLR2004 - Forbidden
        return AuthenticationError(
            f"the key may not do this ({quoted}): use another key, model or region", http_status=status
        )
    if status == 400 and _HEADERS.search(error.message):  # noqa: PLR2004 - Bad Request
        return FatalError(
            f"the gateway does not understand its headers ({quoted}): "
            'set headers, as {"x-portkey-provider": "openai"}',
            http_status=status,
        )
    if (error.names & _MODEL or _NO_MODEL in error.message.lower()) and status < 500:  # noqa: PLR2004 - HTTP's class of server errors
        return NotFoundError(f"the endpoint does not have this model ({quoted}): change model", http_status=status)
    if status in (404, 405):
        return NotFoundError(_not_found(error, quoted), http_status=status)
    return None


def _not_found(error: ErrorBody, quoted: str) -> str:
    if _lacks_model(error.message):
        return f"the endpoint does not have this model ({quoted}): change model"
    is_nothing = _NOWHERE.fullmatch(error.message)
    what = "nothing answers at this URL" if is_nothing else "the endpoint does not have what is asked for"
    return f"{what} ({quoted}): check url, its /v1 and the model"


def _lacks_model(message: str) -> bool:
    """Returns whether a message says that there is no such model."""
    named = _NAMES_MODEL.search(message)
    is_missing = named is not None and _MISSING.search(message, named.end()) is not None
    return is_missing or _NO_SUCH.search(message) is not None


def shown(text: str, mask: Callable[[str], str]) -> str:
    """Returns a text without secrets, cut to a readable length. Cutting first could leave half a secret."""
    text = mask(text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _one_line(text: str) -> str:
    """Returns a text as one line: without HTML tags, runs of white space as one space."""
    text = text[:_READ]
    if "<" in text and ">" in text:
        text = _HTML.sub(" ", text)
    return " ".join(text.split())


def _as_json(value: object) -> str:
    try:
        return _one_line(dumps(value).decode())
    except TypeError:  # nested too deeply, or half of a surrogate pair
        return ""
