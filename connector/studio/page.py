"""The studio's page: it shows a session and passes on the user's actions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib.resources import files
from typing import Any, Final

from nicegui import ui

from connector.base.amounts import counted
from connector.report.html import COLOURS
from connector.studio.draft import Draft
from connector.studio.elements import Tag, box, button, chip, focus
from connector.studio.job_panel import JobPanel
from connector.studio.session import MOST_VARIANTS, Session
from connector.studio.steps.comparing import CompareStep
from connector.studio.steps.prompt import PromptStep
from connector.studio.steps.running import RunStep
from connector.studio.steps.table import TableStep
from connector.studio.steps.trying import TryStep
from connector.studio.tab import Tab

STYLE: Final = COLOURS + files(__package__).joinpath("page.css").read_text(encoding="utf-8")
_TYPED: Final = 0.5  # seconds: longer than the debounce of any field
_EVERY: Final = 0.3  # seconds between updates of a job's progress


class Page(Tab):
    """The whole page: its header, the job in the background, and the five steps."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._table = TableStep(self)
        self._prompt = PromptStep(self)
        self._trying = TryStep(self)
        self._comparing = CompareStep(self)
        self._running = RunStep(self)
        self._steps = (self._table, self._prompt, self._trying, self._comparing, self._running)
        self._job = JobPanel(session, self._job_changed)

    def build(self) -> None:
        """Makes the page."""
        ui.add_css(STYLE)
        ui.colors(primary="#2f6fd0", positive="#1f7a4d", negative="#c2333f")
        with box("bar", "header"), box():
            with box("flow"):
                Tag("span", "S", "mark").props("aria-hidden=true")
                Tag("h1", "Studio")
                table = self.session.table
                kept = f" (a sample of {len(table.records):,})" if table.is_sample else ""
                Tag("span", f"{', '.join(self.session.inputs)} · {counted(table.rows, 'row')}{kept}", "muted small")
                box("grow")
                self._variants()
            with ui.tabs().props("dense no-caps inline-label align=left aria-label=Steps") as self._tabs:
                for number, step in enumerate(self._steps, 1):
                    ui.tab(step.NAME, label=f"{number}  {step.NAME}")
        with box("studio"):
            self._job.build()
            with ui.tab_panels(self._tabs, animated=False, value=self._table.NAME).props("keep-alive"):
                for step in self._steps:
                    with ui.tab_panel(step.NAME):
                        step.build()
        ui.keyboard(on_key=self._key, ignore=[])
        ui.timer(_EVERY, self._job.update)

    def go(self, step: str) -> None:
        """See `Tab.go`."""
        self._tabs.set_value(step)

    def refresh(self) -> None:
        """See `Tab.refresh`."""
        for step in self._steps:
            step.refresh()

    def refresh_results(self) -> None:
        """See `Tab.refresh_results`."""
        self._trying.refresh()
        self._comparing.refresh()

    def reload(self) -> None:
        """See `Tab.reload`."""
        self._prompt.fill()
        self.refresh()

    def show_row(self, place: int) -> None:
        """See `Tab.show_row`."""
        self.place = place
        self._prompt.show_request()
        self.go(self._prompt.NAME)

    def refresh_variants(self) -> None:
        """See `Tab.refresh_variants`."""
        self._variants.refresh()

    def add_variant(self) -> None:
        """See `Tab.add_variant`."""
        draft = self.session.add(self.draft)
        if draft is not None:
            self._choose(draft)
            self.go(self._prompt.NAME)

    def set_truth(self, column: str) -> None:
        """See `Tab.set_truth`."""
        self._table.set_truth(column)

    def try_out(self, drafts: Sequence[Draft]) -> None:
        """See `Tab.try_out`."""
        self.require_rows()
        self.guarded(lambda: self.session.try_out(drafts))
        self._job.update()

    def _key(self, event: Any) -> None:
        if event.action.keydown and event.key == "Enter" and (event.modifiers.ctrl or event.modifiers.meta):
            ui.timer(_TYPED, self.try_now, once=True)  # the last input may still be on its way

    def _job_changed(self) -> None:
        job = self.session.job
        if job is not None and job.is_over and job.title == "Trying" and self.session.tried:
            self.guarded(self.session.compare)
        self.refresh()

    @ui.refreshable_method
    def _variants(self) -> None:
        """Shows the variants, and lets one be chosen, added or removed."""
        with box("flow").props('role=group aria-label="Variants"'):
            for draft in self.session.drafts:
                name = f"{draft.name} {draft.title}".strip()
                act = partial(self._choose, draft)
                chip(name, act, is_on=draft is self.draft, label=f"Variant {name}", key=f"variant-{draft.name}")
            if len(self.session.drafts) < MOST_VARIANTS:
                button("Add variant", on_click=self.add_variant).props("flat dense size=sm")
            if len(self.session.drafts) > 1:
                button("Remove", on_click=self._remove).props(
                    f'flat dense size=sm aria-label="Remove variant {self.draft.name}"'
                )

    def _choose(self, draft: Draft) -> None:
        self.draft = draft
        self.refresh_variants()
        self.reload()
        focus(f"variant-{draft.name}")

    def _remove(self) -> None:
        self.session.remove(self.draft)
        self._choose(self.session.drafts[0])
