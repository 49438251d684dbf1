"""A file that rows are added to: it is written anew with the new rows behind the old, and changes at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from connector.base.errors import ConfigError
from connector.base.records import JSON, Record
from connector.stores import Sink
from connector.stores._formats import File, Output
from connector.stores._snapshot import Snapshot, opened
from connector.stores._writers import writer


class Addition:
    """A `Sink` whose rows come behind those that the file `place` has, or take the place of those of the same `key`.

    `table` writes the new rows into a file of their own, `part`, of the same format. With a key, of the rows that have
    the same one the last counts; rows without one are all kept.
    """

    def __init__(self, table: Sink, part: File, place: File, key: Sequence[str]) -> None:
        self._table = table
        self._part = part
        self._place = place
        self._key = key

    def write(self, record: Record, added: Mapping[str, JSON] | None) -> None:
        """As `Sink.write` says."""
        self._table.write(record, added)

    def flush(self) -> None:
        """Nothing to hand on: rows are in the file together or not at all."""

    def commit(self) -> None:
        """As `Sink.commit` says."""
        self._table.commit()
        files = [*([self._place] if self._place.path.exists() else []), self._part]
        directory = self._part.path.parent / "merged"
        directory.mkdir()
        with (
            opened(self._place.path.name, files, directory) as snapshot,
            writer(Output(self._place, directory, self._place.path), {}, snapshot) as table,
        ):
            replaced = _replaced(snapshot, self._key, self._place.path)
            for record in _records(snapshot, self._place):
                table.write(record, None if record.index in replaced else {})
            table.commit()


def _records(snapshot: Snapshot, place: File) -> Iterator[Record]:
    """The rows, without their columns where these go from the snapshot to the file without a detour."""
    if place.format == "jsonl":
        yield from (item for item in snapshot.read() if isinstance(item, Record))
    else:
        yield from (Record(index, {}) for index in range(snapshot.rows))


def _replaced(snapshot: Snapshot, key: Sequence[str], path: Path) -> set[int]:
    """The rows behind which another one of the same key comes."""
    cells = {field.name: field.exact for field in snapshot.fields}
    if missing := [name for name in key if name not in cells]:
        raise ConfigError(f"{path}: there is no column {missing[0]!r}, which the primary key names.")
    if not key or not snapshot.rows:
        return set()
    same = ", ".join(cells[name] for name in key)
    whole = " AND ".join(f"{cells[name]} IS NOT NULL" for name in key)
    rows = snapshot.database.run(
        f"FROM input SELECT rowid WHERE {whole} QUALIFY row_number() OVER (PARTITION BY {same} ORDER BY rowid DESC) > 1"
    )
    return {row for (row,) in rows}
