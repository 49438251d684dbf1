"""Step 4: compares the variants that were tried; a person or a judge says which answers are right."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from nicegui import ui

from connector.base.amounts import counted
from connector.base.records import Record
from connector.evaluate import words
from connector.evaluate.figures import Confusion, Evaluation, Standing
from connector.studio.elements import Tag, box, button, cell, chip, focus, header_row
from connector.studio.tab import Step
from connector.studio.table import shown

_SHOWN: Final = 100  # rows of a comparison
_CHOICES: Final = 8  # values that a row can be labelled with by a click
_CHOICE: Final = 40  # characters of one
_AGREE: Final = 2  # the rank of rows on which all variants agree


class CompareStep(Step):
    """See the module."""

    NAME = "Compare"

    def build(self) -> None:
        """See `Step.build`."""
        self._comparison()

    def refresh(self) -> None:
        """See `Step.refresh`."""
        self._comparison.refresh()

    @ui.refreshable_method
    def _comparison(self) -> None:
        """Shows which variant is better and by how much, and the rows on which they differ."""
        found = self._session.compared
        with box("stack loose"):
            self._ways()
            if found is None:
                Tag("div", "Try one or more variants first: their answers are compared here.", "empty card")
                return
            for each in found.comparisons:
                Tag("p", words.verdict(each), f"verdict {each.verdict}").props("role=status")
            self._figures(found)
            for variant in found.variants:
                for score in variant.scores:
                    if score.confusion is not None:
                        with box("two tables"):
                            _labels(f"{variant.name}: {score.target}", score.labels)
                            _confusion(f"{variant.name}: truth (down) by answer (across)", score.confusion)
            self._compared_rows(found)

    def _ways(self) -> None:
        with box("flow"):
            if len(self._session.drafts) > 1:
                button("Try all variants", on_click=lambda: self._tab.try_out(self._session.drafts)).props("outline")
            else:
                button("Add variant", on_click=self._tab.add_variant).props("outline")
            if self._session.truth is not None:
                Tag("span", f"compared with the column {self._session.truth}", "muted grow")
            else:
                kept = (
                    f"No column has the right answers: label rows below (saved in {self._session.labels.path.name}), "
                )
                Tag("span", f"{kept}name one in step 1, or ask a judge.", "muted grow")
            button(f"Save and run {self._tab.draft.name}", on_click=partial(self._tab.go, "Run"))
        if self._session.truth is None and len(self._session.drafts) > 1:
            with ui.expansion("Ask a judge").props("dense").classes("card"), box("stack"):
                self._bound(ui.input("Model of the judge", value=self._session.judge_model), "judge_model")
                self._bound(ui.textarea("Prompt of the judge", value=self._session.judge_prompt), "judge_prompt")
                button("Judge A and B", on_click=lambda: self._tab.guarded(self._session.judge)).classes("own")

    def _bound(self, field: Any, name: str) -> None:
        field.props("outlined dense input-class=mono autogrow").classes("field")
        field.on_value_change(lambda event: setattr(self._session, name, event.value or ""))

    def _figures(self, found: Evaluation) -> None:
        with box("frame"), box("grid", "table"):
            Tag("caption", f"{counted(found.compared, 'row')} by each variant. In brackets: the 95 % interval.")
            header_row(["", *(_named(each) for each in found.variants)])
            with box("", "tbody"):
                for name, texts in words.figures_of(found):
                    with box("", "tr"):
                        Tag("th", name).props("scope=row")
                        for text in texts:
                            Tag("td", text)

    def _compared_rows(self, found: Evaluation) -> None:
        records = {each.index + 1: each for each in self._session.sample}
        inputs, column = self._session.telling_columns(), self._session.label_column()
        can_label = self._session.truth is None and column is not None
        names = [each.name for each in found.variants]
        with box("frame").props('tabindex=0 role=region aria-label="Rows, disagreements first"'), box("grid", "table"):
            Tag("caption", "Rows, disagreements first")
            is_judged = any(row.verdict for row in self._session.rows)
            last = ["judge"] if is_judged else []
            header_row(["row", *inputs, "truth" if self._session.truth else "label", *names, *last], {"row"})
            with box("", "tbody"):
                for row in self._session.rows[:_SHOWN]:
                    record = records[row.number]
                    with box("", "tr"):
                        Tag("td", f"{row.number:,}", "n")
                        for name in inputs:
                            cell(shown(record.data.get(name)))
                        if can_label:
                            self._label(
                                record, column or "", [row.answers[name].columns.get(column or "") for name in names]
                            )
                        else:
                            cell(words.cells(row.truth) if row.truth else "")
                        for name in names:
                            answer = row.answers[name]
                            text = answer.error or words.cells(answer.columns)
                            right = {True: "yes", False: "no", None: ""}[answer.is_right]
                            differs = " differs" if row.rank < _AGREE else ""
                            cell(self._session.mask(text), f"cell{differs}", right)
                        if is_judged:
                            cell(self._session.mask(f"{row.verdict or 'n/a'}{row.reason and f': {row.reason}'}"))

    def _label(self, record: Record, column: str, answers: Sequence[Any]) -> None:
        """Shows buttons to label a row with one of the allowed values or one of the answers."""
        known = self._session.labels.get(record, column)
        choices = self._session.allowed() or list(dict.fromkeys(shown(each) for each in answers if each is not None))
        with (
            box("", "td"),
            box("flow").style("gap: 4px").props(f'role=group aria-label="Label row {record.index + 1}"'),
        ):
            for number, value in enumerate(choices[:_CHOICES]):
                is_on = known is not None and shown(known) == value
                key = f"label-{record.index}-{number}"
                text = value if len(value) <= _CHOICE else f"{value[: _CHOICE - 1]}…"
                chip(
                    text,
                    partial(self._say, record, None if is_on else value, key),
                    is_on=is_on,
                    label=f"Row {record.index + 1}: {text}",
                    key=key,
                )

    def _say(self, record: Record, value: Any, key: str) -> None:
        self._tab.guarded(lambda: self._session.label(record, value))
        self.refresh()
        focus(key)


def _named(each: Standing) -> str:
    return each.name if each.title in ("", each.name) else f"{each.name} · {each.title}"


def _labels(title: str, labels: Sequence[Any]) -> None:
    with box("frame"), box("grid", "table"):
        Tag("caption", title)
        header_row(["label", "rows", "precision", "recall", "F1"], {"rows", "F1"})
        with box("", "tbody"):
            for each in labels:
                with box("", "tr"):
                    Tag("th", each.label).props("scope=row")
                    Tag("td", f"{each.rows:,}", "n")
                    Tag("td", words.percent(each.precision))
                    Tag("td", words.percent(each.recall))
                    Tag("td", "n/a" if each.f1 is None else f"{each.f1:.3f}", "n")


def _confusion(title: str, found: Confusion) -> None:
    with box("frame"), box("grid", "table"):
        Tag("caption", title)
        header_row(["truth", *found.answers], frozenset(found.answers))
        with box("", "tbody"):
            for truth, counts in zip(found.truths, found.counts, strict=True):
                with box("", "tr"):
                    Tag("th", truth).props("scope=row")
                    for answer, count in zip(found.answers, counts, strict=True):
                        share = count / (sum(counts) or 1)
                        Tag("td", f"{count:,}", f"n {'hit' if answer == truth else 'miss'}").style(
                            f"--share: {share:.3f}"
                        )
