"""The ledger in a folder or a bucket that any number of runs share: each writes files of its own, and reads all.

Runs cannot claim requests, so a call that two of them make at the same time is paid for twice. Each commit writes one
file; a run merges its own small ones as it goes, and `prune` merges all.
"""

from __future__ import annotations

import logging
import secrets
import sys
import time
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, Self
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc

from connector.base.errors import StorageError
from connector.base.records import Reply, is_ok
from connector.ledger import AT_ONCE, Entry, Found, Location, Stats, Url
from connector.ledger._directory_files import SUFFIX, Files, Keys, Row, grouped, weight_of
from connector.ledger._patience import Patience
from connector.ledger._reply_format import decoded, encoded

_JOB: Final = ".job"
_FIRST: Final = 8  # bytes at the start of a job's file: when it was first stored
_LOOK: Final = 20.0  # seconds between two looks for files of other runs
_MERGE: Final = 32  # small files of this run before they are merged
_SMALL: Final = 2**20  # bytes of replies in a small file, which has few
_FEW: Final = 10_000
_LARGE: Final = 2**26  # bytes of memory for the replies of one file while `prune` writes it
_READERS: Final = 8  # files read at the same time
_ROOM: Final = 2**24  # bytes of replies cached in memory, so that replies stored together are read once
_RECENT: Final = 2**16  # replies not sorted into the index yet, at most
_DIGITS: Final = 15  # of the milliseconds that the names of files begin with
_ROWS: Final = 20  # bits of a place that are its row
_LOG: Final = logging.getLogger(__name__)


class _Group(NamedTuple):
    """A row group of a file, the size of that file, and the memory that the group takes, in bytes."""

    name: str
    number: int
    size: int
    weight: int


class DirectoryLedger:
    """See `connector.ledger.Ledger`. It takes 16 bytes of memory per reply, and caches at most 16 MiB of replies.

    Args:
        url: The folder; it is created if need be.
        waiting: Called before each retry while a bucket does not answer; may raise to give up.
        now: The time, in epoch seconds.
        monotonic: Monotonic seconds.

    Raises:
        ConfigError: The URL is not one that the file systems know.
        StorageError: The folder cannot be read or created.
    """

    def __init__(
        self,
        url: Url,
        *,
        waiting: Callable[[str], None] = lambda _: None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path: Location = url
        self.was_set_aside = None
        self.shared = None
        self.commit_seconds = 1.0
        self._now = now
        self._monotonic = monotonic
        self._files = Files(url, Patience(url, waiting))
        self._is_proven = False  # whether it was found to be writable
        self._writer = secrets.token_hex(6)
        self._number = 0
        self._places = _Places()
        self._groups: list[_Group] = []
        self._latest = ""  # time of a file
        self._read: set[str] = set()
        self._small: set[str] = set()  # this run's own small files
        self._jobs: dict[str, bytes] = {}  # when each file's job was first stored: the files may be large
        self._cached: OrderedDict[int, tuple[list[Row], int]] = OrderedDict()
        self._room = _ROOM
        self._pool = ThreadPoolExecutor(_READERS, "ledger")
        self._looked = monotonic()
        self._files.make_folder()
        self._look()

    def get(self, keys: Sequence[bytes]) -> Found:
        """See `connector.ledger.Ledger.get`."""
        found, has_lost = self._found(keys)
        if has_lost:  # another run has merged its files meanwhile
            self._look()
            more, _ = self._found([key for key in keys if key not in found.known and key not in found.left])
            found = Found(found.known | more.known, left=found.left | more.left)
        return found

    def claim(self, keys: Sequence[bytes], *, renew: bool = False) -> Found:
        """See `connector.ledger.Ledger.claim`. Looks for new files of other runs every `_LOOK` seconds."""
        del renew
        if self._monotonic() - self._looked > _LOOK:
            self._look()
        found = self.get(keys)
        if not self._is_proven and len(found.known) + len(found.left) < len(set(keys)):
            self.prove()
        return found

    def release(self, keys: Iterable[bytes]) -> None:
        """See `connector.ledger.Ledger.release`."""

    def put(self, replies: Iterable[tuple[bytes, Reply]]) -> None:
        """See `connector.ledger.Ledger.put`. Writes one file."""
        now = int(self._now())
        rows = [(*encoded(key, reply), now) for key, reply in dict(replies).items()]
        if rows:
            self._write(rows)
            if len(self._small) >= _MERGE:
                self._merge(list(self._small))

    def prove(self) -> None:
        """See `connector.ledger.Ledger.prove`. A run that finds all its replies never needs the right to write."""
        self._files.prove()
        self._is_proven = True

    def has_replies(self) -> bool:
        """See `connector.ledger.Ledger.has_replies`."""
        return any(is_ok(row[1]) for _, row in self._rows())

    def entries(self) -> Iterator[Entry]:
        """See `connector.ledger.Ledger.entries`."""
        for name, row in self._rows():
            if (reply := self._decoded(name, row)) is not None:
                yield Entry(row[0], reply, row[6])

    def stats(self) -> Stats:
        """See `connector.ledger.Ledger.stats`."""
        statuses: dict[int, int] = {}
        times: list[int] = []
        first: dict[_Group, int] = {}  # of each file, its first row group
        for number, group in enumerate(self._groups):
            first.setdefault(group._replace(number=0, weight=0), number)
        for file, at in first.items():
            for number, heads in enumerate(self._files.heads(file.name, file.size) or (), at):
                for row, (key, status, stored_at) in enumerate(heads):
                    if self._places.of(key) == (number << _ROWS) + row:
                        statuses[status] = statuses.get(status, 0) + 1
                        times = [min([*times[:1], stored_at]), max([*times[1:], stored_at])]
        oldest, newest = times or (None, None)
        return Stats(sum(statuses.values()), sum(self._files.names().values()), statuses, oldest, newest)

    def prune(self, before: int | None = None, keys: Iterable[bytes] = ()) -> int:
        """See `connector.ledger.Ledger.prune`. The remaining replies are rewritten into a few large files."""
        self._look()
        gone, deleted = set(keys), 0
        old = [name for name in self._files.names() if name in self._read]  # another run may have written more since
        kept: list[Row] = []
        size, last = 0, ""
        for name, row in self._rows():
            if row[0] in gone or (before is not None and row[6] < before):
                deleted += 1
                continue
            kept.append(row)
            size, last = size + weight_of([row]), name
            if size >= _LARGE:
                self._write(kept, last, is_new=False)
                kept, size = [], 0
        if kept:
            self._write(kept, last, is_new=False)
        self._files.delete(old)
        self._begin_anew()
        return deleted

    def jobs(self) -> list[str]:
        """See `connector.ledger.Ledger.jobs`."""
        first: dict[str, bytes] = {}
        for file in self._files.names(_JOB):
            kept = self._jobs.get(file) or (self._files.read_bytes(file) or b"")[:_FIRST]
            if kept:  # else another run has deleted it meanwhile
                first[file] = kept
        self._jobs = first
        return [unquote(file.removesuffix(_JOB)) for file in sorted(first, key=first.__getitem__)]

    def job(self, name: str) -> bytes | None:
        """See `connector.ledger.Ledger.job`."""
        kept = self._files.read_bytes(quote(name, safe="") + _JOB)
        return None if kept is None else kept[_FIRST:]

    def keep_job(self, name: str, data: bytes) -> None:
        """See `connector.ledger.Ledger.keep_job`."""
        file = quote(name, safe="") + _JOB
        kept = self._files.read_bytes(file)
        first = time.time_ns().to_bytes(_FIRST) if kept is None else kept[:_FIRST]
        self._files.write_bytes(file, first + data)

    def forget_job(self, name: str) -> None:
        """See `connector.ledger.Ledger.forget_job`."""
        self._files.delete([quote(name, safe="") + _JOB])

    def rest(self) -> None:
        """See `connector.ledger.Ledger.rest`."""

    def close(self) -> None:
        """See `connector.ledger.Ledger.close`. Merges the small files of this run."""
        try:
            if len(self._small) > 1:
                self._merge(list(self._small))
        except StorageError:  # the replies are stored all the same
            _LOG.debug("the ledger's small files are left as they are")
        finally:
            self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin_anew(self) -> None:
        self._places, self._groups, self._latest, self._read, self._small = _Places(), [], "", set(), set()
        self._cached.clear()
        self._room = _ROOM
        self._look()

    def _look(self) -> None:
        """Reads the keys of new files; looks again if one was merged into another meanwhile."""
        self._looked = self._monotonic()
        is_whole = False
        while not is_whole:
            new = {name: size for name, size in self._files.names().items() if name not in self._read}
            is_whole = True
            for name, keys in zip(new, self._pool.map(self._files.keys, new, new.values()), strict=True):
                if keys is None:
                    is_whole = False
                    self._read.add(name)
                else:
                    self._add(name, keys)

    def _add(self, name: str, keys: Keys) -> int:
        """Adds a file to the index; returns the number of its first row group.

        A reply from a file of a later time wins, whichever file is found first.
        """
        first, time = len(self._groups), _time_of(name)

        def is_earlier(place: int) -> bool:
            return _time_of(self._groups[place >> _ROWS].name) <= time

        is_late = time < self._latest
        for number, (joined, weight) in enumerate(zip(keys.groups, keys.weights, strict=True)):
            self._places.add(joined, len(self._groups) << _ROWS, is_earlier if is_late else None)
            self._groups.append(_Group(name, number, keys.size, weight))
        self._latest = max(self._latest, time)
        self._read.add(name)
        return first

    def _write(self, rows: list[Row], after: str = "", *, is_new: bool = True) -> None:
        """Writes a file. Its name begins with a time, now or that of the file `after`; files count in this order.

        A file that replaces others has the time of the last of them, so that it wins over them in every run. A new one
        wins over all that this run has seen, even if their machines' clocks are ahead.
        """
        self._number += 1
        now = max(int(self._now() * 1000), int(self._latest or 0) + 1)
        at = _time_of(after) or f"{now:0{_DIGITS}d}"
        name = f"{at}-{self._writer}-{self._number:06d}{SUFFIX}"
        groups = grouped(rows)
        keys = self._files.write(name, groups)
        first = self._add(name, keys)
        if is_new:
            for number, group in enumerate(groups, first):
                self._keep(number, group)
            if sum(keys.weights) < _SMALL and len(rows) < _FEW:
                self._small.add(name)

    def _merge(self, names: list[str]) -> None:
        """Merges small files of this run. A run that looks for a reply in them meanwhile finds it in the new file.

        A reply that another run has replaced is left out, or it would come back with the time of the last file.
        """
        self._look()
        wanted = set(names)
        numbers = [number for number, group in enumerate(self._groups) if group.name in wanted]
        rows = [row for _, row in self._rows(numbers)]
        self._small.clear()
        if rows:
            self._write(rows, max(names))
        self._files.delete(names)

    def _found(self, keys: Sequence[bytes]) -> tuple[Found, bool]:
        """Returns the stored replies, and whether the file of any is gone."""
        at: dict[int, list[tuple[int, bytes]]] = {}
        for key in dict.fromkeys(keys):
            place = self._places.of(key)
            if place is not None:
                at.setdefault(place >> _ROWS, []).append((place & (1 << _ROWS) - 1, key))
        groups = self._read_together(at)
        known: dict[bytes, Reply] = {}
        left: set[bytes] = set()
        size, has_lost = 0, False
        for number, wanted in at.items():
            if number not in groups or size >= AT_ONCE:
                left.update(key for _, key in wanted)
                continue
            if (rows := groups[number]) is None:
                has_lost = True
                continue
            for row, key in wanted:
                if size >= AT_ONCE:
                    left.add(key)
                elif rows[row][0] == key and (reply := self._decoded(self._groups[number].name, rows[row])) is not None:
                    known[key] = reply
                    size += len(rows[row][2])
        return Found(known, left=frozenset(left)), has_lost

    def _decoded(self, name: str, row: Row) -> Reply | None:
        """Returns the reply in a row of a file; `None` if it cannot be decoded, which is logged."""
        try:
            return decoded(row)
        except ValueError:
            self._files.report(name)
            return None

    def _read_together(self, numbers: Iterable[int]) -> dict[int, list[Row] | None]:
        """Returns the rows of groups: of the first ones, as many as there is room for; `None` where the file is gone.

        Those that are not in memory are read at once, as a bucket takes long to answer.
        """
        chosen: list[int] = []
        weight = 0
        for number in numbers:
            if weight < _ROOM:
                chosen.append(number)
                weight += self._groups[number].weight
        missing = [self._groups[number] for number in chosen if number not in self._cached]
        read = self._pool.map(self._read_group, missing) if len(missing) > 1 else map(self._read_group, missing)
        fresh = dict(zip((number for number in chosen if number not in self._cached), list(read), strict=True))
        found = {number: fresh[number] if number in fresh else self._group(number) for number in chosen}
        for number, rows in fresh.items():
            if rows is not None:
                self._keep(number, rows)
        return found

    def _read_group(self, group: _Group) -> list[Row] | None:
        return self._files.rows(group.name, group.number, group.size)

    def _rows(self, numbers: Iterable[int] | None = None) -> Iterator[tuple[str, Row]]:
        """Yields the current rows of some groups or of all, in the order in which they were stored, with their file."""
        chosen = range(len(self._groups)) if numbers is None else numbers
        for number in sorted(chosen, key=lambda number: (self._groups[number].name, number)):
            for row, values in enumerate(self._group(number) or ()):
                if self._places.of(values[0]) == (number << _ROWS) + row:
                    yield self._groups[number].name, values

    def _group(self, number: int) -> list[Row] | None:
        """Returns the rows of a group, from the cache if they are in it."""
        if number in self._cached:
            self._cached.move_to_end(number)
            return self._cached[number][0]
        rows = self._read_group(self._groups[number])
        if rows is not None:
            self._keep(number, rows)
        return rows

    def _keep(self, number: int, rows: list[Row]) -> None:
        """Adds rows to the cache, and drops the least recently used ones."""
        size = weight_of(rows)
        self._cached[number] = rows, size
        self._room -= size
        while self._room < 0 and len(self._cached) > 1:
            self._room += self._cached.popitem(last=False)[1][1]


class _Places:
    """Where the last reply to each request is, by the first eight bytes of its key.

    Most are in two sorted arrays, which take 16 bytes per reply; recent ones are in a dict.
    """

    def __init__(self) -> None:
        self._marks = array("q")
        self._at = array("q")
        self._recent: dict[int, int] = {}

    def add(self, keys: bytes, first: int, replaces: Callable[[int], bool] | None = None) -> None:
        """Adds joined keys of 16 bytes each, whose replies are at `first` and the places after it.

        If a key is known already, `replaces` says whether to replace the place that it has; by default it is replaced.
        """
        marks = array("q", keys)[::2]
        places = zip(marks, range(first, first + len(marks)), strict=True)
        if replaces is None:
            self._recent.update(places)
        else:
            for mark, at in places:
                known = self._of(mark)
                if known is None or replaces(known):
                    self._recent[mark] = at
        if len(self._recent) >= _RECENT:
            self._settle()

    def of(self, key: bytes) -> int | None:
        """Returns where the reply may be: two keys may begin with the same eight bytes."""
        return self._of(int.from_bytes(key[:8], byteorder=sys.byteorder, signed=True))

    def _of(self, mark: int) -> int | None:
        place = self._recent.get(mark)
        if place is not None:
            return place
        after = bisect_right(self._marks, mark)
        return self._at[after - 1] if after and self._marks[after - 1] == mark else None

    def _settle(self) -> None:
        marks = pa.array([*self._recent], pa.int64())
        at = pa.array([*self._recent.values()], pa.int64())
        known = pa.table(
            {"mark": pa.chunked_array([_column(self._marks), marks]), "at": pa.chunked_array([_column(self._at), at])}
        )
        order = pc.sort_indices(known, sort_keys=[("mark", "ascending"), ("at", "ascending")])
        known = known.take(order).combine_chunks()
        self._marks, self._at = (_array(known[name].chunk(0)) for name in ("mark", "at"))
        self._recent.clear()


def _column(values: array[int]) -> pa.Array:
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])


def _array(values: pa.Array) -> array[int]:
    made = array("q")
    made.frombytes(values.buffers()[1].slice(values.offset * 8, len(values) * 8).to_pybytes())
    return made


def opened(location: Location, waiting: Callable[[str], None]) -> DirectoryLedger:
    """See `connector.ledger.Member`."""
    assert isinstance(location, Url)  # noqa: S101 - `connector.ledger.load` chooses
    return DirectoryLedger(location, waiting=waiting)


def _time_of(name: str) -> str:
    """Returns the time in the name of a file; an empty text, the earliest one, if another program has named it."""
    time = name[:_DIGITS]
    return time if time.isascii() and time.isdigit() else ""
