"""Checks a Parquet file of vectors, number by number: `python -m tests.bench.check_vectors FILE ROWS`."""

from __future__ import annotations

import sys

from pyarrow import parquet

from tests.bench.harness import review
from tests.bench.stub import number_of, vector_of


def main(path: str, rows: int) -> None:
    seen = bytearray(rows)
    for batch in parquet.ParquetFile(path).iter_batches(1_000, columns=["id", "embedding"]):
        for row, vector in zip(batch["id"].to_pylist(), batch["embedding"], strict=True):
            seen[row] += 1
            if vector.values.to_numpy().tobytes() != vector_of(number_of(review(row))).tobytes():
                raise SystemExit(f"row {row} has the vector of another")
    if any(count != 1 for count in seen):
        raise SystemExit(f"{sum(count != 1 for count in seen)} of {rows} rows are missing or there twice")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
