"""Random syncs against a model of a table: every cell that a database holds is what was sent last, in no other form."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector.base import numbers
from connector.base.records import Record
from connector.base.streams import Mode
from connector.stores import sql
from tests.databases import KINDS, base
from tests.stores.databases.writers.test_conformance import INTEGER, NUMBER, STRING, Place

Row = dict[str, Any]

TEXTS: Final = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8) | st.sampled_from(
    ["", " ", "a", "A", "é", "e\u0301", "1", "1.0", "01", "true", "null", "\\N", "{}", "[1]", "2024-01-01", "x" * 300]
)
INTEGERS: Final = st.sampled_from([0, 1, -1, 2**31, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 10**30])
FLOATS: Final = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.1, 1.5, 1e300, -0.5])
LISTS: Final = st.lists(st.integers(-9, 9) | st.none(), max_size=3) | st.lists(TEXTS, max_size=3)
CELLS: Final = st.one_of(
    st.none(), TEXTS, INTEGERS, FLOATS, st.booleans(), LISTS, st.dictionaries(TEXTS, INTEGERS | TEXTS, max_size=2)
)
KEYS: Final = st.sampled_from(["a", "A", "a ", "é", "e\u0301", ""]) | st.sampled_from([1, 2]) | st.none()
ROWS: Final = st.fixed_dictionaries({"k": KEYS}, optional={"v": CELLS, "w": TEXTS | st.none()})
DECLARED: Final = st.sampled_from(
    [{}, {"v": STRING}, {"v": INTEGER}, {"v": NUMBER}, {"v": {**STRING, "format": "date"}}]
)
SYNCS: Final = st.lists(
    st.tuples(
        st.sampled_from(["append", "overwrite", "append_dedup"]), st.lists(ROWS, min_size=1, max_size=4), DECLARED
    ),
    min_size=1,
    max_size=4,
)


class Model:
    """What the table has to hold."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def sync(self, mode: Mode, rows: list[Row]) -> None:
        if mode == "overwrite":
            self.rows = []
        for row in rows:
            if mode == "append_dedup" and row["k"] is not None:
                self.rows = [each for each in self.rows if str(each["k"]) != str(row["k"]) or each["k"] is None]
            self.rows.append(row)

    @property
    def has_twice(self) -> bool:
        keys = [str(row["k"]) for row in self.rows if row["k"] is not None]
        return len(keys) > len(set(keys))


def is_same(sent: Any, found: Any) -> bool:
    """Whether a cell holds what was sent: as itself, or in the one form that it has as text or as JSON."""
    if sent is None:
        return found is None
    if isinstance(sent, str):
        return bool(found == sent or found == numbers.dumps(sent).decode())
    if isinstance(sent, bool):
        return found in (sent, str(sent).lower())
    if isinstance(sent, dict | list):
        return bool((numbers.loads(found) if isinstance(found, str) else found) == sent)
    if isinstance(found, bool | dict | list) or found is None:
        return False
    # a double may be told with other digits than Python's, which are of the same one
    return Decimal(str(found)) == Decimal(str(sent)) or (isinstance(sent, float) and float(found) == sent)


def read(place: Place) -> dict[int, Row]:
    with sql.source(sql.Options(url=place.database.secret, table=place.table)) as source:
        return {int(item.data["n"]): item.data for item in source.read() if isinstance(item, Record)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_holds_every_cell_that_was_sent_whatever_the_syncs(kind: str, tmp_path: Path) -> None:
    database = base(kind, tmp_path)
    number = iter(range(1_000_000))

    @settings(suppress_health_check=list(HealthCheck), deadline=None)
    @given(syncs=SYNCS)
    def holds(syncs: list[tuple[Mode, list[Row], dict[str, Any]]]) -> None:
        place, model = Place(database, f"t{next(number)}"), Model()
        for mode, given_rows, declared in syncs:
            rows = [{"n": next(number), **row} for row in given_rows]
            if mode == "append_dedup" and model.has_twice:
                continue
            key = ("k",) if mode == "append_dedup" else ()
            place.sync(*rows, mode=mode, key=key, columns={"n": INTEGER, "k": {}, "v": declared})
            model.sync(mode, rows)
            found = read(place)
            assert sorted(found) == sorted(row["n"] for row in model.rows)
            for row in model.rows:
                for name, value in row.items():
                    assert is_same(value, found[row["n"]][name]), (name, value, found[row["n"]])
        database.run(f"DROP TABLE IF EXISTS {place.quoted(place.table)}")

    holds()
