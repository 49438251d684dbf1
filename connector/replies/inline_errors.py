"""Errors that come with HTTP 200: whether a reply, or an event of a stream, is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

MESSAGES: Final = (
    *("message", "error", "detail", "msg", "title", "error_message", "html-message"),
    *("error_msg", "errmsg", "status_msg", "errorMessage", "Message"),
)
CODES: Final = ("code", "error_code", "errcode", "status_code", "Code")
"""The keys under which servers put the message and the code of an error."""

_ANSWERS: Final = (
    "choices",
    "data",
    "output",
    "object",
    "embeddings",
    "embedding",
    "images",
    "results",
    "text",
    "delta",
)
_NESTS: Final = ("header", "Error", "Response", "ResponseMetadata", "error_response", "status")
_SAYS_NOTHING: Final = frozenset({"", "0", "200", "null", "none", "nil", "ok", "success"})


def error_in(body: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the error in a reply or event, or that it is itself, as `{"error": …}`; empty if there is none.

    The Responses API has an event that is itself the error. An empty `error` does not count if there is anything else:
    gateways that decode and re-encode replies add one to each, such as `{"message": "", "code": 0}`.
    """
    error = body.get("error")
    if error and (len(body) == 1 or not says_nothing(error)):
        return {"error": error}
    if body.get("type") == "error":
        return {"error": dict(body)}
    if body.get("choices") and "base_resp" not in body:
        return {}
    if "base_resp" in body and (found := _vendor_s(body["base_resp"])):  # MiniMax
        return found
    if any(body.get(name) for name in _ANSWERS if name != "object"):
        return {}
    if body.get("object") == "error":
        return {"error": dict(body)}
    if "object" in body or str(body.get("type", "")).startswith("response."):
        return {}
    nested = (body[name] for name in _NESTS if isinstance(body.get(name), dict))
    return _vendor_s(body) or next(filter(None, map(_vendor_s, nested)), {}) or _nested(body)


def _nested(body: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an error body that is nested two levels deep, as from Tencent and Volcengine, or an empty one."""
    for name in _NESTS:
        inner = body.get(name)
        if isinstance(inner, dict) and isinstance(inner.get("Error"), dict):
            return _vendor_s(inner["Error"])
    return {}


def _vendor_s(body: Any) -> dict[str, Any]:
    """Returns a vendor's own object as an error body, if it has a message, and no code that means success."""
    if not isinstance(body, dict):
        return {}
    code = next((body[name] for name in (*CODES, "status") if body.get(name) is not None), None)
    if isinstance(code, dict) or (code is not None and says_nothing(code)):
        return {}
    has_words = any(isinstance(body.get(name), str) and body[name] for name in MESSAGES)
    if not has_words and not body.get("detail") and not body.get("errors"):
        return {} if code is None or "status" in body else {"error": {"message": f"code {code}", "code": code}}
    return {"error": {name: value for name, value in body.items() if name != "error"}}


def says_nothing(error: Any) -> bool:
    """Returns whether an `error` is empty: null, false, zero or empty in all of its parts."""
    level = [error]
    while level:
        value = level.pop()
        if isinstance(value, dict):
            level += value.values()
        elif isinstance(value, list):
            level += value
        elif isinstance(value, str):
            if value.strip().lower() not in _SAYS_NOTHING:
                return False
        elif value and value != 200:  # noqa: PLR2004 - HTTP's OK, as a code
            return False
    return True
