"""Parquet files with vectors: these wait as bytes, and pyarrow writes them next to the columns from DuckDB.

As JSON, vectors would be five times as long, and slow to write and to read.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice, repeat
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import parquet

from connector.base.arrow_vectors import FLOATS, arrow_lists
from connector.base.errors import ConfigError
from connector.base.vectors import single
from connector.stores.columnar.database import Database
from connector.stores.staging.ordered import BUFFER
from connector.stores.staging.spool import no_room

_ROWS: Final = 512  # of a batch
_GROUP_BYTES: Final = 1 << 23  # of the vectors in a row group, which are held in memory
_MOST_ROWS: Final = 20_480  # of a row group
_CHUNK_BYTES: Final = 1 << 19  # of a column's vectors
_PAGE_BYTES: Final = 1 << 16
_FLOAT: Final = 4  # bytes
_LEFT_OUT, _NULL = -2, -1


class VectorColumns:
    """The vector columns of a file.

    Args:
        directory: A private directory.
        names: The names of these columns.
    """

    def __init__(self, directory: Path, names: Sequence[str]) -> None:
        self._directory = directory
        self._files = {name: _VectorFile(directory / f"{place}.vectors") for place, name in enumerate(names)}

    def set_aside(self, index: int, row: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """Stores the vectors of a row, and returns the row without them. `None` is a row that is left out.

        Raises:
            ConfigError: A value is not a vector.
            StorageError: The disk is full.
        """
        if row is None:
            return None
        rest = dict(row)
        for name, file in self._files.items():
            try:
                file.put(index, rest.pop(name, None))
            except TypeError:
                raise ConfigError(
                    f'the column "{name}" holds vectors, and row {index + 1} has another value there: give it a column '
                    "of its own in response_format"
                ) from None
            except OSError as error:
                raise no_room(error, self._directory.parent) from error
        return rest

    def write(
        self, database: Database, statement: str, columns: Sequence[str], as_json: frozenset[str], output: Path
    ) -> None:
        """Writes the Parquet file.

        Args:
            database: Runs the statement.
            statement: A query for the rows to write, with nulls in place of vectors.
            columns: The names of all columns, in the order of the statement.
            as_json: The columns whose texts are JSON.
            output: The file to write.
        """
        width = max(file.longest for file in self._files.values())
        rows = max(_ROWS, min(_MOST_ROWS, _GROUP_BYTES // max(1, width)))

        def take(stream: pa.RecordBatchReader) -> None:
            types = [self._type(name, field.type, as_json) for name, field in zip(columns, stream.schema, strict=True)]
            schema = pa.schema(list(zip(columns, types, strict=True)))
            places = {name: file.places() for name, file in self._files.items()}
            group: list[pa.RecordBatch] = []
            with self._writer(output, schema) as writer:

                def write_group() -> None:
                    count = sum(batch.num_rows for batch in group)
                    arrays = [
                        self._files[name].read(list(islice(places[name], count)))
                        if name in places
                        else pa.chunked_array([_of_type(type_, batch.column(place)) for batch in group], type_)
                        for place, (name, type_) in enumerate(zip(columns, types, strict=True))
                    ]
                    writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
                    group.clear()

                for batch in stream:
                    for start in range(0, batch.num_rows, _ROWS):
                        group.append(batch.slice(start, _ROWS))
                        if sum(each.num_rows for each in group) >= rows:
                            write_group()
                if group:
                    write_group()

        database.export(statement, _ROWS, take)

    def _writer(self, output: Path, schema: pa.Schema) -> parquet.ParquetWriter:
        """Opens a file for writing. Vectors are noise to a compressor, which would waste a third of the CPU."""
        leaves = {field.name: list(_leaves(field)) for field in schema}
        others = [leaf for name, own in leaves.items() if name not in self._files for leaf in own]
        vectors = dict.fromkeys((leaf for name in self._files for leaf in leaves[name]), "none")
        return parquet.ParquetWriter(
            output,
            schema,
            compression=dict.fromkeys(others, "zstd") | vectors,
            use_dictionary=others,
            write_statistics=others,
            data_page_size=_PAGE_BYTES,
            write_batch_size=_PAGE_BYTES // _FLOAT,  # a page at once: pyarrow's default takes a quarter more CPU
            store_schema=False,
        )

    def _type(self, name: str, type_: pa.DataType, as_json: frozenset[str]) -> pa.DataType:
        if name in self._files:
            return FLOATS
        return pa.json_() if name in as_json else type_

    def close(self) -> None:
        """Closes the files."""
        for file in self._files.values():
            file.close()


class _VectorFile:
    """The vectors of one column, written in any order and read in the order of their rows."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=BUFFER)
        self._size = 0
        self._starts = array("q")  # 12 bytes a row, however long its vector is
        self._lengths = array("i")
        self._numbers = bytearray()
        self.longest = 0

    def put(self, index: int, vector: Any) -> None:
        """Stores the vector of a row, or null. Raises `TypeError` for anything else, `OSError` if the disk is full."""
        missing = index + 1 - len(self._starts)
        if missing > 0:
            self._starts.extend(repeat(_LEFT_OUT, missing))
            self._lengths.extend(repeat(0, missing))
        if vector is None:
            self._starts[index] = _NULL
            return
        numbers = single(vector)
        size = len(numbers) * numbers.itemsize
        self._file.write(numbers)
        self._starts[index], self._lengths[index] = self._size, size
        self._size += size
        self.longest = max(self.longest, size)

    def places(self) -> Iterator[tuple[int, int]]:
        """Yields offset and length, in bytes, of the vector of each row that is not left out."""
        self._file.flush()
        return (place for place in zip(self._starts, self._lengths, strict=True) if place[0] != _LEFT_OUT)

    def read(self, places: Sequence[tuple[int, int]]) -> pa.ChunkedArray:
        """Returns the vectors at these places as an Arrow column. Adjacent ones are read together.

        It is valid until the next read, which reuses its memory. Its chunks are small, since writing one takes about as
        much memory as the chunk itself.
        """
        sizes = [None if start == _NULL else length for start, length in places]
        size = sum(length for _, length in places)
        if len(self._numbers) < size:
            self._numbers = bytearray(size)
        numbers = room = memoryview(self._numbers)[:size]
        for start, length in together(places):
            os.preadv(self._file.fileno(), [room[:length]], start)
            room = room[length:]
        column = arrow_lists(numbers, sizes)
        rows = max(1, _CHUNK_BYTES // max(1, self.longest))
        return pa.chunked_array([column.slice(start, rows) for start in range(0, len(column), rows)], FLOATS)

    def close(self) -> None:
        """Closes the file. Errors are ignored: the vectors have been written elsewhere, or are no longer needed."""
        with suppress(OSError):
            self._file.close()


def together(places: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yields offsets and lengths with adjacent ones merged, and without empty ones."""
    start = end = 0
    for each, length in places:
        if length and each != end:
            if end > start:
                yield start, end - start
            start = end = each
        end += length
    if end > start:
        yield start, end - start


def _of_type(type_: pa.DataType, column: pa.Array) -> pa.Array:
    """Returns a column of DuckDB's as one of this type, which may be an extension of what it is."""
    return pa.ExtensionArray.from_storage(type_, column) if isinstance(type_, pa.BaseExtensionType) else column


def _leaves(field: pa.Field, above: str = "") -> Iterator[str]:
    """Yields the paths of the leaf columns that a field becomes in Parquet."""
    path = f"{above}{field.name}"
    if pa.types.is_struct(field.type):
        for child in field.type:
            yield from _leaves(child, f"{path}.")
    elif pa.types.is_list(field.type):
        yield from _leaves(field.type.value_field.with_name("element"), f"{path}.list.")
    else:
        yield path
