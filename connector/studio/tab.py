"""What one browser tab has chosen, and what its steps have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from nicegui import ui

from connector.base.errors import ConnectorError
from connector.base.terminal import printable
from connector.studio.draft import Draft
from connector.studio.session import Session


class Tab(ABC):
    """A browser tab, as its steps know it.

    Args:
        session: The work, which all tabs share.

    Attributes:
        draft: The variant that is shown.
        place: The row whose request is shown, by its place in the table's records.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.draft = session.drafts[0]
        self.place = 0
        self._rows = 20
        self._seed = 0

    @property
    def rows(self) -> int:
        """How many rows are tried."""
        return self._rows

    def choose_rows(self, rows: int, *, shuffle: bool = False) -> None:
        """Chooses the rows to try: this many, and other ones on request."""
        self._rows, self._seed = rows, self._seed + shuffle
        self.session.choose(rows, seed=self._seed, with_truth=True)

    def require_rows(self) -> None:
        """Chooses rows, unless that has been done."""
        if len(self.session.sample) != min(self._rows, len(self.session.table.records)):
            self.choose_rows(self._rows)

    def guarded(self, work: Callable[[], Any]) -> Any:
        """Does something and returns what it returns; `None` if it cannot be done, which is shown with the reason."""
        try:
            return work()
        except (ConnectorError, ValueError, OSError) as error:
            self.warn(str(error))
            return None

    def warn(self, text: str) -> None:
        """Shows an error for a few seconds."""
        ui.notify(printable(self.session.mask(text)), type="negative", multi_line=True, timeout=8000)

    def try_now(self) -> None:
        """Tries the variant that is shown."""
        self.go("Try")
        self.try_out([self.draft])

    def rename_apart(self) -> None:
        """Gives the output columns of the variant names that the table does not have."""
        self.draft.name_apart(self.session.table.names)
        self.reload()

    @abstractmethod
    def go(self, step: str) -> None:
        """Shows a step."""

    @abstractmethod
    def refresh(self) -> None:
        """Rebuilds what depends on the session: requests, estimates, results."""

    @abstractmethod
    def refresh_results(self) -> None:
        """Rebuilds estimates and results alone: other rows are tried."""

    @abstractmethod
    def reload(self) -> None:
        """Fills the form from the draft, and refreshes the rest."""

    @abstractmethod
    def show_row(self, place: int) -> None:
        """Shows the request of a row."""

    @abstractmethod
    def refresh_variants(self) -> None:
        """Rebuilds the list of variants: one has another name."""

    @abstractmethod
    def add_variant(self) -> None:
        """Adds a copy of the variant that is shown, and shows it."""

    @abstractmethod
    def set_truth(self, column: str) -> None:
        """Names the column that has the right answers."""

    @abstractmethod
    def try_out(self, drafts: Sequence[Draft]) -> None:
        """Calls the endpoint for the chosen rows with these variants."""


class Step(ABC):
    """One step of the work, which is one panel of the page."""

    NAME: ClassVar[str]

    def __init__(self, tab: Tab) -> None:
        self._tab = tab
        self._session = tab.session

    @abstractmethod
    def build(self) -> None:
        """Makes the panel."""

    @abstractmethod
    def refresh(self) -> None:
        """Rebuilds what depends on the session."""
