"""Fills columns of rows that a table already has, by primary key and in batches; adds columns that are missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from pydantic import SecretStr

from connector.base.errors import ConfigError, ConnectorError, StorageError
from connector.base.records import JSON, Record, Schema
from connector.stores.databases import readers, writers
from connector.stores.databases.connection import RESTART, Database, opened, persistent
from connector.stores.databases.loading import kinds
from connector.stores.databases.loading.base import Column, Plan, Writer
from connector.stores.databases.syntax import PARAMETER, with_parameters

_ROWS: Final = 500


class Updater:
    """A `Sink` that fills the columns `added` of the rows that have the keys of the records.

    Each batch is committed before the next one begins, so a run that ends early keeps the rows filled so far.
    """

    def __init__(self, database: Database, name: str, added: Mapping[str, Schema], key: Sequence[str]) -> None:
        self._database = database
        self._name = name
        self._added = added
        self._key = key
        self._writer: type[Writer] = writers.load(database.kind, database.engine.dialect.driver)
        self._key_columns: Sequence[readers.Column] = ()
        self._waiting: list[tuple[Sequence[Any], Mapping[str, JSON]]] = []
        self._columns: list[tuple[Column, Callable[[JSON], Any]]] = []

    def prepare(self) -> None:
        """Adds the columns that the table lacks, and tries an update of no rows.

        Raises:
            ConfigError: The table does not exist, or this user may not change it.
        """
        persistent(lambda: self._with(ConfigError, self._prepare))
        persistent(self._look)

    def write(self, record: Record, added: Mapping[str, JSON] | None) -> None:
        """See `Sink.write`. Rows that are left out stay as they are."""
        if added is None:
            return
        self._waiting.append(([record.data[name] for name in self._key], added))
        if len(self._waiting) >= _ROWS:
            self.flush()

    def flush(self) -> None:
        """See `Sink.flush`."""
        if self._waiting:
            persistent(lambda: self._with(StorageError, self._update), more=RESTART)
            self._waiting.clear()

    def commit(self) -> None:
        """See `Sink.commit`."""
        self.flush()

    def _with(self, kind: type[ConnectorError], act: Callable[[Writer], None]) -> None:
        with self._database.connect(kind) as connection:
            writer = self._writer(connection, self._name)
            writer.begin(lambda: None)
            act(writer)
            writer.commit()

    def _prepare(self, writer: Writer) -> None:
        table = writer.table()
        if table is None:
            raise ConfigError(f"--into: there is no table {self._name}: name one of the database")
        self._columns = []
        for name, schema in self._added.items():
            kind = kinds.of_schema(schema)
            kind = writer.supported(kinds.TEXT if kind == kinds.NULL else kind)
            column = table.columns.get(name)
            if column is None:
                column = Column(name, kind)
                writer.add(column, Plan("append", [column]))
            self._columns.append((column, kinds.converter(column.kind)))
        same = ", ".join(f"{name} = {name}" for name in (writer.quote(column.name) for column, _ in self._columns))
        writer.run(f"UPDATE {writer.place} SET {same} WHERE 1 = 0")

    def _look(self) -> None:
        """Finds out how the key values of records are passed back to the database."""
        reader = readers.load(self._database.kind, self._database.engine.dialect.driver)
        with self._database.connect() as connection:
            writer = self._writer(connection, self._name)
            names = writer.list_of(self._key)
            reader.prepare(connection)
            self._key_columns = reader.columns(connection, f"SELECT {names} FROM {writer.place}")

    def _update(self, writer: Writer) -> None:
        rows = [(*self._values(added), *map(_bound, self._key_columns, key)) for key, added in self._waiting]
        filled = ", ".join(f"{writer.quote(column.name)} = {PARAMETER}" for column, _ in self._columns)
        found = " AND ".join(
            f"{writer.quote(column.name)} = {column.value.format(PARAMETER) if _is_typed(column) else PARAMETER}"
            for column in self._key_columns
        )
        statement = f"UPDATE {writer.place} SET {filled} WHERE {found}"
        writer.connection.exec_driver_sql(with_parameters(statement, writer.connection.dialect), rows)

    def _values(self, added: Mapping[str, JSON]) -> Iterator[Any]:
        for column, convert in self._columns:
            value = added.get(column.name)
            try:
                yield None if value is None else convert(value)
            except ValueError as error:
                raise StorageError(
                    f'{self._name}: the column "{column.name}" cannot hold a value ({error}): change its type, or drop '
                    "the column, which is then created with the right type"
                ) from None


def _is_typed(column: readers.Column) -> bool:
    """Returns whether key values are cast to the column's type; texts are not, so that an index is used."""
    return column.order == "{0}"


def _bound(column: readers.Column, value: Any) -> Any:
    """Returns a key value as drivers take it: a number with more digits than a double has as text."""
    if column.bind is not None and _is_typed(column):
        return column.bind(value)
    return str(value) if isinstance(value, float) and type(value) is not float else value


@contextmanager
def updating(url: SecretStr, table: str, added: Mapping[str, Schema], key: Sequence[str]) -> Iterator[Updater]:
    """Opens a table to fill the columns `added` of its rows.

    Raises:
        ConfigError: It has no usable primary key, or this user may not change it.
    """
    if not key:
        raise ConfigError(
            f"--into: {table} has no primary key, or one whose type cannot identify rows (JSON, 32-bit floats, bytes "
            "in SQLite, …): add one, or write to another table"
        )
    with opened(url) as database:
        updater = Updater(database, table, added, key)
        updater.prepare()
        yield updater
