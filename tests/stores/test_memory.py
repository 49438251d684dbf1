"""Memory does not grow with the number of rows: not for the snapshot, not while rows wait, not for the output."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb

PROGRAM = """
import pathlib, resource, sys
from connector.base.records import Record
from connector.stores import files

given, output = (files.Options(path=path) for path in sys.argv[1:])
added = {"label": {"type": "string"}, "tokens": {"type": "integer"}, "scores": {}}
with files.source(given) as source, files.sink(output, added, source=source) as sink:
    for item in source.read():
        if isinstance(item, Record):
            sink.write(item, {"label": item.data["review"][:20], "tokens": item.index, "scores": [0.5, item.index]})
    sink.commit()
status = pathlib.Path("/proc/self/status")  # on Linux ru_maxrss counts what the parent had, too
lines = status.read_text().splitlines() if status.exists() else []
print(next((line.split()[1] for line in lines if line.startswith("VmHWM")), resource.getrusage(0).ru_maxrss))
"""


def peak(folder: Path, rows: int) -> int:
    """The peak of a process, in kB on Linux, that enriches so many rows."""
    given = folder / f"{rows}.csv"
    sql = f"SELECT range AS id, md5(range::VARCHAR) || repeat(' review', 10) AS review FROM range({rows})"
    duckdb.execute(f"COPY ({sql}) TO '{given}' (HEADER)")
    command = [sys.executable, "-c", PROGRAM, str(given), str(folder / f"{rows}.parquet")]
    return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def test_five_times_the_rows_take_at_most_a_fifth_more_memory_and_stay_in_order(tmp_path: Path) -> None:
    assert peak(tmp_path, 500_000) <= 1.2 * peak(tmp_path, 100_000)
    in_order = "bool_and(id = file_row_number AND tokens = id)"
    sql = f"SELECT count(*), {in_order} FROM read_parquet('{tmp_path / '500000.parquet'}', file_row_number = true)"
    assert duckdb.execute(sql).fetchall() == [(500_000, True)]
