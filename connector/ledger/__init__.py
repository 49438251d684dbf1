"""The ledgers: every final reply, stored before its row is handed on. One module is one kind of storage.

A ledger is at once the cache, the deduplication across runs and the resume. Which member opens is decided by what
`cache` says: a file is SQLite's and belongs to one run at a time, a database or a folder is shared by any number.

Where the ledger of a run is by default belongs in `run`, what a reply cost in `base`.
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
    "require_format",
]


_EXTRAS: Final = {"postgres": "postgres", "directory": "remote"}
"""The extra that installs what a member needs."""


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


class Found(NamedTuple):
    """What a ledger knows of some requests.

    Attributes:
        known: The replies, by key, each marked as `cached`.
        held: The keys whose calls another run has in flight. All others are now this run's to make.
    """

    known: dict[bytes, Reply]
    held: frozenset[bytes] = frozenset()


class SharedTime(Protocol):
    """A timeline that runs share: what one of them has taken, no other has. Nothing of it waits.

    Attributes:
        known: How many units a byte of a request takes, as any run has told last; `None` while none has.
    """

    known: float | None

    @property
    def is_asked(self) -> bool:
        """Whether what was asked for has not been given yet."""

    def ask(self, seconds: float) -> None:
        """Asks for the next seconds that nobody has."""

    def given(self) -> list[tuple[float, float]]:
        """Returns the pieces that have been given since it was called last: from when to when, in monotonic seconds."""


class SharedText(Protocol):
    """A text that runs change one after the other. Nothing of it waits."""

    def ask(self) -> None:
        """Asks for a change soon; there is one now and then anyhow."""


class Spending(Protocol):
    """What all runs of a job have spent together; a reply counts once, whichever run paid for it or found it again."""

    @property
    def cost_usd(self) -> float:
        """USD, as far as is known here."""

    @property
    def tokens(self) -> int:
        """Tokens, as far as is known here."""

    def add(self, key: bytes, cost_usd: float, tokens: int) -> None:
        """Counts a reply. The other runs learn of it with what is put or claimed next."""


class Shared(Protocol):
    """What runs that share a ledger have together besides replies."""

    def time(self, name: str) -> SharedTime:
        """Returns a timeline by its name."""

    def text(self, name: str, change: Callable[[str, float, bool], str]) -> SharedText:
        """Returns a text by its name, once it was changed for the first time.

        Args:
            change: Is given the text, empty where there is none, the time in seconds, by a clock that all runs see, and
                whether this is the last time, since the run ends. Returns the new one. Called from any thread.
        """

    def spending(self, job: str) -> Spending:
        """Returns what a job has spent; it starts again from zero if no run of it was alive for `JOB_GAP` seconds."""


JOB_GAP: Final = 600.0
COMMIT_SECONDS: Final = 0.05
"""After which replies are put: what a kill may cost besides calls in flight."""


class DamageError(StorageError):
    """What the ledger holds is damaged, so a run sets it aside."""


class Ledger(Protocol):
    """An open ledger; a context manager. All methods are called from one thread.

    Attributes:
        commit_seconds: For how long replies may be collected before they are put, since a put has its price.
        was_set_aside: Where a damaged ledger was moved to, if there was one; this one is then a new one.
    """

    commit_seconds: float
    was_set_aside: Path | None

    @property
    def shared(self) -> Shared | None:
        """What the runs have together; `None` where the ledger belongs to one, or they cannot."""

    @property
    def path(self) -> Location:
        """Where it is, for a person and for `set_aside`; `None` in memory. As text it holds no secret."""

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Reply]:
        """Returns the replies that are known, by key; each is marked as `cached`.

        Raises:
            StorageError: The ledger cannot be read; a `DamageError` where it is damaged.
        """

    def claim(self, keys: Sequence[bytes], *, anew: bool = False) -> Found:
        """Looks up requests that this run is about to make, and claims those that nobody has a reply to.

        With `anew` it also claims those that have a reply, in order to make them again. While another run has claimed
        them so, they are held, and their replies known.

        A claim ends with the reply that is put, with `release` or `close`, or within seconds once its run is gone. To
        claim again what this run has claimed already is no error. Raises as `get` and `put` do.
        """

    def release(self, keys: Iterable[bytes]) -> None:
        """Gives up claims to requests that came to no reply, so that another run may make them. Raises as `put`."""

    def put(self, replies: Iterable[tuple[bytes, Reply]]) -> None:
        """Stores replies; when it returns, they survive the end of the process. The last reply to a key counts.

        Raises:
            StorageError: They cannot be stored, so nothing more may be paid for.
        """

    def prove(self) -> None:
        """Finds out whether replies can be stored, before any is paid for. Raises as `put` does."""

    def has_replies(self) -> bool:
        """Whether there is any reply but refusals: soon answered, however many there are. Raises as `get` does."""

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

    def jobs(self) -> list[str]:
        """Returns the names of what was kept with `keep_job`, in the order of its first keeping. Raises as `get`."""

    def job(self, name: str) -> bytes | None:
        """Returns what was kept under a name; `None` where nothing is. Raises as `get` does."""

    def keep_job(self, name: str, data: bytes) -> None:
        """Keeps the state of work that goes on elsewhere, such as a batch, under a name.

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

    def opened(self, location: Location, waiting: Callable[[str], None]) -> Ledger:
        """Opens the ledger at a location, which is made where it does not exist; see `connector.ledger.opened`."""

    def set_aside(self, location: Path) -> Path:
        """Moves a damaged ledger, which is not open, out of the way. Returns where it is kept.

        Only a member whose ledgers are files needs it: no other raises `DamageError`.
        """


def load(location: Location) -> Member:
    """Returns the member for a location, so that what only it needs is imported only where it is used.

    Raises:
        ConfigError: A library that only it needs is not installed.
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
    """Opens the ledger at a location. A damaged file is set aside, and a new one takes its place.

    Args:
        location: What `cache` says; `None` keeps the replies in memory, for one run.
        waiting: Called before each further try with what the ledger waits for: another run that has the file, or a
            database that does not answer, also later on; raises to give up.

    Raises:
        ConfigError: A library is not installed, or a variable is not set.
        StorageError: It cannot be read or written, comes from a newer version, or is something else.
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
    """Leaves a ledger alone whose format is newer than what its member knows.

    Raises:
        StorageError: It is.
    """
    if found > known:
        raise StorageError(
            f"the ledger {location} was written by a newer version of this program (format {found}; this one knows "
            f"{known}): use that version, or name another ledger"
        )


def keys_of(endpoint: str) -> Callable[[bytes], bytes]:
    """Returns what makes the keys of requests to an endpoint: 16 bytes of BLAKE2b, keyed by its URL, over the body."""
    seeded = blake2b(digest_size=16, key=blake2b(endpoint.encode(), digest_size=32).digest())

    def key_of(body: bytes) -> bytes:
        hasher = seeded.copy()
        hasher.update(body)
        return hasher.digest()

    return key_of
