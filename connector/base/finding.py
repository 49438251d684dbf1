"""Looks for secrets, or whatever else is short, in what may be large, such as a reply full of vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any, Final

_LARGE: Final = 1 << 14  # bytes from which on the C library is quicker in spite of the call

_LATIN: Final = "latin-1"


def holds(data: bytes, parts: Sequence[str]) -> bool:
    """Returns whether any of the parts is in the data; each byte of a part is the character of its number."""
    size = len(data)
    search = memmem() if size >= _LARGE else None
    if search is None:
        return is_in(data.decode(_LATIN), parts)  # bytes take three times as long to search
    return any(search(data, size, part.encode(_LATIN), len(part)) is not None for part in parts)


def is_in(text: str, parts: Sequence[str]) -> bool:
    """Returns whether a text has any of the parts in it. A plain loop: it runs twice for every reply."""
    for part in parts:  # noqa: SIM110 - `any` over a generator takes twice as long
        if part in text:
            return True
    return False


@cache
def memmem() -> Callable[[bytes, int, bytes, int], int | None] | None:
    """Returns the search of the C library, which takes a third of the time of `in`; `None` where there is none.

    It keeps the interpreter's lock: to hand that over for each part would cost more than it brings.
    """
    with suppress(ImportError, OSError, AttributeError, TypeError):
        ctypes = import_module("ctypes")  # only now: `spec` needs none of it
        found: Any = ctypes.PyDLL(None).memmem
        found.restype = ctypes.c_void_p
        found.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t)
        return found  # type: ignore[no-any-return]
    return None
