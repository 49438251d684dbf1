"""Labels that a person gives to rows, in a file to which lines are appended, so that none is ever lost."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from connector.base.errors import StorageError
from connector.base.records import JSON, Record


class Labels:
    """The labels of an input's rows, keyed by a row's content, so that they survive a change of order.

    Args:
        path: The file: JSONL, private to its owner. The last line about a row and a column counts.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[tuple[str, str], JSON] = {}
        self._before = b""  # a line end if the last line was cut off, so that the next one is not lost with it
        with suppress(FileNotFoundError):
            data = path.read_bytes()
            self._before = b"" if data.endswith(b"\n") else b"\n"
            for line in data.splitlines():
                with suppress(ValueError, KeyError, TypeError):
                    entry = json.loads(line)
                    self._known[str(entry["row"]), str(entry["column"])] = entry["label"]

    def get(self, record: Record, column: str) -> JSON:
        """Returns the label of a row in a column; `None` if there is none."""
        return self._known.get((key_of(record), column))

    def put(self, record: Record, column: str, label: JSON) -> None:
        """Stores a label; `None` removes it.

        Raises:
            StorageError: It cannot be written.
        """
        key = key_of(record)
        entry = {"row": key, "number": record.index + 1, "column": column, "label": label}
        line = json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace")
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(handle, "ab") as file:
                file.write(self._before + line + b"\n")
        except OSError as error:
            self._before = b"\n"
            raise StorageError(f"{self.path}: the label cannot be saved: {error.strerror or error}") from None
        self._before = b""
        self._known[key, column] = label


def key_of(record: Record) -> str:
    """Returns the key of a row: a hash of its columns."""
    data: dict[str, Any] = record.data
    text = json.dumps(data, sort_keys=True, default=str, ensure_ascii=True)
    return blake2b(text.encode(), digest_size=16).hexdigest()
