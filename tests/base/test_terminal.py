"""What people read is text, whatever is in it."""

from __future__ import annotations

import io
import json
import logging
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector.base import terminal


@settings(derandomize=True, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(st.characters(min_codepoint=0, max_codepoint=0x2100, exclude_categories=())))
def test_nothing_that_is_written_steers_a_terminal(text: str) -> None:
    shown = terminal.printable(text)
    assert not [char for char in shown if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") and char not in "\t\n"]
    assert terminal.printable(shown) == shown


@settings(derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.text())
def test_json_stays_the_same_json(text: str) -> None:
    shown = terminal.printable(json.dumps([text], ensure_ascii=False))
    assert json.loads(shown) == [text]


@pytest.mark.parametrize("char", ["\x1b", "\x9b", "\x7f", "\r", "\x08", "\u202e", "\u2066", "\u2028", "\udc80"])
def test_each_active_character_is_shown_by_its_number(char: str) -> None:
    assert terminal.printable(f"a{char}b\tc\nd") == f"a\\u{ord(char):04x}b\tc\nd"


def test_a_character_that_the_stream_lacks_is_escaped() -> None:
    out = io.BytesIO()
    stream = io.TextIOWrapper(out, encoding="ascii")
    terminal.write(stream, "é ── x\n")
    stream.flush()
    assert out.getvalue() == b"\\u00e9 \\u2500\\u2500 x\n"


def test_a_warning_that_no_handler_takes_is_printable(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show_logs()
    assert logging.lastResort is not None
    logging.lastResort.handle(logging.LogRecord("x", logging.WARNING, "", 0, "stream %s", ("\x1b[2J",), None))
    assert capsys.readouterr().err == "stream \\u001b[2J\n"
