"""Step 2: the prompt, the columns that come back, and the model; beside them the request of a row."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from nicegui import run, ui

from connector.base.errors import ConnectorError
from connector.base.terminal import printable
from connector.studio.draft import placed
from connector.studio.elements import Tag, box, button, chip, show_error
from connector.studio.steps._columns import ColumnsForm
from connector.studio.steps._request import RequestView
from connector.studio.tab import Step, Tab

_COLUMNS: Final = 40  # of the table that can be inserted by a click
_MODELS: Final = 300  # models listed of an endpoint


class PromptStep(Step):
    """See the module."""

    NAME = "Prompt"

    def __init__(self, tab: Tab) -> None:
        super().__init__(tab)
        self._fields: dict[str, Any] = {}
        self._is_filling = False
        self._columns = ColumnsForm(tab, self._edited)
        self._request = RequestView(tab)

    def refresh(self) -> None:
        """See `Step.refresh`."""
        self._request.refresh()
        self._inserts.refresh()

    def show_request(self) -> None:
        """Shows the request of the row that the tab has chosen."""
        self._request.refresh()

    def build(self) -> None:
        """See `Step.build`."""
        with box("two"):
            with box("stack"):
                with box("card stack", "section"):
                    Tag("h2", "Prompt")
                    self._area("system_prompt", "System prompt (optional)", 2)
                    self._area("prompt", "Prompt for each row", 6)
                    self._inserts()
                with box("card stack", "section"):
                    Tag("h2", "What to get back")
                    self._columns.build()
                with box("card stack", "section"):
                    Tag("h2", "Model")
                    with box("flow top line"):
                        self._line("model", "Model").classes("wide", remove="field")
                        with button(icon="expand_more", on_click=self._list_models).props(
                            'flat dense round aria-label="List the models of the endpoint"'
                        ):
                            self._models = ui.menu().props("no-parent-event")
                        self._number("temperature", "Temperature")
                        self._number("max_tokens", "Max tokens")
                    self._line("url", "Endpoint URL")
                    Tag("p", "The key comes from the config or the environment. It is never shown here.", "muted small")
            with box("stack", "section"):
                self._request.build()
                with ui.expansion("Config as JSON").classes("card").props("dense"):
                    self._json = ui.textarea(on_change=self._json_changed)
                    self._json.props(
                        'outlined debounce=400 input-style="min-height: 300px" aria-label="Config as JSON"'
                    )
                    self._json.classes("field mono").props("input-class=mono")
        self.fill()

    async def _list_models(self) -> None:
        """Lists the endpoint's models, which is a free call, and lets one be chosen."""
        try:
            names = await run.io_bound(self._session.models, self._tab.draft)
        except ConnectorError as error:
            self._tab.warn(error.message)
            return
        self._models.clear()
        with self._models:
            for name in (names or [])[:_MODELS]:
                ui.menu_item(printable(name), partial(self._fields["model"].set_value, name))
        self._models.open()

    def _area(self, name: str, label: str, rows: int) -> None:
        area = ui.textarea(label, on_change=lambda event: self._changed(name, event.value))
        area.props(f'outlined debounce=250 rows={rows} input-class=mono aria-label="{label}"').classes("field")
        self._fields[name] = area

    def _line(self, name: str, label: str) -> Any:
        line = ui.input(label, on_change=lambda event: self._changed(name, event.value))
        line.props(f'outlined dense debounce=300 aria-label="{label}"').classes("field")
        self._fields[name] = line
        return line

    def _number(self, name: str, label: str) -> None:
        number = ui.number(label, min=0, on_change=lambda event: self._parameter(name, event.value))
        number.props(f'outlined dense debounce=300 aria-label="{label}"').classes("small-number")
        self._fields[name] = number

    @ui.refreshable_method
    def _inserts(self) -> None:
        """Shows the columns that a prompt may use; a click inserts one."""
        with box("flow").props('role=group aria-label="Columns to insert"').style("gap: 6px"):
            Tag("span", "Insert", "muted small")
            for name in self._session.columns[:_COLUMNS]:
                chip(name, partial(self._insert, name), label=f"Insert {name}")

    def _insert(self, name: str) -> None:
        field = self._fields["prompt"]
        field.set_value(f"{field.value or ''}{placed(name)}")
        field.run_method("focus")

    def _changed(self, name: str, value: Any) -> None:
        if self._is_filling:
            return
        if name == "model":
            self._tab.draft.put_model(value or None)
        else:
            self._tab.draft.put(name, value)
        self._edited()

    def _parameter(self, name: str, value: float | None) -> None:
        if self._is_filling:
            return
        number = int(value) if value is not None and name == "max_tokens" else value
        models = {each: self._tab.draft.parameter(each) for each in ("temperature", "max_tokens")} | {name: number}
        self._tab.draft.put("models", None)
        self._tab.draft.put_model(self._tab.draft.get("model"), **models)
        self._edited()

    def _json_changed(self, event: Any) -> None:
        if self._is_filling or (event.value or "") == self._tab.draft.text:
            return
        self._tab.draft.put_text(event.value or "")
        if self._tab.draft.broken is None:
            self.fill(json=False)
        self._edited(json=False)

    def fill(self, *, json: bool = True) -> None:
        """Fills the fields from the draft."""
        self._is_filling = True
        try:
            for name, field in self._fields.items():
                is_number = name in ("temperature", "max_tokens")
                value = self._tab.draft.parameter(name) if is_number else self._tab.draft.get(name)
                field.set_value(value if is_number or isinstance(value, str) else "")
            if json:
                self._json.set_value(self._tab.draft.text)
            self._columns.refresh()
        finally:
            self._is_filling = False
        self._show_problems()

    def _edited(self, *, json: bool = True) -> None:
        """Follows a change of the draft: shows its JSON, its problems and the request."""
        if json:
            self._is_filling = True
            self._json.set_value(self._tab.draft.text)
            self._is_filling = False
        self._show_problems()
        self._request.refresh()

    def _show_problems(self) -> None:
        """Shows each problem at its field."""
        problems = self._session.problems(self._tab.draft)
        self._request.problems = problems
        for name in ("prompt", "system_prompt", "model", "url"):
            mine = [each.message for each in problems if each.path.partition("[")[0].partition(".")[0] == name]
            show_error(self._fields[name], self._session.mask("\n".join(mine)))
        broken = [str(each) for each in problems if each.path == "json"]
        show_error(self._json, "\n".join(broken))
