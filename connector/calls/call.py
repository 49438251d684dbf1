"""`Call`: a request to make, with the rows that wait for its reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from connector.base.errors import ConnectorError
from connector.base.records import Record, Reply
from connector.calls.limits import Ticket

_NOT_STARTED: Final = Ticket()


class Call:
    """A request to make, and every record that waits for its reply.

    Attributes:
        parts: The calls of rows that share this one; it then has no key and no records of its own.
        revisions: The names of the changes to the request since the first attempt, so that none is tried twice.
        helpless: The revisions that did not help: the request was refused again in the same way.
        is_doubtful: Whether a fallback was applied on suspicion, since the endpoint failed without a reason.
        is_untried: Whether its current form has not failed yet.
        paid: Replies, or shares of one, that were paid for but did not answer the row.
        attempts: Its own attempts.
        other_attempts: Other attempts for its rows: by calls that they shared before, and requests that were sent again
            at once because a keep-alive connection had died.
        error: Its last error.
        first_started: When the first attempt for its rows began, in monotonic seconds.
        origins: The places at which it has waited for answers that came; see `InFlight.park`.
        started: When the current attempt began, by the same clock; `None` before a worker has begun it.
    """

    __slots__ = (
        "attempts",
        "body",
        "error",
        "first_started",
        "helpless",
        "is_doubtful",
        "is_untried",
        "key",
        "origins",
        "other_attempts",
        "paid",
        "parts",
        "records",
        "revisions",
        "started",
        "ticket",
    )

    def __init__(self, key: bytes, body: bytes, records: list[Record], parts: Sequence[Call] = ()) -> None:
        self.key = key
        self.body = body
        self.records = records
        self.parts = parts
        self.revisions: tuple[str, ...] = ()
        self.helpless: tuple[str, ...] = ()
        self.error: ConnectorError | None = None
        self.is_doubtful = False
        self.is_untried = True
        self.paid: tuple[Reply, ...] = ()
        self.attempts = 0
        self.other_attempts = 0
        self.first_started = 0.0
        self.started: float | None = None
        self.ticket = _NOT_STARTED
        self.origins: tuple[int, ...] = ()

    def revise(self, name: str, body: bytes) -> Call:
        """Changes the request to `body`, records the change as `name`, and returns the call."""
        self.revisions = (*self.revisions, name)
        self.body = body
        self.is_untried = True
        return self

    def split_from(self, shared: Call) -> None:
        """Separates the call from the one that its rows shared, whose attempts count for them."""
        self.other_attempts, self.first_started = shared.total_attempts, shared.first_started

    @property
    def total_attempts(self) -> int:
        """All attempts made for its rows."""
        return self.other_attempts + self.attempts
