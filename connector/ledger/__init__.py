"""The ledgers: every final reply, stored before its row is handed on. One module is one kind of storage.

A ledger is at once the cache, the deduplication across runs and the resume. Which member opens is decided by what
`cache` says; so far there is one, a SQLite file.

Where the ledger of a run is by default belongs in `run`, what a reply cost in `base`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol, Self, cast

from connector.base.errors import StorageError
from connector.base.records import Reply


class Entry(NamedTuple):
    """A stored reply, its key, and when it was stored (epoch seconds)."""

    key: bytes
    reply: Reply
    stored_at: int


class Stats(NamedTuple):
    """What a ledger holds: entries, by HTTP status too, its size, and its oldest and newest entry (epoch seconds)."""

    entries: int
    bytes: int
    statuses: dict[int, int]
    oldest: int | None
    newest: int | None


class DamageError(StorageError):
    """What the ledger holds is damaged, so a run sets it aside."""


class Ledger(Protocol):
    """An open ledger; a context manager. All methods are called from one thread.

    Attributes:
        path: Where it is, for a person and for `set_aside`; `None` in memory.
        was_set_aside: Where a damaged ledger was moved to, if there was one; this one then begins anew.
    """

    path: Path | None
    was_set_aside: Path | None

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Reply]:
        """Returns the replies that are known, by key; each is marked as `cached`.

        Raises:
            StorageError: The ledger cannot be read; a `DamageError` where it is damaged.
        """

    def put(self, replies: Iterable[tuple[bytes, Reply]]) -> None:
        """Stores replies; when it returns, they survive the end of the process. The last reply to a key counts.

        Raises:
            StorageError: They cannot be stored, so nothing more may be paid for.
        """

    def entries(self) -> Iterator[Entry]:
        """Yields all entries, in the order in which they were stored. Raises as `get` does."""

    def stats(self) -> Stats:
        """Returns how much there is, and from when. Raises as `get` does."""

    def prune(self, before: int | None = None, keys: Iterable[bytes] = ()) -> int:
        """Deletes entries, gives their space back, and returns how many there were.

        Args:
            before: Deletes what was stored before this epoch second.
            keys: Deletes what has one of these keys, whenever it was stored.

        Raises:
            StorageError: The ledger cannot be read or written.
        """

    def jobs(self) -> dict[str, bytes]:
        """Returns what was kept with `keep_job`, by name, in the order of its first keeping. Raises as `get` does."""

    def keep_job(self, name: str, data: bytes) -> None:
        """Keeps what is to be known of work that goes on elsewhere, such as a batch, under a name.

        It replaces what has the name; when it returns, it survives the end of the process. Raises as `put` does.
        """

    def forget_job(self, name: str) -> None:
        """Forgets what was kept under a name, if anything was. Raises as `put` does."""

    def rest(self) -> None:
        """Does housekeeping while the run has nothing else to do. Raises as `put` does."""

    def close(self) -> None:
        """Closes the ledger and lets the next run have it."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Member(Protocol):
    """What a module of this package consists of."""

    def opened(self, location: Path | None, waiting: Callable[[], None]) -> Ledger:
        """Opens the ledger at a location, which is made where it does not exist; see `connector.ledger.opened`."""

    def set_aside(self, location: Path) -> Path:
        """Moves a damaged ledger, which is not open, out of the way. Returns where it is kept."""


def load(location: Path | None) -> Member:
    """Returns the member for a location, so that what only it needs is imported only where it is used."""
    del location  # every location is a path, or in memory: both are SQLite's
    return cast("Member", import_module(f"{__name__}.sqlite"))


def opened(location: Path | None, *, waiting: Callable[[], None] = lambda: None) -> Ledger:
    """Opens the ledger at a location. A damaged one is set aside, and a new one takes its place.

    Args:
        location: What `cache` says; `None` keeps the replies in memory, for one run.
        waiting: Called whenever another run is found to have the ledger, before looking again; raises to refuse.

    Raises:
        StorageError: It cannot be written, comes from a newer version, or is something else.
    """
    member = load(location)
    try:
        return member.opened(location, waiting)
    except DamageError:
        if location is None:
            raise
    aside = member.set_aside(location)
    ledger = member.opened(location, waiting)
    ledger.was_set_aside = aside
    return ledger


def keys_of(endpoint: str) -> Callable[[bytes], bytes]:
    """Returns what makes the keys of requests to an endpoint: 16 bytes of BLAKE2b, keyed by its URL, over the body."""
    seeded = blake2b(digest_size=16, key=blake2b(endpoint.encode(), digest_size=32).digest())

    def key_of(body: bytes) -> bytes:
        hasher = seeded.copy()
        hasher.update(body)
        return hasher.digest()

    return key_of
