"""Reading, over every database: types without values, each query once, no row lost, whatever happens between syncs."""

from __future__ import annotations

import math
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from connector.base import numbers
from connector.base.errors import ConfigError, DatabaseUnavailableError
from connector.base.records import Checkpoint, Record
from connector.stores import sql
from connector.stores.databases import connection, readers
from connector.stores.databases.reading import position
from tests import databases
from tests.databases import KINDS, Base
from tests.stores.helpers import rows_of, states_of

Rows = list[dict[str, Any]]


def reader_of(kind: str) -> readers.Reader:
    with connection.opened(SecretStr(f"{kind}://")) as database:
        return readers.load(database.kind, database.engine.dialect.driver)


@contextmanager
def source(base: Base, query: str = "", *, table: str = "", **more: Any) -> Iterator[Any]:
    with sql.source(sql.Options(url=base.secret, query=query, table=table), **more) as opened:
        yield opened


def read(base: Base, query: str = "", state: Any = None, **more: Any) -> tuple[Rows, Any]:
    """The rows, each checked against its schema, and the last state, as it is saved."""
    with source(base, query, **more) as opened:
        items = list(opened.read(state))
        rows = [item.data for item in items if isinstance(item, Record)]
        for row in rows:
            jsonschema.validate(row, {"properties": dict(opened.columns)})
    return rows, orjson.loads(numbers.dumps(items[-1].state))


INTEGER, NUMBER, BOOLEAN, TEXT, LIST, OBJECT = (
    {"type": ["null", name]} for name in ("integer", "number", "boolean", "string", "array", "object")
)
BYTES = {**TEXT, "contentEncoding": "base64"}
DATE = {**TEXT, "format": "date"}
TIME = {**TEXT, "format": "time", "airbyte_type": "time_without_timezone"}
LOCAL = {**TEXT, "format": "date-time", "airbyte_type": "timestamp_without_timezone"}
ZONED = {**TEXT, "format": "date-time", "airbyte_type": "timestamp_with_timezone"}
NUL = "'a' || char(0) || 'b'"

TYPES: dict[str, list[tuple[str, str, dict[str, Any], str]]] = {
    "mariadb": [
        ("BOOLEAN", "TRUE", BOOLEAN, "true"),
        ("TINYINT", "-128", INTEGER, "-128"),
        ("BIGINT UNSIGNED", "18446744073709551615", INTEGER, "18446744073709551615"),
        ("YEAR", "2024", INTEGER, "2024"),
        ("DECIMAL(65, 30)", "12345678901234567890.1000", NUMBER, "12345678901234567890.100000000000000000000000000000"),
        ("DECIMAL(10, 0)", "7", NUMBER, "7"),
        ("FLOAT", "0.1", NUMBER, "0.1"),
        ("DOUBLE", "0.1", NUMBER, "0.1"),
        ("BIT(5)", "b'101'", TEXT, '"101"'),
        ("DATE", "'2024-02-29'", DATE, '"2024-02-29"'),
        ("DATE", "'0000-00-00'", DATE, '"0000-00-00"'),
        ("TIME", "'10:00:00'", TIME, '"10:00:00"'),
        ("TIME(6)", "'-838:59:58.5'", TIME, '"-838:59:58.5"'),
        ("DATETIME", "'9999-12-31 23:59:59'", LOCAL, '"9999-12-31T23:59:59"'),
        ("DATETIME(6)", "'2024-02-29 10:00:00.5'", LOCAL, '"2024-02-29T10:00:00.5"'),
        ("DATETIME", "'0000-00-00 00:00:00'", LOCAL, '"0000-00-00 00:00:00"'),
        ("TIMESTAMP NULL", "'2024-02-29 10:00:00'", ZONED, '"2024-02-29T10:00:00Z"'),
        ("VARCHAR(20)", "'é€😀'", TEXT, '"é€😀"'),
        ("VARCHAR(20) CHARACTER SET latin1", "'é'", TEXT, '"é"'),
        ("TEXT", "CONCAT('a', CHAR(0), 'b')", TEXT, '"a\\u0000b"'),
        ("LONGTEXT", "REPEAT('x', 3)", TEXT, '"xxx"'),
        ("ENUM('b', 'a')", "'a'", TEXT, '"a"'),
        ("SET('b', 'a')", "'a,b'", TEXT, '"b,a"'),
        ("JSON", "'{\"a\": 1.10}'", TEXT, '"{\\"a\\": 1.10}"'),
        ("BINARY(2)", "x'00ff'", BYTES, '"AP8="'),
        ("VARBINARY(9)", "x'00ff'", BYTES, '"AP8="'),
        ("BLOB", "x'00ff'", BYTES, '"AP8="'),
        ("UUID", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", TEXT, '"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"'),
        ("INET6", "'::1'", TEXT, '"::1"'),
        ("POINT", "POINT(1, 2)", BYTES, '"AAAAAAEBAAAAAAAAAAAA8D8AAAAAAAAAQA=="'),
    ],
    "sqlite": [
        ("INTEGER", "9223372036854775807", INTEGER, "9223372036854775807"),
        ("REAL", "1", NUMBER, "1.0"),
        ("DOUBLE PRECISION", "9e999", NUMBER, "null"),
        ("TEXT", NUL, TEXT, '"a\\u0000b"'),
        ("TEXT", "CAST(x'61ff' AS TEXT)", TEXT, '"a\ufffd"'),
        ("TEXT", "x'00ff'", TEXT, '"AP8="'),
        ("VARCHAR(3)", "12", TEXT, '"12"'),
        ("BLOB", "x'00ff'", BYTES, '"AP8="'),
        ("BLOB", "7", BYTES, '"7"'),
        ("NUMERIC", "1.5", {}, "1.5"),
        ("DATETIME", "'2024-02-29'", {}, '"2024-02-29"'),
        ("", "'x'", {}, '"x"'),
    ],
    "duckdb": [
        ("BOOLEAN", "true", BOOLEAN, "true"),
        ("UBIGINT", "18446744073709551615", INTEGER, "18446744073709551615"),
        ("HUGEINT", "170141183460469231731687303715884105727", TEXT, '"170141183460469231731687303715884105727"'),
        ("DOUBLE", "'nan'", NUMBER, "null"),
        ("DOUBLE", "'-inf'", NUMBER, "null"),
        ("DECIMAL(38, 20)", "123456789012345678.1", NUMBER, "123456789012345678.10000000000000000000"),
        ("DECIMAL(10, 0)", "7", INTEGER, "7"),
        ("VARCHAR", "'é' || chr(0) || '😀'", TEXT, '"é\\u0000😀"'),
        ("BLOB", "'\\x00\\xFF'", BYTES, '"AP8="'),
        ("DATE", "'2024-02-29'", DATE, '"2024-02-29"'),
        ("DATE", "'infinity'", DATE, '"infinity"'),
        ("TIME", "'10:00:00.5'", TIME, '"10:00:00.5"'),
        ("TIMESTAMP", "'2024-02-29 10:00:00'", LOCAL, '"2024-02-29T10:00:00"'),
        ("TIMESTAMP_NS", "'2024-02-29 10:00:00.123456789'", LOCAL, '"2024-02-29T10:00:00.123456789"'),
        ("TIMESTAMPTZ", "'2024-02-29 10:00:00+02'", ZONED, '"2024-02-29T08:00:00Z"'),
        ("UUID", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", TEXT, '"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"'),
        ("INTERVAL", "'1 month 2 days 3 hours'", TEXT, '"P1M2DT3H"'),
        ("BIT", "'101'", TEXT, '"101"'),
        ("JSON", "'{\"a\":1.10}'", TEXT, '"{\\"a\\":1.10}"'),
        ("INTEGER[]", "[1, NULL]", LIST | {"items": INTEGER}, "[1,null]"),
        (
            "DECIMAL(25, 10)[]",
            "[123456789012345.1]",
            {"type": ["null", "array"], "items": NUMBER},
            "[123456789012345.1000000000]",
        ),
        (
            "STRUCT(a DATE)",
            "{'a': DATE '2024-02-29'}",
            {"type": ["null", "object"], "properties": {"a": DATE}},
            '{"a":"2024-02-29"}',
        ),
        (
            "MAP(INTEGER, DOUBLE)",
            "MAP {1: 2.5}",
            {"type": ["null", "object"], "additionalProperties": NUMBER},
            '{"1":2.5}',
        ),
    ],
}


@pytest.mark.parametrize(
    ("kind", "declared", "value", "schema", "told"), [(kind, *case) for kind, cases in TYPES.items() for case in cases]
)
def test_a_type_has_one_schema_and_one_json_form(
    kind: str, declared: str, value: str, schema: dict[str, Any], told: str, tmp_path: Path
) -> None:
    base = databases.base(kind, tmp_path)
    base.run(f"CREATE TABLE t (v {declared})")
    with source(base, table="t") as opened:
        assert opened.columns == {"v": schema}  # of a table without any value
    base.run(f"INSERT IGNORE INTO t VALUES ({value})" if kind == "mariadb" else f"INSERT INTO t VALUES ({value})")
    base.run("INSERT INTO t VALUES (NULL)")
    rows, _ = read(base, "SELECT v FROM t ORDER BY v IS NULL")
    assert [numbers.dumps(row).decode() for row in rows] == [f'{{"v":{told}}}', '{"v":null}']


INFINITE = {
    "postgresql": [f"'-infinity'::{declared}" for declared in ("double precision", "real", "numeric")],
    "sqlite": ["-9e999"],
    "duckdb": [f"'-inf'::{declared}" for declared in ("double precision", "real")],  # its decimals have none
}


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in INFINITE.items() for value in values])
def test_infinity_is_a_number_of_a_record_which_json_alone_lacks(kind: str, value: str, tmp_path: Path) -> None:
    base = databases.base(kind, tmp_path)
    rows, _ = read(base, f"SELECT {value} AS v")
    assert rows == [{"v": -math.inf}]


TWICE = {
    "postgresql": "SELECT (SELECT id FROM t) AS a FROM t",
    "mariadb": "SELECT (SELECT id FROM t) AS a FROM t",
    "sqlite": "SELECT abs(id - 9223372036854775807 - 2) AS a FROM t",
    "duckdb": "SELECT error('run') AS a FROM t",
}
"""Queries that fail where they are run, and not where they are looked at."""


def test_a_query_is_not_run_to_learn_its_columns(base: Base) -> None:
    base.run("CREATE TABLE t (id BIGINT)")
    base.run("INSERT INTO t VALUES (?)", (1,), (1,))
    with source(base, TWICE[base.kind]) as opened:
        assert list(opened.columns) == ["a"]
        with pytest.raises(ConfigError, match="the database says"):
            next(opened.read())


def test_a_query_is_run_once_for_each_read(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    base.run("CREATE TABLE t (id BIGINT)")
    base.fill("t", 5)
    reader, run = reader_of(base.kind), []
    original = reader.batches

    def batches(*given: Any) -> Any:
        run.append(given[1])
        return original(*given)

    monkeypatch.setattr(reader, "batches", batches)
    query = "SELECT id FROM t ORDER BY id DESC"
    with source(base, query) as opened:
        assert not run
        assert [row["id"] for row in rows_of(opened)] == [4, 3, 2, 1, 0]
    assert run == [query]


def test_what_is_left_of_a_result_is_not_read(base: Base) -> None:
    base.run("CREATE TABLE t (id BIGINT PRIMARY KEY)")
    base.fill("t", 3_000)
    for limit in (0, 1, 1_500):
        assert read(base, table="t", limit=limit)[0] == [{"id": i} for i in range(limit)]


def test_reading_changes_nothing(base: Base) -> None:
    base.run("CREATE TABLE t (id BIGINT)")
    base.run("INSERT INTO t VALUES (1)")
    if base.kind == "postgresql":
        with pytest.raises(ConfigError, match="the database says"):
            read(base, "WITH x AS (DELETE FROM t RETURNING id) SELECT * FROM x")
    read(base, table="t")
    assert base.run("SELECT * FROM t") == [(1,)]


def test_names_may_hold_what_they_like(base: Base) -> None:
    quote = "`" if base.kind == "mariadb" else '"'
    name, table = "se lect%s:x?é", "Of. % us" if base.kind == "none" else "Of % us"
    base.run(f"CREATE TABLE {quote}{table}{quote} ({quote}{name}{quote} BIGINT PRIMARY KEY)".replace("%", "%"))
    base.run(f"INSERT INTO {quote}{table}{quote} VALUES (1)")
    base.run(f"INSERT INTO {quote}{table}{quote} VALUES (2)")
    for more in ({}, {"cursor_field": name}):
        rows, state = read(base, table=table, limit=1, **more)
        assert rows == [{name: 1}]
        assert read(base, state=state, table=table, **more)[0] == [{name: 2}]


def test_columns_whose_names_differ_in_case_alone_are_read(tmp_path: Path) -> None:
    base = databases.base("postgresql", tmp_path)
    base.run('CREATE TABLE t (id BIGINT PRIMARY KEY, "ID" TEXT)')
    base.run("INSERT INTO t VALUES (1, 'a')")
    assert read(base, table="t")[0] == [{"id": 1, "ID": "a"}]
    assert read(base, 'SELECT id, "ID" FROM t', cursor_field="ID")[0] == [{"id": 1, "ID": "a"}]


# --- Cursors ---

ORDERED = {
    "postgresql": [
        ("text", ["'a'", "'B'", "'b'", "'ä'"]),
        ("char(3)", ["'a'", "'b'"]),
        ("numeric", ["-1.5", "1.10", "12345678901234567890.1", "12345678901234567890.2"]),
        ("real", ["'-infinity'", "0.1", "0.3", "0.7"]),
        ("double precision", ["0.1", "'infinity'", "'nan'"]),
        ("numeric", ["1.5", "'infinity'"]),
        ("time", ["'10:00'", "'10:00:00.5'"]),
        ("uuid", ["'00000000-0000-0000-0000-000000000001'", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"]),
        ("timestamptz", ["'2024-01-01 10:00+02'", "'2024-01-01 10:00+01'", "'infinity'"]),
    ],
    "mariadb": [
        ("VARCHAR(9)", ["'ab'", "'AB'", "'Ab'", "'ab '", "'äb'"]),
        ("VARCHAR(9) CHARACTER SET latin1", ["'é'", "'e'", "'E'"]),
        ("DECIMAL(30, 10)", ["12345678901234567890.1", "12345678901234567890.2"]),
        ("DOUBLE", ["0.1", "0.30000000000000004", "1e300"]),
        ("DATETIME(6)", ["'2024-01-01 10:00:00'", "'2024-01-01 10:00:00.5'"]),
        ("TIMESTAMP(3) NULL", ["'2024-01-01 10:00:00'", "'2024-01-01 10:00:00.5'"]),
        ("TIME", ["'-10:00:00'", "'10:00:00'", "'100:00:00'"]),
        ("DATE", ["'2024-01-01'", "'2024-01-02'"]),
    ],
    "sqlite": [
        ("TEXT COLLATE NOCASE", ["'ab'", "'AB'", "'aB'"]),
        ("DATETIME", ["'2024-01-01'", "'2024-01-02'", "3"]),
        ("", ["1", "1.5", "'x'"]),
        ("REAL", ["-9e999", "1.5", "9e999"]),
    ],
    "duckdb": [
        ("VARCHAR COLLATE NOCASE", ["'ab'", "'AB'", "'aB'"]),
        ("DECIMAL(30, 10)", ["12345678901234567890.1", "12345678901234567890.2"]),
        ("HUGEINT", ["9", "10", "170141183460469231731687303715884105727"]),
        ("FLOAT", ["'-inf'", "0.1", "0.3", "0.7", "'inf'", "'nan'"]),
        ("TIMESTAMPTZ", ["'2024-01-01 10:00:00+02'", "'2024-01-01 10:00:00+01'"]),
        ("DATE", ["'2024-01-01'", "'12024-01-02'", "'infinity'"]),
    ],
}


@pytest.mark.parametrize(
    ("kind", "declared", "values"), [(kind, *case) for kind, cases in ORDERED.items() for case in cases]
)
def test_a_read_goes_on_from_any_cursor_and_any_key(
    kind: str, declared: str, values: Sequence[str], tmp_path: Path
) -> None:
    base = databases.base(kind, tmp_path)
    base.run(f"CREATE TABLE t (v {declared}, n BIGINT)")
    for number, value in enumerate([*values, *values, "NULL", "NULL"]):
        base.run(f"INSERT INTO t VALUES ({value}, {number})")
    whole, _ = read(base, table="t", cursor_field="v")
    assert len(whole) == len(values) * 2 + 2
    for count in range(1, len(whole)):
        first, state = read(base, table="t", cursor_field="v", limit=count)
        left, last = read(base, state=state, table="t", cursor_field="v")
        assert [row["v"] for row in left] == [row["v"] for row in whole[count:]]
        assert {row["n"] for row in (*first, *left)} == {row["n"] for row in whole}  # what ties has no order
        assert read(base, state=last, table="t", cursor_field="v")[0] == []


REFUSED = {
    "postgresql": ["interval", "inet", "boolean", "bytea", "jsonb", "int[]", "int4range", "timetz", "money"],
    "mariadb": ["BLOB", "BOOLEAN", "ENUM('b', 'a')", "SET('b')", "FLOAT", "BIT(3)", "POINT"],
    "sqlite": ["BLOB"],
    "duckdb": ["INTERVAL", "BOOLEAN", "BLOB", "INTEGER[]"],
}


@pytest.mark.parametrize(("kind", "declared"), [(kind, each) for kind, types in REFUSED.items() for each in types])
def test_a_cursor_without_an_order_to_go_on_in_is_refused_before_anything_is_read(
    kind: str, declared: str, tmp_path: Path
) -> None:
    base = databases.base(kind, tmp_path)
    base.run(f"CREATE TABLE t (v {declared}, n BIGINT)")
    with (
        pytest.raises(ConfigError, match=r'"v" have no order .*, such as n'),
        source(base, table="t", cursor_field="v"),
    ):
        pass


# --- What happens between syncs ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_keyed", [True, False])
@settings(max_examples=10)
@given(data=st.data())
def test_no_row_is_lost_whatever_happens_between_syncs(kind: str, is_keyed: bool, data: st.DataObject) -> None:
    base = _shared(kind)
    table = f"t_{next(databases.NUMBERS)}"
    base.run(f"CREATE TABLE {table} (id BIGINT{' PRIMARY KEY' if is_keyed else ''}, moment BIGINT, v BIGINT)")
    live: dict[int, tuple[int | None, int]] = {}
    taken: Counter[tuple[Any, ...]] = Counter()
    state: Any = None
    cursor: int | None = None

    def shown(value: int | None) -> str:
        return "NULL" if value is None else str(value)

    for number in range(data.draw(st.integers(2, 6), "syncs")):
        changes: list[str] = []
        for change in data.draw(st.lists(st.sampled_from(["insert", "update", "delete"]), max_size=6), "changes"):
            ids = sorted(live)
            if change == "insert" or not ids:
                new = data.draw(st.integers(0, 99).filter(lambda each: each not in live))
                live[new] = (data.draw(st.none() | st.integers(0, 3)), number)
                changes.append(f"INSERT INTO {table} VALUES ({new}, {shown(live[new][0])}, {number})")
            elif change == "update":
                old = data.draw(st.sampled_from(ids))
                live[old] = (data.draw(st.none() | st.integers(0, 3)), 10 + number)
                at = shown(live[old][0])
                changes.append(f"UPDATE {table} SET moment = {at}, v = {live[old][1]} WHERE id = {old}")
            else:
                old = data.draw(st.sampled_from(ids))
                del live[old]
                changes.append(f"DELETE FROM {table} WHERE id = {old}")
        base.script(*changes)
        limit = data.draw(st.none() | st.integers(1, 4), "limit")
        more = {} if limit is None else {"limit": (state or {}).get("rows", 0) + limit}
        rows, state = read(base, state=state, table=table, cursor_field="moment", **more)
        new_rows = [(row["id"], row["moment"], row["v"]) for row in rows]
        assert not [row for row in new_rows if taken[row]], "a row came twice as it was"
        taken.update(new_rows)
        due = [
            (key, at, v)
            for key, (at, v) in live.items()
            if (at is None or cursor is None or at >= cursor) and not taken[key, at, v]
        ]
        assert limit is not None or not due, "a row was lost"
        cursor = state["cursor"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_off_read_of_a_table_goes_on_by_its_key(kind: str, tmp_path: Path) -> None:
    base = databases.base(kind, tmp_path)
    base.run("CREATE TABLE t (a BIGINT, b VARCHAR(9), v BIGINT, PRIMARY KEY (a, b))")
    base.run("INSERT INTO t VALUES (?, ?, ?)", *[(i % 3, f"k{i}", i) for i in reversed(range(9))])
    rows, state = read(base, table="t", limit=5)
    assert state["key"] == {"a": rows[-1]["a"], "b": rows[-1]["b"]}
    base.run("UPDATE t SET v = v + 100")
    base.run("DELETE FROM t WHERE b = 'k0'")
    left, _ = read(base, state=state, table="t")
    assert len({row["b"] for row in (*rows, *left)}) == 9
    assert [row["v"] for row in left] == [int(row["b"][1:]) + 100 for row in left]


def test_what_has_no_key_starts_over_and_says_so(base: Base, caplog: pytest.LogCaptureFixture) -> None:
    base.run("CREATE TABLE t (v BIGINT)")
    base.fill("t", 4)
    _, state = read(base, table="t", limit=2)
    assert len(read(base, state=state, table="t")[0]) == 4
    assert "read from the first one again" in caplog.text


def test_with_more_ties_than_a_state_remembers_they_are_read_again(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(position, "REMEMBERED", 3)
    base.run("CREATE TABLE t (id BIGINT, moment BIGINT)")
    base.run("INSERT INTO t VALUES (?, ?)", *[(i, 7) for i in range(4)])
    _, state = read(base, table="t", cursor_field="moment")
    base.run("INSERT INTO t VALUES (9, 7)")
    assert {row["id"] for row in read(base, state=state, table="t", cursor_field="moment")[0]} == {0, 1, 2, 3, 9}


def test_with_more_rows_without_a_cursor_than_a_state_remembers_later_ones_are_not_read_which_is_reported(
    base: Base, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(position, "REMEMBERED", 2)
    base.run("CREATE TABLE t (id BIGINT, moment BIGINT)")
    base.run("INSERT INTO t VALUES (?, ?)", (1, None), (2, None), (3, None), (4, 7))
    rows, state = read(base, table="t", cursor_field="moment")
    assert {row["id"] for row in rows} == {1, 2, 3, 4}
    (told,) = caplog.messages
    assert told.startswith('more than 2 rows have no value in "moment", so those of them that come later will not be')
    base.run("INSERT INTO t VALUES (?, ?)", (5, None), (6, 8))
    rows, _ = read(base, state=state, table="t", cursor_field="moment")
    assert [row["id"] for row in rows] == [6]
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("counts", [{"rows": 3, "rows_at_cursor": 2}, {}], ids=["older version", "written by hand"])
def test_a_state_without_what_was_seen_at_its_cursor_reads_that_again(base: Base, counts: dict[str, int]) -> None:
    base.run("CREATE TABLE t (id BIGINT, moment BIGINT)")
    base.run("INSERT INTO t VALUES (?, ?)", (1, 1), (2, 2), (3, 2))
    state = {"cursor_field": "moment", "cursor": 2, **counts}
    assert {row["id"] for row in read(base, state=state, table="t", cursor_field="moment")[0]} == {2, 3}


def test_a_connection_that_is_lost_while_rows_are_read_is_made_again(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "WAITS", (0.0, 0.0))
    base.run("CREATE TABLE t (id BIGINT PRIMARY KEY)")
    base.fill("t", 2_500)
    reader, failures = reader_of(base.kind), [1, 1]
    original = reader.batches

    def batches(*given: Any) -> Iterator[Any]:
        for place, batch in enumerate(original(*given)):
            yield batch
            if place == 1 and failures and failures.pop():
                raise DatabaseUnavailableError("lost")

    monkeypatch.setattr(reader, "batches", batches)
    assert [row["id"] for row in read(base, table="t")[0]] == list(range(2_500))
    assert not failures


KILL = {
    "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'FETCH%'",
    "mariadb": "SELECT id FROM information_schema.processlist WHERE id <> connection_id() AND db = database()",
}


@pytest.mark.parametrize("kind", KILL)
def test_a_server_that_ends_a_connection_while_rows_are_read_loses_none(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "WAITS", (0.0, 0.0))
    base = databases.base(kind, tmp_path)
    base.run(
        "CREATE TABLE t (id BIGINT PRIMARY KEY, review LONGTEXT)".replace("LONG" if kind == "postgresql" else "", "")
    )
    base.run("INSERT INTO t SELECT 0, repeat('x', 20000)")
    for size in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048):
        base.run(f"INSERT INTO t SELECT id + {size}, review FROM t")
    killed: list[Any] = []
    reader = reader_of(kind)
    original = reader.batches

    def batches(*given: Any) -> Iterator[Any]:
        for place, batch in enumerate(original(*given)):
            yield batch
            if place == 0 and not killed:
                found = base.run(KILL[kind])
                killed.extend(found)
                if kind == "mariadb":
                    base.script(*(f"KILL {number}" for (number,) in found))

    monkeypatch.setattr(reader, "batches", batches)
    assert [row["id"] for row in read(base, "SELECT id, review FROM t ORDER BY id")[0]] == list(range(4096))
    assert killed


def test_columns_that_come_between_looking_and_reading_are_left_out_or_reported(base: Base) -> None:
    base.run("CREATE TABLE t (id BIGINT PRIMARY KEY)")
    base.fill("t", 2)
    with source(base, table="t") as whole, source(base, "SELECT * FROM t") as query:
        base.run("ALTER TABLE t ADD COLUMN v BIGINT")
        assert rows_of(whole) == [{"id": 0}, {"id": 1}]
        with pytest.raises(ConfigError, match="other columns than a moment ago"):
            rows_of(query)


def test_states_come_with_the_rows_that_they_cover(base: Base) -> None:
    base.run("CREATE TABLE t (id BIGINT PRIMARY KEY)")
    base.fill("t", 2_500)
    with source(base, table="t") as opened:
        assert [state["key"]["id"] for state in states_of(opened)] == [999, 1_999, 2_499]
        assert opened.rows == 2_500
        items = [item for item in opened.read({"rows": 1_000, "key": {"id": 999}}) if not isinstance(item, Checkpoint)]
        assert (items[0].index, items[0].data, opened.rows) == (1_000, {"id": 1_000}, 2_500)


def test_of_large_rows_few_are_held_at_a_time(base: Base) -> None:
    text = "x" * 2**20
    base.run("CREATE TABLE t (id BIGINT PRIMARY KEY, large %s)" % ("LONGTEXT" if base.kind == "mariadb" else "TEXT"))
    for number in range(24):
        base.run(f"INSERT INTO t VALUES ({number}, '{text}')")
    with source(base, table="t") as opened:
        ends = [-1, *(state["key"]["id"] for state in states_of(opened))]
        assert max(end - start for start, end in pairwise(ends)) <= 9  # megabytes
        assert [(row["id"], row["large"] == text) for row in rows_of(opened)] == [(each, True) for each in range(24)]


def test_a_row_of_more_than_it_may_have_is_refused(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MOST", 1_000)
    query = f"SELECT 1 AS a, 'x' AS b UNION ALL SELECT 2, '{'x' * 1_000}'"
    with source(base, query) as opened, pytest.raises(ConfigError, match="a row of more than 1,000 bytes"):
        rows_of(opened)


def test_what_a_list_holds_counts_as_part_of_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MOST", 1_000)
    base = databases.base("postgresql", tmp_path)
    with source(base, f"SELECT ARRAY['{'x' * 300}', NULL]") as opened:
        assert len(rows_of(opened)) == 1
    query = f"SELECT ARRAY[ARRAY['{'x' * 500}'], ARRAY['{'x' * 500}']]"
    with source(base, query) as opened, pytest.raises(ConfigError, match="a row of more than 1,000 bytes"):
        rows_of(opened)


def test_mariadb_tells_all_digits_of_a_float_when_it_is_cast(tmp_path: Path) -> None:
    base = databases.base("mariadb", tmp_path)
    base.run("CREATE TABLE t (x FLOAT)")
    base.run("INSERT INTO t VALUES (1.555), (16777216)")
    with source(base, "SELECT x, CAST(x AS DOUBLE) AS y FROM t") as opened:
        assert rows_of(opened) == [
            {"x": 1.555, "y": 1.5549999475479126},
            {"x": 16777200, "y": 16777216},
        ]


def test_a_cell_of_sqlite_that_is_too_large_is_not_even_read(tmp_path: Path) -> None:
    base = databases.base("sqlite", tmp_path)
    base.run("CREATE TABLE t (id INTEGER PRIMARY KEY, large BLOB)")
    base.run("INSERT INTO t VALUES (1, zeroblob(70000000))")
    with source(base, table="t") as opened:
        tracemalloc.start()
        with pytest.raises(ConfigError, match="a row of more than 67,108,864 bytes"):
            rows_of(opened)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2**20


_BASES: dict[str, Base] = {}


def _shared(kind: str) -> Base:
    """One database for all examples of a property."""
    if kind not in _BASES:
        _BASES[kind] = databases.base(kind, Path(databases.scratch()))
    return _BASES[kind]


@pytest.mark.parametrize("cursor", [None, "id"])
def test_a_url_that_names_another_driver_is_read_with_that(tmp_path: Path, cursor: str | None) -> None:
    base = databases.base("postgresql", tmp_path)
    base.run("CREATE TABLE t (id BIGINT PRIMARY KEY, price NUMERIC, text TEXT, day DATE, more JSONB)")
    base.run("""INSERT INTO t VALUES (1, 1.10, 'a%', '2024-02-29', '{"a": 1}'), (2, NULL, NULL, NULL, NULL)""")
    options = sql.Options(url=SecretStr(base.url.replace("postgresql://", "postgresql+pg8000://")), table="t")
    with sql.source(options, cursor_field=cursor) as source:
        rows = [item.data for item in source.read() if isinstance(item, Record)]
    assert numbers.dumps(rows) == (
        b'[{"id":1,"price":1.10,"text":"a%","day":"2024-02-29","more":{"a":1}},'
        b'{"id":2,"price":null,"text":null,"day":null,"more":null}]'
    )
