"""PostgreSQL, a real one: every type has one JSON form that its schema tells, and no value ends a read."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
from pydantic import SecretStr

from connector.base import numbers
from connector.stores import sql
from tests.stores.helpers import rows_of, states_of

PROGRAMS: Final = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
pytestmark = pytest.mark.skipif(PROGRAMS is None, reason="the programs of PostgreSQL are not installed")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    pytest.importorskip("psycopg")
    as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    folder = Path(tempfile.mkdtemp())
    if as_user:
        shutil.chown(folder, "postgres")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    data = str(folder / "data")

    def run(name: str, *arguments: str) -> None:
        subprocess.run([*as_user, f"{PROGRAMS}/{name}", "-D", data, *arguments], check=True, capture_output=True)

    run("initdb", "-A", "trust", "-U", "postgres")
    server = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    run("pg_ctl", "-o", server, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def read(url: str, query: str, state: Any = None, **more: Any) -> tuple[list[dict[str, Any]], list[Any]]:
    with sql.source(sql.Options(url=SecretStr(url), query=query), **more) as source:
        rows = rows_of(source, state)
        for row in rows:
            for name, value in row.items():
                jsonschema.validate(value, source.columns[name])
            numbers.dumps(row)
        return rows, states_of(source, state)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("true", "true"),
        ("9223372036854775807::int8", "9223372036854775807"),
        ("1.5::float8", "1.5"),
        ("'nan'::float8", "null"),
        ("'-infinity'::float8", "null"),
        ("10::numeric", "10"),
        ("1.10::numeric", "1.10"),
        ("12345678901234567890.1234567890::numeric(30, 10)", "12345678901234567890.1234567890"),
        ("25227143063332189585438::numeric", "25227143063332189585438"),
        ("'nan'::numeric", "null"),
        ("'infinity'::numeric", "null"),
        ("date '2024-02-29'", '"2024-02-29"'),
        ("date 'infinity'", '"infinity"'),
        ("date '0044-03-15 BC'", '"-0043-03-15"'),
        ("date '12024-03-15'", '"+12024-03-15"'),
        ("timestamp '2024-02-29 10:00:00.5'", '"2024-02-29T10:00:00.5"'),
        ("timestamp '-infinity'", '"-infinity"'),
        ("timestamp '0044-03-15 10:00 BC'", '"-0043-03-15T10:00:00"'),
        ("timestamptz '2024-02-29 10:00+02'", '"2024-02-29T08:00:00Z"'),
        ("time '10:00'", '"10:00:00"'),
        ("timetz '10:00+02'", '"10:00:00+02:00"'),
        ("timetz '10:00+05:30'", '"10:00:00+05:30"'),
        ("timetz '10:00:01.5+00'", '"10:00:01.5Z"'),
        ("timetz '10:00-03'", '"10:00:00-03:00"'),
        ("interval '-1 hour'", '"-PT1H"'),
        ("interval '-1 year -2 days'", '"-P1Y2D"'),
        ("interval '1 mon -2 days 3 seconds'", '"P1M-2DT3S"'),
        ("interval '1 mon 2 days 03:00'", '"P1M2DT3H"'),
        ("int4range(1, 5)", '"[1,5)"'),
        ("tstzrange('2024-01-01', 'infinity')", '"[2024-01-01T00:00:00Z,infinity)"'),
        ("'{[1,3),[5,8)}'::int4multirange", '"{[1,3),[5,8)}"'),
        ("array[1, null]", "[1,null]"),
        ("array[[1, 2], [3, 4]]", "[[1,2],[3,4]]"),
        ("array[timetz '10:00+02']", '["10:00:00+02:00"]'),
        ("array[1.1::numeric]", "[1.1]"),
        ("array[date 'infinity']", '["infinity"]'),
        ("row(1, 'a')", '"(1,a)"'),
        ("'{\"a\": 12345678901234567890123}'::jsonb", '{"a":12345678901234567890123}'),
        ("'\\x00ff'::bytea", '"AP8="'),
        ("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid", '"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"'),
        ("'192.168.0.1/24'::inet", '"192.168.0.1/24"'),
        ("'1.50'::money", '"$1.50"'),
        ("b'101'", '"101"'),
        ("point(1, 2)", '"(1,2)"'),
        ("'a:1'::tsvector", "\"'a':1\""),
    ],
)
def test_a_value_has_one_json_form_that_its_schema_tells(url: str, value: str, told: str) -> None:
    rows, _ = read(url, f"SELECT {value} AS v UNION ALL SELECT NULL")
    assert [numbers.dumps(row).decode() for row in rows] == [f'{{"v":{told}}}', '{"v":null}']


@pytest.mark.parametrize(
    "values",
    [
        ["timestamp '0044-03-15 BC'", "timestamp '2024-01-01'", "timestamp '12024-01-01'", "timestamp 'infinity'"],
        ["timestamptz '2024-01-01 10:00+02'", "timestamptz '2024-01-01 10:00+01'"],
        ["12345678901234567890.1", "12345678901234567890.2", "12345678901234567890.3"],
        ["date '0044-03-15 BC'", "date '0043-03-15 BC'", "date '0001-03-15 BC'", "date '0001-03-15'"],
    ],
)
def test_a_read_goes_on_from_any_value_of_a_cursor(url: str, values: list[str]) -> None:
    query = " UNION ALL ".join(f"SELECT {value} AS v" for value in values)
    rows, _ = read(url, query, cursor_field="v")
    for count in range(1, len(values)):
        _, (state, *_) = read(url, query, cursor_field="v", limit=count)
        left, _ = read(url, query, numbers.loads(numbers.dumps(state)), cursor_field="v")
        assert left == rows[count:]


@pytest.mark.parametrize("literal", [r"'a\:b'", r"'a\: b'", "'10%s'", "'a:b'", r"'\::x:y'", "'%%'", "'x'::text"])
def test_a_query_is_run_as_it_is_written_with_a_cursor_too(url: str, literal: str) -> None:
    for cursor in (None, "n"):
        rows, _ = read(url, f"SELECT {literal} AS c, 1 AS n -- :note 5%", cursor_field=cursor)
        assert rows == [{"c": literal.removesuffix("::text").strip("'"), "n": 1}]
