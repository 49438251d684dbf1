"""Reading by a cursor: the order, the states, and what becomes of rows with one cursor value."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.base import numbers
from connector.base.errors import ConfigError
from connector.base.records import Record
from connector.stores.staging.position import Position, numbered
from tests.stores.helpers import enrich, opened, parquet, rows_of, states_of, table


def csv_file(path: Path, rows: list[tuple[Any, ...]], header: str = "id,at") -> Path:
    lines = [header, *(",".join("" if cell is None else str(cell) for cell in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_rows_come_in_the_order_of_the_cursor_nulls_first_and_equal_ones_as_they_were(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "in.csv", [(0, 3), (1, None), (2, 1), (3, 3), (4, 10), (5, None), (6, 1)])
    with opened(path, cursor_field="at") as source:
        assert [row["id"] for row in rows_of(source)] == [1, 5, 2, 6, 0, 3, 4]
        assert states_of(source) == [{"rows": 7, "cursor_field": "at", "cursor": 10, "rows_at_cursor": 1}]


@pytest.mark.parametrize("frame", ["{0}\n{1}\n{2}\n", "[{0},\n{1},{2}]"])
@pytest.mark.parametrize("cursor", ["id", "price"])
def test_json_that_is_read_by_a_cursor_keeps_all_digits_and_names(tmp_path: Path, frame: str, cursor: str) -> None:
    lines = [
        '{"id": 3, "price": 2.50, "nested": {"a": [12345678901234567890123, 1.50, 1e400]}}',
        '{"id": 1, "price": 1.10, "ID": 123456789012345678901234, "a \'b\'": 0.1234567890123456789}',
        '{"id": 2, "price": 1.10}',
    ]
    (tmp_path / "in.json").write_text(frame.format(*lines))
    names = ["id", "price", "nested", "ID", "a 'b'"]
    filled = [{name: row.get(name) for name in names} for row in map(numbers.loads, lines)]
    with opened(tmp_path / "in.json", cursor_field=cursor) as source:
        assert numbers.dumps(rows_of(source)) == numbers.dumps([filled[1], filled[2], filled[0]])
        assert {name: schema["type"] for name, schema in source.columns.items()} == {
            "id": ["null", "integer"],
            "price": ["null", "number"],
            "nested": ["null", "object"],
            "ID": ["null", "integer"],
            "a 'b'": ["null", "number"],
        }
    with opened(tmp_path / "in.json", cursor_field=cursor, limit=2) as source:
        *_, state = states_of(source)
    with opened(tmp_path / "in.json", cursor_field=cursor) as source:
        assert [row["id"] for row in rows_of(source, json.loads(json.dumps(state)))] == [3]


def test_a_limit_takes_the_first_rows_in_the_order_of_the_cursor(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "in.csv", [(0, 3), (1, 2), (2, 1)])
    with opened(path, cursor_field="at", limit=2) as source:
        assert [row["id"] for row in rows_of(source)] == [2, 1]
        assert source.rows == 2


def test_rows_appended_since_are_read_also_those_with_the_same_cursor_value(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    before = [(0, "2024-01-01"), (1, "2024-01-02"), (2, "2024-01-02")]
    with opened(csv_file(path, before), cursor_field="at") as source:
        (state,) = states_of(source)
    assert state == {"rows": 3, "cursor_field": "at", "cursor": "2024-01-02", "rows_at_cursor": 2}
    csv_file(path, [*before, (3, "2024-01-02"), (4, "2024-01-03"), (5, "2024-01-01")])
    with opened(path, cursor_field="at") as source:
        assert [row["id"] for row in rows_of(source, state)] == [3, 4]


def test_a_state_that_a_person_wrote_needs_no_counts_and_reads_what_is_at_its_cursor_again(tmp_path: Path) -> None:
    with opened(csv_file(tmp_path / "in.csv", [(0, 1), (1, 2), (2, 3)]), cursor_field="at") as source:
        assert [row["id"] for row in rows_of(source, {"cursor_field": "at", "cursor": 2})] == [1, 2]
        assert rows_of(source, {"cursor_field": "at", "cursor": 9_999}) == []


def test_rows_deleted_since_do_not_hide_others(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    state = {"rows": 3, "cursor_field": "at", "cursor": 2, "rows_at_cursor": 3}
    with opened(csv_file(path, [(0, 1), (1, 2), (2, 3)]), cursor_field="at") as source:
        assert [row["id"] for row in rows_of(source, state)] == [2]


@pytest.mark.parametrize(
    ("sql", "cursor"),
    [
        ("range", 1_499),
        ("range::FLOAT / 3", None),
        ("CASE WHEN range % 2 = 0 THEN 'nan'::DOUBLE ELSE range END", None),
        ("(range / 100)::DECIMAL(38, 10)", None),
        ("TIMESTAMP '2024-01-01' + INTERVAL (range) SECOND", "2024-01-01T00:24:59"),
        ("TIMESTAMPTZ '2024-01-01 00:00:00Z' + INTERVAL (range) SECOND", "2024-01-01T00:24:59Z"),
        ("TIMESTAMP_NS '2024-01-01 00:00:00.123456789' + INTERVAL (range) SECOND", None),
        ("DATE '2024-01-01' + range::INT", None),
        ("'row ' || lpad(range::VARCHAR, 6, '0')", "row 001499"),
        ("range % 2 = 0", True),
        ("CASE WHEN range > 1200 THEN range END", 1_499),
        ("NULL::BIGINT", None),
        ("7", 7),
    ],
)
def test_reading_goes_on_behind_any_state_whatever_the_type(tmp_path: Path, sql: str, cursor: Any) -> None:
    path = parquet(tmp_path / "in.parquet", f"SELECT range AS id, {sql} AS at FROM range(1500)")
    with opened(path, cursor_field="at") as source:
        whole, states = rows_of(source), states_of(source)
        assert cursor is None or states[-1]["cursor"] == cursor
        assert [rows_of(source, state) for state in states] == [whole[1_000:], []]


def test_an_index_is_the_place_in_the_whole_order_also_behind_a_state(tmp_path: Path) -> None:
    path = parquet(tmp_path / "in.parquet", "SELECT range AS id, range % 7 AS at FROM range(2500)")
    with opened(path, cursor_field="at") as source:
        whole = list(source.read())
        first = states_of(source)[0]
        assert list(source.read(first)) == whole[1_001:]


def test_an_output_is_in_the_order_of_the_cursor(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "in.csv", [(0, 3), (1, None), (2, 1)])
    enrich(path, tmp_path / "out.csv", {"n": {}}, {"n": 1}, {"n": 2}, {"n": 3}, cursor_field="at")
    assert [(row["id"], row["n"]) for row in table(tmp_path / "out.csv")] == [(1, 1), (2, 2), (0, 3)]


def test_an_unknown_cursor_is_refused_with_the_columns_there_are(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "in.csv", [(0, 3)])
    with (
        pytest.raises(ConfigError, match=r'no column "updated"; there are: id, at'),
        opened(path, cursor_field="updated"),
    ):
        pass


@pytest.mark.parametrize("sql", ["[1]", "{'a': 1}", "'x'::BLOB"])
def test_a_cursor_without_an_order_is_refused(tmp_path: Path, sql: str) -> None:
    path = parquet(tmp_path / "in.parquet", f"SELECT {sql} AS at")
    with pytest.raises(ConfigError, match='the values of "at" have no order'), opened(path, cursor_field="at"):
        pass


@pytest.mark.parametrize(
    "state",
    [
        {"rows": 1},
        {"rows": 1, "cursor_field": "id", "cursor": 1, "rows_at_cursor": 1},
        {"rows": 1, "cursor_field": "at", "cursor": "no number", "rows_at_cursor": 1},
        {"rows": 1, "cursor_field": "at", "cursor": [1], "rows_at_cursor": 1},
        {"rows": 1, "cursor_field": "at", "cursor": 1, "rows_at_cursor": -1},
        {"rows": 1, "cursor_field": "at", "cursor": 1, "rows_at_cursor": None},
        {"cursor_field": "at", "cursor": 1, "page": 2},
    ],
)
def test_a_state_of_another_cursor_is_refused(tmp_path: Path, state: Any) -> None:
    path = csv_file(tmp_path / "in.csv", [(0, 3)])
    with opened(path, cursor_field="at") as source, pytest.raises(ConfigError, match="state does not fit"):
        source.read(state)


def test_the_error_names_both_cursors(tmp_path: Path) -> None:
    state = {"rows": 1, "cursor_field": "at", "cursor": 1, "rows_at_cursor": 1}
    message = r'read with no cursor_field \(the state was saved with cursor_field "at"\)'
    with opened(csv_file(tmp_path / "in.csv", [(0, 3)])) as source, pytest.raises(ConfigError, match=message):
        source.read(state)


BATCHES = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), max_size=6)


@given(BATCHES)
def test_ties_are_counted_over_batches(batches: list[list[int]]) -> None:
    position, seen = Position(field="at"), list[int]()
    for batch in batches:
        position = position.after([{"at": value} for value in sorted(batch)])
        seen = [*seen, *sorted(batch)]
        run = next((i for i, value in enumerate(reversed(seen)) if value != seen[-1]), len(seen))
        assert (position.rows, position.cursor, position.ties) == (len(seen), seen[-1], run)
        assert Position.of(position.state, "at") == position


KEYS = st.none() | st.integers(0, 4)


@settings(max_examples=25, deadline=None)
@given(st.lists(KEYS, min_size=1, max_size=15), st.lists(KEYS, max_size=8))
def test_no_row_is_lost_or_repeated_when_an_input_grows(first: list[int | None], second: list[int | None]) -> None:
    """But for rows that are appended behind the cursor: those come too late, as everywhere."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.csv"
        before = list(enumerate(first))
        with opened(csv_file(path, before), cursor_field="at") as source:
            seen = [row["id"] for row in rows_of(source)]
            (state,) = states_of(source)
        after = [*before, *enumerate(second, len(first))]
        with opened(csv_file(path, after), cursor_field="at") as source:
            new = [row["id"] for row in rows_of(source, state)]
    reached = state["cursor"]
    late = {number for number, key in after[len(first) :] if reached is not None and (key is None or key < reached)}
    assert sorted([*seen, *new]) == [number for number, _ in after if number not in late]


def test_each_record_tells_the_state_behind_it() -> None:
    rows = [{"at": number // 3} for number in range(20)]
    start = Position.of(None, "at")
    records = [item for item in numbered([rows[:10], rows[10:]], start, "s") if isinstance(item, Record)]
    assert [record.index for record in records] == list(range(20))
    for before, record in enumerate(records, 1):
        assert record.span
        state = record.span.state_after(record.index)
        ties = sum(row["at"] == rows[before - 1]["at"] for row in rows[:before])
        assert state == {
            "rows": before,
            "cursor_field": "at",
            "cursor": rows[before - 1]["at"],
            "rows_at_cursor": ties,
        }
