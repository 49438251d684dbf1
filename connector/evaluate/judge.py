"""A judge: a model that says which of two answers is better, for rows whose truth is unknown.

Each pair is shown twice, in both orders, since models favour a position. Only a verdict that stays the same counts;
anything else is a tie (Zheng et al., "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", NeurIPS 2023, sections
3.3 and 3.4). Equal answers are a tie without a call.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from connector.base.errors import ConfigError
from connector.base.records import JSON, Record, Status
from connector.base.stop import Stop
from connector.config.config import Config
from connector.evaluate.variants import Variant, Watch, answered, counted
from connector.run.plan import Plan
from connector.run.summary import Summary

PROMPT: Final = """\
Two programs were given the same row of a table. Judge which answer is more correct and more useful.

The row:
{{ row }}

The first answer:
{{ first }}

The second answer:
{{ second }}

Say "first" or "second" if one is clearly better, else "tie". The order of the answers means nothing."""
"""The prompt of a judge whose config has none."""

VERDICT: Final = "better"
"""The column of a judge's answer: first, second or tie."""

_SCHEMA: Final = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, VERDICT: {"type": "string", "enum": ["first", "second", "tie"]}},
    "required": ["reason", VERDICT],
    "additionalProperties": False,
}
_NAMES: Final = ("row", "first", "second")


class Verdicts(NamedTuple):
    """A judge's verdict on two variants for each row: the name of the better one, "tie", or `None` if there is none.

    `unsteady` counts the rows whose verdict changed with the order, which are ties.
    """

    first: str
    second: str
    prompt: str
    model: str | None
    by_row: Sequence[str | None]
    reasons: Sequence[str]
    unsteady: int
    summary: Summary


def judging(config: Config) -> Plan:
    """Returns the plan of a judge, with `PROMPT` if its config has no prompt.

    Raises:
        ConfigError: The config has no column for the verdict, or its prompt does not show both answers.
    """
    if config.request_format is None and config.prompt is None:
        config = config.model_copy(update={"prompt": PROMPT})
    if config.output_schema is None and config.response_format is None:
        config = config.model_copy(update={"output_schema": _SCHEMA})
    plan = Plan(config)
    if VERDICT not in plan.columns:
        raise ConfigError(f'the judge has no column "{VERDICT}": let it answer with first, second or tie there')
    if not {"first", "second"} <= plan.requests.required().keys():
        raise ConfigError("the judge's prompt does not show both answers: write {{ first }} and {{ second }} in it")
    return plan


def verdicts(
    plan: Plan, first: Variant, second: Variant, *, watch: Watch = counted, stop: Stop | None = None
) -> Verdicts:
    """Asks a judge about each row that both variants have answered."""
    both = list(zip(first.outcomes, second.outcomes, strict=True))
    asked = list(_asked(both))
    judged = answered("judge", "judge", plan, [record for _, record in asked], watch=watch, stop=stop)
    said: dict[int, list[tuple[str | None, str]]] = {}
    for (row, record), outcome in zip(asked, judged.outcomes, strict=True):
        names = (first.name, second.name) if record.index % 2 == 0 else (second.name, first.name)
        said.setdefault(row, []).append(_verdict(outcome.status, outcome.columns, names))
    by_row: list[str | None] = []
    reasons: list[str] = []
    unsteady = 0
    for row, (one, other) in enumerate(both):
        verdict, reason = ("tie" if _is_same(one.columns, other.columns) else None), ""
        if row in said:
            (verdict, reason), (again, _) = said[row]
            if verdict != again:
                unsteady += verdict is not None and again is not None
                verdict = None if verdict is None or again is None else "tie"
        elif one.status is not other.status and Status.SUCCESS in (one.status, other.status):
            verdict = first.name if one.status is Status.SUCCESS else second.name
        by_row.append(verdict)
        reasons.append(reason)
    prompt = plan.config.prompt or json.dumps(plan.config.request_format, ensure_ascii=False, indent=2)
    return Verdicts(first.name, second.name, prompt, plan.requests.model, by_row, reasons, unsteady, judged.summary)


def _asked(both: Sequence[tuple[Any, Any]]) -> Iterator[tuple[int, Record]]:
    """Yields what the judge is asked: the index of the row, with a record for each order of its answers."""
    for row, (one, other) in enumerate(both):
        if one.status is other.status is Status.SUCCESS and not _is_same(one.columns, other.columns):
            shown = _text(one.record.data)
            for turn, (first, second) in enumerate(((one, other), (other, one))):
                seen = {"row": shown, "first": _text(first.columns), "second": _text(second.columns)}
                own = {name: value for name, value in one.record.data.items() if name not in _NAMES}
                yield row, Record(2 * row + turn, {**own, **seen})


def _is_same(one: JSON, other: JSON) -> bool:
    return _text(one) == _text(other)


def _text(value: JSON) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True, default=str)


def _verdict(status: Status, columns: dict[str, Any], names: tuple[str, str]) -> tuple[str | None, str]:
    if status is not Status.SUCCESS:
        return None, ""
    word = str(columns[VERDICT]).strip().lower()
    known = {"first": names[0], "second": names[1], "tie": "tie"}
    return known.get(word), str(columns.get("reason") or "")
