"""Parquet as input: every type keeps itself in the output and is something that JSON can hold in the records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connector.base import numbers
from connector.base.errors import ConfigError
from connector.base.numbers import Number
from tests.stores.helpers import enrich, objects, opened, parquet, rows_of, table, types

NUMBER = {"type": ["null", "number"]}
INTEGER = {"type": ["null", "integer"]}
TEXT = {"type": ["null", "string"]}
LOCAL = {**TEXT, "format": "date-time", "airbyte_type": "timestamp_without_timezone"}
ZONED = {**TEXT, "format": "date-time", "airbyte_type": "timestamp_with_timezone"}


@pytest.mark.parametrize(
    ("sql", "value", "schema"),
    [
        ("true", True, {"type": ["null", "boolean"]}),
        ("1::TINYINT", 1, INTEGER),
        ("9223372036854775807", 9223372036854775807, INTEGER),
        ("18446744073709551615::UBIGINT", 18446744073709551615, INTEGER),
        ("1.5::FLOAT", 1.5, NUMBER),
        ("'nan'::DOUBLE", None, NUMBER),
        ("19.90::DECIMAL(10, 2)", 19.9, NUMBER),
        ("19.90::DECIMAL(38, 2)", 19.9, NUMBER),
        ("12345678901234567890.12::DECIMAL(38, 2)", Number("12345678901234567890.12"), NUMBER),
        ("7::DECIMAL(38, 0)", 7, INTEGER),
        ("12345678901234567890123::DECIMAL(38, 0)", 12345678901234567890123, INTEGER),
        ("'007 😀'", "007 😀", TEXT),
        ("DATE '2024-02-29'", "2024-02-29", {**TEXT, "format": "date"}),
        ("TIMESTAMP '2024-02-29 10:00:00'", "2024-02-29T10:00:00", LOCAL),
        ("TIMESTAMP '2024-02-29 10:00:00.123456'", "2024-02-29T10:00:00.123456", LOCAL),
        ("TIMESTAMP_NS '2024-02-29 10:00:00.123456789'", "2024-02-29T10:00:00.123456789", LOCAL),
        ("TIMESTAMPTZ '2024-02-29 10:00:00+02'", "2024-02-29T08:00:00Z", ZONED),
        ("TIMESTAMPTZ '2024-02-29 10:00:00.123456+02'", "2024-02-29T08:00:00.123456Z", ZONED),
        ("'2024-02-29 10:00:00.123456789+02'::TIMESTAMPTZ_NS", "2024-02-29T08:00:00.123456789Z", ZONED),
        ("TIMESTAMPTZ 'infinity'", "infinity", ZONED),
        ("TIMESTAMP '-infinity'", "-infinity", LOCAL),
        ("DATE '0044-03-15 (BC)'", "-0043-03-15", {**TEXT, "format": "date"}),
        ("DATE '12024-03-15'", "+12024-03-15", {**TEXT, "format": "date"}),
        ("TIMESTAMP '0044-03-15 (BC) 10:00:00.5'", "-0043-03-15T10:00:00.5", LOCAL),
        ("TIMESTAMPTZ '12024-03-15 10:00:00+00'", "+12024-03-15T10:00:00Z", ZONED),
        ("TIMETZ '10:00:00+02'", "08:00:00Z", None),
        ("TIME '10:00'", "10:00:00", {**TEXT, "format": "time", "airbyte_type": "time_without_timezone"}),
        ("'\\x00\\xFF'::BLOB", "AP8=", {**TEXT, "contentEncoding": "base64"}),
        ("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::UUID", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", TEXT),
        ("INTERVAL 1 DAY", "P1D", TEXT),
        ("INTERVAL '14 months 3 hours 2.5 seconds'", "P1Y2MT3H2.5S", TEXT),
        ("INTERVAL 0 DAY", "PT0S", TEXT),
        ("[1, NULL]", [1, None], {"type": ["null", "array"], "items": INTEGER}),
        ("[[1.5::DOUBLE, 'nan'], NULL]", [[1.5, None], None], None),
        ("[DATE '2024-01-01', NULL]", ["2024-01-01", None], None),
        ("{'a': 1, 'b': NULL::DATE}", {"a": 1, "b": None}, None),
        ("[{'a': TIMESTAMP '2024-01-01', 'b': 'x'}, NULL]", [{"a": "2024-01-01T00:00:00", "b": "x"}, None], None),
        ("NULL::STRUCT(a DATE)", None, None),
        ("MAP {1: 1.5::DECIMAL(4, 2)}", {"1": 1.5}, {"type": ["null", "object"], "additionalProperties": NUMBER}),
        ("NULL::MAP(INT, DATE)", None, None),
        ("""'{"a": [1, 2]}'::JSON""", {"a": [1, 2]}, {}),
        ("'null'::JSON", None, {}),
    ],
)
def test_a_value_is_what_json_can_hold_and_its_schema_says_so(
    tmp_path: Path, sql: str, value: Any, schema: dict[str, Any] | None
) -> None:
    path = parquet(tmp_path / "in.parquet", f"SELECT {sql} AS a UNION ALL SELECT NULL")
    with opened(path) as source:
        assert rows_of(source) == [{"a": value}, {"a": None}]
        assert schema is None or source.columns == {"a": schema}
        for row in rows_of(source):
            jsonschema.validate(row["a"], source.columns["a"])
            numbers.dumps(row)
    enrich(path, tmp_path / "out.parquet", {"label": {"type": "string"}}, {"label": "x"})
    assert types(tmp_path / "out.parquet") == {**types(path), "label": "VARCHAR"}
    for name in ("out.jsonl", "out.csv"):
        enrich(path, tmp_path / name, {}, {})
    assert objects(tmp_path / "out.jsonl") == [{"a": value}, {"a": None}]
    assert len(table(tmp_path / "out.csv")) == 2


def test_several_files_are_one_table_by_the_names_of_their_columns(tmp_path: Path) -> None:
    parquet(tmp_path / "2.parquet", "SELECT 1.5 AS b, 'x' AS c")
    parquet(tmp_path / "1.parquet", "SELECT 1 AS a, 2 AS b")
    assert table(tmp_path / "*.parquet") == [{"a": 1, "b": 2.0, "c": None}, {"a": None, "b": 1.5, "c": "x"}]


def test_rows_come_in_the_order_of_the_file_with_a_limit_too(tmp_path: Path) -> None:
    path = parquet(tmp_path / "in.parquet", "SELECT range AS a FROM range(300_000)")
    with opened(path) as source:
        assert source.rows == 300_000
        assert all(row["a"] == index for index, row in enumerate(rows_of(source)))
    with opened(path, limit=5) as source:
        assert source.rows == 5
        assert rows_of(source) == [{"a": index} for index in range(5)]


@pytest.mark.parametrize("content", [b"", b"PAR1 no parquet", b"a,b\n1,2\n"])
def test_what_is_not_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in.parquet").write_bytes(content)
    with pytest.raises(ConfigError, match=r"in.parquet: it cannot be read as parquet: .* check that it is whole"):
        table(tmp_path / "in.parquet")


def test_a_cut_parquet_file_is_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path / "in.parquet", "SELECT range AS a FROM range(1000)")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ConfigError, match="cannot be read as parquet"):
        table(path)


def test_a_map_that_names_a_key_twice_is_refused_as_it_has_no_form_in_json(tmp_path: Path) -> None:
    """DuckDB writes no such map, but other programs do."""
    keys, values = pa.array(["k", "k"]), pa.array([1, 2])
    pq.write_table(pa.table({"a": pa.MapArray.from_arrays([0, 2], keys, values)}), tmp_path / "in.parquet")
    with pytest.raises(ConfigError, match=r"in\.parquet: it cannot be read as parquet: Map keys must be unique"):
        table(tmp_path / "in.parquet")


def test_json_keeps_a_number_that_no_double_can_hold(tmp_path: Path) -> None:
    path = parquet(tmp_path / "in.parquet", """SELECT '{"a": 1e400, "b": 1.10}'::JSON AS j""")
    with opened(path) as source:
        assert str(rows_of(source)) == "[{'j': {'a': 1e400, 'b': 1.10}}]"
