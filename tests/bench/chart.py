"""docs/benchmarks.svg: how much of the possible throughput each client reaches, and what a row costs it.

Drawn without a background, in tones that stand out from a light page as from a dark one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

from tests.bench.harness import OURS, Run
from tests.bench.report import NAMES, utilisation

_WIDTH: Final = 760
_LABEL, _BAR, _GAP, _ROW = 180, 240, 100, 24
_OURS, _OTHERS, _TEXT = "#2f81f7", "#8b949e", "#7d8590"


class Bar(NamedTuple):
    """A bar: its length as a part of the whole width, and what is written behind it."""

    length: float
    text: str


def draw(runs: Sequence[Run]) -> str:
    """The picture, as SVG."""
    chosen = [run for run in runs if run.scenario == "throughput"]
    body = []
    y = 24
    for case in dict.fromkeys(run.case for run in chosen):
        group = [run for run in chosen if run.case == case]
        body += [*_group(case, group, y)]
        y += _ROW * (len({run.client for run in group}) + 1) + 16
    y -= 30
    size = f'viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" height="{y}"'
    look = 'role="img" font-family="system-ui, sans-serif" font-size="13"'
    title = "<title>Share of the possible throughput, and CPU per row, by client and calls in flight</title>"
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {look}>', title, *body, "</svg>", ""])


def _group(case: str, runs: Sequence[Run], y: int) -> Iterator[str]:
    clients = list(dict.fromkeys(run.client for run in runs))
    shares = {client: median(utilisation(run) for run in runs if run.client == client) for client in clients}
    costs = {client: median(run.cpu_ms for run in runs if run.client == client) for client in clients}
    right = _LABEL + _BAR + _GAP
    yield _text(0, y, f"{case} in flight", weight="600")
    yield _text(_LABEL, y, "of the possible rate, file to file")
    yield _text(right, y, "CPU per row")
    for row, client in enumerate(clients, 1):
        at = y + row * _ROW
        yield _text(0, at, NAMES[client], weight="600" if client == OURS else "400")
        yield from _bar(_LABEL, at, client, Bar(shares[client] / 100, f"{shares[client]:.0f} %"), whole=True)
        yield from _bar(right, at, client, Bar(costs[client] / max(costs.values()) / 2, f"{costs[client]:.2f} ms"))


def _bar(x: int, y: int, client: str, bar: Bar, *, whole: bool = False) -> Iterator[str]:
    length = max(1, round(_BAR * bar.length))
    if whole:
        yield f'<rect x="{x}" y="{y - 12}" width="{_BAR}" height="15" rx="2" fill="{_OTHERS}" fill-opacity="0.18"/>'
    fill = _OURS if client == OURS else _OTHERS
    yield f'<rect x="{x}" y="{y - 12}" width="{length}" height="15" rx="2" fill="{fill}"/>'
    yield _text(x + (_BAR if whole else length) + 8, y, bar.text)


def _text(x: int, y: int, text: str, weight: str = "400") -> str:
    return f'<text x="{x}" y="{y}" fill="{_TEXT}" font-weight="{weight}">{escape(text)}</text>'
