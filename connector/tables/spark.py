"""Spark data frames: the result is a lazy one, whose partitions are enriched where they are, with `mapInArrow`.

Nothing here needs the driver's JVM, so data frames of Spark Connect work like those of a classic cluster. A Python
worker keeps its connections open for its next partition. The next record batch is read ahead, and a pause of the input
is reported as such, so that the end of a batch does not delay any call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any, Final, Protocol, Self
from uuid import uuid4

import pyarrow as pa
from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import StructField, StructType

from connector.base.errors import ConfigError, Problem
from connector.base.records import GROUP, Schema, is_earlier
from connector.ledger import Location
from connector.tables._arrow_types import arrow_column
from connector.tables._spark_stage import Enriched
from connector.tables.arrow import ArrowTable, of_batches

_LOG: Final = logging.getLogger(__name__)
_ROWS: Final = 1_000  # most rows of a batch
_PART: Final = 100  # a batch is a hundredth of the rows before it, at least one row: so the first 200 come one by one
_PAUSE: Final = 0.01  # seconds without a batch that count as a pause
_SHARED: Final = 'set cache to "postgresql://…", or to a folder that all of them see, such as "s3://bucket/folder/"'
_NONE: Final = (
    "the config names no ledger, so Spark's workers share none: each action on this data frame (count, then write) "
    f"calls for all of its rows again, and so does a task that is tried again: {_SHARED}"
)
_FILE: Final = "a file serves one process at a time, and Spark's workers are many, on many machines"


class Enricher(Protocol):
    """Enriches rows in another process; picklable. Its connections stay open while it is entered."""

    def enrich(self, rows: Any) -> Generator[Any, None, None]:
        """Yields record batches with the new columns."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def enriched(
    frame: Any,
    enricher: Enricher,
    added: Callable[[Sequence[str]], Mapping[str, Schema]],
    keep_as: str,
    ledger: Location,
) -> Any:
    """Returns a data frame with the new columns. No row is read and no call made before an action asks for it.

    Args:
        frame: A data frame of a classic session or of Spark Connect.
        added: Returns the schemas of the new columns, given the names of the input columns.
        keep_as: See `connector.base.records.kept_as`.
        ledger: Where the ledger is; one at a `Url` is shared by all workers.

    Raises:
        ConfigError: The columns do not fit the config, or the ledger is a file.
    """
    if isinstance(ledger, Path):
        raise ConfigError([Problem("cache", f"{ledger}: {_FILE}; {_SHARED}")])
    given: StructType = frame.schema
    columns = of_batches(pa.schema([(name, pa.null()) for name in given.names]), (), keep_as).columns
    new = added(columns)
    fields = [
        StructField(name, field.dataType, field.nullable, field.metadata)
        for name, field in zip(columns, given, strict=True)
        if GROUP not in new or not is_earlier(name)
    ]
    fields += [StructField(name, from_arrow_type(arrow_column(schema).type)) for name, schema in new.items()]
    if ledger is None:
        _warn_once(_NONE)
    return frame.mapInArrow(Enriched(Work(enricher)), StructType(fields))


@cache
def _warn_once(message: str) -> None:
    _LOG.warning(message)


class Work:
    """Enriches the record batches of a partition; picklable."""

    def __init__(self, enricher: Enricher) -> None:
        self._enricher = enricher
        self._name = uuid4().hex

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yields batches with the new columns. Raises as `Connector.enrich` does."""
        first = next(batches, None)
        if first is not None:
            with closing(_kept(self._name, self._enricher).enrich(Partition(first, batches))) as results:
                yield from results


class Partition:
    """The rows of a partition, which open themselves as an Arrow table; see `connector.tables.open_table`.

    Args:
        first: Its first batch.
        rest: The others.
    """

    def __init__(self, first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> None:
        self._first = first
        self._rest = rest

    def open_table(self, keep_as: str) -> ArrowTable:
        """See `connector.tables.TableFormat`."""
        batches = _read_ahead(self._first, self._rest)
        return of_batches(self._first.schema, _growing(batches), keep_as, batches.close)


def _growing(batches: Iterable[pa.RecordBatch | None]) -> Iterator[pa.RecordBatch | None]:
    """Splits the batches into parts that grow with the number of rows before them.

    A worker learns that Spark wants no more rows, as after a `limit`, only when it next fills a buffer of 64 KB: with
    rows in batches of one that takes 50 rows, with rows in large batches 400.
    """
    total = 0
    for batch in batches:
        if batch is None:
            yield None
            continue
        start = 0
        while start < batch.num_rows:
            part = batch.slice(start, min(_ROWS, max(1, total // _PART)))
            yield part
            start += part.num_rows
            total += part.num_rows


def _read_ahead(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Generator[pa.RecordBatch | None, None, None]:
    """Yields batches, which a thread reads one ahead, and `None` where the next one is not there yet.

    While a pause lasts, each further `None` comes at once: the consumer also watches its calls, and waits there.
    """
    ready: Queue[Any] = Queue(1)
    is_closed = Event()

    def read() -> None:
        end: Any = StopIteration()
        try:
            for batch in rest:
                ready.put(batch)
                if is_closed.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - raised again where the batches are consumed
            end = error
        ready.put(end)

    yield first
    Thread(target=read, name="spark-input", daemon=True).start()
    patience = _PAUSE
    try:
        while True:
            try:
                item = ready.get(timeout=patience) if patience else ready.get_nowait()
            except Empty:
                patience = 0
                yield None
                continue
            patience = _PAUSE
            if isinstance(item, StopIteration):
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        is_closed.set()
        with suppress(Empty):
            ready.get_nowait()


_KEPT: Final[dict[str, Enricher]] = {}
"""The enricher that this worker keeps open. It runs one task at a time, so one is enough."""


def _kept(name: str, enricher: Enricher) -> Enricher:
    """Returns the enricher that an earlier task of this name left open in this process; else opens `enricher`."""
    if name not in _KEPT:
        while _KEPT:
            _KEPT.popitem()[1].__exit__(None, None, None)
        _KEPT[name] = enricher.__enter__()
    return _KEPT[name]
