"""Rows of streams on their way into an output: what becomes of those that are there, and when rows are durable."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from connector.base.clock import Clock
from connector.base.errors import ConfigError, StorageError
from connector.base.streams import Mode, Target
from connector.run.destination import Destination
from connector.stores import DEAD_LETTER, files, sql, stdio
from tests.stores.helpers import cells, table, types

Row = dict[str, Any]
COLUMNS = {"id": {"type": ["null", "integer"]}, "text": {"type": ["null", "string"]}}
OPEN = {"id": {"type": ["null", "integer"]}}


def target(name: str = "reviews", mode: Mode = "append", **more: Any) -> Target:
    key = ("id",) if mode == "append_dedup" else ()
    return Target(name, mode, COLUMNS, primary_key=key)._replace(**more)


class Place:
    """An output, whichever store it is, and how to look at it."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind
        if kind == "sql":
            self.options: Any = sql.Options(url=SecretStr(f"sqlite:///{folder}/out.db"), table="{stream}")
        else:
            self.options = files.Options(path=f"{folder}/{{stream}}.{kind}")

    def rows(self, stream: str = "reviews") -> list[Row]:
        if self.kind != "sql":
            return table(self.folder / f"{stream}.{self.kind}")
        with closing(sqlite3.connect(self.folder / "out.db")) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(f'SELECT * FROM "{stream}"')]

    def sync(self, *rows: Row, mode: Mode = "append", **more: Any) -> None:
        with Destination(self.options, [target(mode=mode, **more)]) as destination:
            for row in rows:
                destination.write("reviews", row)
            destination.commit(unfinished=())


@pytest.fixture(params=["csv", "tsv", "jsonl", "json", "parquet", "sql", "csv.gz"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(tmp_path, request.param)


def row(number: int, text: str | None = "a") -> Row:
    return {"id": number, "text": text}


def test_appended_rows_come_after_existing_ones(place: Place) -> None:
    place.sync(row(2), row(1, None))
    place.sync(row(0, ""), row(2))
    assert place.rows() == [row(2), row(1, None), row(0, ""), row(2)]


def test_overwriting_leaves_the_rows_of_this_run_alone(place: Place) -> None:
    place.sync(row(1), row(2), mode="overwrite")
    place.sync(row(3), mode="overwrite")
    assert place.rows() == [row(3)]


def test_overwriting_with_nothing_leaves_no_rows_and_the_columns(place: Place) -> None:
    place.sync(row(1), mode="overwrite")
    place.sync(mode="overwrite")
    assert place.rows() == []


def test_of_the_rows_with_one_key_the_last_stays_at_its_place(place: Place) -> None:
    place.sync(row(1, "old"), row(2), row(2, "b"), mode="append_dedup")
    place.sync(row(3), row(1, "new"), row(1, "newer"), mode="append_dedup")
    expected = [row(2, "b"), row(3), row(1, "newer")]
    if place.kind == "sql":  # a table has no order
        assert sorted(place.rows(), key=str) == sorted(expected, key=str)
    else:
        assert place.rows() == expected


def test_rows_without_a_key_replace_none(place: Place) -> None:
    for _ in range(2):
        place.sync({"id": None, "text": "a"}, mode="append_dedup")
    assert len(place.rows()) == 2


def test_a_key_of_several_columns_is_the_same_only_if_all_are(place: Place) -> None:
    for _ in range(2):
        place.sync(row(1, "a"), row(1, "b"), mode="append_dedup", primary_key=("id", "text"))
    assert place.rows() == [row(1, "a"), row(1, "b")]


def test_columns_that_nobody_declared_are_kept_and_later_ones_are_added(place: Place) -> None:
    place.sync({"id": 1, "b": "x"}, columns=OPEN)
    place.sync({"id": 2, "c": "y"}, columns=OPEN)
    assert place.rows() == [{"id": 1, "b": "x", "c": None}, {"id": 2, "b": None, "c": "y"}]


def test_a_parquet_file_keeps_its_types_through_additions(tmp_path: Path) -> None:
    columns = {"id": {"type": "integer"}, "at": {"type": "string", "format": "date"}, "n": {"type": "number"}}
    for number in range(3):
        Place(tmp_path, "parquet").sync({"id": number, "at": "2024-01-02", "n": 1}, columns=columns)
    assert types(tmp_path / "reviews.parquet") == {"id": "BIGINT", "at": "DATE", "n": "DOUBLE"}


def test_values_of_another_type_than_before_do_not_get_lost(tmp_path: Path) -> None:
    place = Place(tmp_path, "parquet")
    place.sync({"id": 1}, columns={})
    place.sync({"id": "two"}, columns={})
    assert place.rows() == [{"id": "1"}, {"id": "two"}]


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        ([row(1, "a")], [row(2, "b"), {"id": 3, "text": 1}], ["a", "b", 1]),
        ([row(1, "a"), {"id": 2, "text": {"k": 1}}], [row(3, "b")], ["a", {"k": 1}, "b"]),
        ([row(1, "{}")], [{"id": 2, "text": [1]}, row(3, "x")], ["{}", [1], "x"]),
    ],
)
def test_a_parquet_column_may_become_mixed_and_plain_again(
    tmp_path: Path, first: list[Row], second: list[Row], both: list[Any]
) -> None:
    place = Place(tmp_path, "parquet")
    place.sync(*first, columns=OPEN)
    place.sync(*second, columns=OPEN)
    assert [each["text"] for each in place.rows()] == both


@pytest.mark.parametrize("mode", ["append", "append_dedup"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_column_of_a_dead_letter_file_is_a_column_like_others(tmp_path: Path, kind: str, mode: Mode) -> None:
    place = Place(tmp_path, kind)
    for number in (1, 2):
        place.sync({**row(number), DEAD_LETTER: "why"}, mode=mode)
    source, header = tmp_path / f"reviews.{kind}", "id,text,_dead_letter"
    if kind == "csv":
        assert source.read_text().splitlines() == [header, "1,a,why", "2,a,why"]
    elif kind == "jsonl":
        assert [json.loads(line)[DEAD_LETTER] for line in source.read_text().splitlines()] == ["why", "why"]
    else:
        assert types(source)[DEAD_LETTER] == "VARCHAR"


def test_text_in_csv_stays_as_it_is_however_often_the_file_is_added_to(tmp_path: Path) -> None:
    texts = ['"', "a,b", "007", "1.50", "two\nlines", " "]
    place = Place(tmp_path, "csv")
    for number, text in enumerate(texts):
        place.sync(row(number, text))
    assert [line[1] for line in cells(tmp_path / "reviews.csv")[1:]] == texts


def test_adding_rows_again_and_again_leaves_one_file_and_nothing_beside_it(tmp_path: Path) -> None:
    place = Place(tmp_path, "jsonl")
    for number in range(5):
        place.sync(row(number))
    assert [path.name for path in tmp_path.iterdir()] == ["reviews.jsonl"]


def test_each_stream_has_a_place_of_its_own(place: Place) -> None:
    with Destination(place.options, [target("a"), target("b", "overwrite")]) as destination:
        for number in range(4):
            destination.write("ab"[number % 2], row(number))
        destination.commit(unfinished=())
        assert destination.stored == {"a": 2, "b": 2}
    assert (place.rows("a"), place.rows("b")) == ([row(0), row(2)], [row(1), row(3)])


def test_rows_are_durable_up_to_the_first_that_is_not(tmp_path: Path) -> None:
    with Destination(Place(tmp_path, "csv").options, [target("a"), target("b", "overwrite")]) as destination:
        assert destination.durable == destination.written == 0
        destination.write("a", row(1))
        assert destination.durable == 0
        destination.commit()
        assert destination.durable == 1
        destination.write("b", row(2))
        destination.write("a", row(3))
        destination.commit()
        assert (destination.durable, destination.written) == (1, 3)
        destination.commit(unfinished=())
        assert destination.durable == 3


def test_an_incomplete_stream_overwrites_nothing(place: Place) -> None:
    place.sync(row(1), mode="overwrite")
    with Destination(place.options, [target(mode="overwrite")]) as destination:
        destination.write("reviews", row(2))
        destination.commit()
        destination.commit(unfinished=["reviews"])
        assert destination.durable == 0
    assert place.rows() == [row(1)]


def test_what_is_not_committed_is_discarded(place: Place) -> None:
    place.sync(row(1))
    with Destination(place.options, [target()]) as destination:
        destination.write("reviews", row(2))
    assert place.rows() == [row(1)]


@pytest.mark.parametrize("took", [0.0, 1.0])
def test_the_longer_a_commit_takes_the_rarer_it_is_due(tmp_path: Path, took: float) -> None:
    now = [0.0]

    def slow(write: Callable[..., Any]) -> Callable[..., Any]:
        def later(*given: Any, **more: Any) -> Any:
            now[0] += took
            return write(*given, **more)

        return later

    with Destination(Place(tmp_path, "csv").options, [target()], Clock(monotonic=lambda: now[0])) as destination:
        destination._commit = slow(destination._commit)  # type: ignore[method-assign]  # noqa: SLF001 - a slow disk
        due = partial(getattr, destination, "is_due")
        assert not due()
        now[0] = 2.0
        assert due()
        destination.write("reviews", row(1))
        destination.commit()
        ended = now[0]
        pause = max(2.0, 10 * took)
        now[0] = ended + pause - 0.5
        assert not due()
        now[0] = ended + pause
        assert due()


@pytest.mark.parametrize(
    ("options", "names", "told"),
    [
        (files.Options(path="out.csv"), ["a", "b"], 'the streams "a" and "b" would be written to the same place: put'),
        (files.Options(path="{stream}.csv"), ["Ab", "aB"], "write one of them to another output"),
        (files.Options(path="{stream}.csv"), ["\u00e9", "e\u0301"], "write one of them to another output"),
        (sql.Options(url=SecretStr("sqlite://"), table="{stream}"), ["Ab", "aB"], "would be written to the same place"),
        (files.Options(path="{stream}/out.csv"), ["a"], "put it into the name of the file only"),
        (files.Options(path="{stream}.csv"), ["a/../../b"], "has a name that no file or table can have"),
        (files.Options(path="nowhere/out.csv"), ["a"], "does not exist"),
        (
            sql.Options(url=SecretStr("sqlite://"), table="{stream}"),
            ["a.b"],
            "has a name that no file or table can have",
        ),
        (sql.Options(url=SecretStr("sqlite://"), query="SELECT 1"), ["a"], "a query cannot be written to"),
        (stdio.Options(), ["a"], "standard output carries the platform's messages"),
    ],
)
def test_an_output_that_cannot_take_the_streams_is_refused_at_once(options: Any, names: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told), Destination(options, map(target, names)):
        pass


@pytest.mark.parametrize("path", ["{stream}.csv", "{stream}", ""])
@pytest.mark.parametrize(
    "name", ["", ".", "..", " ", "a\nb", "a\0b", "a\x1b[2J", "a\u202eb", "a\ud800b", "\u200f", "a\x85", "a\x9b2J"]
)
def test_an_impossible_name_is_refused_in_one_line(tmp_path: Path, path: str, name: str) -> None:
    table = sql.Options(url=SecretStr("sqlite://"), table="{stream}")
    options = files.Options(path=f"{tmp_path}/{path}", format="jsonl") if path else table
    with pytest.raises(ConfigError, match="has a name that no file or table can have") as found:
        Destination(options, [target(name)])
    assert found.value.message.isprintable()


@pytest.mark.parametrize("name", ["/", "a/../b", "/etc/x", "~", "~root", "x" * 300, "\u00e9" * 150])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="has a name that no file or table can have"):
        Destination(files.Options(path="{stream}.csv"), [target(name)])


def test_any_other_name_is_that_of_a_file_or_a_table(tmp_path: Path) -> None:
    names = ["CON", "%00", "a\\b", "$(id)", "`id`", "-rf", "{stream}", "{{ x }}", "a'b", 'a"b', "a*", "[a]", "a;--"]
    for kind in ("csv", "sql"):
        with Destination(Place(tmp_path, kind).options, map(target, names)) as destination:
            for name in names:
                destination.write(name, row(1))
            destination.commit(unfinished=())
    with closing(sqlite3.connect(tmp_path / "out.db")) as connection:
        assert {name for (name,) in connection.execute("SELECT name FROM sqlite_master")} == set(names)
    assert {each.name for each in tmp_path.iterdir()} == {"out.db", *(f"{name}.csv" for name in names)}


def test_a_key_that_is_not_a_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='there is no column "nowhere"'):
        Place(tmp_path, "csv").sync(row(1), mode="append_dedup", primary_key=("nowhere",))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_row_that_cannot_be_written_is_reported_with_its_file(tmp_path: Path, kind: str) -> None:
    told = re.escape(f"{tmp_path.resolve() / 'reviews'}.{kind}: a column has no name")
    with pytest.raises(ConfigError, match=told):
        Place(tmp_path, kind).sync(row(1), {"id": 2, "": 1})


def test_a_folder_that_goes_away_is_an_error_and_the_rows_stay_undurable(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with Destination(Place(folder, "csv").options, [target()]) as destination:
        destination.write("reviews", row(1))
        folder.rmdir()
        with pytest.raises((ConfigError, StorageError), match="out"):
            destination.commit()
        assert destination.durable == 0
