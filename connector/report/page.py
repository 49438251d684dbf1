"""The report as an HTML page: one file, without scripts, that fetches nothing. The template escapes every text."""

from __future__ import annotations

import json
import logging
from typing import Any, Final

from markupsafe import Markup

from connector import endpoints
from connector.base.amounts import counted, pace
from connector.report import charts
from connector.report.figures import Column, Figures
from connector.report.html import ms, number, template

_LOG: Final = logging.getLogger(__name__)
_MEANINGS: Final = {
    "success": "answered",
    "error": "no answer, or the request could not be made",
    "invalid_output": "the reply does not fit what was asked for",
    "truncated": "the reply was cut",
    "filtered": "refused by a content filter or the model",
    "skipped": "left out by where",
}


def page(figures: Figures) -> str:
    """Returns the page as HTML. If charts cannot be drawn, it has none, and a warning is logged."""
    if not charts.can_be_drawn():
        _LOG.warning("the report has no charts: they need more memory than this process is allowed (ulimit -v)")
    sent, made = figures.spending.input_tokens, figures.spending.output_tokens
    return _TEMPLATE.render(
        f=figures,
        title=f"{figures.run.input} → {figures.run.output}" if figures.run.input else figures.run.output,
        columns=[(column, _picture(column), _words(column)) for column in figures.columns],
        rates=charts.rates(figures.timeline, _rates_label(figures)) if figures.timeline else None,
        latencies=charts.latencies(figures.timeline, _latency_label(figures)) if _has_latency(figures) else None,
        histogram=charts.histogram(figures.latency_ms, "seconds", _latency_label(figures), scale=0.001)
        if figures.latency_ms
        else None,
        config={name: _option(value) for name, value in figures.run.config.items()},
        tokens=None if sent is None or made is None else sent + made,
        meanings=_MEANINGS,
        concessions=_concessions() if figures.concessions else {},
    )


def _concessions() -> dict[str, str]:
    """Returns the description of each fallback; the same name means the same in all kinds."""
    kinds = map(endpoints.load, endpoints.KINDS)
    return {name: fallback.about for kind in kinds for name, fallback in kind.FALLBACKS.items()}


def _picture(column: Column) -> Markup | None:
    if column.kind == "values":
        told = ", ".join(f"{each.value}: {each.count:,}" for each in column.values)
        rest = f", all other values: {column.other_values:,}" if column.other_values else ""
        return charts.values(column.values, column.other_values, f"Rows by value of {column.name}. {told}{rest}")
    if column.distribution is None:
        return None
    return charts.histogram(column.distribution, column.unit, f"Histogram of {column.name}. {_words(column)}")


def _words(column: Column) -> str:
    """Returns a description of a column's values in a sentence or two."""
    known, told = column.distribution, []
    if column.kind == "nothing":
        return "No answered row has a value here." if column.rows else "No row was answered."
    if column.kind == "other":
        told.append(", ".join(f"{count:,} × {kind}" for kind, count in column.types.items()))
    if column.kind == "values" and column.distinct is not None:
        told.append(counted(column.distinct, "different value"))
    if known is not None:
        what = f" {column.unit}" if column.unit else ""
        if known.minimum == known.maximum:
            told.append(f"all {number(known.minimum)}{what}")
        else:
            span = f"{number(known.minimum)} to {number(known.maximum)}{what}"
            told.append(f"{span}, median {number(known.median)}, mean {number(known.mean)}")
        if known.beyond:
            told.append(f"the last bar includes {known.beyond:,} larger ones")
        if known.sampled < known.count:
            told.append(f"drawn from a random sample of {known.sampled:,}")
    if column.kind == "texts" and column.distinct is not None:
        told.append(counted(column.distinct, "different text"))
    text = "; ".join(told)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _has_latency(figures: Figures) -> bool:
    return sum(each.median_ms is not None for each in figures.timeline) > 1


def _rates_label(figures: Figures) -> str:
    most = max((each.answered + each.failed) / each.seconds for each in figures.timeline)
    return f"New answers for each second, over time: at most {pace(most)}"


def _latency_label(figures: Figures) -> str:
    known = figures.latency_ms
    if known is None:
        return "Latency over time"
    return f"Latency: half of the answers within {ms(known.median)}, 95 % within {ms(known.p95)}"


def _option(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


_TEMPLATE: Final = template(__package__)
