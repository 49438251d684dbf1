"""What is made of docs/benchmarks.json: the page, its picture, and what the README says of it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench import chart, report
from tests.bench.harness import Run
from tests.bench.processes import ROOT

FIGURES = ROOT / "docs" / "benchmarks.json"


def files() -> dict[Path, str]:
    """Each file with the text that it should have."""
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    runs = [Run(**run) for run in figures["runs"]]
    readme = ROOT / "README.md"
    return {
        FIGURES.with_suffix(".md"): report.document(figures["machine"], runs, figures["spark"]),
        FIGURES.with_suffix(".svg"): chart.draw(runs),
        readme: report.claimed(readme.read_text(encoding="utf-8"), runs),
    }
