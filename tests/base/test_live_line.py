"""The line at the bottom of a terminal: it fits, stays in its place, and makes way for whatever else is printed."""

from __future__ import annotations

import io
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base.live_line import LiveLine, Part, fitted
from tests.terminals import terminal

WIDTHS = [20, 60, 80, 200]
PARTS = [Part("1,234 of 5,000 rows"), Part("900 known", 3), Part("12.5 rows/s", 2), Part("429: next call in 18 s", 1)]


@given(st.lists(st.builds(Part, st.text("abc ", max_size=40), st.integers(0, 9)), min_size=1), st.integers(1, 300))
def test_a_line_never_has_more_columns_than_there_are(parts: list[Part], columns: int) -> None:
    line = fitted(parts, columns)
    assert len(line) <= columns
    if len(fitted(parts, None)) <= columns:
        assert line == fitted(parts, None)


def test_what_matters_least_is_left_out_first() -> None:
    assert fitted(PARTS, None) == "1,234 of 5,000 rows · 900 known · 12.5 rows/s · 429: next call in 18 s"
    assert fitted(PARTS, 60) == "1,234 of 5,000 rows · 12.5 rows/s · 429: next call in 18 s"
    assert fitted(PARTS, 50) == "1,234 of 5,000 rows · 429: next call in 18 s"
    assert fitted(PARTS, 19) == "1,234 of 5,000 rows"
    assert fitted([PARTS[0], Part("paced " * 9, 1), PARTS[2]], 50) == "1,234 of 5,000 rows · 12.5 rows/s"
    assert fitted(PARTS, 10) == "1,234 of …"


@pytest.mark.parametrize("columns", WIDTHS)
def test_it_is_drawn_in_place_at_any_width(columns: int) -> None:
    with terminal(columns) as screen, LiveLine(screen.stream) as line:
        for rows in range(1, 60):
            line.draw([Part(f"{rows} of 59 rows"), Part("x" * 50, 1), Part("y" * 100, 2)])
        (shown,) = screen.lines()
        assert shown.startswith("59 of 59 rows")
        assert len(shown) < columns


def test_it_follows_a_terminal_that_is_made_narrower_or_wider() -> None:
    with terminal(200) as screen, LiveLine(screen.stream) as line:
        shown = []
        for columns in (200, 20, 60, 200):
            screen.resize(columns)
            line.draw(PARTS)
            shown.append(screen.lines())
        assert [len(lines) for lines in shown] == [1, 1, 1, 1]
        assert shown[0] == shown[3] == [fitted(PARTS, None)]
        assert shown[1] == ["1,234 of 5,000 rows"]


@pytest.mark.parametrize("columns", WIDTHS)
def test_it_makes_way_for_logs_warnings_and_tracebacks(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(columns) as screen, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", screen.stream)
        before = sys.stderr
        handler, log = logging.StreamHandler(), logging.getLogger("tests.live_line")
        with LiveLine(screen.stream) as line:
            handler.setStream(sys.stderr)
            log.addHandler(handler)
            line.draw(PARTS)
            log.warning("a warning")
            line.draw(PARTS)
            sys.stderr.write("f.py:1: UserWarning: odd\n")
            line.draw(PARTS)
            sys.excepthook(ValueError, ValueError("broken"), None)
            line.draw(PARTS)
            assert screen.lines()[-1] == fitted(PARTS, columns - 1)
        log.removeHandler(handler)
        assert sys.stderr is before
        lines = screen.lines()
        assert lines[0] == "a warning"
        assert lines[1:] == ["f.py:1: UserWarning: odd"[:columns], "ValueError: broken"] or columns < 24
        assert not any("1,234" in text for text in lines)


def test_a_terminal_that_has_not_every_letter_is_spared_them() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    LiveLine(stream).draw([Part("1 row"), Part("2 × HTTP 400"), Part("é")])
    assert raw.getvalue() == b"\r\x1b[K1 row | 2 x HTTP 400 | ?"
