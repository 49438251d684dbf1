"""Step 1: the rows of the table, and which column has the right answers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from nicegui import run, ui

from connector.base.amounts import counted
from connector.base.records import Record
from connector.base.terminal import printable
from connector.studio.elements import Tag, box, button, cell_text
from connector.studio.tab import Step
from connector.studio.table import shown

_ROWS: Final = 25  # of the table on a page
_COLUMNS: Final = 40  # columns shown of the table
_HEADER: Final = """<q-th :props="props"><span class="named">{{ props.col.label }}</span>
<span class="kind">{{ props.col.kind }}</span></q-th>"""
_PICK: Final = """<q-td :props="props"><button type="button" class="pick" :aria-label="'Request of row ' + props.value"
@click.stop="$parent.$emit('pick', props.row.place)">{{ props.value }}</button></q-td>"""


class TableStep(Step):
    """See the module."""

    NAME = "Table"
    _query = ""

    def build(self) -> None:
        """See `Step.build`."""
        with box("stack"):
            with box("flow"):
                search = ui.input(placeholder="Search all columns", on_change=self._search)
                search.props('outlined dense clearable debounce=200 aria-label="Search the table"').classes("grow")
                options = {"": "no column", **{each: printable(each) for each in self._session.table.names}}
                self._truth = ui.select(options, label="Right answers are in", value=self._session.truth or "")
                self._truth.on_value_change(self._truth_chosen)
                self._truth.props("outlined dense").style("min-width: 230px")
            with box("flow"):
                self._found = Tag("span", "", "muted small grow").props("role=status")
                button("Write the prompt", on_click=partial(self._tab.go, "Prompt"))
            columns = [{"name": "row", "label": "row", "field": "row", "kind": "", "align": "right"}]
            columns += [
                {
                    "name": f"c{place}",
                    "label": printable(each.name),
                    "field": f"c{place}",
                    "align": "left",
                    "kind": each.type + (f" · {each.nulls:,} null" if each.nulls else ""),
                }
                for place, each in enumerate(self._session.table.columns[:_COLUMNS])
            ]
            with box("browse"):
                self._browse = ui.table(
                    rows=[],
                    columns=columns,
                    row_key="row",
                    pagination={"rowsPerPage": _ROWS, "page": 1, "rowsNumber": 0},
                )
                self._browse.add_slot("header-cell", _HEADER)
                self._browse.add_slot("body-cell-row", _PICK)
                show = self._tab.show_row
                self._browse.on("pick", lambda event: show(int(event.args)))
                self._browse.props('flat dense :rows-per-page-options="[25]"')
                self._browse.on("request", lambda event: self._turn(event.args["pagination"]["page"]))
                self._browse.on("rowClick", lambda event: show(event.args[1]["place"]), [[], ["place"], None])
            self._show_rows(self._session.table.found(""), 1)

    async def _search(self, event: Any) -> None:
        self._query = event.value or ""
        await self._turn(1)

    async def _turn(self, page: int) -> None:
        """Searches in another thread, since a large table takes seconds, and shows a page of what is found."""
        query = self._query
        found = await run.io_bound(self._session.table.found, query)
        if found is not None and query == self._query:  # something else may be searched for by now
            self._show_rows(found, page)

    def _show_rows(self, found: Sequence[int], page: int) -> None:
        """Shows one page of the rows that were found: the browser is sent no more than that."""
        table, first = self._session.table, (page - 1) * _ROWS
        self._browse.rows[:] = [
            {"row": f"{table.records[place].index + 1:,}", "place": place, **_cells(table.records[place], table.names)}
            for place in found[first : first + _ROWS]
        ]
        self._browse.pagination = {"rowsPerPage": _ROWS, "page": page, "rowsNumber": len(found)}
        self._browse.update()
        told = f"{counted(len(found), 'row')}{' found' if self._query else ''} · choose one to see its request"
        self._found.set_text(told)

    def refresh(self) -> None:
        """Does nothing: the table stays as it is."""

    def set_truth(self, column: str) -> None:
        """Names the column that has the right answers."""
        self._truth.set_value(column)

    def _truth_chosen(self, event: Any) -> None:
        self._session.truth = event.value or None
        self._session.tried.clear()
        self._session.compared = None
        self._tab.choose_rows(self._tab.rows)
        self._tab.reload()


def _cells(record: Record, names: Sequence[str]) -> dict[str, str]:
    return {f"c{place}": cell_text(shown(record.data.get(name))) for place, name in enumerate(names[:_COLUMNS])}
