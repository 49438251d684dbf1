"""Adds rows to a file: it is rewritten, the new rows after the old ones, and replaced as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from connector.base.errors import ConfigError
from connector.base.records import JSON, Record
from connector.stores import Sink
from connector.stores.columnar.snapshot import Snapshot, opened
from connector.stores.columnar.writer import ColumnarWriter
from connector.stores.formats import File, FileInput, FileOutput


class Addition:
    """A `Sink` whose rows follow those of the file `place`, or replace those with the same `key`.

    `addition` writes the new rows to a separate file, `new`, of the same format. With a key, the last of all rows with
    the same one is kept; rows with a null in their key are all kept.
    """

    def __init__(self, addition: Sink, new: File, place: File, key: Sequence[str], mode: int) -> None:
        self._addition = addition
        self._new = new
        self._place = place
        self._key = key
        self._mode = mode

    def write(self, record: Record, added: Mapping[str, JSON] | None) -> None:
        """See `Sink.write`."""
        self._addition.write(record, added)

    def flush(self) -> None:
        """Does nothing: the file appears as a whole, at `commit`."""

    def commit(self) -> None:
        """See `Sink.commit`."""
        self._addition.commit()
        files = [*([self._place] if self._place.path.exists() else []), self._new]
        directory = self._new.path.parent / "merged"
        directory.mkdir()
        place = self._place.path
        with (
            opened(FileInput(place.name, files, directory)) as snapshot,
            self._place.format.sink(FileOutput(self._place, directory, place, mode=self._mode), {}, snapshot) as merged,
        ):
            replaced = _replaced(snapshot, self._key, place)
            for record in _records(snapshot, merged):
                merged.write(record, None if record.index in replaced else {})
            merged.commit()


def _records(snapshot: Snapshot, output: Sink) -> Iterator[Record]:
    """Yields the rows; without their columns if the output copies those from the snapshot itself."""
    if isinstance(output, ColumnarWriter):
        yield from (Record(index, {}) for index in range(snapshot.rows))
    else:
        yield from (item for item in snapshot.read() if isinstance(item, Record))


def _replaced(snapshot: Snapshot, key: Sequence[str], path: Path) -> set[int]:
    """Returns the indexes of the rows that a later row with the same key replaces."""
    cells = {field.name: field.exact for field in snapshot.fields}
    if missing := [name for name in key if name not in cells]:
        raise ConfigError(
            f'{path}: there is no column "{missing[0]}", which the primary key names: '
            "name columns of the stream as its primary key"
        )
    if not key or not snapshot.rows:
        return set()
    same = ", ".join(cells[name] for name in key)
    whole = " AND ".join(f"{cells[name]} IS NOT NULL" for name in key)
    rows = snapshot.database.run(
        f"FROM input SELECT rowid WHERE {whole} QUALIFY row_number() OVER (PARTITION BY {same} ORDER BY rowid DESC) > 1"
    )
    return {row for (row,) in rows}
