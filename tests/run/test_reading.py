"""A read goes on wherever its state lets it, however the input was read before: it never fails for its state."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from connector import Connector
from connector.base.clock import Clock
from connector.base.records import JSON, Checkpoint, Outcome
from connector.base.streams import Selection
from tests.endpoint import Endpoint

INCREMENTAL, FULL = Selection("reviews", is_incremental=True), Selection("reviews")


class Table:
    """A table that grows, read again and again with the state that the read before it left."""

    def __init__(self, path: Path, endpoint: Endpoint) -> None:
        self.path = path / "reviews.csv"
        self.config: dict[str, Any] = {
            "url": endpoint.base_url,
            "api_key": "k",
            "model": "m",
            "prompt": "{{ text }}",
            "cache": str(path / "run.ledger"),
            "input": {"type": "files", "path": str(self.path)},
            "cursor_field": "at",
        }
        self.state: JSON = None
        self.rows = 0
        self.grow()

    def grow(self) -> None:
        self.rows += 7
        rows = [f"{number},row {number},{number // 2},{100 + number}" for number in range(self.rows)]
        self.path.write_text("\n".join(["id,text,at,later", *rows, ""]))

    def read(self, selection: Selection) -> list[int]:
        """The rows of one read; keeps its last state, as JSON gives it back."""
        results = list(Connector(self.config).read(None, [selection], {"reviews": self.state}))
        self.state = json.loads(json.dumps([each.state for each in results if isinstance(each, Checkpoint)][-1]))
        return sorted(each.record.data["id"] for each in results if isinstance(each, Outcome))


@pytest.fixture
def table(tmp_path: Path, endpoint: Endpoint) -> Table:
    return Table(tmp_path, endpoint)


def test_an_incremental_read_continues_after_a_full_one_and_a_full_one_always_starts_again(table: Table) -> None:
    assert table.read(FULL) == list(range(7))
    table.grow()
    assert table.read(INCREMENTAL) == list(range(7, 14))
    assert table.read(INCREMENTAL) == []
    assert table.read(FULL) == list(range(14))
    table.grow()
    assert table.read(INCREMENTAL) == list(range(14, 21))
    assert table.read(FULL) == list(range(21))
    assert table.read(FULL) == list(range(21))


@pytest.mark.parametrize(("before", "after"), [("at", "later"), ("at", None), (None, "at"), ("later", "at")], ids=str)
@pytest.mark.parametrize("first", [FULL, INCREMENTAL], ids=["full", "incremental"])
def test_another_cursor_reads_all_rows_and_says_so(
    table: Table, first: Selection, before: str | None, after: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    table.config["cursor_field"] = before
    table.read(first)
    table.config["cursor_field"] = after
    assert table.read(INCREMENTAL) == list(range(7))
    assert ("all rows are read again, from the first one" in caplog.text) == (after is not None)
    table.grow()
    expected = range(7, 14) if after else range(14)
    assert table.read(INCREMENTAL) == list(expected)


@pytest.mark.parametrize(
    ("saved", "selection", "expected"),
    [
        ({"rows": 3}, FULL, range(7)),  # of an earlier version, before full reads went by the cursor
        ({"rows": 7, "complete": True}, INCREMENTAL, range(7)),
        ({"rows": 3, "cursor_field": "at", "cursor": 1, "rows_at_cursor": 1}, INCREMENTAL, range(3, 7)),
        ({"rows": 3, "cursor_field": "at", "cursor": 1, "rows_at_cursor": 1}, FULL, range(7)),
        ({"page": 4}, INCREMENTAL, range(7)),
        ("2024-01-01", INCREMENTAL, range(7)),
        ({"rows": 99, "complete": False}, FULL, range(7)),
    ],
)
def test_a_state_of_an_earlier_version_or_of_another_program_is_not_an_error(
    table: Table, saved: JSON, selection: Selection, expected: range
) -> None:
    table.state = saved
    assert table.read(selection) == list(expected)


def test_a_full_read_that_was_stopped_goes_on_where_it_was(table: Table) -> None:
    connector = Connector(table.config)
    for result in connector.read(None, [FULL], {}):
        if isinstance(result, Checkpoint):
            table.state = result.state
            break
    assert table.state["complete"] is False
    table.grow()
    assert table.read(FULL) == list(range(7, 14))


def test_a_slow_endpoint_has_checkpoints_every_ten_seconds_and_at_a_stop(table: Table) -> None:
    seconds = 0.0
    table.config |= {"concurrency": 1, "cursor_field": None}
    connector = Connector(table.config, clock=Clock(monotonic=lambda: seconds))
    seen = 0
    states: list[tuple[int, JSON]] = []
    results = connector.read(None, [FULL], {})
    with suppress(KeyboardInterrupt):
        for result in results:
            if isinstance(result, Outcome):
                seen += 1
                seconds += 4
                if seen == 5:
                    connector.stop.request(KeyboardInterrupt())
            elif isinstance(result, Checkpoint):
                states.append((seen, result.state))
    reached = [*range(3, seen, 3), seen]  # 12 seconds for three rows
    assert states == [(rows, {"rows": rows, "complete": False}) for rows in reached]
