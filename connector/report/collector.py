"""Collects the figures of a run from its outcomes as they pass."""

from __future__ import annotations

import json
import math
from array import array
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, Final

from connector.base.clock import moment
from connector.base.masking import Masker, bare_url
from connector.base.records import Outcome, Schema, Status
from connector.base.values import is_null
from connector.base.version import __version__
from connector.config.config import Config
from connector.report import figures
from connector.report.figures import Column, Concession, Figures, Outcomes, Row, Run, Spending, ValueCount
from connector.report.sketches import Sample, Timeline, Top, Values, clean, rank_of
from connector.run.causes import place_of
from connector.run.summary import Summary

_TOP: Final = 10  # rows among the slowest, and among the most expensive
_EXAMPLES: Final = 3  # rows of a cause
_MOST_CAUSES: Final = 100  # causes with examples
_MOST_COLUMNS: Final = 200
_MOST_MODELS: Final = 1_000
_SHOWN_COLUMNS: Final = 12  # columns of an example
_SHOWN: Final = 300  # characters of a value in an example
_BARS: Final = 12
_CATEGORIES: Final = 40  # at most so many different values are shown one by one, if they repeat often enough
_FEW: Final = 3  # so many in any case, if one of them repeats
_DISCRETE: Final = 12  # at most so many different numbers are shown one by one
_HIDDEN: Final = frozenset({"api_key", "api_key_command"})
_UNITS: Final = {"texts": "characters", "lists": "items", "numbers": ""}


class Collector:
    """Collects outcomes and returns figures, in bounded memory.

    Args:
        summary: The summary of the same outcomes; each must be counted there before it is added here.
        columns: The columns that rows gain, with their schemas; other columns in outcomes are collected too.
        mask: Removes secrets from texts.
        seconds: The resolution of the times that it gets.
        may_share: Whether rows may have shared calls, so that their attempts do not add up to the calls.
    """

    def __init__(
        self,
        summary: Summary,
        columns: Mapping[str, Schema],
        mask: Masker,
        *,
        seconds: float = 0.1,
        may_share: bool = False,
    ) -> None:
        self._summary = summary
        self._may_share = may_share
        self._mask = mask
        self._columns = {name: _Column(schema) for name, schema in columns.items()}
        self._models: Counter[str] = Counter()
        self._attempts: Counter[int] = Counter()
        self._timeline = Timeline(seconds)
        self._latencies = Sample()
        self._slowest: Top[Row] = Top(_TOP)
        self._dearest: Top[Row] = Top(_TOP)
        self._examples: dict[object, list[Row]] = {}
        self._costly = 0
        self._counted = 0
        self._untold = 0
        self._left_out: set[str] = set()

    def add(self, outcome: Outcome, at: float | None) -> None:
        """Adds an outcome that came `at` seconds after the start; `None` if that is unknown."""
        provenance, number = outcome.provenance, outcome.record.index
        is_success = outcome.status is Status.SUCCESS
        rank = rank_of(number)
        if is_success:
            for name, value in outcome.columns.items():
                column = self._columns.get(name)
                if column is None:
                    if len(self._columns) >= _MOST_COLUMNS:
                        self._leave_out(name)
                        continue
                    column = self._columns[name] = _Column({})
                column.add(value, rank)
        elif outcome.status.is_failure:
            self._keep_example(outcome)
        model = provenance.model and provenance.model[:_SHOWN]
        if model and (model in self._models or len(self._models) < _MOST_MODELS):
            self._models[model] += 1
        if provenance.cached or not provenance.attempts:
            self._untold += is_success and not provenance.cached
            return
        self._attempts[provenance.attempts] += 1
        latency = provenance.latency_ms
        if at is not None:
            self._timeline.add(at, latency, is_failed=not is_success)
        if latency is not None:
            self._latencies.add(latency, rank)
            self._slowest.add(latency, number, partial(self._row, outcome))
        self._counted += provenance.input_tokens is not None or provenance.output_tokens is not None
        if provenance.cost_usd is not None:
            self._costly += 1
            self._dearest.add(provenance.cost_usd, number, partial(self._row, outcome))

    def replied(self, at: float, latency_ms: float | None, *, is_failed: bool) -> None:
        """Counts a reply whose time a ledger knows, in the timeline only."""
        self._timeline.add(at, latency_ms, is_failed=is_failed)

    def _keep_example(self, outcome: Outcome) -> None:
        key = self._summary.cause_counts.key(outcome)
        examples = self._examples.get(key)
        if examples is None:
            if len(self._examples) >= _MOST_CAUSES:
                return
            examples = self._examples[key] = []
        if len(examples) < _EXAMPLES or outcome.record.index + 1 < examples[-1].number:  # rows are done out of order
            insort(examples, self._row(outcome), key=lambda row: row.number)
            del examples[_EXAMPLES:]

    def _leave_out(self, column: str) -> None:
        if len(self._left_out) < _MOST_COLUMNS:
            self._left_out.add(column)

    def _notes(self) -> Iterator[str]:
        """Yields notes on what the figures leave out."""
        if self._untold:
            yield 'Calls, tokens and cost are not known: rows have them only if the config says metadata "full".'
        if self._left_out:
            more = "more than " if len(self._left_out) == _MOST_COLUMNS else ""
            yield f"The first {_MOST_COLUMNS} columns are shown, and {more}{len(self._left_out)} further ones are not."

    def _row(self, outcome: Outcome) -> Row:
        provenance, error = outcome.provenance, outcome.provenance.error
        return Row(
            outcome.record.index + 1,
            place_of(outcome.record.index + 1, self._summary.cause_counts.parts),
            outcome.status.value,
            self._shown(error.message) if error else None,
            provenance.latency_ms,
            provenance.cost_usd,
            provenance.attempts,
            provenance.input_tokens,
            provenance.output_tokens,
            self._excerpt(outcome.record.data),
            self._excerpt(
                {
                    name: value
                    for name, value in outcome.columns.items()
                    if value is not None and value != outcome.record.data.get(name)
                }
            ),
            self._shown(error.content) if error and error.content else None,
        )

    def _excerpt(self, values: Mapping[str, Any]) -> dict[str, str]:
        names = list(values)[:_SHOWN_COLUMNS]
        return {self._shown(name): self._shown(values[name]) for name in names}

    def _shown(self, value: Any) -> str:
        """Returns the beginning of a value as masked text."""
        text = _text(value)
        return self._mask.cut(text, _SHOWN) + ("…" if len(text) > _SHOWN else "")

    def figures(
        self, run: Run, concessions: Iterable[tuple[str, str]] = (), timing: str = "", notes: Iterable[str] = ()
    ) -> Figures:
        """Returns the figures of all outcomes so far; `notes` says what else they leave out."""
        summary = self._summary
        causes = [
            figures.Cause(
                cause.count,
                cause.status.value,
                cause.error,
                self._mask(cause.reason),
                self._mask(cause.change),
                list(cause.rows),
                list(cause.places),
                cause.stream,
                self._examples.get(key, []),
            )
            for key, cause in summary.cause_counts.items()
        ]
        return Figures(
            run,
            Outcomes(
                summary.rows,
                summary.failed,
                None if self._untold else summary.cached,
                {status.value: count for status, count in summary.statuses.most_common()},
            ),
            self._spending(),
            [column.figures(self._mask(name), self._mask) for name, column in self._columns.items()],
            causes,
            self._timeline.intervals(),
            timing,
            self._latencies.distribution(),
            self._slowest.items(),
            self._dearest.items(),
            {str(attempts): self._attempts[attempts] for attempts in sorted(self._attempts)},
            [Concession(name, self._mask(model)) for name, model in concessions],
            [*notes, *self._notes()],
        )

    def _spending(self) -> Spending:
        if self._untold:
            return Spending()
        summary, are_counted = self._summary, self._counted or not self._attempts
        return Spending(
            summary.calls if summary.gauge or not self._may_share else None,
            summary.retries if summary.gauge else None,
            self._attempts.total(),
            self._costly,
            summary.input_tokens if are_counted else None,
            summary.output_tokens if are_counted else None,
            summary.cached_tokens if are_counted else None,
            summary.reasoning_tokens if are_counted else None,
            _cleaned(summary.cost_usd),
            _cleaned(summary.saved_usd),
            summary.cost_source,
        )

    @property
    def models(self) -> dict[str, int]:
        """The models that answered, with the number of rows of each."""
        return {self._mask(model): count for model, count in self._models.most_common(_TOP)}


class _Column:
    """The values of one column in the answered rows."""

    def __init__(self, schema: Schema) -> None:
        self._enum = [_text(value) for value in schema.get("enum", ()) if value is not None]
        self._rows = 0
        self._nulls = 0
        self._types: Counter[str] = Counter()
        self._values = Values()
        self._sample = Sample()

    def add(self, value: Any, rank: int) -> None:
        """Adds the value of one row."""
        self._rows += 1
        kind = type(value)
        if kind is str:
            self._types["text"] += 1
            self._values.add(value)
            self._sample.add(len(value), rank)
        elif is_null(value):
            self._nulls += 1
        elif kind is bool:
            self._types["boolean"] += 1
            self._values.add("true" if value else "false")
        elif isinstance(value, int | float | Decimal):
            self._types["number"] += 1
            self._values.add(_text(value))
            if math.isfinite(number := _float(value)):
                self._sample.add(number, rank)
        elif isinstance(value, list | tuple | array):
            self._types["list"] += 1
            self._sample.add(len(value), rank)
        elif isinstance(value, Mapping):
            self._types["object"] += 1
        else:
            self._types["text"] += 1
            text = _text(value)
            self._values.add(text)
            self._sample.add(len(text), rank)

    def figures(self, name: str, mask: Masker) -> Column:
        """Returns what to show of the column: its values if they repeat, else how their sizes are distributed."""
        kinds, distinct = set(self._types), self._values.distinct
        types = dict(self._types.most_common())
        if not kinds:
            return Column(name, "nothing", self._rows, self._nulls, types)
        if len(kinds) > 1 or kinds == {"object"}:
            return Column(name, "other", self._rows, self._nulls, types)
        (kind,) = kinds
        if kind == "boolean" or (kind != "list" and self._are_categories(kind, distinct)):
            top = self._values.most_common(_BARS, self._enum)
            others = self._types[kind] - sum(each.count for each in top)
            if kind == "number":
                top = sorted(top, key=lambda each: float(each.value))
            shown = [ValueCount(mask(each.value), each.count) for each in top]
            return Column(name, "values", self._rows, self._nulls, types, distinct, shown, others)
        by: figures.Kind = "numbers" if kind == "number" else "lists" if kind == "list" else "texts"
        known = self._sample.distribution()
        distinct = None if kind == "list" else distinct
        return Column(name, by, self._rows, self._nulls, types, distinct, [], 0, _UNITS[by], known)

    def _are_categories(self, kind: str, distinct: int | None) -> bool:
        if self._enum:
            return True
        if distinct is None or distinct > (_DISCRETE if kind == "number" else _CATEGORIES):
            return False
        count = self._types[kind]
        return distinct == 1 or distinct <= max(count // 2, min(_FEW, count - 1))


def _cleaned(value: float | None) -> float | None:
    return None if value is None else clean(value)


def _float(value: float | Decimal) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float | Decimal):
        return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else str(value)  # noqa: PLR2004 - where floats stop being exact
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        return str(value)


def run_of(
    config: Config | None,
    mask: Masker,
    models: Mapping[str, int],
    *,
    source: str | None,
    output: str,
    started: float | None = None,
    ended: float | None = None,
    stopped_by: str | None = None,
) -> Run:
    """Returns what ran. Times are in seconds since 1970; if both are the same, the duration is unknown."""
    return Run(
        f"openai-compatible {__version__}",
        None if source is None else mask(source),
        mask(output),
        None if config is None else mask(bare_url(config.endpoint_url)),
        dict(models),
        {} if config is None else shown_config(config, mask),
        moment(started),
        moment(ended),
        None if started is None or ended is None else round(ended - started, 3) or None,
        None if stopped_by is None else mask(stopped_by),
    )


def shown_config(config: Config, mask: Masker) -> dict[str, Any]:
    """Returns the options that are set, without secrets: of headers and query only the names."""
    given = config.model_dump(mode="json", exclude_none=True, exclude_defaults=True, exclude=set(_HIDDEN))
    given["url"] = bare_url(config.url)
    for name in ("headers", "query"):
        if name in given:
            given[name] = dict.fromkeys(given[name], "***")
    return {name: _masked(value, mask) for name, value in given.items()}


def _masked(value: Any, mask: Masker) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {mask(str(name)): _masked(each, mask) for name, each in value.items()}
    return [_masked(each, mask) for each in value] if isinstance(value, list) else value
