"""Calls for a diagnosis: all of them together end within the time that one call of a run may take."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from connector.base.clock import Clock
from connector.base.cost import cost_of
from connector.base.errors import APITimeoutError, ConnectorError
from connector.base.masking import Masker
from connector.base.records import Reply
from connector.base.values import dumps
from connector.config.shorthands import prices_of
from connector.endpoints import Endpoint, usage_of
from connector.http.transport import Settings, Transport
from connector.replies.refusals import Fault, read_fault
from connector.run.model_list import Listed, models
from connector.run.plan import Plan
from connector.run.runtime import concessions_of, sender_of, settings_of

_OK: Final = range(200, 300)
_SHARE: Final = 0.9  # of config.timeout for the whole diagnosis; the rest is for what is not waiting
_FREE: Final = 0.5  # of what is left, for one free call: a minimal request must still fit in behind it
_NOWHERE: Final = frozenset({404, 405, 501})


class Found(NamedTuple):
    """What a call brought, whatever its status."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def fault(self) -> Fault:
        """What its body says of an error."""
        return read_fault(self.body)

    @property
    def is_page(self) -> bool:
        """Whether it is a page for a browser."""
        return "html" in self.headers.get("content-type", "").lower() or self.body[:200].lstrip()[:1] == b"<"

    @property
    def target(self) -> str | None:
        """Where it redirects to."""
        return self.headers.get("location") if 300 <= self.status < 400 else None  # noqa: PLR2004 - HTTP's redirects

    @property
    def told(self) -> str:
        """Its status, and what it says."""
        message = "" if self.status in _OK else self.fault.message[:200]
        said = "a web page" if self.is_page else message
        return f"HTTP {self.status}" + (f": {said}" if said else "")


class Probe:
    """Makes the calls of one diagnosis, and counts what they cost.

    Args:
        keyless: Whether the key must not be sent at all.
    """

    def __init__(self, plan: Plan, clock: Clock) -> None:
        self.plan = plan
        self.config = plan.config
        self.mask = Masker(plan.config.secrets)
        self.clock = clock
        self.keyless = False
        self.tokens = 0
        self.cost: float | None = None
        self.paid = 0
        self._end = clock.monotonic() + _SHARE * plan.config.config.timeout
        self.concessions = concessions_of(plan, clock)

    def extend(self) -> None:
        """Begins the time anew, for what was asked for on top."""
        self._end = self.clock.monotonic() + self.config.config.timeout

    def left(self) -> float:
        """Seconds left. Raises `APITimeoutError` when there are none."""
        left = self._end - self.clock.monotonic()
        if left <= 0:
            raise APITimeoutError("no time is left for further tries: raise config.timeout")
        return left

    def models(self, url: str | None = None) -> list[Listed]:
        """The models that the server lists, for free. Raises `ConnectorError`."""
        with closing(self._transport(url or self.config.models_url, free=True)) as transport:
            return models(transport, url or self.config.models_url, self.mask)

    def get(self, url: str) -> Found:
        """What a free call brings. The key goes along only to where it belongs. Raises `ConnectorError`."""
        return self._found(url, None)

    def touch(self, url: str) -> Found:
        """What a request without any content brings, which a server refuses for free. Raises `ConnectorError`."""
        return self._found(url, {"max_tokens": 1})

    def is_endpoint(self, url: str) -> bool:
        """Whether something takes requests there, found out for free."""
        try:
            found = self.touch(url)
        except ConnectorError:
            return False
        is_model = "model" in found.fault.message.lower() and not found.is_page  # some call a missing one 404
        is_there = found.status not in _NOWHERE and not 300 <= found.status < 400  # noqa: PLR2004 - HTTP's redirects
        return (is_there or is_model) and not found.is_page

    def ask(self, body: Mapping[str, Any] | bytes) -> Reply | ConnectorError:
        """The reply to a request of this plan, or why there is none. Counts what it cost."""
        return self.ask_at(self.plan.url, self.plan.endpoint, body)

    def ask_at(self, url: str, endpoint: Endpoint, body: Mapping[str, Any] | bytes) -> Reply | ConnectorError:
        """The same at another endpoint of the server."""
        try:
            with closing(sender_of(endpoint, self._settings(url), url, self.mask, self.clock)) as sender:
                reply = sender(body if isinstance(body, bytes) else dumps(body))
        except ConnectorError as error:
            return error
        if reply.status in _OK:
            self._count(reply)
        return reply

    def _count(self, reply: Reply) -> None:
        """Adds what a reply cost to what was paid."""
        usage = usage_of(reply.body)
        self.paid += 1
        self.tokens += (usage.input_tokens or 0) + (usage.output_tokens or 0)
        cost = cost_of(reply, usage, prices_of(self.config))
        if cost is not None:
            self.cost = (self.cost or 0.0) + cost

    @property
    def bill(self) -> str:
        """What was paid, for a person."""
        if not self.paid:
            return "nothing was paid for"
        requests = f"{self.paid} small request{'s' if self.paid > 1 else ''}"
        cost = "" if self.cost is None else f", {self.cost:.6g} USD"
        return f"asking it used {self.tokens or 'an unknown number of'} tokens ({requests}{cost})"

    def _found(self, url: str, body: Mapping[str, Any] | None) -> Found:
        with closing(self._transport(url, free=True)) as transport:
            response = transport.get(url) if body is None else transport.post(url, dumps(body))
            with closing(response):
                return Found(response.status, response.headers, response.read())

    def _transport(self, url: str, *, free: bool = False) -> Transport:
        return Transport(self._settings(url, free=free))

    def _settings(self, url: str, *, free: bool = False) -> Settings:
        """Settings for what time is left. Key, headers and parameters go to the configured origin alone."""
        settings = settings_of(self.config)
        if self.keyless or urlsplit(url)[:2] != urlsplit(self.plan.url)[:2]:
            settings = replace(settings, headers={}, query={})
        left = self.left() * (_FREE if free else 1)
        connect = min(left, settings.connect_timeout or left)
        return replace(settings, timeout=left, connect_timeout=connect, connections=1)
