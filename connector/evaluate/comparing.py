"""The entry point: compares configs on the rows of an input."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from connector.base.errors import ConfigError
from connector.base.records import Record
from connector.base.stop import Stop
from connector.base.suggestions import there_are
from connector.base.values import is_null
from connector.config.config import Config
from connector.evaluate.figures import Evaluation, evaluation, unmet
from connector.evaluate.judge import judging, verdicts
from connector.evaluate.page import page
from connector.evaluate.scales import Target, targets
from connector.evaluate.variants import Watch, answered, counted, without
from connector.evaluate.words import lines
from connector.run.plan import Plan
from connector.run.sampling import candidates, sample
from connector.stores import Source

__all__ = ["compare", "lines", "page", "unmet"]

_FIRST: Final = ord("A")


def compare(
    source: Source,
    configs: Sequence[tuple[str, Config]],
    *,
    truths: Sequence[str] = (),
    rows: int | None = None,
    seed: int = 0,
    judge: Config | None = None,
    name: str,
    watch: Watch = counted,
    stop: Stop | None = None,
) -> Evaluation:
    """Runs each config on the same rows, and compares the answers with the truth, by a judge, and with each other.

    Args:
        configs: The name of each config for people, and the config.
        truths: What to compare with the truth; see `connector.evaluate.scales.targets`. Rows without one are left out.
        rows: How many rows to sample at random; `None` for all.
        seed: The seed of that sample.
        judge: The config of a judge that compares the first config with each other one.
        name: The name of the input.

    Raises:
        ConfigError: A config, a truth or the input is wrong, or there are no rows.
        FatalError: The run had to stop. The replies paid for so far are kept.
    """
    hidden = {_column(each, source.columns) for each in truths}
    plans = [Plan(config, [name for name in source.columns if name not in hidden] or None) for _, config in configs]
    judging_plan = None if judge is None else judging(judge)
    records = _records(source, plans[0], hidden, rows, seed)
    if not records:
        raise ConfigError(f"there are no rows {'with a truth ' if truths else ''}to compare")
    columns = list(source.columns) or list(dict.fromkeys(name for each in records for name in each.data))
    data = [record.data for record in records]
    wanted = [
        target for each in truths for target in _same([targets(each, plan.columns, columns, data) for plan in plans])
    ]
    shown = [without(record, hidden) for record in records]
    variants = [
        answered(chr(_FIRST + place), title, plan, shown, watch=watch, stop=stop)
        for place, ((title, _), plan) in enumerate(zip(configs, plans, strict=True))
    ]
    said = []
    if judging_plan is not None:
        said = [verdicts(judging_plan, variants[0], each, watch=watch, stop=stop) for each in variants[1:]]
    return evaluation(variants, records, wanted, source=name, sampled=rows is not None, seed=seed, verdicts=said)


def _column(named: str, columns: Collection[str]) -> str:
    """Returns the column of the input that holds the truth, whose name may contain a dot.

    Raises:
        ConfigError: There is no such column.
    """
    truth = named.rpartition("=")[2]
    column = truth if truth in columns else truth.partition(".")[0]
    if columns and column not in columns:
        there = there_are(column, columns)
        raise ConfigError(f"--truth {named}: there is no column {json.dumps(column)} in the input; {there}")
    return column


def _records(source: Source, plan: Plan, hidden: Collection[str], rows: int | None, seed: int) -> list[Record]:
    """Returns the rows to compare on: only those with a truth, if one is named."""
    found: Iterator[Record] = candidates(source.read(), plan)
    if hidden:
        found = (each for each in found if any(not is_null(each.data.get(name)) for name in hidden))
    return list(found) if rows is None else sample(found, rows, seed)[0]


def _same(found: Sequence[list[Target]]) -> list[Target]:
    """Returns the targets of the first config. Raises `ConfigError` unless all configs have the same."""
    names = [[each.name for each in mine] for mine in found]
    if any(mine != names[0] for mine in names):
        all_names = ", ".join(sorted({name for mine in names for name in mine}))
        raise ConfigError(f"the configs do not have the same output columns: {all_names}")
    return found[0]
