"""The resources of a run: a caller, a ledger, and what the engine decides by. Made from a config, closed at the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, suppress
from functools import cache
from hashlib import blake2b
from importlib import import_module
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from connector import endpoints, engines
from connector import ledger as ledgers
from connector.base.clock import Clock
from connector.base.cost import FLEX_TIER, Budget
from connector.base.errors import StorageError
from connector.base.masking import Masker
from connector.base.price_list import EXTRA
from connector.base.records import Item, Result
from connector.base.room import Room
from connector.base.stop import Stop
from connector.base.user_cache import cached
from connector.calls.breaker import TRIES, Breaker
from connector.calls.caller import Caller, Remote
from connector.calls.fallbacks import Fallbacks, path_of
from connector.calls.limits import Limits
from connector.calls.retry import Backoff
from connector.config.config import Config
from connector.config.shorthands import prices_of
from connector.http.auth import auth_of
from connector.http.transport import Settings, Transport
from connector.ledger import DamageError, Ledger, Location
from connector.run import pipeline
from connector.run.plan import Plan
from connector.run.summary import Summary

_LOG = logging.getLogger(__name__)
_PLAIN_HTTP: Final = (
    "the key and headers go to %s over http://, which anyone on the way can read: use https:// if the server has it"
)
_PLAIN_PROXY: Final = (
    "the key and headers go to %s over http:// through the proxy %s, which can read them: use https:// if "
    "the server has it"
)
_KEPT: Final = "the ledger %s is damaged and kept as %s: the next run begins a new one, and calls again"
_SET_ASIDE: Final = "the ledger %s was damaged and is kept as %s: this run begins a new one, and calls again"

_NO_PRICES: Final = (
    "max_cost_usd is set and no price of the model is known: the limit holds only where the endpoint reports what a "
    f"reply cost, and the run stops at the first reply that does not: set prices, or run {EXTRA}"
)

_PREVIEWS: Final = "\npreview"
_FLEX_IS_SLOW: Final = (
    "service_tier flex may take minutes for a reply, and config.timeout is %s s: raise it, to 900 for example"
)
_FLEX_TIMEOUT: Final = 300.0
_FLEX_RETRIES: Final = 12
_FLEX_SECONDS: Final = 3600.0
_FLEX_BASE: Final = 2.0
_FLEX_TRIES: Final = 10  # of an outage: 17 minutes

_REPLIES: Final = 4  # times max_response_bytes that large replies may take together, decoded, until they are mapped
IN_MEMORY: Final = "none"
"""The value of `cache` that keeps the ledger in memory."""


def transport_of(config: Config, mask: Masker) -> Transport:
    """Opens the transport that a config describes: its key, headers, time-outs, proxy and certificates."""
    _warn_if_readable(config)
    return Transport(settings_of(config, mask))


def settings_of(config: Config, mask: Masker, clock: Clock | None = None) -> Settings:
    """Returns the settings of that transport. `mask` learns every key that is made for it.

    Headers of the user's own win over those that follow from other options.
    """
    callers = {"OpenAI-Organization": config.organization, "OpenAI-Project": config.project}
    return Settings(
        timeout=config.config.timeout,
        connect_timeout=config.config.connect_timeout,
        connections=config.concurrency,
        auth=auth_of(
            config.auth, config.key, config.api_key_command, config.api_key_seconds, mask, (clock or Clock()).monotonic
        ),
        headers={name: value for name, value in callers.items() if value}
        | {name: value.get_secret_value() for name, value in config.headers.items()},
        query=config.parameters,
        proxy=config.proxy,
        ca_bundle=config.ca_bundle,
        client_cert=config.client_certificate,
        max_response_bytes=config.max_response_bytes * endpoints.load(config.kind).REPLY_SIZE_FACTOR,
    )


def is_loopback(host: str) -> bool:
    """Whether what is sent to a host stays on this machine: by its name (RFC 6761, section 6.3) or its address."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _warn_if_readable(config: Config) -> None:
    url = urlsplit(config.endpoint_url)
    if url.scheme != "http" or not (config.secrets or config.makes_key):
        return
    proxy = urlsplit(config.proxy or "").hostname
    if proxy is not None:
        _warn_once(_PLAIN_PROXY, url.hostname, proxy)
    elif not is_loopback(url.hostname or ""):
        _warn_once(_PLAIN_HTTP, url.hostname)


@cache
def _warn_once(message: str, *hosts: str | None) -> None:
    """Warns once for the same hosts in the life of the program, however many runs it makes."""
    _LOG.warning(message, *hosts)


def patience(control: engines.Control, tell: Callable[[str], None]) -> Callable[[str], None]:
    """Returns what a ledger calls while it waits: `tell` with the reason, until a stop is requested.

    Once calls were made, replies may still have to be stored: it then waits on, for as long as calls in flight may.
    """
    asked = 0.0

    def waiting(why: str) -> None:
        nonlocal asked
        if control.stop.reason is not None:
            now = control.clock.monotonic()
            asked = asked or now
            if not control.gauge.calls or now - asked >= control.grace:
                raise control.stop.reason
        tell(why)

    return waiting


def _warned() -> Callable[[str], None]:
    """Returns a function that logs each new reason once."""
    told = ""

    def tell(why: str) -> None:
        nonlocal told
        if why != told:
            _LOG.warning("%s", why)
        told = why

    return tell


def ledger_path(config: Config, beside: Path | None = None, *, purpose: str = "") -> Location:
    """Returns where a run's ledger is: as configured, else beside its output, else in the user's cache directory.

    There, its name is a hash of endpoint, input and `purpose`, so that two pipelines never wait for each other. `None`
    is in memory.
    """
    if config.cache is not None:
        return None if config.cache == IN_MEMORY else ledgers.location_of(config.cache)
    if beside is not None:
        return beside.with_name(f"{beside.name}.ledger")
    return cached(f"{config.identity}\n{config.input!r}{purpose}", "ledger")


def preview_ledger(config: Config) -> Location:
    """Returns the ledger of the replies that previews and evaluations have paid for, for runs to reuse."""
    return ledger_path(config, purpose=_PREVIEWS)


def job_of(config: Config) -> str:
    """Returns what a budget is for: the requests of one prompt with its parameters to one endpoint, whichever rows."""
    asked = (config.request_format, config.system_prompt, config.prompt, config.model, config.output_schema)
    return blake2b(repr((config.identity, asked, config.streams)).encode(), digest_size=16).hexdigest()


def memory_of(plan: Plan) -> Path | None:
    """Returns the file that remembers the fallbacks of a plan's endpoint; none without a ledger on disk."""
    return None if plan.config.cache == IN_MEMORY else path_of(plan.url)


def fallbacks_of(plan: Plan, clock: Clock) -> Fallbacks:
    """Returns what is known of how a plan's endpoint wants to be asked."""
    return Fallbacks(plan.endpoint.FALLBACKS, memory_of(plan), clock)


class Session:
    """What runs of the same config share: connections, and what was learned of the endpoint's limits.

    One run uses it at a time. After one that did not come to its end it must be closed: calls may be left in flight.

    Attributes:
        mask: Takes the secrets out of what the endpoint says.
        limits: How fast to go.
        room: What large replies enter.
        caller: What makes the calls.
        batches: The server's files and batches; `None` where they are not used.

    Args:
        is_live: Whether calls are made at once, whatever `batch` says: somebody waits for them.
    """

    def __init__(self, plan: Plan, clock: Clock, *, is_live: bool = False) -> None:
        config = plan.config
        _warn_if_readable(config)
        self.mask = Masker(config.secrets)
        self.limits = Limits(config.concurrency, config.max_requests_per_minute, config.max_tokens_per_minute)
        settings = settings_of(config, self.mask, clock)
        self.room = Room(_REPLIES * settings.max_response_bytes)
        self.caller = Caller(Remote(config.kind, plan.url, settings, self.mask, memory_of(plan), clock), self.room)
        self.batches = (
            None if is_live or config.batch is None else _batches().api_of(config, settings, self.mask, clock)
        )

    def close(self) -> None:
        """Closes the connections."""
        if self.batches is not None:
            self.batches.close()
        self.room.close()
        self.caller.close()


class Runtime:
    """Everything open that one run needs; a context manager. Whoever takes the outcomes counts them in `summary`.

    Args:
        ledger: Where the ledger is; `None` keeps it in memory.
        session: What an earlier run has left, which stays open; by default a new one, which ends with this run.
        is_live: Whether calls are made at once, whatever `batch` says.
        waiting: Called with the reason each time that the ledger has to wait; by default it is logged.
        summary: What counts the outcomes; by default a new one.
        remembering: Wraps the ledger, to add what other ledgers know (`connector.run.ledger_memory`).

    Attributes:
        has_kept: Whether the ledger holds any reply but refusals, after a run that an error ended.
    """

    def __init__(
        self,
        plan: Plan,
        ledger: Location,
        *,
        session: Session | None = None,
        is_live: bool = False,
        stop: Stop | None = None,
        clock: Clock | None = None,
        waiting: Callable[[str], None] | None = None,
        summary: Summary | None = None,
        remembering: Callable[[Ledger], Ledger] = lambda ledger: ledger,
    ) -> None:
        config = plan.config
        self.plan = plan
        clock = clock or Clock()
        self._is_last = session is None
        self._session = session = session or Session(plan, clock, is_live=is_live)
        self.mask = session.mask
        self.caller = session.caller
        prices = prices_of(config)
        is_flex = _is_flex(plan)
        if prices is not None and session.batches is not None:
            prices = prices.scaled(prices.batch)
        elif prices is not None and is_flex:
            prices = prices.scaled(min(1.0, prices.flex))
        if is_flex and config.config.timeout < _FLEX_TIMEOUT:
            _warn_once(_FLEX_IS_SLOW, f"{config.config.timeout:g}")
        self.budget = Budget(config.max_cost_usd, config.max_total_tokens, prices)
        self.control = engines.Control(
            session.limits,
            _backoff(config, is_flex=is_flex),
            Breaker(_FLEX_TRIES if is_flex else TRIES, config.max_retry_wait),
            stop or Stop(),
            engines.Gauge(),
            clock,
            grace=config.config.timeout,
            room=session.room,
        )
        self.control.stop.ending = self.control.ending
        self.control.stop.leaving = lambda: self._left(ledger)
        if config.max_cost_usd is not None and not plan.pricing.knows(plan.requests.model):
            _LOG.warning(_NO_PRICES)
        self.ledger = remembering(_opened(ledger, patience(self.control, waiting or _warned())))
        try:
            self._share(session.limits)
        except BaseException:
            self.close()
            raise
        self.summary = Summary(clock=self.control.clock) if summary is None else summary
        self.summary.gauge = self.control.gauge
        self.summary.pricing = plan.pricing
        self.has_kept = False

    def _share(self, limits: Limits) -> None:
        """Keeps limits and budget together with the runs that share the ledger: limits by endpoint, budgets by job."""
        shared, config = self.ledger.shared, self.plan.config
        if shared is None:
            return
        limits.share(shared, config.identity, lambda: len(self.control.gauge.given))
        if self.budget.is_limited:
            self.budget.share(shared.spending(job_of(config)))

    def run(
        self, items: Iterable[Item], *, plan_of: pipeline.PlanOf | None = None, retry_failed: bool = False
    ) -> Generator[Result, None, None]:
        """Runs records through the pipeline, by default all by one plan; see `connector.run.pipeline.run`."""
        results = pipeline.run(
            items,
            plan_of or (lambda _: self.plan),
            self.caller,
            self.ledger,
            self._engine(),
            self.control,
            budget=self.budget,
            fallbacks=self.caller.fallbacks,
            retry_failed=retry_failed,
        )
        try:
            with closing(results):
                yield from results
        finally:
            for paid in self.control.gauge.unfinished:
                self.summary.pay(paid)

    def _engine(self) -> engines.Engine:
        batches = self._session.batches
        if batches is None:
            return engines.load()
        job = job_of(self.plan.config)
        needs = _batches().needs_of(self.plan, batches, self.ledger, self.mask, self.caller.fallbacks, self.budget, job)
        return engines.load("batch", needs)

    def _left(self, ledger: Location | None) -> str:
        """Returns, for people, what a run that ends at once leaves behind."""
        if ledger is None or not self.control.breaker.was_answered:
            return ""
        return f"the replies so far are in {ledger}: run the same command again to continue from there"

    def close(self) -> None:
        """Closes connections and ledger; those of a session that it was given stay open."""
        if self._is_last:
            self._session.close()
        self.ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is not None:
                with suppress(StorageError):
                    self.has_kept = self.ledger.has_replies()
        finally:
            self.close()
        if isinstance(error, DamageError) and isinstance(self.ledger.path, Path):
            path = self.ledger.path
            _LOG.warning(_KEPT, path, ledgers.load(path).set_aside(path))


def _batches() -> Any:
    """Loads what batches need, of which most runs make none."""
    return import_module("connector.run.batches")


def _is_flex(plan: Plan) -> bool:
    """Whether the requests ask for the slow tier at half the price."""
    structure = plan.requests.structure
    return isinstance(structure, dict) and structure.get("service_tier") == FLEX_TIER


def _backoff(config: Config, *, is_flex: bool) -> Backoff:
    """Returns how rows are tried again: with more patience at a tier that often has no room for minutes."""
    own = Backoff(config.max_retries, config.max_retry_wait, config.max_row_seconds)
    if not is_flex:
        return own
    retries = max(own.max_retries, _FLEX_RETRIES) if own.max_retries else 0
    return own._replace(max_retries=retries, max_elapsed=max(own.max_elapsed, _FLEX_SECONDS), base=_FLEX_BASE)


def _opened(path: Location, waiting: Callable[[str], None]) -> Ledger:
    """Opens the ledger, and warns where a damaged one was set aside."""
    ledger = ledgers.opened(path, waiting=waiting)
    if ledger.was_set_aside is not None:
        _LOG.warning(_SET_ASIDE, path, ledger.was_set_aside)
    return ledger
