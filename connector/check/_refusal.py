"""A refused request: whether the key, account, endpoint, model or a parameter is the reason, and what to change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from connector.base.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    ConnectorError,
    CutError,
    FatalError,
    NotFoundError,
    QuotaError,
    RateLimitError,
    ReplyError,
    ServerError,
    parted,
)
from connector.base.records import Reply
from connector.base.regex import regex
from connector.check import _address, _key, _model, _request
from connector.check.probe import Probe

_TOO_LONG: Final = regex(r"context[ _]?(?:length|window|size)")
_UNREACHED: Final = regex(r"fetch failed|econn|enotfound|connection (?:error|refused|reset)|upstream|timed? ?out")
_PICTURES: Final = regex(r"\bimages?\b|image_url|input_image|\bvision\b|multi-?modal|content types?\b|mmproj")
_BUSY: Final = regex(r"overload|at capacity|\bbusy\b|temporarily|\bloading\b|starting up")
_WALL: Final = regex(r"cloudflare|you have been blocked|access denied|firewall|request blocked")
_GATEWAY: Final = regex(r"\blitellm: model group .*", re.DOTALL)  # LiteLLM adds it to every reason


def explained(
    probe: Probe,
    body: Mapping[str, Any],
    result: Reply | ConnectorError,
    model: str | None,
    listing: list[str] | ConnectorError,
) -> tuple[str, str]:
    """Returns the failed step and its finding; `listing` has the server's models, or the error in place of them."""
    if type(result) is FatalError:  # its message already has the change to make
        return "request", result.message
    found = _by_cause(probe, body, result)
    if found is not None:
        return found
    if isinstance(listing, ConnectorError) and _is_alike(listing, result):
        return _alike(probe, result)
    offered = listing if isinstance(listing, list) else []
    kind, words, summary = (
        probe.config.kind,
        _GATEWAY.sub("", _request.own_words(result).lower()),
        _request.summary(result),
    )
    if isinstance(result, QuotaError):
        return "quota", summary
    if isinstance(result, RateLimitError):
        wait = f"wait {result.wait:.0f} s" if result.wait else "wait a minute"
        return (
            "rate limit",
            f"{summary}: {wait} and check again; set max_requests_per_minute to what the endpoint allows",
        )
    if isinstance(result, AuthenticationError):
        return "key", _forbidden(probe, result, words, model)
    if isinstance(result, APITimeoutError | APIConnectionError | CutError | ReplyError):
        return "request", summary if not isinstance(
            result, ReplyError
        ) or "url" in summary else f"{summary}: set url to the endpoint of an OpenAI-compatible API"
    if isinstance(result, ServerError) and _BUSY.search(words):
        return "request", f"{summary}: it has no capacity now, or is not ready yet: check again in a minute"
    if _TOO_LONG.search(words):
        return "request", f"{summary}: shorten what the row puts into the prompt, or set model to one that takes more"
    status = result.http_status if isinstance(result, ConnectorError) else result.status
    if not isinstance(result, NotFoundError) and _names_parameter(probe, body, words):
        found = _request.refused_parameter(
            probe, body, result
        )  # it may mention the model as well: "not supported with this model"
        if found is not None:
            return found
    if "model" in words or (model and re.search(rf"\b{re.escape(model.lower())}\b", words)):
        return "model", f"{_model.wanted(model, offered, kind)} ({parted(summary)[0]})"
    if isinstance(result, NotFoundError) or status == HTTPStatus.NOT_IMPLEMENTED:
        if not probe.is_endpoint(probe.plan.url):
            return _address.missing_endpoint(probe, f"HTTP {status}", lists_models=bool(offered))
        return "model", f"{_model.wanted(model, offered, kind)} ({parted(summary)[0]})"
    if any(word in words for word in ("api key", "api_key", "unauthorized", "authentication", "invalid token")):
        return "key", _key.rejected(probe.config, summary)
    found = _request.refused_parameter(probe, body, result)
    if found is not None:
        return found
    if model is None or (offered and model not in offered):
        return "model", f"{_model.wanted(model, offered, kind)} ({parted(summary)[0]})"
    return (
        "request",
        f"{summary}: this is what the smallest request gets too: ask whoever runs the server, or try later",
    )


def _by_cause(probe: Probe, body: Mapping[str, Any], result: Reply | ConnectorError) -> tuple[str, str] | None:
    """Returns the step and finding of a cause that statuses hide: an upstream server, images, or streams."""
    if isinstance(result, AuthenticationError | QuotaError | RateLimitError):
        return None
    words, summary = _request.own_words(result).lower(), _request.summary(result)
    named = [name for name, value in probe.config.headers.items() if "://" in value.get_secret_value()]
    if named and _UNREACHED.search(words):
        return "request", f"{summary}: the gateway cannot reach the server that headers.{named[0]} names: check that"
    if _request.has_picture(body) and _PICTURES.search(words):
        return "model", f"this model accepts no images ({summary}): set model to one that does, or remove the images"
    if body.get("stream"):
        whole = {name: value for name, value in body.items() if name not in ("stream", "stream_options")}
        if _request.is_answer(_request.asked(probe, whole)[0]):
            return "parameters", f'the endpoint works, but refuses "stream" ({summary}): set is_stream to false'
    return None


def _names_parameter(probe: Probe, body: Mapping[str, Any], words: str) -> bool:
    bare = probe.plan.endpoint.minimal(dict(body))
    return any(re.search(rf"\b{re.escape(name.lower())}\b", words) for name in body if name not in bare)


def _is_alike(listing: ConnectorError, result: Reply | ConnectorError) -> bool:
    """Returns whether the list of models was refused in the same words, so that neither model nor request is why."""
    status = result.http_status if isinstance(result, ConnectorError) else result.status
    is_key = listing.http_status in (400, 500) and listing.http_status == status
    words = _request.own_words(listing).partition(": ")[2]
    return is_key and words in _request.own_words(result) and not _UNREACHED.search(words.lower())


def _alike(probe: Probe, result: Reply | ConnectorError) -> tuple[str, str]:
    summary = (
        _request.own_words(result)
        if isinstance(result, ConnectorError)
        else f"HTTP {result.status}: {_request.own_words(result)}"
    )
    return (
        "key",
        f"every call is refused in the same way, /models too; likely {_key.rejected(probe.config, summary.strip())}",
    )


def _forbidden(probe: Probe, error: ConnectorError, words: str, model: str | None) -> str:
    if "litellm.authenticationerror" in words:  # about the gateway's own key, as the message says
        return error.message
    if error.http_status == 403:  # noqa: PLR2004 - Forbidden
        wrong, _ = parted(error.message)
        if _WALL.search(words):
            return (
                f"{wrong}: likely a firewall before the endpoint, and not the "
                "key: check url, ask whoever runs it to let this machine in, or set proxy"
            )
        if any(word in words for word in ("region", "country", "territory", "location")):
            return f"{wrong}: this endpoint is not served where you are: use one of your region, or a proxy there"
        return f'{wrong}: the key is valid, but may not do this: use another key, or another model than "{model}"'
    return _key.rejected(probe.config, error.message.partition("(")[2].rpartition(")")[0] or error.message)
