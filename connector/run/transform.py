"""`Transform`: enriches the records of many streams on their way, each stream by its own plan, in input order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, Final

from connector.base.clock import Clock
from connector.base.errors import ConfigError, ConnectorError, Problem
from connector.base.records import Idle, Item, Message, Outcome, Record, Result, Schema
from connector.base.schemas import nullable
from connector.base.stop import Stop
from connector.base.suggestions import there_are
from connector.config.config import Config
from connector.config.options import STREAM_OPTIONS
from connector.run.on_error import FailedRows
from connector.run.ordering import in_order
from connector.run.plan import Plan
from connector.run.requests import check_model
from connector.run.runtime import Runtime, ledger_path
from connector.run.summary import Summary

_REPLACES: Final = {"prompt": "request_format", "output_schema": "response_format"}
_LOG: Final = logging.getLogger(__name__)


class Transform:
    """Gives columns to the streams that a config names, and passes everything else on as it is.

    Args:
        stop: Ask it to end the run in good order.
        explaining: Adds to the error that ends a run what is wrong and what to change.

    Raises:
        ConfigError: The config is wrong, for any stream that it names.
    """

    def __init__(
        self,
        config: Config,
        *,
        stop: Stop | None = None,
        clock: Clock | None = None,
        explaining: Callable[[Runtime], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._explaining = explaining
        self._rules = _rules(config)
        self._plans: dict[str, tuple[list[str] | None, Plan]] = {}
        self._unused = set(config.streams or ())
        self._stop = stop
        self._clock = clock
        self.summary = Summary()

    @property
    def plan(self) -> Plan:
        """The plan of the stream that the config names first."""
        return next(iter(self._rules.values()))

    def open(self, stream: str, columns: Iterable[str] | None = None) -> dict[str, Schema] | None:
        """Returns the columns that a stream gains, with their schemas; `None` where the stream passes through.

        It is called before the stream's first record, and again wherever the stream's columns change.

        Args:
            columns: The stream's own columns; `None` where they are not known.

        Raises:
            ConfigError: A template needs a column that the stream lacks, or a new column's name is taken.
        """
        name = stream if stream in self._rules else next(filter(partial(fnmatchcase, stream), self._rules), None)
        if name is None:
            return None
        self._unused.discard(name)
        given = None if columns is None else list(columns)
        known = self._plans.get(stream)
        if known is None or known[0] != given:
            rule = self._rules[name]
            with _located(f'stream "{stream}"'):
                known = self._plans[stream] = given, rule if given is None else Plan(rule.config, given)
        return {name: nullable(schema) for name, schema in known[1].added.items()}

    def run(self, items: Iterable[Item]) -> Generator[Outcome | Message | Idle, None, None]:
        """Yields one result for each record and message, in input order; `IDLE` wherever the input pauses.

        A row that `on_error` leaves out comes as a message without a line. An error in `items` is raised once
        everything before it is out.

        Raises:
            RecordError: A row failed, and the config says to stop then.
            FatalError: The run had to stop.
        """
        broken: ConnectorError | None = None

        def until_broken() -> Iterator[Item]:
            nonlocal broken
            try:
                yield from items
            except ConnectorError as error:
                broken = error

        with self._runtime() as runtime, self._explaining(runtime):
            self.summary = runtime.summary
            with closing(in_order(until_broken(), partial(self._finished, runtime))) as results:
                yield from self._kept(results)
        if broken is not None:
            raise broken
        for name in self._unused:
            _LOG.warning("streams: the input had no stream %r", name)

    def _finished(self, runtime: Runtime, items: Iterable[Item]) -> Generator[Result, None, None]:
        """Runs items, and counts the outcomes as they are finished."""
        with closing(runtime.run(items, plan_of=self._plan_of)) as results:
            yield from runtime.summary.watched(results)

    def _runtime(self) -> Runtime:
        """Opens a runtime on the ledger of this mapping, which is named by the columns that the streams gain.

        Two mappers in one pipeline never add the same columns. Each reads what the other writes, so neither may wait
        for the other's ledger.
        """
        gained = sorted((name, *plan.columns) for name, plan in self._rules.items())
        path = ledger_path(self.plan.config, purpose=f"\n{gained!r}")
        try:
            waiting = _refuse if isinstance(path, Path) else None  # a shared one is never another run's
            return Runtime(self.plan, path, clock=self._clock, stop=self._stop, waiting=waiting)
        except _BusyError:
            _LOG.warning(
                "another run has the ledger %s: this one keeps its replies in memory, so that they are lost at its end",
                path,
            )
            return Runtime(self.plan, None, clock=self._clock, stop=self._stop)

    def _plan_of(self, record: Record) -> Plan:
        return self._plans[record.stream][1]

    def _kept(self, results: Iterator[Result]) -> Iterator[Outcome | Message | Idle]:
        """Applies `on_error` of each row's stream; a row that is left out becomes an empty message."""
        failed = FailedRows(at_once=True)
        for result in results:
            if isinstance(result, Outcome):
                is_kept = failed.keeps(result, self._plan_of(result.record).config.on_error)
                yield result if is_kept else Message(result.record.index, b"")
            elif isinstance(result, Message | Idle):
                yield result


class _BusyError(Exception):
    """Another run has the ledger."""


def _refuse(_: str) -> None:
    raise _BusyError


def _rules(config: Config) -> dict[str, Plan]:
    """Returns the plan of each stream that the config names, or the one of all streams."""
    if config.streams is None:
        return {"*": Plan(config)}
    rules: dict[str, Plan] = {}
    problems: list[Problem] = []
    for name, overrides in config.streams.items():
        try:
            with _located(f"streams.{name}"):
                rules[name] = Plan(_overridden(config, overrides))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return rules


def _overridden(config: Config, overrides: Mapping[str, Any]) -> Config:
    """Returns the config with a stream's own options. Its own prompt or schema replaces what would take precedence."""
    unknown = [name for name in overrides if name not in STREAM_OPTIONS]
    if unknown:
        problem = "is not an option that a stream can have of its own"
        raise ConfigError([Problem(name, f"{problem}; {there_are(name, STREAM_OPTIONS)}") for name in unknown])
    update: dict[str, Any] = {other: None for name, other in _REPLACES.items() if overrides.get(name)}
    checked = Config.load(overrides)
    if overrides.get("prompt") and config.model is None:
        update["model"] = checked.model  # of the environment, which was not asked beside a request format
    own = config.model_copy(update=update | {name: getattr(checked, name) for name in overrides})
    if overrides.get("system_prompt") and own.request_format is not None:
        raise ConfigError([Problem("system_prompt", "has no effect beside a request_format: put it there")])
    if overrides.get("model"):
        check_model(own, "model")
    return own


@contextmanager
def _located(where: str) -> Iterator[None]:
    """Names the part of the config in which a problem is."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError([Problem(where, str(problem)) for problem in error.problems]) from None
