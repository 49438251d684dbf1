"""SQL databases: a query read at once and let go, cursors in the database, tables appended to in one transaction."""

from __future__ import annotations

import sqlite3
from base64 import b64decode
from contextlib import closing
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import pytest
import sqlalchemy as sa
from pydantic import SecretStr, ValidationError

from connector.base.errors import ConfigError
from connector.base.records import Record
from connector.stores import files, sql
from connector.stores.databases.readers.generic import column_schema, kind_of
from tests.stores.helpers import rows_of, states_of, types


class Base:
    """A SQLite database with one table."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run("CREATE TABLE reviews (id INTEGER, text TEXT, at TEXT, score REAL)")
        self.add(
            (1, "a", "2024-01-02", 0.5), (2, "b", None, None), (3, "c", "2024-01-01", 1.0), (4, "d", "2024-01-02", 2.0)
        )

    def run(self, statement: str, *rows: tuple[Any, ...]) -> list[Any]:
        with closing(sqlite3.connect(self.path)) as database, database:
            if rows:
                database.executemany(statement, rows)
                return []
            return database.execute(statement).fetchall()

    def add(self, *rows: tuple[Any, ...]) -> None:
        self.run("INSERT INTO reviews VALUES (?, ?, ?, ?)", *rows)

    def options(self, query: str = "", table: str = "", name: str = "") -> sql.Options:
        return sql.Options(url=SecretStr(f"sqlite:///{self.path}"), query=query, table=table, name=name)

    def rows(self, query: str, **more: Any) -> list[dict[str, Any]]:
        with sql.source(self.options(query), **more) as source:
            return rows_of(source)


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return Base(tmp_path / "a.db")


def test_a_table_or_a_query_is_read(base: Base) -> None:
    with sql.source(base.options(table="reviews")) as source:
        assert [row["id"] for row in rows_of(source)] == [1, 2, 3, 4]
        assert source.rows == 4
        assert source.columns == {
            "id": {"type": ["null", "integer"]},
            "text": {"type": ["null", "string"]},
            "at": {"type": ["null", "string"]},
            "score": {"type": ["null", "number"]},
        }
    assert base.rows("SELECT id FROM reviews WHERE score > 0.7 ORDER BY id DESC;") == [{"id": 4}, {"id": 3}]


@pytest.mark.parametrize(
    ("query", "row"),
    [
        ("SELECT ':x 12:30 a:b' AS t, '100%' AS p", {"t": ":x 12:30 a:b", "p": "100%"}),
        ("-- all\n/* of */ SELECT 1 AS a", {"a": 1}),
        ("WITH x AS (SELECT 1 AS a) SELECT * FROM x", {"a": 1}),
        ("VALUES (1)", {"column1": 1}),
        ('SELECT 1 AS "we ird", 2 AS "select"', {"we ird": 1, "select": 2}),
        ("SELECT NULL AS a", {"a": None}),
        ("SELECT x'00ff' AS a", {"a": "AP8="}),
    ],
)
def test_a_query_is_run_as_it_is_written(base: Base, query: str, row: dict[str, Any]) -> None:
    assert base.rows(query) == [row]
    assert base.rows(query, cursor_field=next(iter(row))) == [row]


@pytest.mark.parametrize(
    "query", ["DELETE FROM reviews", "  drop table reviews", "selection", "INSERT INTO reviews VALUES (1)"]
)
def test_nothing_but_a_select_is_run(base: Base, query: str) -> None:
    with pytest.raises(ValidationError, match="the query has to be a SELECT"):
        base.options(query)


def test_reading_changes_nothing(base: Base) -> None:
    with sql.source(base.options("WITH x AS (SELECT 1) SELECT * FROM reviews")) as source:
        rows_of(source)
        base.add((5, "e", None, None))
    assert len(base.run("SELECT * FROM reviews")) == 5


def test_either_a_query_or_a_table_is_needed(base: Base) -> None:
    for query, table in (("", ""), ("SELECT 1", "reviews")):
        with pytest.raises(ValidationError, match="either a query or a table"):
            base.options(query, table)


def test_the_stream_has_the_name_of_its_table(base: Base) -> None:
    for options, name in (
        (base.options(table="reviews"), "reviews"),
        (base.options("SELECT * FROM main.reviews WHERE id > 1"), "reviews"),
        (base.options('SELECT 1 AS a FROM "reviews"'), "reviews"),
        (base.options("SELECT 1 AS a"), "query"),
        (base.options("SELECT 1 AS a", name="mine"), "mine"),
    ):
        with sql.source(options) as source:
            assert source.name == name


def test_a_cursor_orders_in_the_database_nulls_first_and_resumes_there(base: Base) -> None:
    options = base.options("SELECT id, at FROM reviews")
    with sql.source(options, cursor_field="at") as source:
        assert [row["id"] for row in rows_of(source)] == [2, 3, 1, 4]
        (state,) = states_of(source)
    seen, nulls = state.pop("seen"), state.pop("nulls")
    assert (len(b64decode(seen)), len(b64decode(nulls))) == (16, 8)  # of rows 1 and 4, and of row 2
    assert state == {"rows": 4, "cursor_field": "at", "cursor": "2024-01-02"}
    state |= {"seen": seen, "nulls": nulls}
    base.add((5, "e", "2024-01-02", None), (6, "f", "2024-01-03", None), (7, "g", "2023-01-01", None))
    with sql.source(options, cursor_field="at") as source:
        items = [item for item in source.read(state) if isinstance(item, Record)]
    assert [(item.index, item.data["id"]) for item in items] == [(4, 5), (5, 6)]


def test_a_cursor_may_be_null_when_reading_stops(base: Base) -> None:
    base.run("UPDATE reviews SET at = NULL")
    for options in (base.options("SELECT id, at FROM reviews"), base.options(table="reviews")):
        with sql.source(options, cursor_field="at", limit=3) as source:
            assert len(rows_of(source)) == 3
            (state,) = states_of(source)
        with sql.source(options, cursor_field="at") as source:
            assert [row["id"] for row in rows_of(source, state)] == [4]


def test_a_column_that_comes_twice_is_refused(base: Base) -> None:
    with pytest.raises(ConfigError, match='there are two columns "id"'):
        base.rows("SELECT id, id FROM reviews")


@pytest.mark.parametrize(
    ("sample", "schema"),
    [
        (True, {"type": ["null", "boolean"]}),
        (1, {"type": ["null", "integer"]}),
        (1.5, {"type": ["null", "number"]}),
        (Decimal("1.50"), {"type": ["null", "number"]}),
        (Decimal(7), {"type": ["null", "number"]}),
        (date(2024, 1, 2), {"type": ["null", "string"], "format": "date"}),
        (b"x", {"type": ["null", "string"], "contentEncoding": "base64"}),
        (UUID(int=1), {"type": ["null", "string"]}),
        ({"a": 1}, {"type": ["null", "object"]}),
        ([1], {"type": ["null", "array"], "items": {}}),
        (None, {}),
    ],
)
def test_the_schema_of_a_column_is_that_of_its_values(sample: Any, schema: dict[str, Any]) -> None:
    assert column_schema([] if sample is None else [kind_of(sample)]) == schema


@pytest.mark.parametrize("values", [[1, 2.5], [1, "x"], [b"x", 1.5]])
def test_a_column_that_sqlite_holds_to_no_type_may_be_of_any(base: Base, values: list[Any]) -> None:
    base.run("CREATE TABLE mixed (a)")
    base.run("INSERT INTO mixed VALUES (?)", *[(value,) for value in [None, *[values[0]] * 1_200, values[1]]])
    with sql.source(base.options(table="mixed")) as source:
        assert source.columns == {"a": {}}
        assert len(rows_of(source)) == 1_202


@pytest.mark.parametrize(("declared", "value"), [("INTEGER", "x"), ("INTEGER", 1.5), ("REAL", "x"), ("BIGINT", b"x")])
def test_a_value_that_is_not_of_its_declared_type_is_reported_before_anything_is_paid_for(
    base: Base, declared: str, value: Any
) -> None:
    base.run(f"CREATE TABLE mixed (a {declared})")
    base.run("INSERT INTO mixed VALUES (?)", (1,), (None,), (value,))
    with (
        sql.source(base.options(table="mixed")) as source,
        pytest.raises(ConfigError, match=r'column "a" is declared .*CAST'),
    ):
        next(source.read())


@pytest.mark.parametrize("literal", [r"'a\:b'", r"'a\: b'", "'a:b'", "'10%'", "'%s %(x)s'", r"'\::x:y'"])
def test_a_query_is_run_as_it_is_written_with_a_cursor_too(base: Base, literal: str) -> None:
    query = base.options(f"SELECT {literal} AS c, 1 AS n")
    for cursor in (None, "n"):
        with sql.source(query, cursor_field=cursor) as source:
            assert rows_of(source) == [{"c": literal.strip("'"), "n": 1}]


def test_times_tell_whether_they_have_a_zone() -> None:
    plain, zoned = datetime(2024, 1, 2, 3), datetime(2024, 1, 2, 3, tzinfo=timezone.utc)  # noqa: DTZ001, UP017 - both kinds
    assert column_schema([kind_of(plain)])["airbyte_type"] == "timestamp_without_timezone"
    assert column_schema([kind_of(zoned)])["airbyte_type"] == "timestamp_with_timezone"


def test_values_of_typed_columns_become_json(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'typed.db'}"
    engine = sa.create_engine(url)
    table = sa.Table(
        "typed",
        sa.MetaData(),
        sa.Column("at", sa.DateTime),
        sa.Column("amount", sa.Numeric(20, 2)),
        sa.Column("doc", sa.JSON),
    )
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(table.insert(), {"at": datetime(2024, 1, 2), "amount": Decimal("1.50"), "doc": {"a": 1}})  # noqa: DTZ001
    engine.dispose()
    with sql.source(sql.Options(url=SecretStr(url), table="typed")) as source:
        (row,) = rows_of(source)
        jsonschema.validate(row, {"properties": dict(source.columns)})


def test_an_error_of_the_database_is_reported(base: Base) -> None:
    with pytest.raises(ConfigError, match="the database says: no such table: nowhere"):
        base.rows("SELECT * FROM nowhere")


ADDED: dict[str, Any] = {"label": {"type": "string"}, "n": {"type": "integer"}, "_llm": {"type": "object"}}


def append(base: Base, options: sql.Options, values: dict[str, Any]) -> None:
    query = base.options("SELECT id, score FROM reviews")
    with sql.source(query) as source, sql.sink(options, ADDED, source=source) as sink:
        for record in (item for item in source.read() if isinstance(item, Record)):
            sink.write(record, values)
        sink.commit()


def test_a_table_is_made_with_types_and_appended_to(base: Base) -> None:
    for _ in range(2):
        append(base, base.options(table="enriched"), {"label": "x", "n": 1, "_llm": {"a": [1]}})
    assert base.run("SELECT name, type FROM pragma_table_info('enriched')") == [
        ("id", "BIGINT"),
        ("score", "DOUBLE"),
        ("label", "TEXT"),
        ("n", "BIGINT"),
        ("_llm", "TEXT"),
    ]
    rows = [(1, 0.5), (2, None), (3, 1.0), (4, 2.0)]
    assert base.run("SELECT * FROM enriched") == [(*row, "x", 1, '{"a":[1]}') for row in rows] * 2


def test_a_query_cannot_be_written_to(base: Base) -> None:
    with pytest.raises(ConfigError, match="name the `table`"):
        sql.sink(base.options("SELECT 1"), ADDED).__enter__()


def test_an_output_that_cannot_be_reached_is_refused_before_anything_is_paid_for(tmp_path: Path) -> None:
    options = sql.Options(url=SecretStr(f"sqlite:///{tmp_path}/no/such.db"), table="x")
    with pytest.raises(ConfigError, match="unable to open database file"):
        sql.sink(options, ADDED).__enter__()


def test_parquet_keeps_the_types_of_a_query(base: Base, tmp_path: Path) -> None:
    query = base.options("SELECT id, text, score FROM reviews")
    output = files.Options(path=str(tmp_path / "o.parquet"))
    with sql.source(query) as source, files.sink(output, {"n": {}}, source=source) as sink:
        for record in (item for item in source.read() if isinstance(item, Record)):
            sink.write(record, {"n": record.index})
        sink.commit()
    assert types(tmp_path / "o.parquet") == {"id": "BIGINT", "text": "VARCHAR", "score": "DOUBLE", "n": "BIGINT"}
