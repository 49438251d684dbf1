"""A run at a terminal, as a person sees it: by the executable, at a real pseudo-terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tests.commands.test_enrich import options, table
from tests.endpoint import Call, Endpoint, act
from tests.terminals import Terminal, terminal


def started(screen: Terminal, source: Path, endpoint: Endpoint, *more: object) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "connector", "enrich", source, "-o", source.with_name("out.jsonl")]
    environment = {**os.environ, "TERM": "xterm"}
    program = [*map(str, line), *map(str, options(endpoint, *more))]
    return subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=screen.writer, env=environment)


def read_until(screen: Terminal, words: str) -> list[str]:
    """What the screen shows once it shows these words."""
    while True:
        lines = screen.lines()
        if any(words in line for line in lines):
            return lines
        screen.read()


@pytest.mark.parametrize("columns", [20, 60, 80, 200])
def test_after_a_run_the_screen_holds_what_it_came_to_and_nothing_of_the_line(columns: int, tmp_path: Path) -> None:
    source = table(tmp_path / "in.csv", 30)
    with Endpoint() as endpoint, terminal(columns) as screen:
        with started(screen, source, endpoint) as process:
            read_until(screen, "written to")
        assert process.returncode == 0
        lines = screen.lines()
    assert b"\r\x1b[K" in screen.said, "it was drawn"
    assert lines[0].startswith("30 rows in ")
    assert not any("in flight" in line for line in lines)


@pytest.mark.parametrize("columns", [60, 200])
def test_a_person_sees_what_it_waits_for_and_that_a_second_ctrl_c_ends_it(columns: int, tmp_path: Path) -> None:
    def script(call: Call) -> Any:
        return act(call, "429", {"retry-after": "60"})

    source = table(tmp_path / "in.csv", 500)
    with Endpoint(script) as endpoint, terminal(columns) as screen:
        with started(screen, source, endpoint, "--concurrency", 1) as process:
            (line,) = read_until(screen, "429: next call in")
            assert line.startswith("0 of 500 rows · 429: next call in ")
            process.send_signal(signal.SIGINT)
            lines = read_until(screen, "Ctrl-C again ends at once")
        assert process.returncode == -signal.SIGINT
        assert lines[0] == "stopping; Ctrl-C again ends at once"
        assert not any("429" in line for line in screen.lines())


def test_a_second_ctrl_c_says_where_the_replies_are_and_leaves_no_half_line(tmp_path: Path) -> None:
    answered = Event()

    def script(call: Call) -> None:
        if "row 0," not in call.prompt:
            answered.wait()

    source = table(tmp_path / "in.csv", 500)
    with Endpoint(script) as endpoint, terminal(200) as screen:
        with started(screen, source, endpoint, "--concurrency", 1) as process:
            read_until(screen, "1 of 500 rows")
            process.send_signal(signal.SIGINT)
            read_until(screen, " · finishing 1 call")
            process.send_signal(signal.SIGINT)
            process.wait()
            answered.set()
        assert process.returncode == -signal.SIGINT
        told, kept = screen.lines()
        assert told == "finishing 1 call (up to 30 s); Ctrl-C again ends at once"
        assert kept.startswith("the replies so far are in ")
        assert kept.endswith(".ledger: run the same command again to continue from there")
