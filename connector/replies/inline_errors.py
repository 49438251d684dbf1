"""Errors that come with HTTP 200: whether a reply, or an event of a stream, is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_SAYS_NOTHING: Final = frozenset({"", "0", "200", "null", "none", "nil", "ok", "success"})


def error_in(body: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the error body that a reply or an event is or holds, as `{"error": …}`; an empty one if there is none.

    The Responses API has an event that is the error itself. An `error` that says nothing is no error if there is
    anything else: gateways that decode and encode replies add one to each, as `{"message": "", "code": 0}`.
    """
    error = body.get("error")
    if error and (len(body) == 1 or not says_nothing(error)):
        return {"error": error}
    if body.get("type") == "error":
        return {"error": dict(body)}
    return {}


def says_nothing(error: Any) -> bool:
    """Returns whether an `error` is as good as none: null, false, zero or empty, in all of its parts."""
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
