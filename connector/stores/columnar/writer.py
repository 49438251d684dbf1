"""Writes columnar files: rows come in any order, and DuckDB writes them in the order of their index."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol, Self

import duckdb
import orjson

from connector.base.numbers import Number
from connector.base.records import GROUP, JSON, Record, Schema, merged, remaining
from connector.base.values import NullError, text
from connector.base.vectors import is_vector
from connector.stores import Source
from connector.stores.columnar import load
from connector.stores.columnar.columns import NESTED, DuckType, SnapshotColumn, Structure, identifier, literal
from connector.stores.columnar.database import Database, Statement, check_width
from connector.stores.columnar.scans import LINES, OBJECTS, json_scan, line_scan
from connector.stores.columnar.snapshot import Snapshot
from connector.stores.formats import FileOutput
from connector.stores.staging.compression import UNCOMPRESSED, compressed
from connector.stores.staging.publish import publish, writing
from connector.stores.staging.shapes import Shape, check_names, clash
from connector.stores.staging.spool import Spool

_EXACT: Final = frozenset({list, dict, array, Number, Decimal})
_LEFT_OUT: Final = "left out"
_LARGE: Final = 1 << 14  # bytes of a row: 2,048 of them take as much as the buffers of a reader of JSON
_MOST_WAITING: Final = 4_096  # columns that are read from JSON; with so many, DuckDB takes a megabyte for each
_PLAIN: Final = frozenset(
    {
        *("boolean", "float", "double", "varchar", "date", "timestamp"),
        *(f"{sign}{size}" for sign in ("", "u") for size in ("tinyint", "smallint", "integer", "bigint")),
    }
)
_DATES: Final = {"timestamp_without_timezone": "TIMESTAMP", "timestamp_with_timezone": "TIMESTAMP WITH TIME ZONE"}


class Layout(Protocol):
    """What a columnar format says about its files."""

    @property
    def is_typed(self) -> bool:
        """Whether `structure` needs the types of the values, which are learnt as rows are written."""
        ...

    def structure(self, name: str, declared: Schema, learned: Schema) -> Structure:
        """Returns the type that the values of a column, which wait as JSON, are read as.

        `declared` is the schema that the column should have, `learned` that of the values that came.
        """
        ...

    def input_cell(self, column: SnapshotColumn) -> str:
        """Returns SQL for the value of a column of the snapshot."""
        ...

    def cells(self, name: str, structure: Structure, sql: str) -> dict[str, str]:
        """Returns the columns that one column becomes in the file, and SQL for each."""
        ...

    @property
    def keeps_case(self) -> bool:
        """Whether columns may differ only in case, or have no name."""
        ...

    def options(self, compression: str, level: int, size: int, *, is_headed: bool) -> str:
        """Returns the options of `COPY`.

        Args:
            compression: DuckDB's name for the compression of the file.
            level: How many times the memory limit has been raised.
            size: How many bytes a row takes, on average.
            is_headed: Whether the first row holds the names of the columns, which DuckDB could not tell apart.
        """
        ...


class ColumnarWriter:
    """A `Sink` for one file.

    With a `Snapshot` as source, only the added columns wait here; at the end they are joined to its rows by position,
    so that no join or sort has to hold them in memory. From any other source, whole rows wait.
    """

    def __init__(self, output: FileOutput, added: Mapping[str, Schema], source: Source | None, layout: Layout) -> None:
        self._file = output.file
        self._mode = output.mode
        self._directory = output.directory
        self._place = output.place
        self._layout = layout
        self._added = added
        self._snapshot = source if isinstance(source, Snapshot) else None
        self._inputs = remaining(source.columns, added) if source else {}
        columns = [*self._inputs, *(name for name in added if name not in self._inputs)]
        check_names(columns, str(self._place), keeps_case=layout.keeps_case)
        self._known = self._snapshot is not None or bool(self._inputs)
        waiting = list(added) if self._snapshot else columns
        check_width(len(waiting), str(self._place), _MOST_WAITING)
        self._keys = {name: f"c{place}" for place, name in enumerate(waiting)} if clash(waiting) else {}
        self._left_out = _free_name(self._keys.values() or waiting) if self._snapshot else ""
        self._parted = {name for name in added if isinstance(layout.structure(name, added[name], {}), dict)}
        self._vectors = self._vector_columns() if layout.is_typed else None
        self._as_declared = [self._keys.get(name, name) for name in added if name == GROUP]
        is_learnt = layout.is_typed or not self._known
        self._shape = Shape.of_table(known=self._as_declared) if is_learnt else None
        self._spool = Spool(
            self._directory / "rows.jsonl",
            self._shape,
            columns_of=None if self._known else str(self._place),
            is_typed=True,
            gap=orjson.dumps({self._left_out: True}) + b"\n" if self._snapshot else b"",
        )
        self._stack = ExitStack()
        self._stack.callback(self._spool.close)
        if self._vectors is not None:
            self._stack.callback(self._vectors.close)
        self._database = (
            self._snapshot.database if self._snapshot else self._stack.enter_context(Database(self._directory))
        )
        self._database.expect(len(waiting), str(self._place))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def write(self, record: Record, added: Mapping[str, JSON] | None) -> None:
        """See `Sink.write`."""
        row = added if added is None or self._snapshot else merged(record.data, added)
        if row is not None and not self._layout.is_typed:
            row = {
                name: _cell(value) if type(value) in _EXACT and name not in self._parted else value
                for name, value in row.items()
            }
        if self._vectors is not None:
            row = self._vectors.set_aside(record.index, row)
        if self._keys and row is not None:
            row = {key: row.get(name) for name, key in self._keys.items()}
        self._spool.write(record.index, row)

    def flush(self) -> None:
        """Does nothing: the file appears as a whole, at `commit`."""

    def commit(self) -> None:
        """See `Sink.commit`."""
        rows, output = self._spool.finish(), self._directory / "output"
        compression = self._file.compression
        with writing(self._place, duckdb.Error):
            try:
                self._write(rows, output, dates=True)
            except duckdb.ConversionException:
                # What a database calls a timestamp need not be one, such as MariaDB's zero date.
                self._write(rows, output, dates=False)
            if not compression.is_native:
                output = compressed(output, compression, self._directory)
            publish(output, self._file.path, self._mode)

    def _write(self, rows: Path, output: Path, *, dates: bool) -> None:
        structures = self._structures()
        check_width(len(structures), str(self._place), _MOST_WAITING)
        self._database.expect(len(structures), str(self._place), OBJECTS if self._is_large else LINES)
        if self._vectors is None:
            self._database.run(self._copy(structures, rows, output, dates=dates))
            return
        columns = self._cells(structures, dates=dates)
        cells = ", ".join(f"{sql} AS c{place}" for place, sql in enumerate(columns.values()))
        statement = f"FROM {self._waiting(structures, rows)} SELECT {cells}{self._present()}"
        as_json = frozenset(name for name, structure in structures.items() if structure == "JSON")
        self._vectors.write(self._database, statement, list(columns), as_json, output)

    def _waiting(self, structures: Mapping[str, Structure], rows: Path) -> str:
        """Returns SQL for the waiting rows, the table `w`, next to the rows of the snapshot. See `_waiting_cell`."""
        keyed = {self._keys.get(name, name): structure for name, structure in structures.items()}
        if self._snapshot:
            keyed[self._left_out] = "BOOLEAN"
        if self._is_large:
            scan = json_scan(rows, self._spool.longest, keyed)
        else:
            v = f"from_json(line, {literal(orjson.dumps(keyed).decode())})" if keyed else "NULL"
            scan = f"{line_scan(rows, self._spool.longest)} SELECT {v} AS v"
        return f"{'input POSITIONAL JOIN ' if self._snapshot else ''}({scan}) AS w"

    def _waiting_cell(self, key: str) -> str:
        return f"w.{identifier(key)}" if self._is_large else f"struct_extract(w.v, {literal(key)})"

    @property
    def _is_large(self) -> bool:
        """Whether the waiting rows are read as JSON: as lines, 2,048 of them are held at once, with all they hold."""
        return self._spool.longest >= _LARGE

    def _present(self) -> str:
        """Returns the condition for rows that are not left out.

        It is empty where no line is for such a row: for any condition, DuckDB collects up to 2,048 rows.
        """
        return f" WHERE {self._waiting_cell(self._left_out)} IS NULL" if self._snapshot else ""

    def _copy(self, structures: Mapping[str, Structure], rows: Path, output: Path, *, dates: bool) -> Statement:
        """Returns the statement that writes the file."""
        columns = self._cells(structures, dates=dates) or {"nothing": "NULL"}
        is_headed = clash(columns) is not None
        named = {f"c{place}" if is_headed else name: sql for place, (name, sql) in enumerate(columns.items())}
        cells = ", ".join(f"{sql} AS {identifier(name)}" for name, sql in named.items())
        head = f"SELECT {', '.join(map(literal, columns))} UNION ALL " if is_headed else ""
        waiting = self._waiting(structures, rows)
        compression = self._file.compression if self._file.compression.is_native else UNCOMPRESSED
        size = rows.stat().st_size // max(1, len(self._spool))
        return lambda level: (
            f"COPY ({head}(FROM {waiting} SELECT {cells}{self._present()})) TO {literal(str(output))} "
            f"({self._layout.options(compression.name, level, size, is_headed=is_headed)})"
        )

    def _structures(self) -> dict[str, Structure]:
        """Returns the columns that wait as JSON, and the type to read each as."""
        names = list(self._added if self._snapshot else {**self._inputs, **self._added})
        if not self._known and self._shape:
            names = [*(name for name in self._spool.names() if name not in self._added), *self._added]
        declared = {**self._inputs, **self._added}
        learned = self._shape.columns if self._shape else {}
        for key in self._as_declared:
            learned.pop(key, None)
        return {
            name: self._layout.structure(name, declared.get(name, {}), learned.get(self._keys.get(name, name), {}))
            for name in names
        }

    def _cells(self, structures: Mapping[str, Structure], *, dates: bool) -> dict[str, str]:
        """Returns the columns of the file, and SQL for each."""
        cells: dict[str, str] = {}
        for field in self._snapshot.fields if self._snapshot else ():
            if field.name not in self._inputs:
                continue
            cells |= self._layout.cells(field.name, None, self._layout.input_cell(field))
        for name, structure in structures.items():
            cell = self._waiting_cell(self._keys.get(name, name))
            date = (
                _date(self._inputs.get(name, {}))
                if dates and self._layout.is_typed and name not in self._added
                else None
            )
            if structure == "VARCHAR" and date:
                cell = f"CAST({cell} AS {date})"
            cells |= self._layout.cells(name, structure, cell)
        return cells

    def _vector_columns(self) -> Any:
        """Returns the writer of files with vectors; `None` where DuckDB writes the file alone.

        That needs pyarrow, which gets the other columns from DuckDB: each must have a type that is the same in both.
        """
        names = [name for name, schema in self._added.items() if is_vector(schema)]
        if not names or find_spec("pyarrow") is None:
            return None
        if self._snapshot and not all(map(_is_plain, self._snapshot.database.types("input").values())):
            return None
        return load("vectors").VectorColumns(self._directory, names)


def _free_name(taken: Iterable[str]) -> str:
    """Returns a name for a column that says whether a row is left out."""
    names, name = {each.lower() for each in taken}, _LEFT_OUT
    while name in names:
        name += "_"
    return name


def _is_plain(type_: DuckType) -> bool:
    """Returns whether DuckDB and pyarrow write values of a type alike."""
    if type_.id in NESTED:
        return type_.id in ("list", "struct") and all(_is_plain(child) for _, child in type_.children)
    return str(type_).lower() in _PLAIN


def _cell(value: Any) -> Any:
    """Returns the text of a value that DuckDB, which reads it as JSON, would not keep digit for digit."""
    try:
        return text(value)
    except NullError:
        return None
    except TypeError:  # a lone surrogate, or a value that JSON lacks: the spool converts it
        return value


def _date(schema: Schema) -> str | None:
    if schema.get("format") == "date":
        return "DATE"
    return _DATES.get(schema.get("airbyte_type", ""))
