"""A private DuckDB in little memory: what does not fit is spilled to a private directory, which goes with it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from glob import escape
from itertools import chain
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

import duckdb

from connector.errors import ConfigError, StorageError
from connector.stores._columns import literal
from connector.stores._position import INTERVAL

_MB: Final = 1 << 20
_ROOM: Final = ((32, 2), (128, 16), (512, 64), (2048, 256))
"""Megabytes of memory, and megabytes that a single row may have in it. More is taken only when a row asks for it."""

Statement: TypeAlias = Callable[[int], str]
"""SQL, given how many bytes a single line of a file may have."""


def path_list(paths: Sequence[Path]) -> str:
    """Files as a list in SQL, each for itself even if its name looks like a glob."""
    return f"[{', '.join(literal(escape(str(path))) for path in paths)}]"


def lines(path: Path, size: int, compression: str = "none") -> str:
    """The lines of a text file as a table, with `line` as its only column; none may be longer than `size` bytes."""
    return (
        # Without separator and quote, whatever stands in a line is its one cell.
        f"FROM read_csv({path_list([path])}, columns = {{line: 'VARCHAR'}}, header = false, auto_detect = false, "
        f"delim = '\x01', quote = '', escape = '', strict_mode = false, compression = '{compression}', "
        f"max_line_size = {size}, buffer_size = {size})"
    )


def private_directory(beside: Path | None = None) -> tempfile.TemporaryDirectory[str]:
    """A directory for this user alone (0700), in the system's place for temporary files (`TMPDIR`) or in `beside`.

    Raises:
        ConfigError: nothing can be written there.
    """
    try:
        return tempfile.TemporaryDirectory(prefix=".openai-compatible-", dir=beside, ignore_cleanup_errors=True)
    except OSError as error:
        where = beside or "The place for temporary files (TMPDIR)"
        raise ConfigError(f"{where}: nothing can be written there ({error.strerror}).", detail=str(error)) from error


class Database:
    """A DuckDB that holds one thread and a few megabytes, however many rows there are.

    A scan of DuckDB looks at 2,048 rows at once, so rows of many kilobytes need more. A step that runs out of memory is
    run again in more of it, up to 2 GB, and so are all after it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._level = 0
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "threads": 1,
                "memory_limit": f"{_ROOM[0][0]}MB",
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

    def run(self, statement: Statement | str, parameters: object = None) -> list[tuple[Any, ...]]:
        """Run a statement to its end."""
        with closing(self._connection.cursor()) as cursor:
            while True:
                try:
                    return cursor.execute(self._sql(statement), parameters).fetchall()
                except duckdb.Error as error:
                    self._make_room(error)

    def stream(self, statement: Callable[[int], Statement | str], start: int = 0) -> Iterator[list[tuple[Any, ...]]]:
        """The rows of a query, some at a time, without ever holding all; `statement` skips as many as it is given."""
        with closing(self._connection.cursor()) as cursor:
            while True:
                try:
                    cursor.execute(self._sql(statement(start)))
                    while rows := cursor.fetchmany(INTERVAL):
                        start += len(rows)
                        yield rows
                except duckdb.Error as error:
                    self._make_room(error)
                else:
                    return

    def count(self, table: str) -> int:
        """How many rows a table has."""
        ((rows,),) = self.run(f"FROM {table} SELECT count(*)")
        return int(rows)

    def lines(self, path: Path, compression: str = "none") -> Iterator[tuple[Any, ...]]:
        """The lines of a text file."""
        return chain.from_iterable(
            self.stream(lambda start: lambda size: f"{lines(path, size, compression)} OFFSET {start}")
        )

    def types(self, table: str) -> dict[str, Any]:
        """The columns of a table and their types, as duckdb's own objects."""
        relation = self._connection.sql(f"FROM {table} LIMIT 0")
        return dict(zip(relation.columns, relation.types, strict=True))

    def _sql(self, statement: Statement | str) -> str:
        return statement if isinstance(statement, str) else statement(_ROOM[self._level][1] * _MB)

    def _make_room(self, error: duckdb.Error) -> None:
        """Take more memory if that is what was missing; else the error stands."""
        text = str(error)
        cramped = "SET memory_limit" in text or "Maximum line size" in text
        if "max_temp_directory_size" in text or not cramped or self._level + 1 == len(_ROOM):
            raise error
        self._level += 1
        self._connection.execute(f"SET memory_limit = '{_ROOM[self._level][0]}MB'")


def storage_error(error: Exception, directory: Path) -> StorageError | None:
    """The error for a disk that takes no more, `None` if that is not what happened."""
    text = str(error)
    if "No space left" in text or "max_temp_directory_size" in text or "Disk quota" in text or "File too large" in text:
        return StorageError(
            f"The disk that holds {directory} is full. Free some space, or name another directory for temporary "
            "files in TMPDIR, and run it again.",
            detail=text,
        )
    return None
