"""Returns freed memory to the system, if the C library is glibc."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from typing import Final

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # mallopt(3)
_ARENAS: Final = 2  # for all threads together, as only one of them runs at a time
_LARGE: Final = 1 << 20  # bytes from which on a block is mapped separately and returned as soon as it is freed


def give_back() -> None:
    """Bounds how much freed memory this process keeps.

    glibc keeps up to eight arenas per core and, once large blocks have been freed, blocks of up to 32 MiB in them:
    after a few large replies, that is as much as is in use. pyarrow, if it is loaded later, allocates as everything
    else does: its own allocator takes 24 MB before anything is written.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    with suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, 8 * _LARGE)
