"""Step 3: tries variants on a few rows, and shows their replies and costs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from nicegui import ui

from connector.base.amounts import counted, dollars
from connector.base.errors import ConfigError
from connector.base.records import Outcome, Record
from connector.report.html import ms
from connector.run.forecast import Forecast
from connector.studio.elements import Tag, box, button, cell, header_row, values_of
from connector.studio.tab import Step
from connector.studio.table import shown


class TryStep(Step):
    """See the module."""

    NAME = "Try"

    def build(self) -> None:
        """See `Step.build`."""
        with box("stack"):
            with box("card stack"):
                with box("flow"):
                    rows = ui.number("Rows", value=self._tab.rows, min=1, max=1000, precision=0)
                    rows.props('outlined dense debounce=300 aria-label="Rows to try"').classes("small-number")
                    rows.on_value_change(lambda event: self._resize(event.value))
                    button("Other rows", on_click=self._reseed).props("flat dense")
                    box("grow")
                    self._try_one = button("Try A", on_click=lambda: self._tab.try_out([self._tab.draft]))
                    self._try_all = button("Try all variants", on_click=lambda: self._tab.try_out(self._session.drafts))
                    self._try_all.props("outline")
                self._estimates()
            self._results()

    def refresh(self) -> None:
        """See `Step.refresh`."""
        self._estimates.refresh()
        self._results.refresh()

    @ui.refreshable_method
    def _estimates(self) -> None:
        """Shows how many calls a try would make, and what they would cost."""
        self._try_one.set_text(f"Try {self._tab.draft.name}")
        self._try_all.set_visibility(len(self._session.drafts) > 1)
        self._tab.require_rows()
        with box("stack tight"):
            for draft, found in self._session.estimate(self._session.drafts):
                if isinstance(found, ConfigError):
                    Tag("p", f"{draft.name}: {self._session.mask(found.message)}", "note bad")
                else:
                    Tag("p", self._session.mask(f"{draft.name}, before: {_expected(found)}"), "muted small num")

    def _resize(self, value: float | None) -> None:
        self._tab.choose_rows(int(value or 1))
        self._tab.refresh_results()

    def _reseed(self) -> None:
        self._tab.choose_rows(self._tab.rows, shuffle=True)
        self._tab.refresh_results()

    @ui.refreshable_method
    def _results(self) -> None:
        """Shows the results of the last try, and what it cost."""
        tried = self._session.tried.get(self._tab.draft.name)
        if tried is None:
            Tag("div", "Nothing has been tried yet with this variant.", "empty card")
            return
        variant, outcomes = tried.variant, self._session.outcomes(self._tab.draft)
        if self._session.is_stale(self._tab.draft):
            Tag("p", "The config has changed since: try it again to see what it does now.", "note")
        with box("flow"):
            after = " · ".join(str(variant.summary).splitlines())
            Tag("span", self._session.mask(f"{self._tab.draft.name}, after: {after}"), "num grow").props("role=status")
            button("Compare", on_click=partial(self._tab.go, "Compare")).props("outline")
        added = list(variant.plan.columns)
        inputs = self._session.telling_columns()
        head = ["row", *inputs, *added, "status", "latency", "tokens", "cost"]
        with box("frame").props('tabindex=0 role=region aria-label="What was tried"'), box("grid", "table"):
            header_row(head, {"row", "latency", "tokens", "cost"})
            with box("", "tbody"):
                for record in self._session.sample:
                    outcome = outcomes.get(record.index)
                    if outcome is not None:
                        self._result(record, outcome, inputs, added)

    def _result(self, record: Record, outcome: Outcome, inputs: Sequence[str], added: Sequence[str]) -> None:
        known, open_ = outcome.provenance, lambda: self._whole(record, outcome)
        with box("act", "tr").props('tabindex=0 aria-label="Show the whole reply"') as row:
            Tag("td", f"{record.index + 1:,}", "n")
            for name in inputs:
                cell(shown(record.data.get(name)))
            error = known.error
            if error is not None and added:
                cell(self._session.mask(error.message)).props(f"colspan={len(added)}")
            else:
                for name in added:
                    cell(self._session.mask(shown(outcome.columns.get(name))))
            again = f" · asked {known.attempts}×" if known.attempts > 1 else ""
            Tag(
                "td",
                f"{outcome.status.value}{again}{' · known' if known.cached else ''}",
                f"dot {outcome.status.value}",
            )
            Tag("td", ms(known.latency_ms), "n")
            Tag(
                "td",
                "n/a" if known.input_tokens is None else f"{known.input_tokens:,} / {known.output_tokens or 0:,}",
                "n",
            )
            Tag("td", "n/a" if known.cost_usd is None else dollars(known.cost_usd), "n")
        row.on("click", open_)
        row.on("keydown.enter", open_)

    def _whole(self, record: Record, outcome: Outcome) -> None:
        """Shows a row, its request and its whole reply."""
        text = self._tab.guarded(lambda: self._session.reply(self._tab.draft, outcome))
        with ui.dialog() as dialog, box("card stack"):
            with box("flow"):
                Tag("h2", f"Row {record.index + 1:,}")
                box("grow")
                button(icon="close", on_click=dialog.close).props("flat dense round aria-label=Close")
            values_of(record.data)
            if outcome.provenance.error is not None:
                Tag("p", self._session.mask(outcome.provenance.error.message), "note bad")
            Tag("h3", "Reply")
            Tag("pre", text or "no reply", "code mono")
            Tag("h3", "Request")
            Tag("pre", self._session.rendered(self._tab.draft, record).text, "code mono")
        dialog.open()


def _expected(found: Forecast) -> str:
    """Returns a forecast in words: calls, cost and tokens."""
    known = f"{found.known:,} known already, " if found.known else ""
    cost = "cost unknown until the first reply" if found.cost_usd is None else f"about {dollars(found.cost_usd)}"
    if found.cost_usd is not None and not found.is_whole:
        cost += " for the requests only"
    tokens = f", {found.input_tokens:,} input tokens" if found.input_tokens else ""
    failing = f"; {counted(found.unsendable, 'row')} cannot be rendered" if found.unsendable else ""
    calls = f"{counted(found.calls, 'call')}, {cost}{tokens}" if found.calls else "nothing to pay"
    return f"{counted(found.rows, 'row')}: {known}{calls}{failing}"
