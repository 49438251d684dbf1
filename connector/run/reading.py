"""One read of a source: where it continues, how many records there are to read, their keys, and when it is complete."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from itertools import chain
from typing import Any, Final

from connector.base.records import JSON, ROW_KEY, Checkpoint, Record
from connector.base.streams import Estimate, Selection
from connector.run.row_keys import RowKeys
from connector.run.runtime import Runtime
from connector.stores import Source

_COMPLETE: Final = "complete"
"""The key that marks the last state of a full read: the next read begins anew, whatever has come since."""


def resumed(state: JSON, *, is_incremental: bool) -> JSON:
    """Returns the position to continue from; `None` where the full read before was complete."""
    if not isinstance(state, Mapping) or _COMPLETE not in state:
        return state
    return {name: value for name, value in state.items() if name != _COMPLETE} if is_incremental else None


def read(
    source: Source, position: JSON, selection: Selection, open_runtime: Callable[[], AbstractContextManager[Runtime]]
) -> Generator[Any, None, None]:
    """Yields what `Connector.read` does; every row has its outcome."""
    items = iter(source.read(position))
    first = next(items, None)
    if isinstance(first, Record) and source.rows is not None:
        yield Estimate(source.rows - first.index)
    items = chain([] if first is None else [first], items)
    is_keyed = selection.is_keyed and ROW_KEY not in source.columns
    keys = RowKeys(source.read if source.columns else list) if is_keyed else None
    with open_runtime() as runtime, closing(runtime.run(keys.entering(items) if keys else items)) as run:
        results = runtime.control.gauge.rate_notice.interleaved(keys.leaving(run) if keys else run)
        yield from results if selection.is_incremental else _completed(results)


def _completed(results: Iterable[Any]) -> Iterator[Any]:
    """Passes results on; after the last one comes a state that says that everything has been read."""
    last: JSON = None
    for result in results:
        if isinstance(result, Checkpoint):
            last = result.state
        yield result
    if isinstance(last, dict):
        yield Checkpoint({**last, _COMPLETE: True})
