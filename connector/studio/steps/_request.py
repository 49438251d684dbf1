"""The request that a variant makes of one row, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from nicegui import ui

from connector.base.errors import Problem
from connector.studio.elements import Tag, box, button, values_of
from connector.studio.tab import Tab

_PROBLEMS: Final = 6  # that are shown at once


class RequestView:
    """See the module.

    Attributes:
        problems: What is wrong with the variant, whatever the row.
    """

    def __init__(self, tab: Tab) -> None:
        self._tab = tab
        self._session = tab.session
        self.problems: Sequence[Problem] = ()

    def refresh(self) -> None:
        """Shows the request as it is now."""
        self._request.refresh()

    def build(self) -> None:
        """Makes the card."""
        with box("card stack"):
            with box("flow"):
                Tag("h2", "Request")
                box("grow")
                before, after = (
                    button(icon=f"chevron_{side}", on_click=partial(self._step, by)).props("flat dense round size=sm")
                    for side, by in (("left", -1), ("right", 1))
                )
                before.props('aria-label="Row before"')
                self._number = Tag("span", "", "num").props("role=status")
                after.props('aria-label="Next row"').move(target_index=-1)
            self._request()
            with box("flow end"):
                button("Try it  (Ctrl + Enter)", on_click=self._tab.try_now)

    @ui.refreshable_method
    def _request(self) -> None:
        records = self._session.table.records
        if not records:
            Tag("p", "The table has no rows.", "muted")
            return
        record = records[min(self._tab.place, len(records) - 1)]
        self._number.set_text(f"row {record.index + 1:,}")
        rendered = self._session.rendered(self._tab.draft, record)
        taken = self._session.taken(self._tab.draft)
        if taken:
            with box("note bad stack tight").props("role=alert"):
                Tag(
                    "span",
                    f"The table already has a column {taken[0]}. Does it hold the right answers, or is it "
                    "something else?",
                )
                with box("flow"):
                    button("The right answers", on_click=partial(self._tab.set_truth, taken[0])).props(
                        "flat dense size=sm"
                    )
                    button("Rename the answers", on_click=self._tab.rename_apart).props("flat dense size=sm")
        else:
            self._notes([*rendered.problems, *self.problems])
        if rendered.text:
            Tag("pre", rendered.text, "code mono").props('tabindex=0 aria-label="The request of this row"')
        with ui.expansion("The row").props("dense"):
            values_of(self._session.seen(record).data)

    def _notes(self, problems: Sequence[Problem]) -> None:
        for each in list(dict.fromkeys(problems))[:_PROBLEMS]:
            where = {"output_schema": "columns", "response_format": "columns"}.get(each.path, each.path)
            text = f"{where}: {each.message}" if where not in ("", "rows") else each.message
            Tag("div", self._session.mask(text), "note" if where == "rows" else "note bad").props("role=alert")

    def _step(self, by: int) -> None:
        self._tab.place = max(0, min(self._tab.place + by, len(self._session.table.records) - 1))
        self.refresh()
