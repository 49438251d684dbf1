"""The page for people: one file, without scripts, that fetches nothing. Every text in it is escaped by the template."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from connector import endpoints
from connector.base.amounts import counted, dollars, duration, pace
from connector.base.terminal import printable
from connector.report import charts
from connector.report.figures import Column, Figures

_GOOD: Final = "success"
_MEANINGS: Final = {
    "success": "answered",
    "error": "no answer, or the request could not be made",
    "invalid_output": "the reply does not fit what was asked for",
    "truncated": "the reply was cut",
    "filtered": "refused by a content filter or the model",
    "skipped": "not to be asked",
}
_NOTHING: Final = "n/a"


def page(figures: Figures) -> str:
    """Returns the page as HTML."""
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
    """Returns what each fallback is about; kinds mean the same by the same name."""
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
    """Returns what a column holds, in a sentence or two."""
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
            told.append(f"all {_number(known.minimum)}{what}")
        else:
            span = f"{_number(known.minimum)} to {_number(known.maximum)}{what}"
            told.append(f"{span}, median {_number(known.median)}, mean {_number(known.mean)}")
        if known.beyond:
            told.append(f"the last bar counts {known.beyond:,} beyond it, too")
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
    return f"Latency: half of the answers within {_ms(known.median)}, 95 % within {_ms(known.p95)}"


def _number(value: float) -> str:
    if float(value).is_integer() and abs(value) < 1e15:  # noqa: PLR2004 - where floats are whole anyway
        return f"{int(value):,}"
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.3g}"


def _count(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _usd(value: float | None) -> str:
    return "unknown" if value is None else dollars(value)


def _ms(value: float | None) -> str:
    if value is None:
        return _NOTHING
    return f"{value:,.0f} ms" if value < 1000 else f"{value / 1000:,.1f} s"  # noqa: PLR2004 - a second


def _share(part: int, whole: int) -> str:
    """Returns a share in per cent, never rounded to all or nothing."""
    if not whole:
        return _NOTHING
    share = 100 * part / whole
    if 0 < share < 0.1:  # noqa: PLR2004 - what would be shown as 0.0
        return "< 0.1 %"
    return f"{share:.0f} %" if part in (0, whole) else f"{min(share, 99.9):.1f} %"


def _when(iso: str | None) -> str:
    return "unknown" if iso is None else f"{iso[:10]} {iso[11:16]} UTC"


def _option(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _shown(value: Any) -> Any:
    """Makes what would steer a terminal, or turn the direction of writing, visible as text; markup stays as it is."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


_ENVIRONMENT: Final = Environment(
    autoescape=True, finalize=_shown, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_ENVIRONMENT.filters |= {
    "count": _count,
    "counted": counted,
    "duration": duration,
    "ms": _ms,
    "number": _number,
    "share": _share,
    "usd": _usd,
    "when": _when,
}
_TEMPLATE: Final = _ENVIRONMENT.from_string(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
