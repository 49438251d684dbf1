"""JSON: an array of objects. It is read like JSON lines, since a `.json` file may hold either."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from connector.stores.formats import Format
from connector.stores.formats.jsonl import JsonObjects


def _as_array(lines: Path) -> Iterator[bytes]:
    """Yields the pieces of a JSON array whose items are the lines of a file."""
    before = b"[\n"
    with lines.open("rb") as items:
        for item in items:
            yield before + item.rstrip(b"\n")
            before = b",\n"
    yield b"[]\n" if before == b"[\n" else b"\n]\n"


FORMATS: Final[tuple[Format, ...]] = (JsonObjects("json", (".json",), _as_array),)
