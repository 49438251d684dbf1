"""The way of databases without a module of their own, as warehouses have it, on real ones that have one."""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy.exc import SQLAlchemyError

from connector.base.errors import ConfigError, StorageError
from connector.base.streams import Mode, Target
from connector.stores import sql
from connector.stores.databases import writers
from connector.stores.databases.writers import generic
from spec.generate import ROOT
from tests.databases import Base, base
from tests.environments import environment
from tests.patience import PATIENCE
from tests.stores.databases.writers import test_conformance as conformance
from tests.stores.databases.writers.test_conformance import BIG, INTEGER, STRING, Place


@pytest.fixture(params=["postgresql", "postgresql by MERGE", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    kind, _, merges = request.param.partition(" ")
    monkeypatch.setattr(writers, "MEMBERS", ())
    assert writers.load(kind).__module__.endswith("generic")
    if merges:
        monkeypatch.setattr(generic, "_MERGES", (kind,))
    return Place(base(kind, tmp_path))


def test_rows_are_appended_overwritten_and_replaced(place: Place) -> None:
    place.sync({"id": 1, "text": "a"}, {"id": 2, "text": None})
    place.sync({"id": 3, "text": "é😀'\\%s:x"})
    assert place.rows() == [(1, "a"), (2, None), (3, "é😀'\\%s:x")]
    place.upsert({"id": 1, "text": "b"}, {"id": 4, "text": "c"}, {"id": 1, "text": "d"})
    place.upsert({"id": None, "text": "e"})
    place.upsert({"id": None, "text": "e"})
    assert place.rows("id", "text") == [
        (1, "d"), (2, None), (3, "é😀'\\%s:x"), (4, "c"), (None, "e"), (None, "e"),
    ]  # fmt: skip
    place.sync({"id": 5, "text": "f"}, mode="overwrite")
    assert place.rows() == [(5, "f")]


test_an_upsert_uses_the_primary_key_that_is_there = conformance.test_an_upsert_uses_the_primary_key_that_is_there
test_an_upsert_of_keys_alone_keeps_one_row_of_each = conformance.test_an_upsert_of_keys_alone_keeps_one_row_of_each
test_an_upsert_leaves_alone_what_its_rows_do_not_have = (
    conformance.test_an_upsert_leaves_alone_what_its_rows_do_not_have
)


@pytest.mark.parametrize("name", ["s", "n"])
def test_an_upsert_goes_into_a_table_of_any_name(place: Place, name: str) -> None:
    place.table = name
    for n in (1, 2):
        place.upsert({"id": 1, "n": n})
    assert place.cells("n") == [2]


def test_an_upsert_goes_into_columns_of_types_that_are_never_made(place: Place) -> None:
    place.run("CREATE TABLE reviews (id TIME, n BIGINT)")
    for n in (1, 2):
        place.upsert({"id": "10:00:00", "n": n})
    assert place.cells("n") == [2]


def test_values_keep_their_types_and_others_are_text(place: Place) -> None:
    columns: dict[str, Any] = {
        "n": INTEGER, "x": {"type": "number"}, "b": {"type": "boolean"}, "o": {"type": "object"},
        "d": {**STRING, "format": "date"}, "t": {**STRING, "format": "date-time"},
    }  # fmt: skip
    row = {"n": BIG, "x": 0.1, "b": True, "o": {"a": [1]}, "d": "2024-02-29", "t": "2024-02-29T10:00:00Z"}
    place.sync(row, columns=columns)
    (found,) = place.run("SELECT n, x, b, o, t FROM reviews")
    assert found == (BIG, 0.1, True, '{"a":[1]}', "2024-02-29T10:00:00Z")
    assert str(place.cells("d")[0]) == "2024-02-29"


def test_a_value_that_does_not_fit_widens_its_column_where_the_database_can(place: Place) -> None:
    place.sync({"id": 1, "v": 1})
    place.sync({"id": 2, "v": "x"}, {"id": 3, "v": 3})
    expected = ["1", "3", "x"] if place.kind == "postgresql" else ["1", "3"]
    assert sorted(map(str, place.cells("v"))) == expected


def test_nothing_is_left_of_a_look_where_a_table_that_was_made_cannot_be_undone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generic, "_WITHOUT_UNDO", (place.kind,))
    options = sql.Options(url=place.database.secret, table=place.table)
    columns: dict[str, Any] = {"id": INTEGER, "text": STRING}
    with sql.sink(options, {}, target=Target("reviews", "append", {"id": INTEGER})):
        for name in ("reviews", "reviews__check"):
            with pytest.raises(SQLAlchemyError):
                place.run(f"SELECT * FROM {name}")
    place.sync({"id": 1}, columns={"id": INTEGER})
    with sql.sink(options, {}, target=Target("reviews", "append", columns)):
        assert list(place.types()) == ["id"]
    place.sync({"id": 2, "text": "b"}, columns=columns)
    assert place.rows("id", "text") == [(1, None), (2, "b")]


SNOWFLAKE = (
    *("fakesnow>=0.12,<0.13", "pytest>=8", "snowflake-connector-python>=3.18,<4"),
    *tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["snowflake"],
)
"""A stand-in for Snowflake that runs in DuckDB, and Snowflake's own packages, which need older ones than others do."""


def write_to_snowflake() -> None:
    """In a process of its own, whose packages those are."""
    with importlib.import_module("fakesnow").patch():
        place = Place(Base("snowflake", "snowflake://etl:x@account/db/s"), "REVIEWS")
        connect = importlib.import_module("snowflake.connector").connect
        with connect(user="etl", password="x", account="account", database="db", schema="s") as connection:
            connection.cursor().execute("CREATE TABLE REVIEWS (ID INT, TEXT VARCHAR(5))")
            connection.cursor().execute("ALTER TABLE REVIEWS ADD COLUMN NOTE VARCHAR(5) DEFAULT 'kept'")
        place.sync({"id": 1, "text": "a"}, {"id": 2, "text": "too long"})
        place.upsert({"id": 1, "text": "b"}, {"id": 3, "text": "c"}, {"id": 3, "text": "d"}, {"id": None, "text": "e"})
        assert place.rows() == [(1, "b", "kept"), (2, "too long", "kept"), (3, "d", "kept"), (None, "e", "kept")]
        for table in ("small", "small"):
            place.table = table
            place.sync({"id": 1, "at": "2024-01-01"})
        assert place.rows() == [(1, "2024-01-01")] * 2


def test_snowflake_is_written_to_as_its_tables_are_there(pytestconfig: pytest.Config) -> None:
    python = environment(pytestconfig, "snowflake", *SNOWFLAKE) / "python"
    program = f"from {__name__} import write_to_snowflake; write_to_snowflake()"
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [python, "-c", program], env=variables, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("mode", ["append", "append_dedup"])
def test_a_row_that_breaks_a_rule_is_left_out_where_there_are_savepoints(
    place: Place, mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    place.run("CREATE TABLE reviews (id BIGINT, stars BIGINT CHECK (stars >= 0), name VARCHAR(9) UNIQUE)")
    rows = [{"id": n, "stars": 1 if n != 3 else -1, "name": f"{n % 5}"} for n in range(7)]
    with caplog.at_level(logging.WARNING):
        place.sync(*rows, mode=mode, key=["id"] if mode == "append_dedup" else [])
    assert [row[0] for row in place.rows("id")] == [0, 1, 2, 4]
    assert "rows left out: 3" in caplog.text
    assert "id = 3" in caplog.text


def test_a_table_with_rows_of_the_same_key_is_refused(place: Place) -> None:
    place.run("CREATE TABLE reviews (id BIGINT)")
    place.run("INSERT INTO reviews VALUES (7), (7)")
    with pytest.raises(StorageError, match="several rows with id = 7"):
        place.upsert({"id": 7}, columns={"id": INTEGER})


@pytest.mark.parametrize("name", ["snowflake", "bigquery", "databricks", "redshift", "redshift+psycopg2"])
def test_a_warehouse_whose_package_is_missing_says_what_to_install(name: str) -> None:
    options = sql.Options(url=SecretStr(f"{name}://user:pa55@host/database"), table="reviews")
    with pytest.raises(ConfigError, match=rf"pip install 'openai-compatible-connector\[{name.partition('+')[0]}\]'"):
        sql.sink(options, {}).__enter__()
