"""The calls of a diagnosis, which together take no longer than a single call of a run may, or than a few may."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from connector.base.amounts import counted, dollars
from connector.base.clock import Clock
from connector.base.cost import cost_of
from connector.base.errors import APITimeoutError, ConnectorError, FatalError
from connector.base.masking import Masker
from connector.base.records import Reply, is_ok
from connector.base.values import dumps
from connector.calls.caller import sender_of
from connector.endpoints import Endpoint, usage_of
from connector.http.auth import KEYLESS
from connector.http.transport import Settings, Transport
from connector.replies.refusals import ErrorBody, read_error
from connector.run.model_list import Model, models
from connector.run.plan import Plan
from connector.run.runtime import fallbacks_of, settings_of

_SHARE: Final = 0.9  # the part of config.timeout that the waits of a whole diagnosis may take
_FREE: Final = 0.5  # the part of the time left that a free call may take, as a minimal request has to follow
_NOWHERE: Final = frozenset({404, 405, 501})


class ProbeResponse(NamedTuple):
    """The response to a call, whatever its status."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    error: ErrorBody
    """What its body says about an error."""

    @property
    def is_page(self) -> bool:
        """Whether it is a web page."""
        return "html" in self.headers.get("content-type", "").lower() or self.body[:200].lstrip()[:1] == b"<"

    @property
    def target(self) -> str | None:
        """The URL to which it redirects, if it does."""
        return self.headers.get("location") if 300 <= self.status < 400 else None  # noqa: PLR2004 - HTTP's redirects

    @property
    def summary(self) -> str:
        """Its status and its message."""
        message = "" if is_ok(self.status) else self.error.message[:200]
        content = "a web page" if self.is_page else message
        return f"HTTP {self.status}" + (f": {content}" if content else "")


class Probe:
    """Makes the calls of one diagnosis and counts their cost.

    Args:
        seconds: The most that all of them may take, if that is less than for a call of a run.

    Attributes:
        has_run_out: Whether the time was over before the end.
        keyless: Whether the key must not be sent.
        tokens: Tokens that the calls used.
        cost: Their price in USD; `None` if it is not known.
        paid: Number of calls that were paid for.
    """

    def __init__(self, plan: Plan, clock: Clock, *, seconds: float = math.inf) -> None:
        self.plan = plan
        self.config = plan.config
        self.mask = Masker(plan.config.secrets)
        self.clock = clock
        self.has_run_out = False
        self.keyless = False
        self.tokens = 0
        self.cost: float | None = None
        self.paid = 0
        self._given = settings_of(self.config, self.mask, clock)
        self._began = clock.monotonic()
        self._end = self._began + min(seconds, _SHARE * plan.config.config.timeout)
        self.fallbacks = fallbacks_of(plan, clock)

    def extend(self, calls: int) -> None:
        """Lets all calls together take as long as so many calls of a run."""
        self._end = self._began + calls * self.config.config.timeout

    def left(self) -> float:
        """Returns the seconds left. Raises `APITimeoutError` if there are none."""
        left = self._end - self.clock.monotonic()
        if left <= 0:
            self.has_run_out = True
            raise APITimeoutError("no time is left for further tries: raise config.timeout")
        return left

    def unmade(self) -> str | None:
        """Makes the key, if a program or function does that; returns why that failed, else `None`."""
        try:
            self._given.auth.fields()
        except FatalError as error:
            return error.message
        return None

    def models(self, *, seconds: float = math.inf) -> list[Model]:
        """Returns the models that the server lists, which is free, within `seconds`. Raises `ConnectorError`."""
        url = self.config.models_url
        with closing(self._free_transport(url, seconds=seconds)) as transport:
            return models(transport, url, self.mask, self.clock)

    def get(self, url: str) -> ProbeResponse:
        """Makes a free GET request. The key is sent only to the configured origin. Raises `ConnectorError`."""
        return self._found(url, None)

    def touch(self, url: str) -> ProbeResponse:
        """Posts a request without model and prompt, which a server refuses for free. Raises `ConnectorError`."""
        return self._found(url, {"max_tokens": 1})

    def is_endpoint(self, url: str) -> bool:
        """Returns whether a URL takes requests. Probing is free."""
        try:
            found = self.touch(url)
        except ConnectorError:
            return False
        is_model = (
            "model" in found.error.message.lower() and not found.is_page
        )  # some servers answer 404 for a missing model
        is_there = found.status not in _NOWHERE and not 300 <= found.status < 400  # noqa: PLR2004 - HTTP's redirects
        return (is_there or is_model) and not found.is_page

    def ask(self, body: Mapping[str, Any] | bytes) -> Reply | ConnectorError:
        """Makes a request of this plan; returns the reply, or why there is none. Counts the cost."""
        return self.ask_at(self.plan.url, self.plan.endpoint, body)

    def ask_at(self, url: str, endpoint: Endpoint, body: Mapping[str, Any] | bytes) -> Reply | ConnectorError:
        """Like `ask`, for another endpoint of the server."""
        try:
            with closing(sender_of(endpoint, self._settings(url), url, self.mask, self.clock)) as sender:
                reply = sender(body if isinstance(body, bytes) else dumps(body))
        except ConnectorError as error:
            return error
        if is_ok(reply.status):
            self._count(reply)
        return reply

    def _count(self, reply: Reply) -> None:
        """Adds the cost of a reply to the totals."""
        usage = usage_of(reply.body)
        self.paid += 1
        self.tokens += (usage.input_tokens or 0) + (usage.output_tokens or 0)
        cost = cost_of(reply, usage, self.plan.pricing)
        if cost is not None:
            self.cost = (self.cost or 0.0) + cost

    @property
    def bill(self) -> str:
        """What was paid, as a clause for people."""
        if not self.paid:
            return "nothing was paid for"
        tokens = counted(self.tokens, "token") if self.tokens else "an unknown number of tokens"
        cost = "" if self.cost is None else f", {dollars(self.cost)}"
        return f"asking it used {tokens} ({counted(self.paid, 'small request')}{cost})"

    def _found(self, url: str, body: Mapping[str, Any] | None) -> ProbeResponse:
        with closing(self._free_transport(url)) as transport:
            response = transport.get(url) if body is None else transport.post(url, dumps(body))
            with closing(response):
                told = response.read()
                return ProbeResponse(response.status, response.headers, told, read_error(told, self.mask))

    def _free_transport(self, url: str, *, seconds: float = math.inf) -> Transport:
        return Transport(self._settings(url, free=True, seconds=seconds))

    def _settings(self, url: str, *, free: bool = False, seconds: float = math.inf) -> Settings:
        """Returns settings for the time left. Key, headers and parameters go only to the configured origin."""
        settings = self._given
        if self.keyless or urlsplit(url)[:2] != urlsplit(self.plan.url)[:2]:
            settings = replace(settings, auth=KEYLESS, headers={}, query={})
        left = min(seconds, settings.timeout, self.left() * (_FREE if free else 1))
        connect = min(left, settings.connect_timeout or left)
        return replace(settings, timeout=left, connect_timeout=connect, connections=1)
