"""Step 5: saves the config, shows the same run as a command, and runs the table."""

from __future__ import annotations

from nicegui import ui

from connector.studio.elements import Tag, box, button
from connector.studio.tab import Step, Tab


class RunStep(Step):
    """See the module."""

    NAME = "Run"

    def __init__(self, tab: Tab) -> None:
        super().__init__(tab)
        self._output = "out.csv"
        self._report = ""
        self._saved = ""
        self._confirmed = ""  # the file that is overwritten if it is saved to once more
        self._max_cost: float | None = None

    def build(self) -> None:
        """See `Step.build`."""
        self._forms()

    def refresh(self) -> None:
        """See `Step.refresh`."""
        self._forms.refresh()

    @ui.refreshable_method
    def _forms(self) -> None:
        draft = self._tab.draft
        with box("two"):
            with box("card stack"):
                Tag("h2", f"Save variant {draft.name}")
                path = ui.input("Config file", value=self._saved or f"{draft.title or 'config'}.json")
                path.props('outlined dense aria-label="Config file"').classes("field")
                button("Save", on_click=lambda: self._save(path.value or "")).props("outline").classes("own")
                Tag(
                    "p",
                    "The command line, the platforms and Python accept this file unchanged. The same run as a command:",
                    "muted small",
                )
                command = self._session.command(path.value or "", self._output or "out.csv", self._report)
                Tag("pre", command, "code mono").props('tabindex=0 aria-label="Command line"')
            with box("card stack"):
                Tag("h2", f"Run all {self._session.table.rows:,} rows with {draft.name}")
                clashing = self._session.clashing(draft)
                if clashing:
                    with box("note flow"):
                        Tag("span", f"The table already has a column {', '.join(clashing)}.", "grow")
                        button("Rename the answers", on_click=self._tab.rename_apart).props("flat dense")
                self._text("_output", "Output file", self._output)
                self._text("_report", "Report, a page at the end (optional)", self._report)
                cost = ui.number("Stop at a cost of USD (optional)", value=self._max_cost, min=0)
                cost.props('outlined dense aria-label="Stop at a cost of USD"').classes("field")
                cost.on_value_change(lambda event: setattr(self, "_max_cost", event.value))
                with box("flow"):
                    button("What will it cost?", on_click=self._estimate).props("outline")
                    button("Run", on_click=self._start)
                job = self._session.job
                if job is not None and job.title in ("Estimating", "Running") and job.summary and job.is_over:
                    Tag("pre", self._session.mask(job.summary), "code mono").props("role=status")
                    if job.title == "Running" and job.state == "done":
                        Tag("p", f"Written to {self._output}", "note good")
                        if self._report:
                            ui.link("Open the report", "/report", new_tab=True)

    def _text(self, name: str, label: str, value: str) -> None:
        field = ui.input(label, value=value).props(f'outlined dense aria-label="{label}"').classes("field")
        field.on_value_change(lambda event: setattr(self, name, event.value or ""))

    def _save(self, path: str) -> None:
        replace = self._confirmed == path
        self._confirmed = path
        if self._tab.guarded(lambda: self._session.save(self._tab.draft, path, replace=replace)) is not None:
            self._saved = path
            ui.notify(f"saved to {path}", type="positive")
            self._tab.refresh_variants()
            self.refresh()

    def _estimate(self) -> None:
        self._tab.guarded(lambda: self._session.whole(self._tab.draft))

    def _start(self) -> None:
        draft, output, report = self._tab.draft, self._output, self._report
        self._tab.guarded(lambda: self._session.run(draft, output, max_cost_usd=self._max_cost, report=report))
