"""Files of the sandbox: uploads are stored in a private folder, which is removed when the server ends.

Shapes are those of https://platform.openai.com/docs/api-reference/files.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from connector.base.regex import regex
from connector.sandbox.validation import APIError

_PIECE: Final = 1 << 16
_BOUNDARY: Final = regex(r'boundary="?([^";]{1,200})"?')
_NAME: Final = regex(r'; *name="([^"]*)"')
_FILENAME: Final = regex(r'; *filename="([^"]*)"')
_NUMBER: Final = regex(r"[0-9]{1,9}")
_LONGEST_FIELD: Final = 1 << 16
_MOST_LISTED: Final = 10_000
_CREATE: Final = "POST /v1/files"


class Files:
    """The files of one server. Thread-safe.

    Args:
        folder: Where their content is stored.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._files: dict[str, dict[str, Any]] = {}

    def upload(self, content_type: str, source: BinaryIO, size: int) -> dict[str, Any]:
        """Reads a multipart body of `size` bytes from `source` piece by piece, and returns the file's object."""
        boundary = _BOUNDARY.search(content_type)
        if not content_type.startswith("multipart/form-data") or boundary is None:
            raise APIError(415, f"{_CREATE} takes multipart/form-data.")
        name, path = f"file-{uuid.uuid4().hex}", self._folder / uuid.uuid4().hex
        fields, filename = _taken(_Parts(source, size, boundary[1].encode()), path)
        if filename is None:
            raise APIError(400, "'file' is a required property", "file")
        if not fields.get("purpose"):
            path.unlink()
            raise APIError(400, "'purpose' is a required property", "purpose")
        return self.add(name, path, filename, fields["purpose"])

    def add(self, name: str, path: Path, filename: str, purpose: str) -> dict[str, Any]:
        """Registers the content at `path` as a file, and returns its object."""
        file = {
            "id": name,
            "object": "file",
            "bytes": path.stat().st_size,
            "created_at": int(time.time()),
            "expires_at": None,
            "filename": filename,
            "purpose": purpose,
            "status": "processed",
            "status_details": None,
        }
        with self._lock:
            self._files[name] = {**file, "path": path}
        return file

    def new_path(self) -> Path:
        """Returns a path for a new file."""
        return self._folder / uuid.uuid4().hex

    def file(self, name: str) -> dict[str, Any]:
        """Returns a file's object."""
        return {key: value for key, value in self._found(name).items() if key != "path"}

    def path(self, name: str) -> Path:
        """Returns the path of a file's content."""
        path: Path = self._found(name)["path"]
        return path

    def delete(self, name: str) -> dict[str, Any]:
        """Deletes a file."""
        path = self.path(name)
        with self._lock:
            self._files.pop(name, None)
        path.unlink(missing_ok=True)
        return {"id": name, "object": "file", "deleted": True}

    def listed(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Returns a page of the files, newest first."""
        with self._lock:
            names = list(self._files)
        files = [self.file(name) for name in (names if query.get("order") == "asc" else reversed(names))]
        wanted = [file for file in files if query.get("purpose") in (None, "", file["purpose"])]
        return page(wanted, query, _MOST_LISTED)

    def _found(self, name: str) -> dict[str, Any]:
        with self._lock:
            if name not in self._files:
                raise APIError(404, f"No such File object: {name}", "id")
            return self._files[name]


def page(items: list[dict[str, Any]], query: Mapping[str, str], most: int) -> dict[str, Any]:
    """Returns the page of a list that `limit` and `after` ask for."""
    limit = query.get("limit", "20" if most == 100 else str(most))  # noqa: PLR2004 - the default of a short list
    if not _NUMBER.fullmatch(limit) or not 1 <= int(limit) <= most:
        raise APIError(400, f"Invalid 'limit': it must be between 1 and {most}.", "limit", "invalid_value")
    start = 0
    if after := query.get("after"):
        start = next((number for number, item in enumerate(items, 1) if item["id"] == after), len(items))
    some = items[start : start + int(limit)]
    return {
        "object": "list",
        "data": some,
        "first_id": some[0]["id"] if some else None,
        "last_id": some[-1]["id"] if some else None,
        "has_more": start + len(some) < len(items),
    }


class _Parts:
    """The parts of a multipart body (RFC 2046, section 5.1), read in order, piece by piece."""

    def __init__(self, source: BinaryIO, size: int, boundary: bytes) -> None:
        self._source = source
        self._left = size
        self._end = b"\r\n--" + boundary
        self._data = b"\r\n"  # so that the first boundary follows a line end, as the others do

    def _more(self) -> bool:
        piece = self._source.read(min(_PIECE, self._left))
        self._left -= len(piece)
        self._data += piece
        return bool(piece)

    def __iter__(self) -> Iterator[str]:
        """Yields the header of each part; its content must be read before the next one."""
        for _ in self.content():
            pass
        while True:
            while len(self._data) < 2 and self._more():  # noqa: PLR2004 - a line end, or the two dashes of the last
                pass
            if self._data[:2] != b"\r\n":
                while self._left and self._more():
                    self._data = b""
                return
            while b"\r\n\r\n" not in self._data and len(self._data) < _LONGEST_FIELD and self._more():
                pass
            head, _, self._data = self._data.partition(b"\r\n\r\n")
            yield head.decode("utf-8", "replace")

    def content(self) -> Iterator[bytes]:
        """Yields the bytes up to the next boundary."""
        while True:
            found = self._data.find(self._end)
            if found >= 0:
                yield self._data[:found]
                self._data = self._data[found + len(self._end) :]
                return
            sure = max(0, len(self._data) - len(self._end))
            yield self._data[:sure]
            self._data = self._data[sure:]
            if not self._more():
                raise APIError(400, "Could not parse multipart form.")


def _taken(parts: _Parts, path: Path) -> tuple[dict[str, str], str | None]:
    """Writes the file among the parts to `path`; returns the other fields, and the file name if there is one."""
    fields: dict[str, str] = {}
    filename: str | None = None
    for head in parts:
        name, file = _NAME.search(head), _FILENAME.search(head)
        if name and name[1] == "file" and file:
            filename = file[1]
            with path.open("wb") as output:
                output.writelines(parts.content())
        else:
            value = b"".join(parts.content())
            if name:
                fields[name[1]] = value[:_LONGEST_FIELD].decode("utf-8", "replace")
    return fields, filename
