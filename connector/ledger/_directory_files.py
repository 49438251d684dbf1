"""The files of a ledger in a folder or a bucket: Parquet, written whole and never changed.

Parquet, because everything reads it; and 500 replies are written, compressed to a fifth with Zstandard, in 7 ms.
"""

from __future__ import annotations

import io
import logging
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from connector.base.errors import LedgerUnavailableError, StorageError
from connector.base.regex import regex
from connector.base.user_cache import make_private_directory
from connector.ledger import Url, require_format
from connector.ledger._directory_system import System
from connector.ledger._patience import Patience

T = TypeVar("T")
Row = tuple[bytes, int, bytes, bytes, int, int, int]
"""The columns of `connector.ledger._reply_format`, and when the reply was stored (epoch seconds)."""

SUFFIX: Final = ".parquet"
_GROUP: Final = 1_000  # most rows of a row group, which are read together
_GROUP_BYTES: Final = 2**22  # bytes of replies from which on a row group takes no more

_VERSION: Final = 2  # of the replies in a file: version 1 had no vectors as bytes
_SCHEMA: Final = pa.schema(
    [
        pa.field("key", pa.binary(16), nullable=False),
        pa.field("status", pa.int32(), nullable=False),
        pa.field("body", pa.binary(), nullable=False),
        pa.field("headers", pa.binary(), nullable=False),
        pa.field("latency_ms", pa.int64(), nullable=False),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("stored_at", pa.int64(), nullable=False),
    ],
    metadata={"openai_compatible_ledger": str(_VERSION)},
)
_HEADS: Final = ["key", "status", "stored_at"]
_NUMBER: Final = regex(rb"[0-9]{1,9}")
_LOG: Final = logging.getLogger(__name__)
_OF_ROW: Final = 600  # bytes that a row takes in memory besides its body
_WHOLE: Final = 2**22  # bytes up to which a file is read with one request
_DAMAGE: Final = (pa.ArrowException, OSError, KeyError, ValueError)


class Keys(NamedTuple):
    """The index of a file: its size in bytes, and for each row group the keys, joined, and its bytes in memory."""

    size: int
    groups: list[bytes]
    weights: list[int]


def grouped(rows: Iterable[Row]) -> list[list[Row]]:
    """Returns rows as the row groups that they are written in: so many are read together, however large they are."""
    groups: list[list[Row]] = []
    size = _GROUP_BYTES
    for row in rows:
        if size >= _GROUP_BYTES or len(groups[-1]) >= _GROUP:
            groups.append([])
            size = 0
        groups[-1].append(row)
        size += len(row[2])
    return groups


def weight_of(rows: Iterable[Row]) -> int:
    """Returns the bytes that rows take in memory, about."""
    return sum(len(row[2]) + _OF_ROW for row in rows)


class Files:
    """The files, by name, in the folder that a URL names. All methods raise `StorageError` where the folder fails.

    Args:
        patience: Decides whether to retry where a bucket does not answer.

    Raises:
        ConfigError: The URL is not one that the file systems know.
    """

    def __init__(self, url: Url, patience: Patience) -> None:
        self.url = url
        self._system = System(url)
        self._files = self._system.files
        self._folder = self._system.folder
        self._patience = patience
        self._damaged: set[str] = set()  # those reported so far

    def make_folder(self) -> None:
        """Creates the folder if need be, for its owner alone; a bucket must exist already."""
        local = self._system.local
        if local is not None:
            self._act("opened", lambda: make_private_directory(local))

    def names(self, suffix: str = SUFFIX) -> dict[str, int]:
        """Returns the names of the files with this suffix, in order, each with its size in bytes."""
        selector = pafs.FileSelector(self._folder, allow_not_found=True)
        found = self._act("read", lambda: self._files.get_file_info(selector))
        return {
            each.base_name: each.size
            for each in sorted(found, key=lambda each: str(each.base_name))
            if each.is_file and each.base_name.endswith(suffix) and not each.base_name.startswith(".")
        }

    def write(self, name: str, groups: Sequence[Sequence[Row]]) -> Keys:
        """Writes a file of replies; once this returns, it is on disk, or the bucket has accepted it."""
        data = io.BytesIO()
        with pq.ParquetWriter(
            data,
            _SCHEMA,
            compression="zstd",
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
        ) as writer:
            for rows in groups:
                columns = zip(zip(*rows, strict=True), _SCHEMA, strict=True)
                writer.write_table(pa.table([pa.array(column, field.type) for column, field in columns], _SCHEMA))
        self.write_bytes(name, data.getvalue())
        joined = [b"".join(row[0] for row in rows) for rows in groups]
        return Keys(data.tell(), joined, list(map(weight_of, groups)))

    def write_bytes(self, name: str, data: bytes) -> None:
        """Writes any file, atomically."""

        def locally(folder: Path) -> None:
            path = folder / f".{name}.part"
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with open(descriptor, "wb") as file:  # noqa: PTH123 - of a descriptor
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                path.replace(folder / name)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
            directory = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

        def remotely() -> None:
            with self._files.open_output_stream(f"{self._folder}/{name}") as stream:
                stream.write(data)

        local = self._system.local
        self._act("written", remotely if local is None else lambda: locally(local))

    def keys(self, name: str, size: int) -> Keys | None:
        """Returns the keys of a file; `None` if it is gone, or damaged, which is logged.

        Raises:
            StorageError: A newer version wrote it.
        """

        def keys_in(file: pq.ParquetFile) -> Keys:
            version = (file.schema_arrow.metadata or {}).get(b"openai_compatible_ledger", b"0")
            if not _NUMBER.fullmatch(version):
                raise pa.ArrowInvalid("it has no version")
            require_format(self.url, int(version), _VERSION)
            if not file.schema_arrow.equals(_SCHEMA):
                raise pa.ArrowInvalid("it has other columns")
            groups = range(file.num_row_groups)
            weights = [file.metadata.row_group(each).total_byte_size for each in groups]
            return Keys(size, [b"".join(_group(file, each, ["key"])["key"].to_pylist()) for each in groups], weights)

        return self._parsed(name, size, keys_in)

    def heads(self, name: str, size: int) -> list[list[tuple[bytes, int, int]]] | None:
        """Returns key, status and time of each reply in a file, by row group; `None` as `keys` does."""

        def heads_in(file: pq.ParquetFile) -> list[list[tuple[bytes, int, int]]]:
            groups = (_group(file, each, _HEADS).to_pydict() for each in range(file.num_row_groups))
            return [list(zip(*(group[name] for name in _HEADS), strict=True)) for group in groups]

        return self._parsed(name, size, heads_in)

    def rows(self, name: str, group: int, size: int) -> list[Row] | None:
        """Returns the rows of a row group; `None` as `keys` does."""

        def rows_in(file: pq.ParquetFile) -> list[Row]:
            columns = _group(file, group).to_pydict()
            return list(zip(*columns.values(), strict=True))

        return self._parsed(name, size, rows_in)

    def read_bytes(self, name: str) -> bytes | None:
        """Returns the content of any file; `None` if it does not exist."""

        def read() -> bytes | None:
            try:
                with self._files.open_input_stream(f"{self._folder}/{name}") as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

        return self._act("read", read)

    def report(self, name: str) -> None:
        """Warns that a file is damaged, once."""
        if name not in self._damaged:
            self._damaged.add(name)
            _LOG.warning("%s/%s is damaged: what it held is paid for again", self.url, name)

    def prove(self) -> None:
        """Writes a file and deletes it. Raises `StorageError` if that fails."""
        name = f".{secrets.token_hex(6)}.proof"
        self.write_bytes(name, b"")
        self.delete([name])

    def delete(self, names: Sequence[str]) -> None:
        """Deletes files; one that is gone already is not an error."""

        def gone(name: str) -> None:
            with suppress(FileNotFoundError):
                self._files.delete_file(f"{self._folder}/{name}")

        for each in names:
            self._act("written", partial(gone, each))

    def _parsed(self, name: str, size: int, parse: Callable[[pq.ParquetFile], T]) -> T | None:
        """Returns what `parse` finds in a file; `None` if it is gone, or damaged, which is logged.

        pyarrow raises an `OSError` for some damage, too. What is in memory can fail for no other reason.
        """
        path = f"{self._folder}/{name}"

        def parsed() -> T | None:
            if size > _WHOLE:
                with suppress(*_DAMAGE):
                    file = self._files.open_input_file(path)
                    return parse(pq.ParquetFile(file, pre_buffer=True, page_checksum_verification=True))
            try:
                with self._files.open_input_stream(path) as stream:
                    data = stream.read()
            except FileNotFoundError:  # merged: its replies are in a newer file
                return None
            try:
                return parse(pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True))
            except _DAMAGE:
                self.report(name)
                return None

        return self._act("read", parsed)

    def _act(self, what: str, act: Callable[[], T]) -> T:
        """Returns what `act` returns. Retries if a bucket does not answer, which may be transient."""
        while True:
            try:
                done = act()
            except (OSError, pa.ArrowException) as error:
                said = self._system.said(error)
                is_final = self._system.is_final(error)
                if is_final or self._patience.is_over():
                    self._patience.give_up()
                    advice = self._system.advice(what)
                    told = f"the ledger {self.url} cannot be {what} ({said}): {advice}, then run the same command again"
                    kind = StorageError if is_final else LedgerUnavailableError
                    raise kind(told, detail=self._system.detail(error)) from None
                self._patience.wait(said)
            else:
                self._patience.answered()
                return done


def _group(file: pq.ParquetFile, number: int, columns: list[str] | None = None) -> pa.Table:
    """Reads a row group in this thread: a thread of pyarrow that frees Python's memory late aborts the program."""
    return file.read_row_group(number, columns, use_threads=False)
