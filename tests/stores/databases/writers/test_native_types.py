"""Columns of types that we never make: a value enters one as it is, makes it wider, or its row is left out and told."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from connector.base import numbers
from connector.base.errors import ConfigError, StorageError
from connector.base.records import Record
from connector.base.streams import Target
from connector.stores import sql
from tests.databases import base
from tests.stores.databases.writers.test_conformance import Place

TYPES: list[tuple[str, str, list[Any], list[Any]]] = [
    # database, type, what it keeps, what it would make something else of
    ("postgresql", "char(5)", ["abcde"], ["a ", "abcdef"]),
    ("postgresql", '"char"', ["a"], ["ab", "é"]),
    ("postgresql", "name", ["x" * 63], ["x" * 64]),
    ("postgresql", "interval(0)", ["PT1S"], ["1.5 seconds"]),
    ("postgresql", "cents", [1.25], [1.255]),
    ("postgresql", "raw", [], ["AAEC"]),
    ("postgresql", "numeric(5,1)[]", [[1.5]], [[1.55]]),
    ("postgresql", "timestamp(0)[]", [["2024-02-29T10:00:00"]], [["2024-02-29T10:00:00.5"]]),
    ("postgresql", "real", [1.555, 16_777_216.0, 3.4e38], [16_777_217.0, 2_147_483_648.0]),
    ("mariadb", "CHAR(5)", [" a"], ["a ", "abcdef"]),
    ("mariadb", "FLOAT", [1.555], [1005.005]),
    ("mariadb", "FLOAT(10,2)", [1.55], [1.555, 123_456.78]),
    ("mariadb", "DOUBLE(10,2)", [123_456.78], [1.555]),
    ("mariadb", "BIT(8)", ["110001", "0", 1], ["0011", 2, "111111111"]),
    ("mariadb", "BINARY(4)", ["AAECAw=="], ["AAEC", "AAECAwQF"]),
    ("mariadb", "TINYBLOB", ["AAEC"], ["a"]),
    ("mariadb", "YEAR", [2024, "2155"], [24, "5", 2156]),
    ("mariadb", "ENUM('a','','b'',''c','24')", ["a", "", "b','c", "24"], ["1", "A", "a "]),
    ("mariadb", r"ENUM('a\\b','n\nm','r\rs','pct%')", ["a\\b", "n\nm", "r\rs", "pct%"], ["a\\\\b", "n\\nm", "ab"]),
    ("mariadb", "SET('a','b','c')", ["a,c", ""], ["c,a", "a,a", "3", "A"]),
    ("duckdb", "HUGEINT", [10**30, -1], [1.5, "1.5", "01"]),
    ("duckdb", "TIMESTAMP_S", ["2024-02-29T10:00:00"], ["2024-02-29T10:00:00.5"]),
    ("duckdb", "FLOAT", [1.555], [16_777_217.0]),
    ("duckdb", "DECIMAL(5,1)[]", [[1.5]], [[1.55]]),
    ("duckdb", "INTEGER[2]", [[1, 2]], [[1.5, 2], [1]]),
    ("duckdb", "TIMESTAMP_S[]", [["2024-02-29T10:00:00"]], [["2024-02-29T10:00:00.5"], [1]]),
    ("duckdb", "STRUCT(a INTEGER, b VARCHAR)", [{"a": 1, "b": "x"}], [{"a": 1.5, "b": "x"}, {"a": 1, "c": 2}]),
]


@pytest.mark.parametrize(("kind", "type_", "kept", "changed"), TYPES)
def test_a_value_is_kept_as_it_is_or_its_row_is_left_out_with_the_reason(
    kind: str, type_: str, kept: list[Any], changed: list[Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(base(kind, tmp_path))
    if kind == "postgresql":
        place.run("CREATE DOMAIN cents AS numeric(5, 2)")
        place.run("CREATE DOMAIN raw AS bytea")
    for number, value in enumerate([*kept, *changed]):
        caplog.clear()
        place.table = f"t{number}"
        place.run(f"CREATE TABLE {place.table} (n BIGINT, v {type_})")
        with caplog.at_level(logging.WARNING):
            place.sync({"n": 1, "v": value})
        found = read(place)
        if found:
            sent = f" {value} " if isinstance(value, str) else value
            assert numbers.dumps(found[0]) == numbers.dumps(value) or str(found[0]) == str(value), sent
            assert ("becomes" in caplog.text) == (number >= len(kept))
        else:
            assert number >= len(kept)
            assert "rows left out: 1" in caplog.text


def read(place: Place) -> list[Any]:
    with sql.source(sql.Options(url=place.database.secret, table=place.table)) as source:
        return [item.data["v"] for item in source.read() if isinstance(item, Record)]


def test_types_are_converted_by_our_settings_whatever_those_of_the_user_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    place = Place(base("postgresql", tmp_path))
    name = place.run("SELECT current_database()")[0][0]
    for setting in ("datestyle = 'German'", "extra_float_digits = 0", "timezone = 'Asia/Kolkata'"):
        place.run(f"ALTER DATABASE {name} SET {setting}")
    place.run("CREATE TABLE reviews (d date, x double precision, t timestamptz)")
    place.run("INSERT INTO reviews VALUES ('2024-02-29', 0.30000000000000004, '2024-02-29T10:00:00Z')")
    place.sync({"d": "😀", "x": "é", "t": "x"})
    assert place.rows() == [
        ("2024-02-29", "0.30000000000000004", "2024-02-29T10:00:00.000000Z"),
        ("😀", "é", "x"),
    ]


@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
def test_a_table_is_found_by_its_name_in_any_case_where_the_database_knows_no_difference(
    kind: str, tmp_path: Path
) -> None:
    place = Place(base(kind, tmp_path))
    place.run("CREATE TABLE Reviews (id BIGINT PRIMARY KEY, v BIGINT)")
    place.sync({"id": 1, "v": 1})
    place.upsert({"id": 1, "v": 2})
    assert place.rows() == [(1, 2)]
    with sql.source(sql.Options(url=place.database.secret, table="reviews")) as source:
        assert list(source.primary_key) == ["id"]


def test_the_default_of_a_domain_is_one_of_its_columns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = Place(base("postgresql", tmp_path))
    place.run("CREATE DOMAIN stars AS int DEFAULT 5 NOT NULL")
    place.run("CREATE DOMAIN price AS int NOT NULL")
    place.run("CREATE TABLE reviews (id bigint, a stars NOT NULL, b price)")
    with caplog.at_level(logging.WARNING):
        place.sync({"id": 1, "b": 2}, {"id": 2, "b": None}, columns={"id": {"type": "integer"}})
    assert place.rows() == [(1, 5, 2)]
    assert '"a"' not in caplog.text
    assert '"b" takes no null and has no default' in caplog.text


@pytest.mark.parametrize("mode", ["append", "append_dedup", "overwrite"])
def test_a_column_whose_values_postgresql_would_give_takes_those_of_rows(mode: Any, tmp_path: Path) -> None:
    place = Place(base("postgresql", tmp_path))
    place.run("CREATE TABLE reviews (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v BIGINT)")
    for v in (1, 2):
        place.run("DELETE FROM reviews" if mode == "append" else "SELECT 1")
        place.sync({"id": 70, "v": v}, mode=mode, key=["id"] if mode == "append_dedup" else [])
    assert place.rows() == [(70, 2)]


@pytest.mark.parametrize(
    ("kind", "type_", "first"),
    [
        ("postgresql", "citext", "CREATE EXTENSION citext"),
        ("postgresql", "email", "CREATE EXTENSION citext; CREATE DOMAIN email AS citext"),
        ("postgresql", "text COLLATE ci", ""),
        ("postgresql", "varchar(9) COLLATE ci", ""),
        ("duckdb", "VARCHAR COLLATE NOCASE", ""),
        ("duckdb", "VARCHAR COLLATE NOACCENT", ""),
        ("sqlite", "TEXT COLLATE RTRIM", ""),
        ("mariadb", "VARCHAR(9) COLLATE utf8mb4_general_ci", ""),
    ],
)
def test_keys_are_compared_as_bytes_whatever_their_column_takes_for_equal(
    kind: str, type_: str, first: str, tmp_path: Path
) -> None:
    place = Place(base(kind, tmp_path))
    if kind == "postgresql":
        place.run("CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level1', deterministic = false)")
        place.run(first or "SELECT 1")
    place.run(f"CREATE TABLE reviews (id {type_}, n BIGINT)")
    keys = ["Ab", "ab", "ab ", "é", "e\u0301", "e"]
    indexes = set()
    for n in (0, 10):
        place.upsert(*({"id": key, "n": n + number} for number, key in enumerate(keys)))
        assert place.rows() == sorted(((key, n + number) for number, key in enumerate(keys)), key=repr)
        if kind == "postgresql":
            indexes.update(place.run("SELECT indexrelid FROM pg_index WHERE indrelid = 'reviews'::regclass"))
    assert len(indexes) == (kind == "postgresql"), "the index is made once"
    place.run("INSERT INTO reviews SELECT id, 1 FROM reviews WHERE n = 10" if kind == "duckdb" else "SELECT 1")
    if kind == "duckdb":
        with pytest.raises(StorageError, match="several rows with id = Ab"):
            place.upsert({"id": "Ab", "n": 1})


def test_another_unique_key_of_duckdb_is_reported_for_a_row_whose_key_differs_by_its_case_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(base("duckdb", tmp_path))
    place.run("CREATE TABLE reviews (id VARCHAR COLLATE NOCASE, v VARCHAR UNIQUE)")
    place.upsert({"id": "ab", "v": "x"})
    with caplog.at_level(logging.WARNING):
        place.upsert({"id": "Ab", "v": "x"}, {"id": "c", "v": "y"})
    assert place.rows() == [("ab", "x"), ("c", "y")]
    assert 'rows left out: 1: another row has the same v (id = "Ab")' in caplog.text


@pytest.mark.parametrize("kind", ["postgresql", "mariadb", "duckdb"])
def test_a_float_of_32_bits_can_be_a_key(kind: str, tmp_path: Path) -> None:
    place = Place(base(kind, tmp_path))
    place.run(f"CREATE TABLE reviews (id {'REAL' if kind == 'postgresql' else 'FLOAT'} PRIMARY KEY, n BIGINT)")
    for n in (1, 2):
        place.upsert({"id": 0.1, "n": n}, {"id": 0.25, "n": n})
    assert place.cells("n") == [2, 2]


@pytest.mark.parametrize("relation", ["view", "policy"])
def test_rows_enter_what_takes_no_copy(relation: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = Place(base("postgresql", tmp_path))
    user = f"clerk_{place.run('SELECT current_database()')[0][0]}"
    place.run(f"CREATE ROLE {user} LOGIN")
    place.run("CREATE TABLE goods (id BIGINT, v BIGINT)")
    if relation == "view":
        place.run("CREATE VIEW reviews AS SELECT * FROM goods WHERE id > 0 WITH CHECK OPTION")
    else:
        place.run("ALTER TABLE goods RENAME TO reviews")
        place.run("ALTER TABLE reviews ENABLE ROW LEVEL SECURITY")
        place.run("CREATE POLICY mine ON reviews USING (id > 0)")
    place.run(f"GRANT ALL ON reviews TO {user}")
    place.database.url = place.database.url.replace("postgres@", f"{user}@")
    with caplog.at_level(logging.WARNING):
        place.sync({"id": 1, "v": 1}, {"id": 0, "v": 1})
        place.sync({"id": 2, "v": 2}, {"id": 0, "v": 2}, mode="overwrite")
    assert caplog.text.count("rows left out: 1") == 2
    assert place.rows() == [(2, 2)]
    options = sql.Options(url=place.database.secret, table="reviews")
    target = Target("reviews", "append_dedup", {"id": {"type": "integer"}}, primary_key=("id",))
    with pytest.raises(ConfigError, match="needs a unique index there, which only the owner"):
        sql.sink(options, {}, target=target).__enter__()
