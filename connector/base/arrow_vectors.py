"""Vectors as a column of Arrow, by their bytes. Needs pyarrow."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import pyarrow as pa

FLOATS: Final = pa.list_(pa.float32())


def arrow_list(vectors: Sequence[bytes | memoryview | array[float] | None]) -> pa.Array:
    """Returns vectors, which are given as the bytes of their numbers, as a column of lists of float32."""
    sizes = [0 if vector is None else memoryview(vector).nbytes for vector in vectors]
    ends = array("i", accumulate((size // 4 for size in sizes), initial=0))
    numbers = pa.py_buffer(b"".join(vector for vector in vectors if vector is not None))
    items = pa.Array.from_buffers(pa.float32(), ends[-1], [None, numbers])
    mask = None
    if None in vectors:
        mask = pa.array([vector is not None for vector in vectors]).buffers()[1]
    return pa.Array.from_buffers(FLOATS, len(vectors), [mask, pa.py_buffer(ends)], children=[items])
