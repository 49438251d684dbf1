"""Turns the status, headers and body of a reply, from a call or a line of a file, into a `Reply` or an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connector.base import numbers
from connector.base.decoding import TOO_DEEP, DepthError, storable
from connector.base.errors import CutError, ReplyError
from connector.base.masking import Masker
from connector.base.records import Reply, is_ok
from connector.base.vectors import null_for_vector, opened, vectors_in
from connector.endpoints import Endpoint
from connector.replies.inline_errors import error_in
from connector.replies.refusals import error_of, final_reply, readable


def kept(body: dict[str, Any], mask: Masker, data: bytes | None = None) -> dict[str, Any]:
    """Returns a masked body that can be stored; `data` is the JSON from which orjson decoded it, if any.

    Raises:
        ReplyError: It is nested too deeply.
    """
    if vectors := vectors_in(body):
        if any(map(mask.is_in_bytes, vectors)):
            body, data = opened(body), None
        else:
            data = numbers.dumps(body, null_for_vector)  # base64 may spell a short secret by chance
    try:
        body = storable(body, data)
    except DepthError as error:
        raise ReplyError(TOO_DEEP, detail=str(error)) from None
    masked: dict[str, Any] = mask.value(body, data)
    return masked


def reply_of(
    status: int,
    headers: Mapping[str, str],
    content: dict[str, Any],
    endpoint: Endpoint,
    mask: Masker,
    *,
    now: float,
    latency_ms: int,
    sends: int = 1,
) -> Reply:
    """Returns the final reply: a success, or a refusal of this request alone.

    Args:
        status: The HTTP status.
        headers: With names in lower case.
        content: The body, as `kept` returns it; for a status other than success, the error body under the key `error`.
        now: The wall clock in seconds, for a Retry-After date.
        latency_ms: How long it took.
        sends: How often its request was sent.

    Raises:
        RetryableError: It may work later.
        FatalError: No call of this run can work.
    """
    if not is_ok(status) or error_in(content):
        refusal = error_in(content) or content if is_ok(status) else content["error"]
        error = error_of(status, headers, refusal, now=now, mask=mask)
        reply = final_reply(error, refusal, mask.fields(headers), latency_ms, mask)
        return reply._replace(attempts=sends)
    broken_off = endpoint.broken_off(content)
    if broken_off is not None:
        raise CutError(readable(broken_off, mask))
    return Reply(status, content, mask.fields(headers), latency_ms, sends)
