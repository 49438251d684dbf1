"""`Stop`: a request to end a run early, and its reason."""

from __future__ import annotations

from collections.abc import Callable


class Stop:
    """A request that a run ends: calls in flight finish, and nothing new begins.

    Args:
        outer: Another stop, whose request also counts here; a request made here does not count there.

    Attributes:
        ending: Returns, for people, what a run that was asked to end is still doing; set by the run.
        leaving: Returns what a run that ends at once leaves behind; empty if nothing.
    """

    def __init__(self, outer: Stop | None = None) -> None:
        self.ending: Callable[[], str] = lambda: "stopping"
        self.leaving: Callable[[], str] = lambda: ""
        self._outer = outer
        self._reason: BaseException | None = None

    @property
    def reason(self) -> BaseException | None:
        """The reason for which the run ends; `None` if nobody has asked."""
        return self._reason or (self._outer.reason if self._outer else None)

    def request(self, reason: BaseException) -> None:
        """Asks the run to end. Only the first reason counts."""
        self._reason = self._reason or reason
