"""The panel that shows how far the work in the background is, and lets it be paused and stopped."""

from __future__ import annotations

from collections.abc import Callable

from nicegui import ui

from connector.base.terminal import printable
from connector.studio.elements import Tag, box, button
from connector.studio.session import Session


class JobPanel:
    """See the module.

    Args:
        on_change: Is called when a job begins and when it ends.
    """

    def __init__(self, session: Session, on_change: Callable[[], None]) -> None:
        self._session = session
        self._on_change = on_change
        self._seen: tuple[object, ...] = ()

    def build(self) -> None:
        """Makes the panel once: `update` only changes its texts, so that no button moves away under a hand."""
        with box("panel").props("role=status aria-live=polite") as self._job:
            with box("card stack tight") as self._running, box("flow"):
                self._title = Tag("h2")
                self._progress = Tag("span", "", "muted num grow")
                self._pausing = button("Pause", on_click=self._pause).props("outline dense size=sm")
                self._stopping = button("Stop", on_click=self._stop).props("outline dense size=sm").classes("danger")
            with self._running:
                self._bar = ui.linear_progress(0, show_value=False, size="6px").props('aria-label="Rows done"')
            self._ended = Tag("div", "", "note")
        self._job.set_visibility(False)

    def update(self) -> None:
        """Shows how far the job is; when it has ended, why it failed, if it did."""
        job = self._session.job
        if job is None or self._seen == (job, True):
            return
        state, is_over = job.state, job.is_over
        self._job.set_visibility(not is_over or bool(job.error))
        self._running.set_visibility(not is_over)
        self._ended.set_visibility(is_over)
        self._title.set_text(job.title if state == "running" else f"{job.title}: {state}")
        self._progress.set_text(printable(self._session.mask(job.progress())))
        self._bar.set_value(round(job.done / job.rows, 3) if job.rows else 0)
        self._pausing.set_text("Go on" if state == "paused" else "Pause")
        self._pausing.set_visibility(job.title == "Running" and state in ("running", "paused"))
        self._stopping.set_visibility(state in ("running", "paused"))
        self._ended.set_text(printable(self._session.mask(job.error)))
        self._ended.classes(add="bad" if state == "failed" else "plain", remove="plain" if state == "failed" else "bad")
        if is_over or self._seen[:1] != (job,):
            self._seen = (job, is_over)
            self._on_change()

    def _pause(self) -> None:
        job = self._session.job
        if job is not None:
            (job.go_on if job.state == "paused" else job.pause)()
        self.update()

    def _stop(self) -> None:
        if self._session.job is not None:
            self._session.job.end()
        self.update()
