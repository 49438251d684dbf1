"""One read of a source: where it continues, how many records there are to read, their keys, and when it is complete."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from itertools import chain
from typing import Any, Final

from connector.base.errors import StateMismatchError
from connector.base.records import JSON, ROW_KEY, Checkpoint, Record
from connector.base.streams import Estimate, Selection
from connector.run.row_keys import RowKeys
from connector.run.runtime import Runtime
from connector.stores import Source

_LOG: Final = logging.getLogger(__name__)

_COMPLETE: Final = "complete"
"""The key of a full read's states: false before its end, true in the last one, behind which the next read starts over.
States of incremental reads, and those that earlier versions saved amid a full read, are without it."""

_ANEW: Final = "%s: %s: all rows are read again, from the first one"


def resumed(state: JSON, *, is_incremental: bool) -> JSON:
    """Returns the position to continue from; `None` where the read starts over.

    An incremental read goes on behind any read before it. A full read goes on only behind one that did not reach its
    end.
    """
    if not isinstance(state, Mapping):
        return state
    position = {name: value for name, value in state.items() if name != _COMPLETE}
    is_unfinished = not state[_COMPLETE] if _COMPLETE in state else "cursor_field" not in state
    return position if is_incremental or is_unfinished else None


def _items(source: Source, position: JSON) -> Iterator[Any]:
    """Reads on from a position, or from the first record where this input cannot be read on from there."""
    try:
        yield from source.read(position)
    except StateMismatchError as error:
        _LOG.warning(_ANEW, source.name, error.message)
        yield from source.read()


def read(
    source: Source, position: JSON, selection: Selection, open_runtime: Callable[[], AbstractContextManager[Runtime]]
) -> Generator[Any, None, None]:
    """Yields what `Connector.read` does; every row has its outcome."""
    items = _items(source, position)
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
    """Passes results on, and says in each state whether everything has been read."""
    last: dict[str, JSON] = {}
    for result in results:
        if isinstance(result, Checkpoint):
            last = result.state
            yield Checkpoint({**last, _COMPLETE: False})
        else:
            yield result
    yield Checkpoint({**last, _COMPLETE: True})
