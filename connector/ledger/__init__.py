"""Ledgers: every final reply, stored before its row is passed on. One module per kind of storage.

A ledger is at once the cache, the deduplication across runs, and what a run resumes from. `cache` decides which member
is used: a file is SQLite's and belongs to one run at a time; a database or a folder is shared by any number of runs.

Where a run's ledger is by default belongs in `run`, what a reply cost in `base`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from typing import Final, NamedTuple, Protocol, Self, cast

from connector.base.errors import ConfigError, StorageError
from connector.base.records import Reply
from connector.ledger._location import DATABASES, FOLDERS, Location, Url, location_of

__all__ = [
    "AT_ONCE",
    "COMMIT_SECONDS",
    "DATABASES",
    "FOLDERS",
    "JOB_GAP",
    "DamageError",
    "Entry",
    "Found",
    "Ledger",
    "Location",
    "Member",
    "Shared",
    "SharedText",
    "SharedTime",
    "Spending",
    "Stats",
    "Url",
    "keys_of",
    "load",
    "location_of",
    "opened",
    "replies_of",
    "require_format",
]


_EXTRAS: Final = {"postgres": "postgres", "directory": "remote"}
"""The extra that installs the libraries of a member."""


class Entry(NamedTuple):
    """A stored reply, its key, and when it was stored (epoch seconds)."""

    key: bytes
    reply: Reply
    stored_at: int


class Stats(NamedTuple):
    """What a ledger holds: its entries, also by HTTP status, its size, its oldest and newest entry (epoch seconds)."""

    entries: int
    bytes: int
    statuses: dict[int, int]
    oldest: int | None
    newest: int | None


class Found(NamedTuple):
    """What a ledger knows of some requests.

    Attributes:
        known: The stored replies, by key, each marked as `cached`.
        held: The keys whose calls another run has in flight. All other calls are now this run's to make.
        left: The keys to ask for again: nothing is known of them yet, because the replies to others are large.
    """

    known: dict[bytes, Reply]
    held: frozenset[bytes] = frozenset()
    left: frozenset[bytes] = frozenset()


class SharedTime(Protocol):
    """A timeline that runs share: seconds that one run has taken, no other gets. No method waits.

    Attributes:
        known: How many units a byte of a request takes, as a run reported last; `None` until one has.
    """

    known: float | None

    @property
    def is_asked(self) -> bool:
        """Whether seconds have been asked for but not given yet."""

    def ask(self, seconds: float) -> None:
        """Asks for the next `seconds` that no run has taken."""

    def given(self) -> list[tuple[float, float]]:
        """Returns the pieces given since the last call, each from when to when, in monotonic seconds."""


class SharedText(Protocol):
    """A text that runs change one after the other. No method waits."""

    def ask(self) -> None:
        """Asks for a change soon; one happens from time to time in any case."""


class Spending(Protocol):
    """What all runs of a job have spent together; a reply counts once, however many runs paid for it or found it."""

    @property
    def cost_usd(self) -> float:
        """USD, as far as is known here."""

    @property
    def tokens(self) -> int:
        """Tokens, as far as is known here."""

    def add(self, key: bytes, cost_usd: float, tokens: int) -> None:
        """Counts a reply. Other runs learn of it with this run's next `put` or `claim`."""


class Shared(Protocol):
    """What runs that share a ledger share besides replies."""

    def time(self, name: str) -> SharedTime:
        """Returns a timeline by its name."""

    def text(self, name: str, change: Callable[[str, float, bool], str]) -> SharedText:
        """Returns a text by its name, after this run has changed it for the first time.

        Args:
            change: Called with the text (empty at first), the time in seconds by a clock that all runs share, and
                whether the run is ending, so that this is its last change. Returns the new text. May be called from
                any thread.
        """

    def spending(self, job: str) -> Spending:
        """Returns what a job has spent: zero again after `JOB_GAP` seconds in which no run of it was alive."""


JOB_GAP: Final = 600.0
AT_ONCE: Final = 1 << 22
"""Bytes of replies, as they are stored, that are looked up together: decoded they are several times as large."""
COMMIT_SECONDS: Final = 0.05
"""For how long replies are collected before they are put: a kill may lose these, besides calls in flight."""


class DamageError(StorageError):
    """A damaged ledger, which a run sets aside."""


class Ledger(Protocol):
    """An open ledger; a context manager. All methods are called from one thread.

    Attributes:
        commit_seconds: For how long replies may be collected before they are put, since each put has a cost.
        was_set_aside: Where a damaged ledger was moved to, if there was one; this one is then new.
    """

    commit_seconds: float
    was_set_aside: Path | None

    @property
    def shared(self) -> Shared | None:
        """What the runs share besides replies; `None` if the ledger belongs to one run, or has no way to share."""

    @property
    def path(self) -> Location:
        """Where it is, for a person and for `set_aside`; `None` in memory. As text it holds no secret."""

    def get(self, keys: Sequence[bytes]) -> Found:
        """Returns the stored replies: up to `AT_ONCE` bytes of them, and the one that exceeds that.

        Raises:
            StorageError: The ledger cannot be read; a `DamageError` if it is damaged.
        """

    def claim(self, keys: Sequence[bytes], *, renew: bool = False) -> Found:
        """Looks up requests that this run is about to make, and claims those without a reply.

        With `renew` it also claims those that have a reply, to make them again. If another run has claimed such a
        request, it is both held and known.

        Keys that are left, as in `get`, are not claimed. A claim ends with the `put` of its reply, with `release` or
        `close`, or within seconds once its run is gone. Claiming again what this run has claimed already is not an
        error. Raises as `get` and `put` do.
        """

    def release(self, keys: Iterable[bytes]) -> None:
        """Gives up claims to requests that got no reply, so that another run may make them. Raises as `put`."""

    def put(self, replies: Iterable[tuple[bytes, Reply]]) -> None:
        """Stores replies durably: they survive the process once this returns. The last reply to a key counts.

        Raises:
            StorageError: They cannot be stored, so nothing more may be paid for.
        """

    def prove(self) -> None:
        """Finds out whether replies can be stored, before any is paid for. Raises as `put` does."""

    def has_replies(self) -> bool:
        """Returns whether there is a successful reply (status 2xx), fast for any number of them. Raises as `get`."""

    def entries(self) -> Iterator[Entry]:
        """Yields all entries in the order in which they were stored. Raises as `get` does."""

    def stats(self) -> Stats:
        """Returns how much the ledger holds, and from when. Raises as `get` does."""

    def prune(self, before: int | None = None, keys: Iterable[bytes] = ()) -> int:
        """Deletes entries and frees their space; returns how many were deleted.

        Args:
            before: Deletes what was stored before this epoch second.
            keys: Deletes what has one of these keys, whenever it was stored.

        Raises:
            StorageError: The ledger cannot be read or written.
        """

    def jobs(self) -> list[str]:
        """Returns the names under which `keep_job` has stored something, in their first order. Raises as `get`."""

    def job(self, name: str) -> bytes | None:
        """Returns what is stored under a name; `None` if nothing is. Raises as `get` does."""

    def keep_job(self, name: str, data: bytes) -> None:
        """Stores under a name the state of work that goes on elsewhere, such as a batch.

        It replaces what had the name, and survives the process once this returns. Raises as `put` does.
        """

    def forget_job(self, name: str) -> None:
        """Deletes what is stored under a name, if anything is. Raises as `put` does."""

    def rest(self) -> None:
        """Does housekeeping while the run has nothing else to do. Raises as `put` does."""

    def close(self) -> None:
        """Closes the ledger, so that the next run can open it."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Member(Protocol):
    """What a module of this package offers."""

    def opened(self, location: Location, waiting: Callable[[str], None]) -> Ledger:
        """Opens the ledger at a location, and creates it if need be; see `connector.ledger.opened`."""

    def set_aside(self, location: Path) -> Path:
        """Moves a damaged ledger, which must not be open, out of the way; returns its new place.

        Only members whose ledgers are files need this: no other raises `DamageError`.
        """


def load(location: Location) -> Member:
    """Returns the member for a location. Its libraries are imported only when it is used.

    Raises:
        ConfigError: A library that it needs is not installed.
    """
    name = "sqlite" if not isinstance(location, Url) else "postgres" if location.scheme in DATABASES else "directory"
    try:
        return cast("Member", import_module(f"{__name__}.{name}"))
    except ImportError as error:
        if error.name is None or error.name.startswith("connector"):
            raise
        install = f"pip install 'openai-compatible-connector[{_EXTRAS[name]}]'"
        raise ConfigError(f"cache: a ledger at {location} needs {error.name}: {install}") from None


def opened(location: Location, *, waiting: Callable[[str], None] = lambda _: None) -> Ledger:
    """Opens the ledger at a location. A damaged file is set aside and replaced by a new one.

    Args:
        location: What `cache` says; `None` keeps the replies in memory, for one run.
        waiting: Called before each retry, now or later, with what the ledger waits for: another run that has the file,
            or a database that does not answer. May raise to give up.

    Raises:
        ConfigError: A library is not installed, or a variable is not set.
        StorageError: It cannot be read or written, was written by a newer version, or is not a ledger.
    """
    member = load(location)
    try:
        return member.opened(location, waiting)
    except DamageError:
        if not isinstance(location, Path):
            raise
    aside = member.set_aside(location)
    ledger = member.opened(location, waiting)
    ledger.was_set_aside = aside
    return ledger


def require_format(location: Location, found: int, known: int) -> None:
    """Refuses a ledger whose format is newer than its member knows.

    Raises:
        StorageError: It is newer.
    """
    if found > known:
        raise StorageError(
            f"the ledger {location} was written by a newer version of this program (format {found}; this one knows "
            f"{known}): use that version, or name another ledger"
        )


def replies_of(ledger: Ledger, keys: Iterable[bytes]) -> Iterator[tuple[bytes, Reply]]:
    """Yields the replies that a ledger has to some requests, with their keys; a few of them at a time are in memory."""
    left = list(keys)
    while left:
        found = ledger.get(left)
        yield from found.known.items()
        left = [key for key in left if key in found.left]


def keys_of(endpoint: str) -> Callable[[bytes], bytes]:
    """Returns the function that makes a request's key from its body: 16 bytes of BLAKE2b, keyed by the endpoint."""
    seeded = blake2b(digest_size=16, key=blake2b(endpoint.encode(), digest_size=32).digest())

    def key_of(body: bytes) -> bytes:
        hasher = seeded.copy()
        hasher.update(body)
        return hasher.digest()

    return key_of
