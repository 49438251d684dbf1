"""Row keys: one for each row, the same for the same input, and untouched by what happens to other rows."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from connector.base.records import IDLE, ROW_KEY, Checkpoint, Outcome, Provenance, Record, Status
from connector.run.row_keys import RowKeys

Row = dict[str, Any]
ROWS = st.lists(st.fixed_dictionaries({"id": st.integers(0, 3), "text": st.sampled_from(["", "a", None])}), max_size=20)


def outcome(record: Record) -> Outcome:
    return Outcome(record, Status.SUCCESS, {"content": "x"}, {"_llm": {}}, Provenance(Status.SUCCESS))


def keyed(rows: list[Row], first: int = 0) -> list[str]:
    """The keys of the rows from `first` on, as a read gives them that goes on there; outcomes come last ones first."""
    records = [Record(index, row) for index, row in enumerate(rows)]
    keys = RowKeys(lambda: records)
    entered = [outcome(each) for each in keys.entering(records[first:])]
    left = sorted(keys.leaving(reversed(entered)), key=lambda each: each.record.index)
    return [each.row[ROW_KEY] for each in left]


@given(ROWS)
def test_no_two_rows_share_a_key_and_the_same_input_gives_the_same_keys(rows: list[Row]) -> None:
    assert len(set(keyed(rows))) == len(rows)
    assert keyed(rows) == keyed(rows)


@given(ROWS, st.integers(0, 20))
def test_a_read_that_goes_on_in_the_middle_gives_the_same_keys(rows: list[Row], first: int) -> None:
    assert keyed(rows, first) == keyed(rows)[first:]


@given(ROWS, ROWS)
def test_other_rows_that_come_leave_the_keys_as_they_are(rows: list[Row], others: list[Row]) -> None:
    strange = [{**row, "text": "strange"} for row in others]
    assert set(keyed(rows)) <= set(keyed(strange + rows))


def test_the_order_of_the_columns_does_not_matter() -> None:
    assert keyed([{"a": 1, "b": 2}]) == keyed([{"b": 2, "a": 1}])


def test_everything_else_passes_and_the_key_comes_first_in_the_group() -> None:
    keys = RowKeys(list)
    items = [IDLE, Record(0, {}), Checkpoint(1)]
    assert list(keys.entering(items)) == items
    left = list(keys.leaving([IDLE, outcome(Record(0, {})), Checkpoint(1)]))
    assert (left[0], left[2]) == (IDLE, Checkpoint(1))
    assert list(left[1].group) == [ROW_KEY, "_llm"]
    assert left[1].columns == {"content": "x"}
