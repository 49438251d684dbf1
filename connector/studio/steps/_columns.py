"""The form for the columns that the model fills: their names, their types and allowed values."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from nicegui import ui

from connector.studio.draft import TYPES, OutputColumn
from connector.studio.elements import Tag, box, button
from connector.studio.tab import Tab


class ColumnsForm:
    """See the module.

    Args:
        on_edit: Is called after each change of the draft.
    """

    def __init__(self, tab: Tab, on_edit: Callable[[], None]) -> None:
        self._tab = tab
        self._on_edit = on_edit

    def build(self) -> None:
        """Makes the form."""
        self._rows()

    def refresh(self) -> None:
        """Shows the columns of the draft as it is now."""
        self._rows.refresh()

    @ui.refreshable_method
    def _rows(self) -> None:
        columns = self._tab.draft.columns
        if columns is None:
            Tag("p", "The config's JSON describes these columns in a way that this form cannot show.", "muted")
            return
        if not columns:
            Tag("p", "No columns yet: the answer is one text, in the column content.", "muted small")
        for place, each in enumerate(columns):
            with box("columns").props("role=group").props(f'aria-label="Column {place + 1}"'):
                name = ui.input(value=each.name, placeholder="name")
                name.props('outlined dense debounce=400 aria-label="Name of the column"')
                name.on_value_change(lambda event, place=place: self._change(place, name=event.value or ""))
                kind = ui.select(list(TYPES), value=each.type).props('outlined dense aria-label="Type of the column"')
                kind.on_value_change(lambda event, place=place: self._change(place, kind=event.value))
                if each.type == "one of":
                    values = ui.input(value=", ".join(each.values), placeholder="good, bad, mixed")
                    values.props('outlined dense debounce=500 aria-label="Allowed values"')
                    values.on_value_change(lambda event, place=place: self._change(place, values=event.value or ""))
                else:
                    box()
                button(icon="close", on_click=partial(self._drop, place)).props(
                    'flat dense round size=sm aria-label="Remove the column"'
                )
        with box("flow"):
            button("Add column", icon="add", on_click=self._add).props("flat dense size=sm")

    def _change(
        self, place: int, *, name: str | None = None, kind: str | None = None, values: str | None = None
    ) -> None:
        columns = list(self._tab.draft.columns or ())
        if place >= len(columns):
            return
        old = columns[place]
        allowed = old.values if values is None else tuple(filter(None, (each.strip() for each in values.split(","))))
        columns[place] = OutputColumn(old.name if name is None else name.strip(), kind or old.type, allowed)
        self._tab.draft.put_columns(columns)
        if kind is not None:
            self.refresh()
        self._on_edit()

    def _drop(self, place: int) -> None:
        columns = list(self._tab.draft.columns or ())
        del columns[place]
        self._tab.draft.put_columns(columns)
        self.refresh()
        self._on_edit()

    def _add(self) -> None:
        columns = list(self._tab.draft.columns or ())
        taken = {each.name for each in columns} | set(self._tab.session.columns)
        name = next(each for each in ("label", *(f"label_{n}" for n in range(2, 99))) if each not in taken)
        self._tab.draft.put_columns([*columns, OutputColumn(name, "one of", ("yes", "no"))])
        self.refresh()
        self._on_edit()
