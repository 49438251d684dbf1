"""Whether a table can succeed is known after its first rows: the run then stops, and what it paid for is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from connector import Connector
from connector.base.errors import OutageError
from connector.base.records import Failure, Outcome, Provenance, Record, Reply, Status
from connector.config.config import Config
from connector.run.first_rows import ENOUGH, FirstRows
from connector.run.plan import Plan
from tests.check.helpers import answer, posted
from tests.endpoint import Endpoint

PLAN = Plan(Config(url="http://localhost/v1", model="m", prompt="{{ text }}"))
OTHER = Plan(Config(url="http://localhost/v1", model="m", prompt="{{ other }}"))


def outcome(status: Status, message: str = "", http_status: int | None = 400, attempts: int = 1) -> Outcome:
    failure = Failure("BadRequestError", message, http_status) if message else None
    return Outcome(Record(0, {}), status, {}, {}, Provenance(status, failure, attempts))


def reasons(rows: list[Outcome], plan: Plan = PLAN, first: FirstRows | None = None) -> list[Any]:
    """The reason to stop after each row."""
    first = first or FirstRows()
    return [first.judged(row, plan.outcomes, Reply(200, {}, {})) for row in rows]


@pytest.mark.parametrize(
    ("status", "messages", "told"),
    [
        (Status.ERROR, [f"row {row}: unknown field 'x{row}'" for row in range(ENOUGH)], "unknown field"),
        (Status.ERROR, ["the reply is not JSON"] * ENOUGH, "not JSON"),
        (
            Status.INVALID_OUTPUT,
            [f"word {'abc'[row % 3]}" for row in range(ENOUGH)],
            "change model, prompt or output_s",
        ),
        (Status.TRUNCATED, ["cut at the limit: raise max_tokens"] * ENOUGH, "raise max_tokens"),
    ],
    ids=["refused", "unreadable", "off the schema", "cut"],
)
def test_rows_that_all_fail_in_the_same_way_stop_the_run(status: Status, messages: list[str], told: str) -> None:
    *before, last = reasons([outcome(status, message) for message in messages])
    assert before == [None] * (ENOUGH - 1)
    assert isinstance(last, OutageError)
    assert last.message.startswith(f"the first {ENOUGH} rows all failed in the same way: ")
    assert told in last.message


@pytest.mark.parametrize(
    ("failure", "others"),
    [
        (outcome(Status.ERROR, "too long"), [outcome(Status.SUCCESS)]),
        (outcome(Status.ERROR, "too long"), [outcome(Status.ERROR, "another reason")]),
        (outcome(Status.INVALID_OUTPUT, "no label"), [outcome(Status.SUCCESS)]),
        (outcome(Status.INVALID_OUTPUT, "no label"), [outcome(Status.TRUNCATED, "cut")]),
        (outcome(Status.ERROR, "column text is null", attempts=0), [outcome(Status.ERROR, "x is null", attempts=0)]),
        (outcome(Status.FILTERED, "refused"), [outcome(Status.FILTERED, "refused")]),
    ],
    ids=["a success", "other words", "one that fits", "one that was cut", "no call was made", "a filter"],
)
def test_failures_that_may_be_the_rows_own_do_not(failure: Outcome, others: list[Outcome]) -> None:
    rows = [failure] * (ENOUGH - 1)
    assert reasons([*rows, *others, *rows]) == [None] * (2 * len(rows) + len(others))


def test_each_plan_has_first_rows_of_its_own() -> None:
    first = FirstRows()
    assert reasons([outcome(Status.SUCCESS)], OTHER, first) == [None]
    assert reasons([outcome(Status.INVALID_OUTPUT, "no label")] * ENOUGH, PLAN, first)[-1] is not None


def config(endpoint: Endpoint, cache: Path, **options: Any) -> dict[str, Any]:
    given = {"url": endpoint.base_url, "model": "m", "prompt": "{{ text }}", "cache": str(cache), "concurrency": 4}
    return {**given, **options}


@pytest.mark.parametrize("repairs", [0, 1, 3])
def test_a_model_that_ignores_the_schema_costs_no_more_than_the_first_rows(tmp_path: Path, repairs: int) -> None:
    schema = {"type": "object", "properties": {"label": {"enum": ["a", "b"]}}, "required": ["label"]}
    text = {"choices": [{"message": {"role": "assistant", "content": "I like it."}, "finish_reason": "stop"}]}
    rows = [{"text": f"row {number}"} for number in range(1000)]
    options = {"output_schema": json.dumps(schema), "max_repairs": repairs}
    with Endpoint(posted(lambda _: answer(200, text))) as endpoint:
        connector = Connector(config(endpoint, tmp_path / "ledger", **options))
        with pytest.raises(OutageError, match=r"all failed in the same way.*change model, prompt or output_schema"):
            list(connector.enrich(rows))
        asked = [call for call in endpoint.journal.calls if call.kind]
    assert 0 <= len(asked) - ENOUGH * (1 + repairs) <= 4 * (1 + repairs), "beside them, those that were in flight"
