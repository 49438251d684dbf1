"""Tables of MariaDB with indexes, triggers and foreign keys: what becomes of them when a column becomes another one."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from connector.base.streams import Mode
from tests.databases import base
from tests.stores.databases.writers.test_conformance import Place

MODES: tuple[Mode, ...] = ("append", "overwrite")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(base("mariadb", tmp_path))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("index", "made"),
    [
        ("KEY k (a)", "KEY `k` (`a`(191))"),
        ("KEY k (b, a)", "KEY `k` (`b`,`a`(191))"),
        ("KEY k (a DESC, b)", "KEY `k` (`a`(191) DESC,`b`)"),
        ("UNIQUE KEY k (a, b)", "UNIQUE KEY `k` (`a`,`b`) USING HASH"),
    ],
)
@pytest.mark.parametrize("type_", ["VARCHAR(5)", "INT"])
def test_a_column_of_an_index_becomes_a_text_of_any_length(
    place: Place, type_: str, index: str, made: str, mode: Mode
) -> None:
    place.run(f"CREATE TABLE reviews (a {type_} NOT NULL, b BIGINT, {index})")
    place.run("INSERT INTO reviews VALUES (1, 1)")
    place.sync({"a": "é" * 3_000, "b": 2}, mode=mode)
    assert place.rows() == [("1", 1)] * (mode == "append") + [("é" * 3_000, 2)]
    assert made in place.run("SHOW CREATE TABLE reviews")[0][1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("type_", ["VARCHAR(5)", "INT"])
def test_one_of_a_primary_key_becomes_a_text_of_255_characters(
    place: Place, type_: str, mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    place.run(f"CREATE TABLE reviews (a {type_}, b BIGINT, PRIMARY KEY (a, b))")
    with caplog.at_level(logging.WARNING):
        place.sync({"a": "é" * 255, "b": 2}, {"a": "x" * 256, "b": 3}, mode=mode)
    assert place.rows() == [("é" * 255, 2)]
    assert place.types()["a"] == "varchar(255)"
    assert "a text of 256 characters is longer than 255" in caplog.text


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("CREATE TRIGGER cut BEFORE INSERT ON reviews FOR EACH ROW SET NEW.b = 1", "its trigger cut would be lost"),
        ("ALTER TABLE reviews ADD CONSTRAINT f FOREIGN KEY (b) REFERENCES other (id)", "the foreign key f would be"),
        ("CREATE TABLE child (id BIGINT REFERENCES reviews (b))", "the foreign key child_ibfk_1 would be lost"),
    ],
)
def test_an_overwrite_takes_no_trigger_or_foreign_key_from_a_table(
    place: Place, rule: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    place.run("CREATE TABLE other (id BIGINT PRIMARY KEY)")
    place.run("INSERT INTO other VALUES (1)")
    place.run("CREATE TABLE reviews (a INT, b BIGINT UNIQUE)")
    place.run(rule)
    before = place.run("SHOW CREATE TABLE reviews"), place.run("SHOW TRIGGERS")
    with caplog.at_level(logging.WARNING):
        place.sync({"a": "text", "b": 1}, {"a": 2, "b": 1}, mode="overwrite")
    assert told in caplog.text
    assert "rows left out: 1" in caplog.text
    assert place.rows() == [(2, 1)]
    assert (place.run("SHOW CREATE TABLE reviews"), place.run("SHOW TRIGGERS")) == before
