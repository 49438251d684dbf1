"""Draws figures as SVG with Vega-Lite (the extra `report`). Colours are the page's variables, so they follow its theme.

Nothing is fetched: the data of a chart is in its specification.
"""

from __future__ import annotations

import resource
from collections.abc import Sequence
from typing import Any, Final

import vl_convert
from markupsafe import Markup

from connector.base.regex import regex
from connector.base.terminal import printable
from connector.report.figures import Distribution, Interval, ValueCount

_WIDTH: Final = 340  # pixels: as wide as a phone shows without shrinking it
_ROW: Final = 24
_HEIGHT: Final = 140
_LABEL: Final = 118
_LONGEST: Final = 40  # characters of a label
_TAG: Final = regex("<[^<>]*>")  # Vega escapes both brackets in texts, but no quotes there
_UNWANTED: Final = regex(
    r" (?:id|clip-path"  # would be the same in every chart of the page
    r'|role|aria-[a-z]+)="[^"]*"'  # a chart is one image, and its label says what it shows
)
_CONFIG: Final[dict[str, Any]] = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "labelLimit": _LABEL,
        "tickCount": 5,
    },
    "axisY": {"domain": False, "ticks": False},
    "text": {"fontSize": 11},
}


def values(counts: Sequence[ValueCount], others: int, label: str) -> Markup | None:
    """Draws how often each value occurs, as bars with counts."""
    rows: list[dict[str, Any]] = [
        {"place": place, "name": _short(each.value), "count": each.count} for place, each in enumerate(counts)
    ]
    if others:
        rows.append({"place": len(rows), "name": "all other values", "count": others})
    names = {str(row["place"]): row["name"] for row in rows}
    place = {
        "field": "place",
        "type": "ordinal",
        "title": None,
        "axis": {"labelExpr": f"{_literal(names)}[datum.label]", "labelPadding": 6},
    }
    scale = {"domain": [0, max(1, *(row["count"] for row in rows)) * 1.18]}  # leaves room for the number
    count = {"field": "count", "type": "quantitative", "title": None, "axis": None, "scale": scale}
    bar = {"mark": {"type": "bar", "color": "var(--bar)", "cornerRadiusEnd": 2, "height": {"band": 0.68}}}
    text = {"mark": {"type": "text", "align": "left", "dx": 4, "color": "var(--ink)"}}
    layer = [
        {**bar, "encoding": {"y": place, "x": count}},
        {**text, "encoding": {"y": place, "x": count, "text": {"field": "count", "format": ","}}},
    ]
    return _drawn({"data": {"values": rows}, "layer": layer, "height": _ROW * len(rows)}, label)


def histogram(known: Distribution, unit: str, label: str, *, scale: float = 1) -> Markup | None:
    """Draws a histogram of values times `scale`; what lies beyond the last edge is counted in the last bar."""
    are_single = all(each.high - each.low == 1 and each.low.is_integer() for each in known.bins) and scale == 1
    shift = 0.5 if are_single else 0.0  # centres the bar of a whole number on its number
    rows = [
        {
            "low": each.low * scale - shift,
            "high": max(each.high, each.low + (each.low == each.high)) * scale - shift,
            "count": each.count,
        }
        for each in known.bins
    ]
    most = max(each.count for each in known.bins)
    encoding = {
        "x": {
            "field": "low",
            "bin": "binned",
            "type": "quantitative",
            "title": unit or None,
            "axis": {"format": _format(known.maximum * scale), "grid": False, "tickMinStep": 1 if are_single else 0},
        },
        "x2": {"field": "high"},
        "y": {
            "field": "count",
            "type": "quantitative",
            "title": "rows",
            "axis": {"format": _format(most), "tickMinStep": 1},
        },
    }
    mark = {"type": "bar", "color": "var(--bar)", "binSpacing": 1}
    return _drawn({"data": {"values": rows}, "mark": mark, "encoding": encoding, "height": _HEIGHT}, label)


def rates(intervals: Sequence[Interval], label: str) -> Markup | None:
    """Draws the answers per second over time, with failures on top."""
    rows = [
        {"at": each.start, "end": each.start + each.seconds, "rate": count / each.seconds, "what": what}
        for each in intervals
        for what, count in (("answered", each.answered), ("failed", each.failed))
    ]
    time, unit = _time(rows)
    encoding = {
        "x": {**time, "field": "at", "bin": "binned"},
        "x2": {"field": "end"},
        "y": {"field": "rate", "type": "quantitative", "title": "rows/s", "stack": "zero", "axis": {"format": ",.3~r"}},
        "color": {
            "field": "what",
            "type": "nominal",
            "legend": None,
            "scale": {"domain": ["answered", "failed"], "range": ["var(--bar)", "var(--bad)"]},
        },
        "order": {"field": "what"},
    }
    mark = {"type": "bar", "binSpacing": 0}
    return _drawn({"data": {"values": _in(rows, unit)}, "mark": mark, "encoding": encoding, "height": _HEIGHT}, label)


def latencies(intervals: Sequence[Interval], label: str) -> Markup | None:
    """Draws the median and the 95th percentile of the latency over time."""
    rows = [
        {"at": each.start + each.seconds / 2, "end": each.start + each.seconds, "what": what, "s": value / 1000}
        for each in intervals
        for what, value in (("median", each.median_ms), ("95th percentile", each.p95_ms))
        if value is not None
    ]
    time, unit = _time(rows)
    encoding = {
        "x": {**time, "field": "at"},
        "y": {"field": "s", "type": "quantitative", "title": "seconds", "axis": {"format": ",.3~r"}},
        "color": {
            "field": "what",
            "type": "nominal",
            "title": None,
            "scale": {"domain": ["median", "95th percentile"], "range": ["var(--bar)", "var(--second)"]},
            "legend": {"orient": "top", "labelColor": "var(--muted)", "labelFontSize": 11, "symbolType": "stroke"},
        },
        "strokeDash": {
            "field": "what",
            "legend": None,
            "scale": {"domain": ["median", "95th percentile"], "range": [[1, 0], [4, 3]]},
        },
    }
    mark = {"type": "line", "strokeWidth": 2, "point": {"size": 18, "filled": True}}
    return _drawn({"data": {"values": _in(rows, unit)}, "mark": mark, "encoding": encoding, "height": _HEIGHT}, label)


_UNITS: Final = ((86_400.0, 3.0, "days"), (3_600.0, 3.0, "hours"), (60.0, 3.0, "minutes"), (1.0, 0.0, "seconds"))


def _time(rows: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], float]:
    """Returns the time axis, and its unit in seconds."""
    end = max((row["end"] for row in rows), default=1.0)
    size, _, name = next(unit for unit in _UNITS if end >= unit[0] * unit[1])
    scale = {"domain": [0, end / size], "nice": False}
    return {"type": "quantitative", "title": f"{name} since the start", "scale": scale, "axis": {"grid": False}}, size


def _in(rows: Sequence[dict[str, Any]], unit: float) -> list[dict[str, Any]]:
    return [{**row, "at": row["at"] / unit, "end": row["end"] / unit} for row in rows]


def _format(most: float) -> str:
    """Returns the number format of an axis: with a unit (120k) for long numbers, else in full."""
    return "~s" if abs(most) >= 100_000 else ",.5~r"  # noqa: PLR2004 - from here digits no longer fit


def _short(text: str) -> str:
    shown = printable(text).replace("\n", "⏎").replace("\t", "⇥") or "(empty text)"
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"


def _literal(names: dict[str, str]) -> str:
    """Returns an object literal in Vega's expression language, whose escapes are those of JSON."""
    pairs = (f'"{place}": "{"".join(map(_escaped, name))}"' for place, name in names.items())
    return "{" + ", ".join(pairs) + "}"


def _escaped(character: str) -> str:
    if character.isalnum() and character.isascii():
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def can_be_drawn() -> bool:
    """Returns whether this process may reserve the terabytes of address space that drawing needs.

    The JavaScript engine in vl-convert ends the process if it cannot.
    """
    return resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


def _drawn(spec: dict[str, Any], label: str) -> Markup | None:
    """Returns a chart as an SVG that fills its place, with a label for screen readers; `None` if it cannot be drawn."""
    if not can_be_drawn():
        return None
    whole = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": _WIDTH,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": 2,
        "config": _CONFIG,
        **spec,
    }
    svg = vl_convert.vegalite_to_svg(whole, allowed_base_urls=[])
    root, _, drawn = _TAG.sub(lambda tag: _UNWANTED.sub("", tag[0]), svg).partition(">")
    box = root.partition(' viewBox="')[2].partition('"')[0]
    head = Markup('<svg xmlns="http://www.w3.org/2000/svg" viewBox="{}" role="img" aria-label="{}">')
    return head.format(box, printable(label)) + Markup(drawn)  # noqa: S704 - Vega escapes texts
