"""Variants: configs that are run on the same rows, through the ordinary path of a run and its ledger."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

from connector import check
from connector.base.clock import Clock
from connector.base.records import Outcome, Record, Result
from connector.base.stop import Stop
from connector.run.plan import Plan
from connector.run.runtime import Runtime, preview_ledger
from connector.run.summary import Summary

Watch = Callable[[Iterator[Result], Runtime], Iterator[Result]]
"""Passes on the results of a run, and counts them in the runtime's summary."""


class Variant(NamedTuple):
    """A config and its outcomes for the rows.

    Attributes:
        name: A letter.
        title: Its name for people, such as that of its file.
        outcomes: One for each row, in the order of the rows.
        summary: The totals of this run: what was paid for now, and what was already in the ledger.
    """

    name: str
    title: str
    plan: Plan
    outcomes: Sequence[Outcome]
    summary: Summary


def counted(results: Iterator[Result], runtime: Runtime) -> Iterator[Result]:
    """Passes on results and counts them, without output."""
    return runtime.summary.watched(results)


def without(record: Record, hidden: Collection[str]) -> Record:
    """Returns a row without its truth columns: no prompt may see them, and answers may have the same names."""
    data = {name: value for name, value in record.data.items() if name not in hidden}
    return Record(record.index, data, record.stream, record.problem)


def answered(
    name: str,
    title: str,
    plan: Plan,
    records: Sequence[Record],
    *,
    watch: Watch = counted,
    stop: Stop | None = None,
    clock: Clock | None = None,
) -> Variant:
    """Runs a config on the rows. Replies that earlier previews, studios and evaluations have paid for are reused.

    Raises:
        FatalError: The run had to stop. The replies paid for so far are kept.
    """
    opened = Runtime(plan, preview_ledger(plan.config), is_live=True, stop=stop, clock=clock)
    with opened as runtime, check.explaining(runtime):
        with closing(watch(runtime.run(records), runtime)) as results:  # type: ignore[type-var]
            found = {each.record.index: each for each in results if isinstance(each, Outcome)}
        return Variant(name, title, plan, [found[record.index] for record in records], runtime.summary)
