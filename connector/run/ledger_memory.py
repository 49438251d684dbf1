"""A ledger that also knows what earlier ledgers hold: those of previews, and of the same table in another format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Final, NamedTuple, Protocol, Self

from connector.base import numbers
from connector.base.errors import ConnectorError
from connector.base.records import Reply
from connector.base.vectors import opened
from connector.ledger import Entry, Found, Ledger, Stats

_SMALL: Final = 5_000
"""Replies of a ledger that is read whole, so that it is free again at once. A larger one is held while it helps."""

_ROOM: Final = 2**24  # bytes of JSON that they have together, at most


class Earlier(NamedTuple):
    """A ledger that may have replies to this run's requests.

    `why` says whose it is, where people would expect them there: they are then warned if it has none.
    """

    path: Path
    why: str = ""


class _Replies(Protocol):
    def get(self, keys: Sequence[bytes]) -> Found: ...


class Remembering:
    """See `connector.ledger.Ledger`. What the run's own ledger lacks is looked for in the earlier ones, and kept.

    They are opened when the first reply is lacking, so that a run whose replies are all known has nothing to do.

    Args:
        own: The run's ledger. Everything is written to it.
        earlier: The ledgers to look into, in this order.
        opening: Opens one that exists. Raises `ConnectorError` where it is in use, damaged, or none.
        notify: Called once with which ledgers helped, and why others did not.
        is_kept: Whether what is found goes into the run's own ledger.
    """

    def __init__(
        self,
        own: Ledger,
        earlier: Sequence[Earlier],
        opening: Callable[[Path], AbstractContextManager[Ledger]],
        notify: Callable[[str], None],
        *,
        is_kept: bool = True,
    ) -> None:
        self.path = own.path
        self.was_set_aside = own.was_set_aside
        self.shared = own.shared
        self.commit_seconds = own.commit_seconds
        self._own = own
        self._earlier = earlier
        self._opening = opening
        self._notify = notify
        self._is_kept = is_kept
        self._stack = ExitStack()
        self._helping: list[_Replies] | None = None

    def get(self, keys: Sequence[bytes]) -> Found:
        """See `connector.ledger.Ledger.get`."""
        return self._with_more(keys, self._own.get(keys))

    def claim(self, keys: Sequence[bytes], *, renew: bool = False) -> Found:
        """See `connector.ledger.Ledger.claim`."""
        return self._with_more(keys, self._own.claim(keys, renew=renew))

    def release(self, keys: Iterable[bytes]) -> None:
        """See `connector.ledger.Ledger.release`."""
        self._own.release(keys)

    def _with_more(self, keys: Sequence[bytes], own: Found) -> Found:
        """Adds what earlier ledgers have of what the run's own lacks."""
        known, held, left = own
        missing = [key for key in keys if key not in known and key not in held and key not in left]
        if missing and self._helping is None:
            self._helping = self._chosen(missing)
        for each in self._helping or () if missing else ():
            more = _asked(each, missing)
            if more.known and self._is_kept:
                self._own.put(more.known.items())
            known = known | more.known
            missing = [key for key in missing if key not in more.known]
            if more.left:
                return Found(known, held, left.union(missing))
        return Found(known, held, left)

    def put(self, replies: Iterable[tuple[bytes, Reply]]) -> None:
        """See `connector.ledger.Ledger.put`."""
        self._own.put(replies)

    def prove(self) -> None:
        """See `connector.ledger.Ledger.prove`."""
        self._own.prove()

    def has_replies(self) -> bool:
        """See `connector.ledger.Ledger.has_replies`."""
        return self._own.has_replies()

    def entries(self) -> Iterator[Entry]:
        """See `connector.ledger.Ledger.entries`."""
        return self._own.entries()

    def stats(self) -> Stats:
        """See `connector.ledger.Ledger.stats`."""
        return self._own.stats()

    def prune(self, before: int | None = None, keys: Iterable[bytes] = ()) -> int:
        """See `connector.ledger.Ledger.prune`."""
        return self._own.prune(before, keys)

    def jobs(self) -> list[str]:
        """See `connector.ledger.Ledger.jobs`."""
        return self._own.jobs()

    def job(self, name: str) -> bytes | None:
        """See `connector.ledger.Ledger.job`."""
        return self._own.job(name)

    def keep_job(self, name: str, data: bytes) -> None:
        """See `connector.ledger.Ledger.keep_job`."""
        self._own.keep_job(name, data)

    def forget_job(self, name: str) -> None:
        """See `connector.ledger.Ledger.forget_job`."""
        self._own.forget_job(name)

    def rest(self) -> None:
        """See `connector.ledger.Ledger.rest`."""
        self._own.rest()

    def close(self) -> None:
        """Closes the run's ledger, and those that it looked into."""
        self._stack.close()
        self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _chosen(self, missing: Sequence[bytes]) -> list[_Replies]:
        """Returns the ledgers that help: small ones, read whole, and those that have one of these replies."""
        chosen: list[_Replies] = []
        for each in self._earlier:
            with ExitStack() as opened:
                try:
                    ledger = opened.enter_context(self._opening(each.path))
                    has_some = bool(ledger.get(missing).known)
                    whole = _whole(ledger)
                except ConnectorError as error:
                    if each.why:
                        self._notify(f"{error.message}: if it has any of these replies, they are paid for again")
                    continue
                if has_some:
                    self._notify(f"replies to these requests are in {each.path}: they are not paid for again")
                elif each.why:
                    self._notify(
                        f"{each.path}, {each.why}, has no reply to these requests: prompt, model, parameters, "
                        "columns or the endpoint's URL (see endpoint_id) differ"
                    )
                if whole is not None:
                    chosen.append(whole)
                elif has_some:
                    chosen.append(ledger)
                    self._stack.enter_context(opened.pop_all())
        return chosen


class _Whole:
    """The replies of a small ledger, in memory."""

    def __init__(self, replies: Mapping[bytes, Reply]) -> None:
        self._replies = replies

    def get(self, keys: Sequence[bytes]) -> Found:
        return Found({key: self._replies[key] for key in keys if key in self._replies})


def _whole(ledger: Ledger) -> _Whole | None:
    """Returns the replies of a ledger, if they are few and take little memory: one alone may have 16 MiB."""
    replies: dict[bytes, Reply] = {}
    room = _ROOM
    for entry in ledger.entries():
        room -= len(numbers.dumps(opened(entry.reply.body)))
        if room < 0 or len(replies) == _SMALL:
            return None
        replies[entry.key] = entry.reply
    return _Whole(replies)


def _asked(ledger: _Replies, keys: Sequence[bytes]) -> Found:
    """Returns what a ledger has; one that cannot be read has nothing: it is not this run's to mend."""
    try:
        return ledger.get(keys)
    except ConnectorError:
        return Found({})
