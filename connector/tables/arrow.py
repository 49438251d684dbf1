"""Arrow tables: the same record batches come out with the new columns, every type exact.

Tables of any library come in through Arrow's PyCapsule interface
(https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html), which pandas, Polars and DuckDB support.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

import pyarrow as pa

from connector.base.arrow_vectors import FLOATS, arrow_list
from connector.base.errors import ConfigError
from connector.base.records import GROUP, IDLE, Idle, Outcome, Record, Result, Schema, Status, is_earlier, kept_as
from connector.base.values import listed
from connector.base.vectors import single
from connector.run.provenance import as_column, failure
from connector.tables._arrow_types import ArrowColumn, MisfitError, arrow_column
from connector.tables._arrow_values import rows_of

_ROWS: Final = 1_000  # most rows of an output batch: a consumer waits for all of them


class _Waiting(NamedTuple):
    """A batch that waits for its outcomes, and one more than the index of its last row."""

    batch: pa.RecordBatch
    end: int


class ArrowTable:
    """See `connector.tables.OpenTable`. Input columns are passed on unchanged, without a copy.

    Args:
        batches: `None` among them is a pause: the next batch is not there yet.
    """

    def __init__(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch | None], close: Callable[[], None]) -> None:
        self._schema = schema
        self._batches = batches
        self._waiting: deque[_Waiting] = deque()
        self._done: list[Outcome] = []
        self.close = close
        self.columns: tuple[str, ...] = tuple(schema.names)
        twice = [name for name in self.columns if self.columns.count(name) > 1]
        if twice:
            raise ConfigError(f'the table has two columns "{twice[0]}": rename one of them')

    def records(self) -> Iterator[Record | Idle]:
        """See `connector.tables.OpenTable.records`."""
        end = 0
        for batch in self._batches:
            if batch is None:
                yield IDLE
                continue
            for start in range(0, batch.num_rows, _ROWS):
                part = batch.slice(start, _ROWS)
                rows = enumerate(rows_of(part), end)
                end += part.num_rows
                self._waiting.append(_Waiting(part, end))
                for index, row in rows:
                    yield Record(index, row)
        if not end:  # a batch without rows still shows the columns
            nothing = [pa.nulls(0, field.type) for field in self._schema]  # there is one of every type
            self._waiting.append(_Waiting(pa.RecordBatch.from_arrays(nothing, schema=self._schema), 0))

    def fitting(self, added: Mapping[str, Schema]) -> Callable[[Outcome], Outcome]:
        """See `connector.tables.OpenTable.fitting`. A value that does not fit its column's type fails the row."""
        return partial(_fitted, columns={name: arrow_column(schema) for name, schema in added.items()})

    def enriched(self, results: Iterator[Result], added: Mapping[str, Schema]) -> Iterator[pa.RecordBatch]:
        """See `connector.tables.OpenTable.enriched`.

        A batch comes out once all of its rows are done. If an error cuts it short, its finished rows come out first.
        """
        columns = {name: arrow_column(schema) for name, schema in added.items()}
        try:
            for result in results:
                if not isinstance(result, Outcome):
                    continue
                while result.record.index >= self._waiting[0].end:  # the last rows of a batch have been left out
                    yield self._next(columns)
                self._done.append(result)
                if result.record.index + 1 == self._waiting[0].end:
                    yield self._next(columns)
        except Exception:
            if self._done:
                yield self._next(columns)
            raise
        while self._waiting:
            yield self._next(columns)

    def _next(self, columns: Mapping[str, ArrowColumn]) -> pa.RecordBatch:
        """Returns the batch that has waited longest, with the new columns, without the rows that are left out."""
        batch, end = self._waiting.popleft()
        done, self._done = self._done, []
        inputs, given = batch.columns, self._schema
        if len(done) < batch.num_rows:
            start = end - batch.num_rows
            inputs = _picked(batch, [outcome.record.index - start for outcome in done])
        gained = [{**outcome.columns, **outcome.group} for outcome in done]
        arrays = [_column([row[name] for row in gained], each.type) for name, each in columns.items()]
        fields = [pa.field(name, each.type) for name, each in columns.items()]
        kept = [place for place, name in enumerate(given.names) if GROUP not in columns or not is_earlier(name)]
        schema = pa.schema([*(given.field(place) for place in kept), *fields], metadata=given.metadata)
        return pa.RecordBatch.from_arrays([*(inputs[place] for place in kept), *arrays], schema=schema)


def _column(values: list[Any], type_: pa.DataType) -> pa.Array:
    if type_ == FLOATS and all(value is None or type(value) is array for value in values):
        return arrow_list([None if value is None else single(value) for value in values])
    return pa.array([listed(value) for value in values], type_)


def _picked(batch: pa.RecordBatch, places: list[int]) -> list[pa.Array]:
    """Returns the columns with only these rows. Arrow's own `take` lacks some types, such as Polars' string views."""
    rows = [batch.slice(place, 1) for place in places] or [batch.slice(0, 0)]
    return [pa.concat_arrays([row.column(number) for row in rows]) for number in range(batch.num_columns)]


def open_table(rows: Any, keep_as: str) -> ArrowTable:
    """See `connector.tables.TableFormat`.

    Raises:
        ConfigError: This is not a table, such as a single column, or Arrow cannot read it.
    """
    if hasattr(rows, "__arrow_c_stream__"):
        _check_objects(rows)
        reader = _taken(pa.RecordBatchReader.from_stream, rows)
        return of_batches(reader.schema, reader, keep_as, reader.close)
    items = iter([rows] if hasattr(rows, "__arrow_c_array__") else rows)
    first = _taken(pa.table, next(items))
    return of_batches(first.schema, _batches(first, items), keep_as)


def of_batches(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch | None], keep_as: str, close: Callable[[], None] = lambda: None
) -> ArrowTable:
    """Opens record batches of one schema; see `ArrowTable` and `connector.tables.TableFormat`."""
    names = [kept_as(name, keep_as) for name in schema.names]
    if names == schema.names:
        return ArrowTable(schema, batches, close)
    fields = [schema.field(place).with_name(name) for place, name in enumerate(names)]
    renamed = (batch if batch is None else batch.rename_columns(names) for batch in batches)
    return ArrowTable(pa.schema(fields, metadata=schema.metadata), renamed, close)


def _check_objects(rows: Any) -> None:
    """Refuses Polars columns of Python objects: Polars would export their memory addresses as bytes.

    Raises:
        ConfigError: There is such a column.
    """
    if type(rows).__module__.partition(".")[0] == "polars":
        for name, kind in rows.schema.items() if hasattr(rows, "schema") else ():
            if "Object" in str(kind):
                raise ConfigError(
                    f'the column "{name}" holds Python objects, which Polars cannot hand over{_hint(rows)}'
                )


def _batches(first: pa.Table, items: Iterator[Any]) -> Iterator[pa.RecordBatch]:
    yield from first.to_batches()
    for number, item in enumerate(items, 2):
        table = _taken(pa.table, item)
        if table.schema != first.schema:
            raise ConfigError(f"batch {number} has other columns or types than the first one")
        yield from table.to_batches()


def _taken(take: Callable[[Any], Any], rows: Any) -> Any:
    try:
        return take(rows)
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        message = (
            f"Arrow cannot make a table of this {type(rows).__name__}: {'; '.join(map(str, error.args))}{_hint(rows)}"
        )
        raise ConfigError(message) from error


def _hint(rows: Any) -> str:
    """Returns advice on how to pass rows of Python objects instead of a data frame; empty for anything else."""
    if not hasattr(rows, "columns") or not hasattr(rows, "to_dict"):
        return ""
    as_dicts = "to_dicts()" if hasattr(rows, "to_dicts") else 'to_dict("records")'
    return f": pass its {as_dicts}, or give the column another type"


def _fitted(outcome: Outcome, columns: Mapping[str, ArrowColumn]) -> Outcome:
    """Returns the outcome with its values converted to the columns' types; a failed one if a value does not fit."""
    fitted: dict[str, Any] = {}
    for name, value in outcome.columns.items():
        try:
            fitted[name] = None if value is None else columns[name].fit(value)
        except MisfitError as error:
            outcome = _failed(outcome, f'the column "{name}" cannot hold a value of the reply: {error}')
            fitted = dict.fromkeys(outcome.columns)
            break
    group = {name: columns[name].fit(value) for name, value in outcome.group.items()}
    return outcome._replace(columns=fitted, group=group)


def _failed(outcome: Outcome, message: str) -> Outcome:
    error = failure("ReplyError", message)
    provenance = outcome.provenance._replace(status=Status.INVALID_OUTPUT, error=error)
    known = as_column(provenance)
    group = {name: {part: known[part] for part in parts} for name, parts in outcome.group.items()}
    return outcome._replace(status=Status.INVALID_OUTPUT, group=group, provenance=provenance)
