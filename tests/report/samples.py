"""Made-up runs for the tests of the report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from connector import Config
from connector.base.masking import Masker
from connector.base.records import Failure, Outcome, Part, Provenance, Record, Status
from connector.engines import Gauge
from connector.report.collector import Collector, run_of
from connector.report.figures import Figures
from connector.run.plan import Plan
from connector.run.summary import Summary

SCHEMA: Final = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "enum": ["good", "bad", "mixed"]},
        "score": {"type": "integer"},
        "price": {"type": "number"},
        "words": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "sure": {"type": ["null", "boolean"]},
        "more": {"type": "object"},
    },
}
SECRET: Final = "sk-" + "5" * 40
HOSTILE: Final = (
    "</script><script>window.hacked = 1</script>",
    '"><img src="https://evil.example/x.png" onerror="window.hacked = 1">',
    "<svg onload=window.hacked=1><style>*{display:none}</style></svg>",
    "</pre></table></main><iframe src=https://evil.example></iframe>",
    "' onmouseover='window.hacked=1",
    "\u202egnp.exe\u202c \u2066abc\u2069",
    "\x1b[2J\x1b]0;owned\x07\x00",
    '{{ 7 * 7 }} {% raw %} ${7*7} "}[0]; \\u0022 \\',
    "<!-- ]]> &amp; &lt;",
    "\ud83d half a pair",
)


def config(**more: Any) -> Config:
    given = {"url": "https://llm.example/v1", "model": "small", "prompt": "{{ text }}", "output_schema": SCHEMA}
    return Config(**{**given, "api_key": SECRET, **more})


def mixed(number: int) -> int:
    """One of 1,009 numbers, in no order: no real row is slower, or dearer, than every one before it."""
    return number * 7_919 % 1_009


def answered(number: int, row: dict[str, Any], columns: dict[str, Any], **known: Any) -> Outcome:
    given = {
        "attempts": 1,
        "model": "small-1",
        "input_tokens": 10,
        "output_tokens": 2,
        "latency_ms": 100 + mixed(number),
    }
    return Outcome(
        Record(number - 1, row), Status.SUCCESS, columns, {}, Provenance(Status.SUCCESS, **{**given, **known})
    )


def failed(number: int, row: dict[str, Any], message: str, content: str | None = None, **known: Any) -> Outcome:
    provenance = Provenance(
        Status.INVALID_OUTPUT, Failure("ReplyError", message, 200, content), **{"attempts": 2, **known}
    )
    return Outcome(Record(number - 1, row), Status.INVALID_OUTPUT, {}, {}, provenance)


def usual(count: int) -> Iterator[Outcome]:
    """Rows of which every tenth fails, one way or another, and every fifth was known before."""
    for number in range(1, count + 1):
        row = {"id": number, "text": f"review {number} " * 3}
        if number % 10 == 0:
            problem = json.dumps(f"Label {number % 7}")
            yield failed(number, row, f"the reply does not fit output_schema: at $.label, {problem} is no label", "{}")
            continue
        columns = {
            "label": "good" if number % 3 else "bad",
            "score": number % 5 + 1,
            "price": number * 1.25,
            "words": "word " * (number % 17 + 1) + str(number),
            "tags": ["a"] * (number % 4),
            "sure": None if number % 6 == 0 else number % 2 == 0,
            "more": {"number": number},
        }
        yield answered(number, row, columns, cost_usd=mixed(number) * 1e-6, cached=number % 5 == 0)


def figures_of(
    outcomes: Iterable[Outcome], given: Config | None = None, parts: Sequence[Part] = (), **run: Any
) -> Figures:
    given = given or config()
    summary, mask = Summary(Gauge(), parts=parts), Masker(given.secrets)
    collector = Collector(summary, Plan(given).columns, mask)
    for place, outcome in enumerate(outcomes):
        summary.add(outcome)
        collector.add(outcome, place / 50)
    named = {"source": "reviews.csv", "output": "out.parquet", "started": 1.79e9, "ended": 1.79e9 + 60, **run}
    made = run_of(given, mask, collector.models, **named)
    return collector.figures(made, [("json_object", "small")], "this run")
