"""What the page is built of. Texts of rows and replies are only text, and cut to what a browser can show."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

from connector.base.amounts import counted
from connector.base.excerpts import without_files
from connector.base.terminal import printable
from connector.studio.table import shown

_CELL: Final = 400  # characters of a cell
_TEXT: Final = 20_000  # characters of any other text: megabytes of it freeze a browser
_PAIRS: Final = 100  # columns of a row that are listed


class Tag(TextElement):
    """An HTML element with a text, which is never read as HTML. A long text is cut."""

    def __init__(self, tag: str, text: object = "", classes: str = "") -> None:
        super().__init__(tag=tag, text=_cut(str(text)))
        if classes:
            self.classes(classes)


def box(classes: str = "", tag: str = "div") -> ui.element:
    """Returns an element to put others into."""
    return ui.element(tag).classes(classes)


def button(text: str = "", **settings: Any) -> ui.button:
    """Returns a button with the colours of the style sheet."""
    return ui.button(text, color=None, **settings).props("unelevated").classes("b")


def chip(text: str, act: Callable[[], Any], *, is_on: bool = False, label: str = "", key: str = "") -> None:
    """Makes a small button that is on or off.

    Args:
        label: What a screen reader says in place of the text.
        key: What `focus` finds the button by.
    """
    made = Tag("button", text, f"pick{' on' if is_on else ''}").props("type=button")
    made.props(f"aria-pressed={'true' if is_on else 'false'}")
    if label:
        made._props["aria-label"] = printable(label)  # noqa: SLF001 - `props` would parse a text of the table's
    made.on("click", lambda _: act())
    if key:
        made.props(f"data-key={key}")


def focus(key: str) -> None:
    """Puts the focus back on the button with this key, after its part of the page was rebuilt."""
    ui.run_javascript(f"setTimeout(() => document.querySelector('[data-key=\"{key}\"]')?.focus(), 50)")


def cell_text(text: str) -> str:
    """Returns a text as a cell shows it."""
    return printable(text) if len(text) <= _CELL else f"{printable(text[: _CELL - 1])}…"


def cell(text: str, classes: str = "cell", mark: str = "") -> ui.element:
    """Returns the cell of an HTML table."""
    with box(classes, "td") as made:
        Tag("div", cell_text(text), mark).props("dir=auto")
    return made


def header_row(names: Sequence[str], numbers: Collection[str] = ()) -> None:
    """Makes the head of an HTML table; the columns in `numbers` are aligned to the right."""
    with box("", "thead"), box("", "tr"):
        for name in names:
            Tag("th", name, "n" if name in numbers else "").props("scope=col")


def values_of(row: Mapping[str, Any]) -> None:
    """Lists the columns of a row, one below the other."""
    with box("pairs", "dl"):
        for name, value in islice(row.items(), _PAIRS):
            Tag("dt", name)
            Tag("dd", shown(without_files(value))).props("dir=auto")
    if len(row) > _PAIRS:
        Tag("p", f"And {counted(len(row) - _PAIRS, 'more column')}.", "muted small")


def show_error(field: Any, text: str) -> None:
    """Shows an error below a field, or removes it if the text is empty."""
    field.props(remove="error error-message")
    if text:
        field._props["error"] = True  # noqa: SLF001 - `props` would parse a text of the table's
        field._props["error-message"] = printable(text)  # noqa: SLF001
    field.update()


def _cut(text: str) -> str:
    more = len(text) - _TEXT
    return printable(text) if more <= 0 else f"{printable(text[:_TEXT])}… ({counted(more, 'more character')})"
