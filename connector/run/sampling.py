"""A few rows that stand for a whole table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random

from connector.base.errors import TemplateError
from connector.base.records import Record
from connector.run.plan import Plan


def candidates(items: Iterable[object], plan: Plan) -> Iterator[Record]:
    """Yields the rows that a run would call for, and those that fail before that: whatever `where` does not skip."""
    for item in items:
        if isinstance(item, Record) and _is_wanted(item, plan):
            yield item


def sample(records: Iterable[Record], count: int, seed: int) -> tuple[list[Record], int]:
    """Returns `count` rows at random, in input order, and how many there are in all.

    Each row has the same chance, however many there are, and no more than `count` are kept at once (Vitter, "Random
    Sampling with a Reservoir", 1985, algorithm R). The same seed gives the same rows.
    """
    random = Random(seed)  # noqa: S311 - nothing is to be kept secret
    kept: list[Record] = []
    number = 0
    for number, record in enumerate(records, 1):
        if len(kept) < count:
            kept.append(record)
        elif (place := int(random.random() * number)) < count:
            kept[place] = record
    return sorted(kept, key=lambda record: record.index), number


def _is_wanted(record: Record, plan: Plan) -> bool:
    try:
        return plan.requests.wants(record)
    except TemplateError:
        return True
