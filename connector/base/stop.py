"""`Stop`: a request to end a run early, and its reason."""

from __future__ import annotations

from collections.abc import Callable


class Stop:
    """A request that a run ends: what is in flight is finished, nothing new begins.

    Args:
        outer: Another stop whose request counts here too; a request made here does not count there.

    Attributes:
        ending: Says, for people, what a run still does once it is asked to end; whatever runs sets it.
        leaving: Says what a run leaves behind that ends at once; empty where that is nothing.
    """

    def __init__(self, outer: Stop | None = None) -> None:
        self.ending: Callable[[], str] = lambda: "stopping"
        self.leaving: Callable[[], str] = lambda: ""
        self._outer = outer
        self._reason: BaseException | None = None

    @property
    def reason(self) -> BaseException | None:
        """What the run ends with; `None` while nobody has asked."""
        return self._reason or (self._outer.reason if self._outer else None)

    def request(self, reason: BaseException) -> None:
        """Asks the run to end; the first reason counts."""
        self._reason = self._reason or reason
