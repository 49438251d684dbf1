"""Makes Arrow columns from the bytes of vectors. Needs pyarrow."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import pyarrow as pa

FLOATS: Final = pa.list_(pa.float32())
_FLOAT: Final = 4  # bytes


def arrow_list(vectors: Sequence[bytes | memoryview | array[float] | None]) -> pa.Array:
    """Returns a column of float32 lists from vectors, each given as bytes of float32 numbers."""
    sizes = [None if vector is None else memoryview(vector).nbytes for vector in vectors]
    return arrow_lists(b"".join(vector for vector in vectors if vector is not None), sizes)


def arrow_lists(numbers: bytes | memoryview, sizes: Sequence[int | None]) -> pa.Array:
    """Returns a column of float32 lists from their joined bytes; `sizes` has the bytes of each, `None` for null."""
    ends = array("i", accumulate(((size or 0) // _FLOAT for size in sizes), initial=0))
    items = pa.Array.from_buffers(pa.float32(), ends[-1], [None, pa.py_buffer(numbers)])
    mask = pa.array([size is not None for size in sizes]).buffers()[1] if None in sizes else None
    return pa.Array.from_buffers(FLOATS, len(sizes), [mask, pa.py_buffer(ends)], children=[items])
