"""What every database that rows are written to has to do, run over all of them, as real ones."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from connector.base import numbers
from connector.base.errors import ConfigError, ConnectorError, StorageError
from connector.base.records import Record, Schema
from connector.base.streams import Mode, Target
from connector.stores import sql
from connector.stores.databases import writers
from connector.stores.databases.loading import in_place
from tests.databases import KINDS, Base, base

STRING: Schema = {"type": ["null", "string"]}
INTEGER: Schema = {"type": ["null", "integer"]}
NUMBER: Schema = {"type": ["null", "number"]}
BIG = 9_007_199_254_740_993
"""The first integer that a double does not hold."""

Row = dict[str, Any]


class Place:
    """A table of a real database, that syncs write to."""

    def __init__(self, database: Base, table: str = "reviews") -> None:
        self.database = database
        self.kind = database.kind
        self.table = table

    def quoted(self, name: str) -> str:
        return f"`{name}`" if self.kind == "mariadb" else f'"{name}"'

    def sync(
        self,
        *rows: Row,
        mode: Mode = "append",
        key: Sequence[str] = (),
        columns: dict[str, Schema] | None = None,
        job: str = "",
    ) -> None:
        options = sql.Options(url=self.database.secret, table=self.table)
        target = Target("reviews", mode, columns or {}, primary_key=tuple(key), job=job)
        with sql.sink(options, {}, target=target) as sink:
            for index, row in enumerate(rows):
                sink.write(Record(index, row), {})
            sink.commit()

    def upsert(self, *rows: Row, key: Sequence[str] = ("id",), **more: Any) -> None:
        self.sync(*rows, mode="append_dedup", key=key, **more)

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        return self.database.run(statement)

    def rows(self, *names: str) -> list[tuple[Any, ...]]:
        columns = ", ".join(map(self.quoted, names)) or "*"
        return sorted(self.run(f"SELECT {columns} FROM {self.quoted(self.table)}"), key=repr)

    def cells(self, name: str) -> list[Any]:
        return [row[0] for row in self.run(f"SELECT {self.quoted(name)} FROM {self.quoted(self.table)}")]

    def types(self) -> dict[str, str]:
        """The types of the columns, as the database calls them."""
        if self.kind == "sqlite":
            return {row[1]: row[2] for row in self.run(f'PRAGMA table_info("{self.table}")')}
        column = "column_type" if self.kind == "mariadb" else "data_type"
        found = self.run(
            f"SELECT column_name, {column} FROM information_schema.columns "
            f"WHERE table_name = '{self.table}' AND table_schema = {self.schema} ORDER BY ordinal_position"
        )
        return {name: str(type_) for name, type_ in found}

    @property
    def schema(self) -> str:
        return {"mariadb": "DATABASE()", "postgresql": "'public'", "duckdb": "'main'"}[self.kind]

    @property
    def is_typed(self) -> bool:
        """Whether the database has types for times and decimals."""
        return self.kind != "sqlite"


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(base(request.param, tmp_path))


def test_each_member_is_here() -> None:
    assert set(writers.MEMBERS) == set(KINDS)
    assert writers.load("snowflake").__module__.endswith("generic")


def test_rows_are_added_to_a_table_that_is_made(place: Place) -> None:
    place.sync({"id": 1, "text": "a"}, {"id": 2, "text": None})
    place.sync({"id": 2, "text": "é😀\t\n\\'\"%s:x"}, columns={"id": INTEGER, "text": STRING})
    assert place.rows() == [(1, "a"), (2, "é😀\t\n\\'\"%s:x"), (2, None)]


@pytest.mark.parametrize(
    "name",
    ["share %", "%s", "100%%", "%(id)s", "a{0}b", "?", ":id", '"', "`", "a.b c", "$1", "connector_row"],
)
def test_a_name_is_the_same_in_the_table_whatever_is_in_it(place: Place, name: str) -> None:
    place.sync({"id": 1, name: "a"})
    place.sync({"id": 2, name: "b"})
    place.upsert({"id": 2, name: "c"})
    place.sync({"id": 3, name: "d"}, mode="overwrite")
    with in_place.updating(place.database.secret, place.table, {f"{name} new": STRING}, (name,)) as sink:
        sink.write(Record(0, {name: "d"}), {f"{name} new": "e"})
        sink.commit()
    options = sql.Options(url=place.database.secret, table=place.table)
    with sql.source(options, cursor_field=name) as source:
        rows = [item.data for item in source.read() if isinstance(item, Record)]
        assert list(source.columns) == ["id", name, f"{name} new"]
        again = source.read({"rows": 1, "cursor_field": name, "cursor": "c"})
        assert [item.data for item in again if isinstance(item, Record)] == rows
    assert rows == [{"id": 3, name: "d", f"{name} new": "e"}]


def test_an_overwrite_replaces_all_rows(place: Place) -> None:
    place.sync({"id": 1}, {"id": 2})
    place.sync({"id": 3}, mode="overwrite")
    assert place.rows() == [(3,)]
    place.sync(mode="overwrite", columns={"id": INTEGER})
    assert place.rows() == []


def test_an_upsert_replaces_rows_of_the_same_key_the_last_one_counts(place: Place) -> None:
    place.upsert({"id": 1, "text": "a"}, {"id": 2, "text": "b"}, {"id": 1, "text": "c"})
    place.upsert({"id": 2, "text": "d"}, {"id": 3, "text": "e"}, {"id": 2, "text": "f"})
    assert place.rows() == [(1, "c"), (2, "f"), (3, "e")]


def test_an_upsert_of_keys_alone_keeps_one_row_of_each(place: Place) -> None:
    place.upsert({"id": 1}, {"id": 1})
    place.upsert({"id": 1}, {"id": 2})
    assert place.rows() == [(1,), (2,)]


def test_keys_are_compared_as_bytes(place: Place) -> None:
    keys = ["Ab12", "aB12", "ab12", "é", "e", "e\u0301", "a", "a ", "a\t", "ß", "ss", "", " "]
    place.upsert(*({"id": key, "n": 1} for key in keys))
    place.upsert(*({"id": key, "n": 2} for key in keys))
    assert sorted(place.cells("id")) == sorted(keys)
    assert set(place.cells("n")) == {2}


def test_keys_of_a_table_that_somebody_else_made_are_compared_as_bytes_too(place: Place) -> None:
    collation = {"mariadb": "COLLATE utf8mb4_general_ci", "sqlite": "COLLATE NOCASE"}.get(place.kind, "")
    place.run(f"CREATE TABLE reviews (id VARCHAR(20) {collation}, n BIGINT)")
    place.run("INSERT INTO reviews VALUES ('Ab12', 0), ('aB12', 0)")
    place.upsert({"id": "aB12", "n": 1}, {"id": "ab12", "n": 1})
    assert place.rows() == [("Ab12", 0), ("aB12", 1), ("ab12", 1)]


def test_a_row_without_a_key_is_added(place: Place) -> None:
    for _ in range(2):
        place.upsert({"a": 1, "b": None, "n": 1}, {"a": 1, "b": 2, "n": 1}, key=("a", "b"))
    assert place.rows("a", "b", "n") == [(1, 2, 1), (1, None, 1), (1, None, 1)]


def test_a_key_may_consist_of_several_columns_of_any_kind(place: Place) -> None:
    columns = {"a": STRING, "at": {**STRING, "format": "date"}, "n": NUMBER, "x": INTEGER}
    for number in (1, 2):
        place.upsert(
            {"a": "x", "at": "2024-01-01", "n": 1.5, "x": number},
            {"a": "x", "at": "2024-01-02", "n": 1.5, "x": number},
            {"a": "X", "at": "2024-01-01", "n": 1.5, "x": number},
            {"a": "x", "at": "2024-01-01", "n": 2.5, "x": number},
            key=("a", "at", "n"),
            columns=columns,
        )
    assert sorted(place.cells("x")) == [2, 2, 2, 2]


def test_a_key_that_becomes_text_stays_the_same_key(place: Place) -> None:
    place.upsert({"id": 1, "n": 1}, {"id": 2, "n": 1})
    place.upsert({"id": "x", "n": 2}, {"id": "2", "n": 2})
    place.upsert({"id": 1, "n": 3})
    assert place.rows("id", "n") == [("1", 3), ("2", 2), ("x", 2)]


def test_a_table_with_rows_of_the_same_key_is_refused_before_anything_is_paid_for(place: Place) -> None:
    place.run("CREATE TABLE reviews (id BIGINT, text VARCHAR(10))")
    place.run("INSERT INTO reviews VALUES (7, 'a'), (7, 'b'), (8, 'c')")
    options = sql.Options(url=place.database.secret, table="reviews")
    target = Target("reviews", "append_dedup", {"id": INTEGER, "text": STRING}, primary_key=("id",))
    with pytest.raises(StorageError, match="several rows with id = 7, so id cannot be its key"):
        sql.sink(options, {}, target=target).__enter__()
    assert len(place.rows()) == 3


def test_an_upsert_uses_the_primary_key_that_is_there(place: Place) -> None:
    place.run("CREATE TABLE reviews (id BIGINT PRIMARY KEY, text VARCHAR(10), note VARCHAR(10) DEFAULT 'kept')")
    place.run("INSERT INTO reviews (id, text) VALUES (1, 'a'), (2, 'b')")
    place.upsert({"id": 2, "text": "c"}, {"id": 3, "text": "d"})
    assert place.rows("id", "text", "note") == [(1, "a", "kept"), (2, "c", "kept"), (3, "d", "kept")]


def test_an_upsert_leaves_alone_what_its_rows_do_not_have(place: Place) -> None:
    place.run("CREATE TABLE reviews (id BIGINT, text VARCHAR(10), label VARCHAR(10), note VARCHAR(10))")
    place.run("INSERT INTO reviews VALUES (1, 'a', 'b', 'c'), (2, 'a', 'b', 'c')")
    place.upsert({"id": 1, "text": "d", "label": "e"}, {"id": 2, "text": "d"}, {"id": 3, "text": None})
    assert place.rows() == [(1, "d", "e", "c"), (2, "d", None, "c"), (3, None, None, None)]


def test_a_column_that_the_database_computes_is_left_to_it(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    how = "STORED" if place.kind == "postgresql" else ""
    n = f"n BIGINT GENERATED ALWAYS AS (id * 2) {how}"
    place.run(f"CREATE TABLE reviews (id BIGINT PRIMARY KEY, {n}, v BIGINT, {n.replace('n ', 'rev ', 1)})")
    columns: dict[str, Schema] = {"id": INTEGER, "n": INTEGER, "v": INTEGER}
    with caplog.at_level(logging.WARNING):
        place.sync({"id": 1, "n": 7, "v": 1}, columns=columns)
        place.upsert({"id": 1, "n": 7, "v": 2}, {"id": 2, "n": 7, "v": 2}, columns=columns)
        assert place.rows("id", "n", "v") == [(1, 2, 2), (2, 4, 2)]
        place.sync({"id": 3, "n": 7, "v": 3}, mode="overwrite", columns=columns)
    assert place.rows("id", "n", "v") == [(3, 6, 3)]
    assert 'the database computes the column "n"' in caplog.text
    assert '"v"' not in caplog.text


def test_a_key_that_the_database_computes_is_refused_before_anything_is_paid_for(place: Place) -> None:
    how = "STORED" if place.kind == "postgresql" else ""
    place.run(f"CREATE TABLE reviews (n BIGINT, id BIGINT GENERATED ALWAYS AS (n * 2) {how})")
    options = sql.Options(url=place.database.secret, table="reviews")
    target = Target("reviews", "append_dedup", {"id": INTEGER, "n": INTEGER}, primary_key=("id",))
    with pytest.raises(ConfigError, match='the database computes the column "id" of the key'):
        sql.sink(options, {}, target=target).__enter__()


@pytest.mark.parametrize("mode", ["append", "append_dedup"])
def test_a_row_without_a_required_column_is_left_out_and_no_other_one(
    place: Place, mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    place.run("CREATE TABLE reviews (id BIGINT, v BIGINT, a BIGINT NOT NULL)")
    place.run("INSERT INTO reviews VALUES (1, 1, 1)")
    key = ["id"] if mode == "append_dedup" else []
    with caplog.at_level(logging.WARNING):
        place.sync({"id": 1, "v": 2}, {"id": 2, "v": 2}, mode=mode, key=key)
    is_updated = place.kind == "duckdb" and bool(key)  # others check what an INSERT would add, before they update
    assert place.rows() == [(1, 2 if is_updated else 1, 1)]
    assert f"rows left out: {1 if is_updated else 2}" in caplog.text


def test_a_required_column_that_the_stream_lacks_is_reported_before_anything_is_paid_for(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.run("CREATE TABLE reviews (id BIGINT, a BIGINT NOT NULL, b BIGINT NOT NULL DEFAULT 1)")
    options = sql.Options(url=place.database.secret, table="reviews")
    opened = sql.sink(options, {}, target=Target("reviews", columns={"id": INTEGER}))
    if place.kind == "mariadb":  # which refuses the statement
        with pytest.raises(ConfigError, match="'a' doesn't have a default value"):
            opened.__enter__()
        return
    with caplog.at_level(logging.WARNING), opened:
        assert '"a" takes no null and has no default: rows without it will be left out' in caplog.text
        assert '"b"' not in caplog.text


VALUES: list[tuple[Schema, list[Any]]] = [
    ({"type": "boolean"}, [True, False]),
    (INTEGER, [0, -1, 2**63 - 1, -(2**63)]),
    (NUMBER, [0.1, 1e300, -2.5e-300, 3, 0.30000000000000004]),
    (STRING, ["", " a ", "é😀", "x" * 70_000, "\\N", "NULL", "a\tb\r\nc\\d", "'\"`$$"]),
    ({"type": "object"}, [{"a": [1, None, {"b": "é\\\"'"}]}, {}]),
    ({"type": "array", "items": {"type": "integer"}}, [[1, None, 3], []]),
    ({"type": "array", "items": {"type": "number"}}, [[1.5, 2], [0.1]]),
    ({"type": "array", "items": {"type": "string"}}, [["a", 'b"\\,{}', "NULL", ""], [None]]),
    ({"type": "array", "items": {"type": "boolean"}}, [[True, None, False]]),
    ({"type": "array", "items": {"type": "object"}}, [[{"a": 1}], []]),
    ({"type": "array", "items": {"type": "string"}}, [["a"], [1, "a", True, None, 1.5]]),
    ({}, [{"a": 1}, [1, "x"], None]),
    ({}, [[1, "x"], ["1", "x"]]),
]


def read_back(place: Place) -> list[Any]:
    options = sql.Options(url=place.database.secret, query=f"SELECT v FROM {place.table} ORDER BY n")
    with sql.source(options) as source:
        rows = [item.data["v"] for item in source.read() if isinstance(item, Record)]
    return [json.loads(row) if isinstance(row, str) and row[:1] in ("[", "{") and row != "" else row for row in rows]


@pytest.mark.parametrize(("schema", "values"), VALUES)
@pytest.mark.parametrize("is_declared", [True, False])
def test_values_come_back_as_they_were_sent(
    place: Place, schema: Schema, values: list[Any], *, is_declared: bool
) -> None:
    columns = {"n": INTEGER, "v": schema if is_declared else {}}
    given: list[Any] = [*values, None]
    for mode, key in (("append", ()), ("append_dedup", ("n",)), ("overwrite", ())):
        rows = [{"n": number, "v": value} for number, value in enumerate(given)]
        place.sync(*rows, mode=mode, key=key, columns=columns)  # type: ignore[arg-type]  # from a tuple of texts
        found = read_back(place)
        assert found == given
        assert numbers.dumps(found) == numbers.dumps(given) or schema in (NUMBER, {"type": "boolean"}) or 2 in given[0]
        if mode == "append":
            place.run(f"DELETE FROM {place.table} WHERE n = 0")


TIMES: list[tuple[Schema, list[str]]] = [
    ({"format": "date"}, ["2024-02-29", "0001-01-01", "9999-12-31"]),
    ({"format": "time", "airbyte_type": "time_without_timezone"}, ["10:00:00.123456", "23:59:59"]),
    ({"format": "date-time", "airbyte_type": "timestamp_without_timezone"}, ["2024-02-29T10:00:00.123456"]),
    ({"format": "date-time"}, ["2024-02-29T10:00:00.123456Z", "1969-12-31T23:59:59Z"]),
    ({"format": "uuid"}, ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ({"contentEncoding": "base64"}, ["AP8=", ""]),
]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "boolean"}, True), (INTEGER, 7), (NUMBER, 0.5), (STRING, "Ab"),
        *(({**STRING, **more}, values[0]) for more, values in TIMES),
    ],
)  # fmt: skip
def test_a_column_of_any_type_can_be_the_key_of_a_table_that_has_none_yet(
    place: Place, schema: Schema, value: Any
) -> None:
    columns: dict[str, Schema] = {"v": schema, "n": INTEGER}
    place.sync({"v": value, "n": 1}, columns=columns)
    place.upsert({"v": value, "n": 2}, key=("v",), columns=columns)
    assert place.cells("n") == [2]
    place.sync({"v": value, "n": 3}, columns=columns)
    with pytest.raises(ConnectorError, match="several rows with v = "):
        place.upsert({"v": value, "n": 4}, key=("v",), columns=columns)


@pytest.mark.parametrize(("more", "values"), TIMES)
def test_texts_of_a_declared_format_get_a_type_of_their_own(place: Place, more: Schema, values: list[str]) -> None:
    schema = {**STRING, **more}
    place.sync(*({"n": number, "v": value} for number, value in enumerate(values)), columns={"n": INTEGER, "v": schema})
    query = (
        "SELECT CAST(v AS CHAR) AS v FROM reviews ORDER BY n" if place.kind == "mariadb" else "SELECT v FROM reviews"
    )
    with sql.source(sql.Options(url=place.database.secret, query=query)) as source:
        found = [item.data["v"] for item in source.read() if isinstance(item, Record)]
    if place.kind == "mariadb":  # its times have six digits, and no zone
        assert all(given.rstrip("Z").replace("T", " ") in (text, text[: len(given.rstrip("Z"))]) for given, text in
                   zip(values, found, strict=True) if "contentEncoding" not in more)  # fmt: skip
    else:
        assert found == values
    if place.is_typed:
        assert place.types()["v"] != place.types().get("text")
        place.sync({"n": 9, "v": "something else"}, columns={"n": INTEGER, "v": schema})
        assert "something else" in place.cells("v")


FAR = {
    "d": ["2024-02-29", "infinity", "-infinity", "-0043-03-15", "+0000-02-29", "+12345-12-31"],
    "t": [
        *("2024-02-29T10:00:00.123456", "-infinity", "infinity"),
        *("-0043-03-15T10:00:00.123456", "+0000-02-29T10:00:00.123456", "+12345-12-31T10:00:00.123456"),
    ],
}
FAR["z"] = [value if value.endswith("y") else f"{value}Z" for value in FAR["t"]]


def test_times_of_any_year_and_infinite_ones_keep_the_type_of_their_column(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    plain = {"format": "date-time", "airbyte_type": "timestamp_without_timezone"}
    formats: dict[str, Schema] = {"d": {"format": "date"}, "t": plain, "z": {"format": "date-time"}}
    columns = {"n": INTEGER, **{name: {**STRING, **more} for name, more in formats.items()}}
    rows = [
        {"n": n, "d": d, "t": t, "z": z} for n, (d, t, z) in enumerate(zip(FAR["d"], FAR["t"], FAR["z"], strict=True))
    ]
    place.sync(rows[0], columns=columns)
    types = place.types()
    with caplog.at_level(logging.WARNING):
        place.sync(*rows[1:], columns=columns)
    assert place.types() == types
    if place.kind == "mariadb":
        assert place.rows("n") == [(0,)]
        assert 'rows left out: 5: "d" is infinity, a time that the database cannot store (n = 1)' in caplog.text
        return
    place.sync({"n": 9, "d": "soon", "t": "soon", "z": "soon"}, columns=columns)
    names = ", ".join(map(place.quoted, FAR))
    with sql.source(sql.Options(url=place.database.secret, query=f"SELECT {names} FROM reviews ORDER BY n")) as source:
        found = [item.data for item in source.read() if isinstance(item, Record)]
    assert {name: [row[name] for row in found[:-1]] for name in FAR} == FAR


@pytest.mark.parametrize(
    "value",
    [
        "2024-02-30",
        "2024-1-2",
        "yesterday",
        "2024-02-29T10:00:00.123456789Z",
        "24:00:00",
        "0000-00-00",
        "",
        "-0043-02-29",
        "infinite",
    ],
)
def test_a_text_that_is_not_of_the_declared_format_is_kept_as_it_is(place: Place, value: str) -> None:
    for schema in ({"format": "date"}, {"format": "date-time"}, {"format": "time"}, {"format": "uuid"}):
        place.sync({"n": 1, "v": value}, mode="overwrite", columns={"n": INTEGER, "v": {**STRING, **schema}})
        assert place.cells("v") == [value]


def test_a_column_becomes_wider_where_a_value_needs_it_and_all_values_stay(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[Any] = [1, BIG, 1.5, 0.1, 2**64, "x", True]
    with caplog.at_level(logging.WARNING):
        for number, value in enumerate(sent):
            place.sync({"n": number, "v": value})
    found = [place.run(f"SELECT v FROM reviews WHERE n = {number}")[0][0] for number in range(len(sent))]
    assert [str(each).rstrip("0").rstrip(".") if "." in str(each) else str(each) for each in found] == [
        "1", str(BIG), "1.5", "0.1", str(2**64), "x", "true",
    ]  # fmt: skip
    assert 'the column "v" (64-bit integer) becomes ' in caplog.text


DEFINED = {
    "postgresql": """n int NOT NULL DEFAULT 5 CHECK (n > 0), v varchar(3) COLLATE "C" DEFAULT 'x',
        d date DEFAULT '2024-01-01'""",
    "mariadb": """n INT NOT NULL DEFAULT 5 COMMENT 'it''s, (n)' CHECK (n > 0),
        b BOOLEAN NOT NULL DEFAULT 1 COMMENT 'b,', v VARCHAR(3) COLLATE utf8mb4_unicode_ci DEFAULT 'x',
        d DOUBLE DEFAULT 1.5, t DATETIME DEFAULT '2024-01-01' ON UPDATE current_timestamp(),
        z VARCHAR(3) COMPRESSED DEFAULT 'z', INDEX by_d (d), CONSTRAINT few CHECK (length(d) < 9)""",
    "sqlite": "n INT DEFAULT 5, v INT COLLATE NOCASE NOT NULL DEFAULT 7, d INT REFERENCES o (id) -- d, (d",
    "duckdb": "n INT NOT NULL DEFAULT 5, v INT DEFAULT 7, d DATE DEFAULT '2024-01-01'",
}
KEPT: dict[str, list[Any]] = {
    "postgresql": [
        ("n", "bigint", "5", None, "NO"),
        ("v", "text", "'x'::character varying", "C", "YES"),
        ("d", "text", "'2024-01-01'::date", None, "YES"),
    ],
    "mariadb": [
        "`n` bigint(20) NOT NULL DEFAULT 5 COMMENT 'it''s, (n)' CHECK (`n` > 0)",
        "`b` longtext NOT NULL DEFAULT 1 COMMENT 'b,'",
        "`v` longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci DEFAULT 'x'",
        "`d` longtext DEFAULT 1.5",
        "`t` datetime(6) DEFAULT '2024-01-01 00:00:00.000000' ON UPDATE current_timestamp(6)",
        "`z` longtext /*M!100301 COMPRESSED*/ DEFAULT 'z'",
        "KEY `by_d` (`d`",
        "CONSTRAINT `few` CHECK (octet_length(`d`) < 9)",
    ],
    "sqlite": ['"n" TEXT DEFAULT 5', '"v" TEXT COLLATE NOCASE NOT NULL DEFAULT 7', '"d" TEXT REFERENCES o ( id )'],
    "duckdb": ["n BIGINT DEFAULT(5) NOT NULL", "v VARCHAR DEFAULT(7)", "d VARCHAR DEFAULT('2024-01-01')"],
}


def test_a_column_that_becomes_wider_keeps_the_rest_of_its_definition(place: Place) -> None:
    place.run("CREATE TABLE o (id INTEGER PRIMARY KEY)")
    place.run(f"CREATE TABLE reviews ({DEFINED[place.kind]}\n)")
    row: Row = {"n": "3.5" if place.kind == "sqlite" else 2**40, "v": "wider", "d": "soon"}
    if place.kind == "mariadb":
        place.run("INSERT INTO reviews (t) VALUES ('2024-05-05')")
        row |= {"b": "maybe", "t": "2024-01-01T00:00:00.5", "z": "wider"}
    place.sync(row)
    assert row["v"] in place.cells("v")
    assert row["d"] in place.cells("d")
    if place.kind == "postgresql":
        told: Any = place.run(
            "SELECT column_name, data_type, column_default, collation_name, is_nullable "
            "FROM information_schema.columns WHERE table_name = 'reviews' ORDER BY ordinal_position"
        )
        assert place.run("SELECT count(*) FROM pg_constraint WHERE contype = 'c' AND conname = 'reviews_n_check'") == [
            (1,)
        ]
        assert told == KEPT["postgresql"]
        return
    statement = {
        "mariadb": "SHOW CREATE TABLE reviews",
        "sqlite": "SELECT sql FROM sqlite_schema WHERE name = 'reviews'",
        "duckdb": "SELECT sql FROM duckdb_tables() WHERE table_name = 'reviews'",
    }
    told = place.run(statement[place.kind])[0][-1]
    assert [each for each in KEPT[place.kind] if each not in told] == []
    if place.kind == "mariadb":
        assert "true" in place.cells("b")
        assert "2024-05-05 00:00:00" in map(str, place.cells("t"))  # which its ON UPDATE has not touched


FIXED = {
    "postgresql": [
        ("CREATE VIEW w AS SELECT n FROM reviews", "view w depends on it"),
        ("ALTER TABLE reviews ADD g INT GENERATED ALWAYS AS (n + 1) STORED", "generated column g depends on it"),
    ],
    "sqlite": [
        ("CREATE VIEW w AS SELECT n FROM reviews", "the view w refers to it"),
        ("CREATE INDEX i ON reviews (n)", "the index i refers to it"),
        ("ALTER TABLE reviews ADD g INT GENERATED ALWAYS AS (n + 1)", "the table's definition refers to it"),
    ],
    "duckdb": [("CREATE INDEX i ON reviews (v)", "a table with an index")],
}


@pytest.mark.parametrize(
    ("place", "statement", "reason"),
    [(kind, *case) for kind, cases in FIXED.items() for case in cases],
    indirect=["place"],
)
@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_where_a_column_cannot_be_changed_only_rows_that_need_it_are_left_out(
    place: Place, statement: str, reason: str, mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    place.run("CREATE TABLE reviews (n INT, v INT)")
    place.run(statement)
    place.run("INSERT INTO reviews (n, v) VALUES (1, 1)")
    place.sync({"n": "text", "v": 2}, {"n": 3, "v": 3}, mode=mode)
    assert place.cells("v") == ([1, 3] if mode == "append" else [3])
    assert reason in caplog.text


@pytest.mark.parametrize("place", ["mariadb", "sqlite"], indirect=True)
def test_no_trigger_runs_for_rows_that_are_there_when_a_column_becomes_wider(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.run("CREATE TABLE reviews (n DOUBLE, v INT)")
    place.run("INSERT INTO reviews VALUES (1, 1)")
    place.run(
        "CREATE TRIGGER changed BEFORE UPDATE ON reviews FOR EACH ROW SET NEW.v = 9"
        if place.kind == "mariadb"
        else "CREATE TRIGGER changed AFTER UPDATE ON reviews BEGIN UPDATE reviews SET v = 9; END"
    )
    place.sync({"n": "text", "v": 2}, {"n": 3, "v": 3})
    assert place.rows("n", "v") == [(1, 1), (3, 3)]
    assert "its trigger changed would run for every row" in caplog.text


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_arrays_of_any_type_take_lists_of_its_texts(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.run("CREATE TYPE mood AS ENUM ('so so', 'good')")
    place.run("CREATE TABLE reviews (d date[], m mood[], u uuid[], t timestamptz[])")
    row = {"d": ["2024-01-01", None], "m": ["so so"], "u": [], "t": ["2024-01-01T10:00:00+02:00"]}
    place.sync(row, {"m": ["worse"]})
    told = [("{2024-01-01,NULL}", '{"so so"}', "{}", True)]
    where = "t = ARRAY['2024-01-01 08:00Z'::timestamptz]"
    assert place.run(f"SELECT d::text, m::text, u::text, {where} FROM reviews") == told
    assert 'invalid input value for enum mood: "worse"' in caplog.text


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_an_array_takes_lists_of_several_dimensions_that_it_holds(place: Place) -> None:
    place.run("CREATE TABLE reviews (n int, m int[], t text[])")
    lists = [[[1, 2], [3, None]], [], [7], [[[1]], [[2]]]]
    place.sync(*({"n": n, "m": value, "t": [["a", "{b"]]} for n, value in enumerate(lists)))
    assert place.run("SELECT m, t, pg_typeof(m)::text FROM reviews ORDER BY n") == [
        (value, [["a", "{b"]], "integer[]") for value in lists
    ]
    odd: list[Any] = [[[1], [2, 3]], [[1], None], [[], []], [1, [2]]]
    place.sync(*({"n": 4 + n, "m": value} for n, value in enumerate(odd)))
    assert [row[0] for row in place.run("SELECT m FROM reviews ORDER BY n")] == lists + odd


def test_a_column_of_doubles_becomes_exact_where_an_integer_needs_it(place: Place) -> None:
    place.sync({"n": 1, "v": 0.30000000000000004}, {"n": 2, "v": 1e300})
    place.sync({"n": 3, "v": BIG})
    found = [str(value) for value in place.cells("v")]
    assert [float(value) for value in found[:2]] == [0.30000000000000004, 1e300]
    assert found[2].split(".")[0] == str(BIG)


def test_one_value_that_no_column_holds_blocks_no_other_row(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        place.sync({"id": 1, "text": "a"}, {"id": 2, "text": "b\0c"}, {"id": 3, "text": "d"}, columns={"text": STRING})
    if place.kind == "postgresql":
        assert place.rows("id", "text") == [(1, "a"), (3, "d")]
        assert 'rows left out: 1: "text" holds the character NUL' in caplog.text
    else:
        assert place.rows("id", "text") == [(1, "a"), (2, "b\0c"), (3, "d")]


def test_a_null_where_the_table_takes_none_blocks_no_other_row(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.run("CREATE TABLE reviews (id BIGINT, text VARCHAR(10) NOT NULL)")
    with caplog.at_level(logging.WARNING):
        place.sync({"id": 1, "text": "a"}, {"id": 2, "text": None}, {"id": 3})
    assert place.rows() == [(1, "a")]
    assert 'rows left out: 2: "text" is null' in caplog.text


@pytest.mark.parametrize(("mode", "key"), [("append", ()), ("append_dedup", ("id",)), ("overwrite", ())])
def test_a_row_that_breaks_a_rule_of_the_user_blocks_no_other_row(
    place: Place, mode: Mode, key: Sequence[str], caplog: pytest.LogCaptureFixture
) -> None:
    place.run("CREATE TABLE reviews (id BIGINT, stars BIGINT CHECK (stars >= 0), name VARCHAR(9) UNIQUE)")
    place.run("INSERT INTO reviews VALUES (3, 3, 'old')")
    rows: list[Row] = [{"id": index, "stars": index, "name": None} for index in range(2_500)]
    rows[1] |= {"stars": -1}
    rows[2] |= {"name": "one"}
    rows[2_400] |= {"name": "one"}
    if place.kind == "mariadb" and mode == "append_dedup":
        place.run("ALTER TABLE reviews DROP INDEX name")  # a second unique key is refused
        rows[2_400] |= {"stars": -2}
    with caplog.at_level(logging.WARNING):
        place.sync(*rows, mode=mode, key=key)
    assert "rows left out: 2: " in caplog.text
    assert "id = 1" in caplog.text
    assert "id = 2400" in caplog.text
    kept = [tuple(row.values()) for row in rows if row["id"] not in (1, 2_400)]
    assert place.rows() == sorted([*kept, *([(3, 3, "old")] if mode == "append" else [])], key=repr)


@pytest.mark.parametrize("place", ["mariadb"], indirect=True)
@pytest.mark.parametrize(("engine", "mode"), [("MyISAM", "append"), ("MyISAM", "overwrite"), ("InnoDB", "overwrite")])
def test_a_row_that_breaks_a_rule_is_left_out_where_mariadb_cannot_undo_a_statement(
    place: Place, engine: str, mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    place.run(f"CREATE TABLE reviews (id BIGINT, stars BIGINT, CHECK (stars >= 0)) ENGINE = {engine}")
    rows = [{"id": n, "stars": n - 2 if mode == "append" else f"{n - 2}"} for n in range(6)]  # texts change its type
    with caplog.at_level(logging.WARNING):
        place.sync(*rows, mode=mode, columns={"id": INTEGER, "stars": STRING} if mode == "overwrite" else {})
    assert [row[0] for row in place.rows("id")] == [2, 3, 4, 5]
    assert "(2 rows: id = 0; id = 1)" in caplog.text


@pytest.mark.parametrize("place", ["duckdb"], indirect=True)
@pytest.mark.parametrize(("mode", "key"), [("append", ()), ("append_dedup", ("id",))])
def test_rows_that_break_any_rule_that_duckdb_has_are_left_out(
    place: Place, mode: Mode, key: Sequence[str], caplog: pytest.LogCaptureFixture
) -> None:
    place.run("CREATE TYPE mood AS ENUM ('good', 'bad')")
    place.run("CREATE TABLE stars (id BIGINT PRIMARY KEY)")
    place.run("INSERT INTO stars VALUES (1)")
    place.run(
        "CREATE TABLE reviews (id BIGINT PRIMARY KEY, mood mood, stars BIGINT REFERENCES stars (id), a INT, b INT, "
        "c INT DEFAULT 0, UNIQUE (a, b), CHECK (a > 0 OR c > 0))"
    )
    with caplog.at_level(logging.WARNING):
        place.sync(
            {"id": 1, "mood": "good", "stars": 1, "a": 1, "b": 1},
            {"id": 2, "mood": "odd"},
            {"id": 3, "stars": 3},
            {"id": 4, "a": 1, "b": 1},
            {"id": 5, "a": 1, "b": None},
            {"id": 6, "a": 0, "b": 9},
            {"id": 7, "a": 1, "b": None},
            mode=mode,
            key=key,
        )
    assert [row[0] for row in place.rows("id")] == [1, 5, 7]
    for told in (
        "\"mood\" is not a valid ENUM('good', 'bad') (id = 2)",
        "stars(id) (id = 3)",
        "same a, b (id = 4)",
        "(id = 6)",
    ):
        assert told in caplog.text


@pytest.mark.parametrize("place", ["postgresql", "mariadb"], indirect=True)
def test_an_error_that_is_about_no_row_ends_the_commit(place: Place) -> None:
    place.run("CREATE TABLE reviews (id BIGINT PRIMARY KEY)")
    place.run("CREATE TABLE answers (id BIGINT, FOREIGN KEY (id) REFERENCES reviews (id))")
    place.run("INSERT INTO reviews VALUES (1)")
    place.run("INSERT INTO answers VALUES (1)")
    with pytest.raises(StorageError, match="foreign key"):
        place.sync({"id": 2}, mode="overwrite")
    assert place.rows() == [(1,)]


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_a_rule_that_ends_the_transaction_ends_the_commit(place: Place) -> None:
    place.run("CREATE TABLE reviews (id BIGINT)")
    place.run("CREATE TRIGGER g BEFORE INSERT ON reviews WHEN NEW.id = 2 BEGIN SELECT RAISE(ROLLBACK, 'no two'); END")
    with pytest.raises(StorageError, match="no two"):
        place.sync({"id": 1}, {"id": 2})
    assert place.rows() == []


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_rules_that_a_database_checks_at_the_end_or_in_other_ways_leave_out_the_row(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.run("CREATE TYPE mood AS ENUM ('good', 'bad')")
    place.run("CREATE TABLE stars (id BIGINT PRIMARY KEY)")
    place.run("INSERT INTO stars VALUES (1), (2)")
    place.run(
        "CREATE TABLE reviews (id BIGINT, mood mood, stars BIGINT REFERENCES stars (id) DEFERRABLE INITIALLY DEFERRED)"
    )
    with caplog.at_level(logging.WARNING):
        place.sync({"id": 1, "mood": "good", "stars": 2}, {"id": 2, "mood": "odd"}, {"id": 3, "stars": 3})
    assert place.rows() == [(1, "good", 2)]
    assert "invalid input value for enum mood" in caplog.text
    assert 'Key (stars)=(3) is not present in table "stars"' in caplog.text


@pytest.mark.parametrize("place", ["mariadb"], indirect=True)
def test_a_row_that_mariadb_has_no_room_for_in_a_packet_is_left_out(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    ((most,),) = place.run("SELECT @@max_allowed_packet")
    long = "é" * (most // 2 - 100)
    with caplog.at_level(logging.WARNING):
        place.sync({"id": 1, "text": long}, {"id": 2, "text": long + "é" * 200}, {"id": 3, "text": "a"})
    assert place.rows() == [(1, long), (3, "a")]
    assert "max_allowed_packet" in caplog.text


def test_a_table_in_the_place_of_one_that_was_renamed_is_upserted_into(place: Place) -> None:
    place.upsert({"id": 1, "text": "a"})
    place.run("ALTER TABLE reviews RENAME TO reviews_before")
    place.upsert({"id": 1, "text": "b"})
    place.upsert({"id": 1, "text": "c"})
    assert place.rows() == [(1, "c")]
    before = Place(place.database, "reviews_before")
    before.sync({"id": 1, "text": "again"})  # rows of any key are appended there, too
    assert before.rows("id", "text") == [(1, "a"), (1, "again")]


@pytest.mark.parametrize(
    "statements",
    [
        ["DROP TABLE reviews"],
        ["ALTER TABLE reviews DROP COLUMN v"],
        ["ALTER TABLE reviews ADD COLUMN other BIGINT"],
        ["DROP TABLE reviews", "CREATE TABLE reviews (v VARCHAR(3), id VARCHAR(3))"],
    ],
)
def test_what_is_learnt_of_rows_holds_for_the_table_as_it_is_at_the_commit(
    place: Place, statements: Sequence[str]
) -> None:
    place.sync({"id": 1, "v": 1})
    options = sql.Options(url=place.database.secret, table="reviews")
    with sql.sink(options, {}, target=Target("reviews", "append", {"id": INTEGER})) as sink:
        for index in range(300):
            sink.write(Record(index, {"id": 2, "v": 1.5 if index else "text"}), {})
        for statement in statements:
            place.run(statement)
        sink.commit()
    found = {(str(id_), None if v is None else str(v)) for id_, v in place.rows("id", "v")}
    assert found - {("1", "1"), ("1", None)} == {("2", "text"), ("2", "1.5")}


def test_a_text_that_is_too_long_for_its_column_widens_it(place: Place) -> None:
    place.run("CREATE TABLE reviews (id BIGINT, text VARCHAR(3))")
    place.sync({"id": 1, "text": "abc"}, {"id": 2, "text": "abcdef "})
    assert place.rows() == [(1, "abc"), (2, "abcdef ")]


@pytest.mark.parametrize(
    ("place", "type_"),
    [
        *(("postgresql", type_) for type_ in ("TIMESTAMP(0)", "TIMESTAMP(3)", "TIME(0)")),
        *(("mariadb", type_) for type_ in ("TIMESTAMP(0)", "TIMESTAMP(3)", "DATETIME", "TIME(0)")),
    ],
    indirect=["place"],
)
def test_a_column_of_whole_seconds_cuts_no_fraction_off(place: Place, type_: str) -> None:
    place.run(f"CREATE TABLE reviews (id BIGINT, v {type_} NULL)")
    day = "" if type_.startswith("TIME(") else "2024-02-29 "
    for number, clock in enumerate(("10:00:00", "10:00:00.123456", "10:00:00.500000")):
        place.sync({"id": number, "v": f"{day}{clock}"})
    text = "CHAR" if place.kind == "mariadb" else "TEXT"
    found = [row[0] for row in place.run(f"SELECT CAST(v AS {text}) FROM reviews ORDER BY id")]
    assert [each.rstrip("0").rstrip(".") for each in found][1:] == [f"{day}10:00:00.123456", f"{day}10:00:00.5"]


def test_an_overwrite_takes_new_types(place: Place) -> None:
    place.sync({"id": "x", "v": "a"}, {"id": "y", "v": "b"})
    before = place.types()
    place.sync({"id": 1, "v": 1.5}, mode="overwrite", columns={"id": INTEGER, "v": NUMBER})
    assert place.rows("id", "v") == [(1, 1.5)]
    assert place.types()["id"] != before["id"]
    assert place.types()["v"] not in before.values()


def test_columns_that_come_later_are_added(place: Place) -> None:
    place.sync({"id": 1})
    place.sync({"id": 2, "more": {"a": 1}})
    place.upsert({"id": 2, "even": True})
    assert len(place.rows("id", "more", "even")) == 2


def test_names_of_any_length_and_case_are_columns_of_their_own(place: Place) -> None:
    long = "a" * 70
    row = {"ID": 1, "id": 2, "Id": 3, long + "x": 4, long + "y": 5, "select": 6, 'we"ird`': 7, " ": 8, "😀": 9, "é": 10}
    for _ in range(2):
        place.sync(row, columns=dict.fromkeys(row, INTEGER))
    assert len(place.types()) == len(row)
    (found, again) = place.run("SELECT * FROM reviews")
    assert sorted(found) == sorted(row.values())
    assert again == found
    place.sync({**row, "": 11})
    assert len(place.types()) == len(row) + 1


def test_a_table_may_have_any_name(place: Place) -> None:
    for table in ("Reviews of 2024", "order", "t" * 80, "é😀"):
        place.table = table
        for _ in range(2):
            place.upsert({"id": 1, "n": 1})
    names = place.run(
        "SELECT name FROM sqlite_master WHERE type = 'table'"
        if place.kind == "sqlite"
        else f"SELECT table_name FROM information_schema.tables WHERE table_schema = {place.schema}"
    )
    assert len(names) == 4


def test_a_key_that_is_not_a_column_is_refused(place: Place) -> None:
    with pytest.raises(ConfigError, match='there is no column "nowhere"'):
        place.upsert({"id": 1}, key=("nowhere",), columns={"id": INTEGER})


def test_nothing_is_left_of_a_look_at_what_is_allowed(place: Place) -> None:
    options = sql.Options(url=place.database.secret, table="reviews")
    for mode in ("append", "overwrite", "append_dedup"):
        key = ("id",) if mode == "append_dedup" else ()
        target = Target("reviews", mode, {"id": INTEGER, "text": STRING}, primary_key=key)
        with sql.sink(options, {}, target=target):
            pass
    assert place.types() == {}


def test_a_view_is_refused_before_anything_is_paid_for(place: Place) -> None:
    place.run("CREATE VIEW reviews AS SELECT 1 AS id, 'a' AS text UNION ALL SELECT 2, 'b'")
    options = sql.Options(url=place.database.secret, table="reviews")
    with pytest.raises(ConnectorError, match="the database says"):
        sql.sink(options, {"id": INTEGER}, target=Target("reviews")).__enter__()


@pytest.mark.parametrize("place", ["postgresql", "mariadb"], indirect=True)
def test_a_right_that_is_missing_is_found_before_anything_is_paid_for(place: Place) -> None:
    place.sync({"id": 1, "text": "a"})
    name = f"reader_{place.database.url.rpartition('_')[2]}"
    if place.kind == "postgresql":
        place.run(f"CREATE USER {name}")
        place.run(f"GRANT SELECT ON reviews TO {name}")
    else:
        place.run(f"CREATE USER {name}@'127.0.0.1'")
        place.run(f"GRANT SELECT ON reviews TO {name}@'127.0.0.1'")
    _, _, rest = place.database.url.partition("@")
    url = SecretStr(f"{place.kind}://{name}@{rest}")
    for table, mode in (("reviews", "append"), ("others", "append"), ("reviews", "overwrite")):
        options = sql.Options(url=url, table=table)
        with pytest.raises(ConfigError, match="denied"):
            sql.sink(options, {"id": INTEGER}, target=Target("reviews", mode)).__enter__()  # type: ignore[arg-type]
    place.run(f"DROP OWNED BY {name}" if place.kind == "postgresql" else f"DROP USER {name}@'127.0.0.1'")


def test_a_schema_that_is_not_there_is_found_before_anything_is_paid_for(place: Place) -> None:
    options = sql.Options(url=place.database.secret, table="nowhere.reviews")
    with pytest.raises(ConfigError, match=r"(?i)nowhere"):
        sql.sink(options, {"id": INTEGER}).__enter__()


@pytest.mark.parametrize("place", [kind for kind in KINDS if kind != "sqlite"], indirect=True)
def test_a_table_in_another_schema_is_written_to(place: Place) -> None:
    name = f"other_{place.database.url.rpartition('_')[2].partition('.')[0]}"
    place.run(f"CREATE SCHEMA {name}")
    place.run("CREATE TABLE reviews (id BIGINT)")
    place.table = f"{name}.reviews"
    for number in (1, 2):
        place.upsert({"id": 1, "n": number}, {"id": "x", "n": number})
    assert sorted(place.run(f"SELECT id, n FROM {place.table}")) == [("1", 2), ("x", 2)]
    assert place.run("SELECT * FROM reviews") == []
