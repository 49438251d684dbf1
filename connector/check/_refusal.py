"""A request that was refused: whether key, account, endpoint, model or a parameter is why, and the change to make."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from connector.check import _address, _key, _model, _request
from connector.check._probe import Probe
from connector.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    ConnectorError,
    CutError,
    NotFoundError,
    QuotaError,
    RateLimitError,
    ReplyError,
)
from connector.records import Reply


def explained(
    probe: Probe,
    body: Mapping[str, Any],
    result: Reply | ConnectorError,
    model: str | None,
    listing: list[str] | ConnectorError,
) -> tuple[str, str]:
    """The step that failed and its finding; `listing` is what the server offers, or why it does not say."""
    if isinstance(listing, ConnectorError) and _is_alike(listing, result):
        return _alike(probe, result)
    offered = listing if isinstance(listing, list) else []
    kind, said, told = probe.config.kind, _request.said(result).lower(), _request.told(result)
    if isinstance(result, QuotaError):
        return "quota", told
    if isinstance(result, RateLimitError):
        wait = f"wait {result.wait:.0f} s" if result.wait else "wait a minute"
        return "rate limit", f"{told}: {wait} and check again; set max_requests_per_minute to what the endpoint allows"
    if isinstance(result, AuthenticationError):
        return "key", _forbidden(probe, result, said, model)
    if isinstance(result, APITimeoutError | APIConnectionError | CutError | ReplyError):
        return "request", told
    status = result.http_status if isinstance(result, ConnectorError) else result.status
    if not isinstance(result, NotFoundError) and _names_parameter(probe, body, said):
        found = _request.blamed(
            probe, body, result
        )  # it may speak of the model as well: "not supported with this model"
        if found is not None:
            return found
    if "model" in said or (model and re.search(rf"\b{re.escape(model.lower())}\b", said)):
        return "model", f"{_model.wanted(model, offered, kind)} ({told})"
    if isinstance(result, NotFoundError) or status == HTTPStatus.NOT_IMPLEMENTED:
        if not probe.is_endpoint(probe.plan.url):
            return _address.lost(probe, f"HTTP {status}", lists_models=bool(offered))
        return "model", f"{_model.wanted(model, offered, kind)} ({told})"
    if any(word in said for word in ("api key", "api_key", "unauthorized", "authentication", "invalid token")):
        return "key", _key.refused(probe.config, told)
    found = _request.blamed(probe, body, result)
    if found is not None:
        return found
    if model is None or (offered and model not in offered):
        return "model", f"{_model.wanted(model, offered, kind)} ({told})"
    return "request", f"{told}: this is what the smallest request gets too: ask whoever runs the server, or try later"


def _names_parameter(probe: Probe, body: Mapping[str, Any], said: str) -> bool:
    bare = probe.plan.endpoint.minimal(dict(body))
    return any(re.search(rf"\b{re.escape(name.lower())}\b", said) for name in body if name not in bare)


def _is_alike(listing: ConnectorError, result: Reply | ConnectorError) -> bool:
    """Whether the list of models was refused in the same words: then neither model nor request is the reason."""
    status = result.http_status if isinstance(result, ConnectorError) else result.status
    is_key = listing.http_status in (400, 500) and listing.http_status == status
    return is_key and _request.said(listing).partition(": ")[2] in _request.said(result)


def _alike(probe: Probe, result: Reply | ConnectorError) -> tuple[str, str]:
    told = (
        _request.said(result)
        if isinstance(result, ConnectorError)
        else f"HTTP {result.status}: {_request.said(result)}"
    )
    return (
        "key",
        f"every call is refused alike, that for the models too; likely {_key.refused(probe.config, told.strip())}",
    )


def _forbidden(probe: Probe, error: ConnectorError, said: str, model: str | None) -> str:
    if error.http_status == 403:  # noqa: PLR2004 - Forbidden
        if any(word in said for word in ("region", "country", "territory", "location")):
            return (
                f"{error.message}: this endpoint is not served where you are: use one of your region, or a proxy there"
            )
        return (
            f'{error.message}: the key is known, but not allowed this: use another key, or another model than "{model}"'
        )
    return _key.refused(probe.config, error.message.partition("(")[2].rpartition(")")[0] or error.message)
