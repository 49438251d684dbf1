"""A file as the body of a request. It is read while it is sent, so a large one takes no memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, Final
from uuid import uuid4

from connector.http.http1 import PIECE

_MULTIPART: Final = "multipart/form-data; boundary="


class Upload:
    """A form with one file, as multipart/form-data (RFC 7578). It can be iterated more than once.

    Args:
        file: The file, open for reading; its position does not matter.
        filename: The name that is sent to the server, without quotes or line breaks.
        fields: The other fields of the form.

    Attributes:
        content_type: The value of the header `Content-Type`.
        sent: Called after each piece.
    """

    def __init__(self, file: BinaryIO, filename: str, fields: Mapping[str, str]) -> None:
        boundary = uuid4().hex  # 122 random bits: no file contains it
        self.content_type = f"{_MULTIPART}{boundary}"
        self.sent: Callable[[], None] = lambda: None
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        ]
        disposition = f'Content-Disposition: form-data; name="file"; filename="{filename}"'
        parts.append(f"--{boundary}\r\n{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n")
        self._head = "".join(parts).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()

    def __len__(self) -> int:
        return len(self._head) + self._size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        """Yields the body in pieces, no more than its length says, even if the file has grown since."""
        yield self._head
        at = 0
        while at < self._size and (piece := os.pread(self._file.fileno(), min(PIECE, self._size - at), at)):
            at += len(piece)
            yield piece
            self.sent()
        yield self._tail
