"""An evaluation as an HTML page: one file, without scripts, that fetches nothing."""

from __future__ import annotations

from typing import Final

from connector.evaluate import words
from connector.evaluate.figures import Evaluation
from connector.report.html import template

_SHOWN_ROWS: Final = 200
_RANKS: Final = (
    "one is right, another is not",
    "the answers differ",
    "all are wrong",
    "all agree",
)


def page(found: Evaluation) -> str:
    """Returns the page as HTML. It quotes up to 200 rows, disagreements first."""
    return _TEMPLATE.render(
        f=found,
        verdicts=[(each, words.verdict(each)) for each in found.comparisons],
        figures=list(words.figures_of(found)),
        percent=words.percent,
        cells=words.cells,
        rows=found.rows[:_SHOWN_ROWS],
        unquoted=found.unquoted + max(0, len(found.rows) - _SHOWN_ROWS),
        ranks=_RANKS,
    )


_TEMPLATE: Final = template(__package__)
