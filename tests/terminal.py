"""Draws docs/terminal.svg, the picture of the README: `python -m tests.terminal` makes a real run at the sandbox.

Drawn without a background, in tones that stand out from a light page as from a dark one.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from connector import sandbox
from spec.generate import ROOT

PICTURE: Final = ROOT / "docs" / "terminal.svg"
ENRICH: Final = "openai-compatible enrich reviews.csv --config reviews.json --output out.parquet"
SHOWN: Final = "read_parquet('out.parquet').project('product, sentiment, summary').limit(6).show()"
COMMANDS: Final = (ENRICH, ENRICH, f'python -c "import duckdb; duckdb.{SHOWN}"')
_TITLE: Final = "A table of reviews is enriched; the same command again makes no call; the new columns"
_LINE, _CHARACTER, _MARGIN, _BAR = 19, 7.8, 20, 34
_TEXT, _PROMPT, _EDGE, _GOOD = "#7d8590", "#2f81f7", "#8b949e80", "#3fb950"


def main() -> None:
    """Runs the commands and writes the picture."""
    PICTURE.write_text(draw(list(session())), encoding="utf-8")


def session() -> Iterator[str]:
    """The lines of the terminal: each command behind a prompt, then what it said."""
    with tempfile.TemporaryDirectory() as directory, sandbox.running(latency=0.05) as url:
        for name in ("reviews.csv", "reviews.json"):
            shutil.copy(ROOT / "sample_configs" / name, directory)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OPENAI_BASE_URL": url,
            "OPENAI_API_KEY": sandbox.KEY,
            "OPENAI_MODEL": sandbox.MODEL,
        }
        for command in COMMANDS:
            yield f"$ {command}"
            yield from said(command, Path(directory), environment)
            yield ""


def said(command: str, directory: Path, environment: dict[str, str]) -> list[str]:
    """What a command prints, on both streams."""
    program, *arguments = shlex.split(command)
    run = [sys.executable, *(() if program == "python" else ("-m", "connector")), *arguments]
    done = subprocess.run(
        run, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    return done.stdout.rstrip().splitlines()


def draw(lines: list[str]) -> str:
    """The picture, as SVG: a window with the lines in it, each character in its cell."""
    while lines and not lines[-1]:
        lines.pop()
    width = round(2 * _MARGIN + max(cells(line) for line in lines) * _CHARACTER)
    height = _BAR + _LINE * len(lines) + _MARGIN
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-size="13"',
            "  font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace\">",
            f"<title>{escape(_TITLE)}</title>",
            f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8" fill="none" stroke="{_EDGE}"/>',
            *(f'<circle cx="{_MARGIN + 16 * number}" cy="16" r="4.5" fill="{_EDGE}"/>' for number in range(3)),
            *(_text(line, _BAR + _LINE * (number + 1) - 5) for number, line in enumerate(lines) if line),
            "</svg>",
            "",
        ]
    )


def cells(line: str) -> int:
    """How many cells of a terminal a line takes: wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in line)


def _text(line: str, y: int) -> str:
    """One line: every character has a place of its own, so that columns stay columns in any font."""
    is_command, is_count = line.startswith("$ "), " rows in " in line
    colour = _PROMPT if is_command else _GOOD if is_count else _TEXT
    weight = "600" if is_command or is_count else "400"
    places = " ".join(f"{_MARGIN + cells(line[:number]) * _CHARACTER:g}" for number in range(len(line)))
    return (
        f'<text x="{places}" y="{y}" fill="{colour}" font-weight="{weight}" xml:space="preserve">{escape(line)}</text>'
    )


if __name__ == "__main__":
    main()
