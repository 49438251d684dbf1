"""Every type has one text and one JSON form, the same from every way in: Python, data frames, files, databases."""

from __future__ import annotations

import datetime as dt
import enum
import json
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pydantic import SecretStr

from connector.base import numbers
from connector.base.errors import ConfigError, TemplateError
from connector.base.records import Record
from connector.base.values import dumps
from connector.config.config import Config
from connector.run.plan import Plan
from connector.stores import files, sql
from connector.tables import open_table
from tests.databases import Base, base

PLANS: Final = {
    name: Plan(Config(url="http://localhost/v1/embeddings", request_format={"input": "x", "v": leaf}))
    for name, leaf in {
        "text": "x{{ v }}",
        "alone": "{{ v }}",
        "whole": "{{ {'v': v} | tojson }}",
        "default": "{{ v | default('nothing') }}",
    }.items()
}


class Case(NamedTuple):
    """A value: its text and its JSON, and how each way in is given it: in Python, and in the SQL of each database.

    `text` is `None` for a null.
    """

    text: str | None
    json: str
    python: tuple[Any, ...] = ()
    duckdb: str = ""
    postgresql: str = ""
    sqlite: str = ""


class Colour(enum.Enum):
    RED = "red"


BERLIN: Final = dt.timezone(dt.timedelta(hours=2))
MOMENT: Final = dt.datetime(2024, 5, 17, 8, 2, 3, 500_000)  # noqa: DTZ001 - without a zone
NANO: Final = 1704103200123456789
A_UUID: Final = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"


def quoted(text: str) -> str:
    return f'"{text}"'


def words(text: str, *python: Any, duckdb: str = "", postgresql: str = "", sqlite: str = "") -> Case:
    """A value whose JSON is a text."""
    return Case(text, quoted(text), python, duckdb, postgresql, sqlite)


def same(text: str, *python: Any, duckdb: str = "", postgresql: str = "", sqlite: str = "") -> Case:
    """A value whose JSON is what its text is."""
    return Case(text, text, python, duckdb, postgresql, sqlite)


def null(*python: Any, duckdb: str = "", postgresql: str = "", sqlite: str = "") -> Case:
    return Case(None, "null", python, duckdb, postgresql, sqlite)


CASES: Final[dict[str, Case]] = {
    "null": null(None, pd.NA, pd.NaT, np.datetime64("NaT"), duckdb="NULL", postgresql="NULL::int", sqlite="NULL"),
    "NaN": null(*(float("nan"), np.float32("nan"), Decimal("NaN")), duckdb="'nan'::DOUBLE", postgresql="'nan'::float8"),
    "NaN of numeric": null(Decimal("sNaN"), postgresql="'nan'::numeric"),
    "truth": same("true", True, np.True_, duckdb="true", postgresql="true"),
    "integer": same("-7", -7, np.int8(-7), duckdb="-7::TINYINT", postgresql="-7::int2", sqlite="-7"),
    "long integer": same(
        "9223372036854775807",
        *(2**63 - 1, np.int64(2**63 - 1), Decimal(2**63 - 1)),
        duckdb="9223372036854775807",
        postgresql="9223372036854775807::int8",
        sqlite="9223372036854775807",
    ),
    "longer integer": same(
        "18446744073709551615", 2**64 - 1, np.uint64(2**64 - 1), duckdb="18446744073709551615::UBIGINT"
    ),
    "huge integer": same(
        "170141183460469231731687303715884105727",
        *(2**127 - 1, Decimal(2**127 - 1)),
        duckdb="170141183460469231731687303715884105727::HUGEINT",
        postgresql="170141183460469231731687303715884105727::numeric",
    ),
    "float": same("0.1", 0.1, np.float64(0.1), duckdb="0.1::DOUBLE", postgresql="0.1::float8", sqlite="0.1"),
    "float of 17 digits": same(
        *("0.30000000000000004", 0.1 + 0.2),
        duckdb="0.30000000000000004::DOUBLE",
        postgresql="0.30000000000000004::float8",
        sqlite="0.1 + 0.2",
    ),
    "minus zero": same("-0.0", -0.0, np.float64(-0.0), duckdb="'-0'::DOUBLE", postgresql="'-0'::float8"),
    "infinity": Case(
        *("inf", "null", (float("inf"), np.float32("inf"), Decimal("Infinity"))),
        duckdb="'inf'::DOUBLE",
    ),
    "price": same("1.10", Decimal("1.10"), duckdb="1.10::DECIMAL(10, 2)", postgresql="1.10::numeric"),
    "decimal of thirty digits": same(
        "12345678901234567890.1234567890",
        Decimal("12345678901234567890.1234567890"),
        duckdb="12345678901234567890.1234567890::DECIMAL(38, 10)",
        postgresql="12345678901234567890.1234567890::numeric(30, 10)",
    ),
    "decimal without a fraction": same("12", Decimal(12), duckdb="12::DECIMAL(10, 0)", postgresql="12::numeric"),
    "text": words("é", "é", np.str_("é"), duckdb="'é'", postgresql="'é'::text", sqlite="'é'"),
    "no text": words("", "", np.str_(""), duckdb="''", postgresql="''::text", sqlite="''"),
    "bytes": words(
        *("AP8=", b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff")),
        duckdb="'\\x00\\xFF'::BLOB",
        postgresql="'\\x00ff'::bytea",
        sqlite="x'00ff'",
    ),
    "date": words(
        *("2024-05-17", dt.date(2024, 5, 17), np.datetime64("2024-05-17")),
        duckdb="DATE '2024-05-17'",
        postgresql="date '2024-05-17'",
    ),
    "date before year 1": words(
        *("-0043-03-15", np.datetime64("-0043-03-15")),
        duckdb="DATE '0044-03-15 (BC)'",
        postgresql="date '0044-03-15 BC'",
    ),
    "date after year 9999": words(
        *("+12024-03-15", np.datetime64("12024-03-15")),
        duckdb="DATE '12024-03-15'",
        postgresql="date '12024-03-15'",
    ),
    "moment": words(
        *("2024-05-17T08:02:03.5", MOMENT, np.datetime64(MOMENT), pd.Timestamp(MOMENT)),
        duckdb="TIMESTAMP '2024-05-17 08:02:03.5'",
        postgresql="timestamp '2024-05-17 08:02:03.5'",
    ),
    "moment in UTC": words(
        *("2024-05-17T08:02:03.5Z", MOMENT.replace(tzinfo=dt.UTC), pd.Timestamp(MOMENT, tz="UTC")),
        duckdb="TIMESTAMPTZ '2024-05-17 10:02:03.5+02'",
        postgresql="timestamptz '2024-05-17 10:02:03.5+02'",
    ),
    "moment after year 9999": words(
        *("+12024-03-15T10:00:00", np.datetime64("12024-03-15T10:00:00")),
        duckdb="TIMESTAMP '12024-03-15 10:00:00'",
        postgresql="timestamp '12024-03-15 10:00:00'",
    ),
    "nanoseconds": words(
        *("2024-01-01T10:00:00.123456789", pd.Timestamp(NANO), np.datetime64(NANO, "ns")),
        duckdb="TIMESTAMP_NS '2024-01-01 10:00:00.123456789'",
    ),
    "seconds": words(
        *("2024-01-01T10:00:00", np.datetime64("2024-01-01T10:00:00", "s")),
        duckdb="TIMESTAMP_S '2024-01-01 10:00:00'",
    ),
    "time": words("10:00:00.5", dt.time(10, 0, 0, 500_000), duckdb="TIME '10:00:00.5'", postgresql="time '10:00:00.5'"),
    "time in a zone": words("10:00:00+02:00", dt.time(10, tzinfo=BERLIN), postgresql="timetz '10:00+02'"),
    "time in UTC": words(
        "10:00:00Z", dt.time(10, tzinfo=dt.UTC), duckdb="'10:00:00+00'::TIMETZ", postgresql="timetz '10:00+00'"
    ),
    "duration": words(
        *("P1DT2H3.5S", dt.timedelta(1, 7203.5), pd.Timedelta(1, "D") + pd.Timedelta(7203.5, "s")),
        duckdb="INTERVAL '1 day 02:00:03.5'",
        postgresql="interval '1 day 02:00:03.5'",
    ),
    "negative duration": words(
        *("-PT1H30M", -dt.timedelta(hours=1.5), np.timedelta64(-90, "m")),
        duckdb="INTERVAL '-90 minutes'",
        postgresql="interval '-90 minutes'",
    ),
    "months": words(*("P1Y2M", np.timedelta64(14, "M")), duckdb="INTERVAL 14 MONTH", postgresql="interval '14 months'"),
    "mixed signs": words(
        *("P1M-2DT3S", pa.MonthDayNano([1, -2, 3_000_000_000])),
        duckdb="INTERVAL '1 month -2 days 3 seconds'",
        postgresql="interval '1 month -2 days 3 seconds'",
    ),
    "no duration": words("PT0S", dt.timedelta(), duckdb="INTERVAL '0 days'", postgresql="interval '0'"),
    "UUID": words(A_UUID, uuid.UUID(A_UUID), duckdb=f"'{A_UUID}'::UUID", postgresql=f"'{A_UUID}'::uuid"),
    "enumeration": words("red", Colour.RED, duckdb="'red'::ENUM ('red', 'blue')", postgresql="'red'"),
    "path": words("a/b", Path("a/b")),
    "list": same(
        *("[1,null]", [1, None], (1, None), pa.array([1, None])), duckdb="[1, NULL]", postgresql="array[1, null]"
    ),
    "list of times": same(
        *('["2024-05-17T08:02:03.5",null]', [MOMENT, pd.NaT], pd.Series([MOMENT, None])),
        duckdb="[TIMESTAMP '2024-05-17 08:02:03.5', NULL]",
        postgresql="array[timestamp '2024-05-17 08:02:03.5', null]",
    ),
    "list of prices": same(
        *("[1.10,2.00]", [Decimal("1.10"), Decimal("2.00")]),
        duckdb="[1.10, 2.00]::DECIMAL(9, 2)[]",
        postgresql="array[1.10, 2.00]",
    ),
    "list of lists": same(
        "[[1,2],[3,4]]", np.array([[1, 2], [3, 4]]), duckdb="[[1, 2], [3, 4]]", postgresql="array[[1, 2], [3, 4]]"
    ),
    "object": same(
        *('{"a":"2024-05-17","b":null}', {"a": dt.date(2024, 5, 17), "b": None}),
        duckdb="{'a': DATE '2024-05-17', 'b': NULL::INT}",
        postgresql="""'{"a": "2024-05-17", "b": null}'::jsonb""",
    ),
    "JSON with long numbers": same(
        *('{"a":12345678901234567890123,"b":1.10}', {"a": 12345678901234567890123, "b": Decimal("1.10")}),
        duckdb="""'{"a":12345678901234567890123,"b":1.10}'::JSON""",
        postgresql="""'{"a":12345678901234567890123,"b":1.10}'::jsonb""",
    ),
    "map": same('{"1":"x"}', {1: "x"}, duckdb="MAP {1: 'x'}", postgresql="""'{"1": "x"}'::json"""),
    "interval of pandas": words("(0, 5]", pd.Interval(0, 5)),
}


def rendered(row: dict[str, Any]) -> dict[str, str | None]:
    """What each plan sends for a row; `None` where it refuses it."""
    made: dict[str, str | None] = {}
    for name, plan in PLANS.items():
        try:
            body = plan.requests.body(row).decode()
        except TemplateError:
            made[name] = None
            continue
        made[name] = body.partition('"v":')[2][:-1]
    return made


def expected(case: Case) -> dict[str, str | None]:
    shown = None if case.text is None else json.dumps(f"x{case.text}", ensure_ascii=False)
    return {
        "text": shown,
        "alone": case.json,
        "whole": json.dumps(f'{{"v":{case.json}}}', ensure_ascii=False),
        "default": '"nothing"' if case.text is None else case.json,
    }


def the_row(records: Iterator[Any]) -> dict[str, Any]:
    (record,) = (each for each in records if isinstance(each, Record))
    data: dict[str, Any] = record.data
    return data


def of_table(rows: Any) -> dict[str, Any]:
    return the_row(open_table(rows, "").records())


def of_file(path: Path) -> dict[str, Any]:
    with files.source(files.Options(path=str(path))) as source:
        return the_row(source.read())


PYTHON: Final = {(name, type(value).__name__): (case, value) for name, case in CASES.items() for value in case.python}


@pytest.mark.parametrize(("case", "value"), PYTHON.values(), ids=map(", ".join, PYTHON))
def test_a_value_of_python(case: Case, value: Any) -> None:
    assert rendered({"v": value}) == expected(case)


CHANGED: Final = {
    "pandas": {"date", "date before year 1", "date after year 9999", "time in a zone", "time in UTC"},
    "Polars": {
        *("time in a zone", "time in UTC", "nanoseconds", "mixed signs", "JSON with long numbers"),
        *("NaN", "NaN of numeric", "infinity"),
    },
}
"""What the frames of a library do not hold: they make it a value of another type."""

IMPOSSIBLE: Final = {
    "pandas": {"months, timedelta64"},
    "Polars": {"null, NaTType", "huge integer, Decimal", "list of times, list", "list of lists, ndarray", "map, dict"},
}
"""Values of which a library makes no frame at all."""

REFUSED: Final = {
    "pandas": {
        *("huge integer, int", "infinity, Decimal", "enumeration, Colour", "path, PosixPath"),
        *("list, Int64Array", "list of times, Series", "list of lists, ndarray"),
        *("JSON with long numbers, dict", "map, dict"),
    },
    "Polars": {
        *("null, NAType", "huge integer, int", "bytes, bytearray", "bytes, memoryview", "UUID, UUID"),
        *("path, PosixPath", "list, Int64Array", "list of times, Series", "interval of pandas, Interval"),
    },
}
"""Values in frames of which Arrow makes no table, so that we refuse the frame and say what to pass in its place."""

FRAMES: Final[dict[str, Callable[[Any], Any]]] = {"pandas": pd.DataFrame, "Polars": pl.DataFrame}


def in_frames(*, refused: bool) -> list[Any]:
    """Values with the library of a frame that holds them: those that are refused, or all others."""
    return [
        pytest.param(case, value, library, id=f"{library}, {name}, {kind}")
        for library in FRAMES
        for (name, kind), (case, value) in PYTHON.items()
        if name not in CHANGED[library]
        and f"{name}, {kind}" not in IMPOSSIBLE[library]
        and not (library == "Polars" and isinstance(value, np.generic))  # it takes them for objects
        and refused == (f"{name}, {kind}" in REFUSED[library])
    ]


@pytest.mark.parametrize(("case", "value", "library"), in_frames(refused=False))
def test_a_value_in_a_data_frame(case: Case, value: Any, library: str) -> None:
    assert rendered(of_table(FRAMES[library]({"v": [value]}))) == expected(case)


@pytest.mark.parametrize(("case", "value", "library"), in_frames(refused=True))
def test_a_frame_of_which_arrow_makes_no_table_is_refused(case: Case, value: Any, library: str) -> None:
    frame = FRAMES[library]({"v": [value]})
    with pytest.raises(ConfigError, match="pass its to_dict"):
        of_table(frame)
    assert rendered(of_table([{"v": value}])) == expected(case)


def test_objects_in_a_frame_of_polars_are_refused() -> None:
    """Polars hands over their addresses in memory, and calls them bytes."""
    with pytest.raises(ConfigError, match='the column "v" holds Python objects'):
        of_table(pl.DataFrame({"v": [Path("a")]}))


@pytest.mark.parametrize(
    ("values", "forms"),
    [
        (pd.PeriodIndex(["2024-05", None], freq="M"), ["2024-05", None]),
        (pd.interval_range(0, 2), ["(0, 1]", "(1, 2]"]),
        (pd.Categorical(["a", None]), ["a", None]),
        (pd.array([2**63 - 1, None], dtype="Int64"), [2**63 - 1, None]),
        (pd.array([True, None], dtype="boolean"), [True, None]),
        (pd.array([0.5, None], dtype="Float32"), [0.5, None]),
        (pd.array(["", None], dtype="string"), ["", None]),
        (pd.to_datetime(["2024-05-17 10:00:00.000000001", None], utc=True), ["2024-05-17T10:00:00.000000001Z", None]),
        (pd.to_timedelta(["1 day 00:00:00.000000001", None]), ["P1DT0.000000001S", None]),
    ],
)
def test_what_pandas_has_beyond_numpy(values: Any, forms: list[Any]) -> None:
    frame = pd.DataFrame({"v": values})
    for rows in (frame, frame.to_dict("records")):
        found = [record.data for record in open_table(rows, "").records() if isinstance(record, Record)]
        assert json.loads(dumps(found)) == [{"v": form} for form in forms]


LOST: Final = {
    "DuckDB": {"time in UTC", "JSON with long numbers"},
    "Arrow": {"time in UTC", "JSON with long numbers"},
    "Parquet": {"huge integer", "negative duration", "mixed signs"},
    "JSON": {"infinity"},
    "CSV": {
        *("longer integer", "huge integer", "decimal of thirty digits", "infinity"),  # which are texts there
        *(name for name, case in CASES.items() if case.json[0] in "[{"),
    },
}
"""What a format has no type for."""

OF_DUCKDB: Final = [
    pytest.param(case, way, id=f"{way}, {name}")
    for way, lost in LOST.items()
    for name, case in CASES.items()
    if case.duckdb and name not in lost
]


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        opened.execute("SET TimeZone = 'UTC'")
        yield opened


@pytest.mark.parametrize(("case", "way"), OF_DUCKDB)
def test_a_value_of_duckdb(case: Case, way: str, database: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    relation = database.sql(f"SELECT {case.duckdb} AS v")
    if way == "DuckDB":
        row = of_table(relation)
    elif way == "Arrow":
        row = of_table(relation.arrow())
    elif way == "Parquet":
        relation.write_parquet(str(tmp_path / "in.parquet"))
        row = of_file(tmp_path / "in.parquet")
    else:
        row = _written_and_read(case, way, tmp_path)
    assert rendered(row) == expected(case)


def _written_and_read(case: Case, way: str, folder: Path) -> dict[str, Any]:
    """What comes back from a file that holds the value's JSON, or its text."""
    if way == "JSON":
        (folder / "in.jsonl").write_text(f'{{"v":{case.json}}}\n', encoding="utf-8")
        return of_file(folder / "in.jsonl")
    cell = '""' if case.text == "" else case.text or ""
    (folder / "in.csv").write_text(f"v,w\n{cell},1\n", encoding="utf-8")
    return of_file(folder / "in.csv")


def of_base(made: Base, literal: str) -> dict[str, Any]:
    options = sql.Options(url=SecretStr(made.url), query=f"SELECT {literal} AS v")
    with sql.source(options) as source:
        row = the_row(source.read())
        numbers.dumps(row)
        return row


@pytest.fixture(scope="module")
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    return base(request.param, tmp_path_factory.mktemp("base"))


OF_BASES: Final = [
    pytest.param(kind, literal, case, id=f"{kind}, {name}")
    for kind in ("postgresql", "sqlite")
    for name, case in CASES.items()
    if (literal := getattr(case, kind))
]


@pytest.mark.parametrize(("served", "literal", "case"), OF_BASES, indirect=["served"])
def test_a_value_of_a_database(served: Base, literal: str, case: Case) -> None:
    assert rendered(of_base(served, literal)) == expected(case)
