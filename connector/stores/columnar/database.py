"""A private DuckDB that needs little memory: what does not fit is spilled to a private directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

import duckdb

from connector.base.errors import ConfigError
from connector.base.records import Part
from connector.stores.staging.position import INTERVAL
from connector.stores.staging.spool import no_room

_ROOM: Final = (16, 32, 64, 128, 256, 512, 1024, 2048, None)
"""Memory limits in MB; the next one is set only when rows need it. The last is DuckDB's default, 80% of the machine."""

_OF_A_COLUMN: Final = 3 * 2048 * 16  # bytes: a scan holds the texts of 2,048 rows about three times

_CRAMPED: Final = ("SET memory_limit", "Out of Memory")

MOST_COLUMNS: Final = 16_384
"""Most columns of a file, as many as a spreadsheet has: time and memory grow faster than their number."""

Statement: TypeAlias = str | Callable[[int], str]
"""SQL, or a function that returns it for the number of times that the memory limit has been raised."""


class Database:
    """A DuckDB that takes one thread and a few megabytes, however many rows there are.

    DuckDB scans 2,048 rows at a time, so rows of many kilobytes need more memory. A statement that runs out of memory
    is run again with a higher limit, which stays until rows are read.

    Attributes:
        parts: Which rows of the table `input` come from which file, if there are several.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.parts: list[Part] = []
        self._level = self._least = 0
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "threads": 1,
                "memory_limit": f"{_ROOM[0]}MB",
                "temp_directory": str(directory / "spill"),
                "preserve_insertion_order": True,
                # Nothing is fetched over the network, whatever a path looks like.
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
        self._connection.execute("SET enable_progress_bar = false")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def expect(self, columns: int, where: str, beside: int = 0) -> None:
        """Raises the memory limit to what rows of so many columns need, which saves statements that would fail.

        Args:
            columns: How many there are.
            where: What has them.
            beside: Bytes that are needed beside the rows.

        Raises:
            ConfigError: There are too many, see `check_width`.
        """
        check_width(columns, where)
        level = next(at for at, mb in enumerate(_ROOM) if mb is None or mb << 20 >= columns * _OF_A_COLUMN + beside)
        self._least = max(self._least, level)
        if level > self._level:
            self._set_level(level)

    def run(self, statement: Statement, parameters: object = None) -> list[tuple[Any, ...]]:
        """Runs a statement and returns all of its rows."""
        with closing(self._connection.cursor()) as cursor:
            while True:
                try:
                    sql = statement if isinstance(statement, str) else statement(self._level)
                    return cursor.execute(sql, parameters).fetchall()
                except duckdb.Error as error:
                    self._make_room(error)

    def stream(self, statement: Callable[[int], str]) -> Iterator[list[tuple[Any, ...]]]:
        """Yields the rows of a query in batches of `INTERVAL`; `statement` skips as many rows as it is given."""
        start = 0
        with closing(self._connection.cursor()) as cursor:
            while True:
                try:
                    cursor.execute(statement(start))
                    while rows := cursor.fetchmany(INTERVAL):
                        start += len(rows)
                        yield rows
                except duckdb.Error as error:
                    self._make_room(error)
                else:
                    return

    def rows(self, cells: str, start: int = 0) -> Iterator[list[tuple[Any, ...]]]:
        """Yields these cells of the table `input`, from a row on, in batches of `INTERVAL`: fewer where rows are large.

        A query takes as little memory as it can. Where all rows take more, it asks for some of them at a time.
        """
        number = asked = self.count("input")
        with suppress(duckdb.Error):  # what cannot be spilled needs the memory that it has
            self._set_level(self._least)
        with closing(self._connection.cursor()) as cursor:
            while start < number:
                try:
                    cursor.execute(f"FROM input SELECT {cells} WHERE rowid >= {start} AND rowid < {start + asked}")
                    while rows := cursor.fetchmany(INTERVAL):
                        start += len(rows)
                        yield rows
                    asked = min(2 * asked, INTERVAL)
                except duckdb.Error as error:
                    if asked == 1 or not _is_cramped(error):
                        self._make_room(error)
                    asked = max(1, min(asked, INTERVAL) // 2)

    def export(self, statement: str, rows: int, take: Callable[[Any], None]) -> None:
        """Passes the result of a query to `take` as a stream of Arrow record batches of `rows` rows; needs pyarrow.

        If memory runs out, `take` is called again, with all rows from the first one on.
        """
        with closing(self._connection.cursor()) as cursor:
            while True:
                try:
                    result = cursor.sql(statement)
                    stream = getattr(result, "to_arrow_reader", None) or result.fetch_arrow_reader  # the older name
                    return take(stream(rows))
                except (duckdb.Error, OSError) as error:  # inside a stream it is an `OSError`
                    self._make_room(error)

    def count(self, table: str) -> int:
        """Returns how many rows a table has."""
        ((rows,),) = self.run(f"FROM {table} SELECT count(*)")
        return int(rows)

    def types(self, table: str) -> dict[str, Any]:
        """Returns the columns of a table and their types, as duckdb's own objects."""
        relation = self._connection.sql(f"FROM {table} LIMIT 0")
        return dict(zip(relation.columns, relation.types, strict=True))

    def _make_room(self, error: Exception) -> None:
        """Raises the memory limit if the error is a lack of memory; else raises the error again."""
        if "max_temp_directory_size" in str(error):
            raise no_room(error, self.directory.parent) from error
        if not _is_cramped(error) or self._level + 1 == len(_ROOM):
            raise error
        self._set_level(self._level + 1)

    def _set_level(self, level: int) -> None:
        memory = _ROOM[level]
        self._connection.execute(f"SET memory_limit = '{memory}MB'" if memory else "RESET memory_limit")
        self._level = level


def _is_cramped(error: Exception) -> bool:
    """Returns whether the error is a lack of memory."""
    return isinstance(error, duckdb.OutOfMemoryException) or any(sign in str(error) for sign in _CRAMPED)


def check_width(columns: int, where: str, most: int = MOST_COLUMNS) -> None:
    """Refuses a file with too many columns.

    Raises:
        ConfigError: There are more than `most`.
    """
    if columns > most:
        raise ConfigError(
            f"{where}: {columns:,} columns are more than the {most:,} that a CSV or Parquet file may have here: "
            "leave out those that are not needed, or use JSON lines"
        )
