"""The files of Singer's BATCH messages, as Meltano's SDK writes them: JSON lines, with or without gzip."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import unquote, urlsplit

from connector.base.errors import ConfigError, StorageError
from connector.base.lines import MOST

_OPENERS: Final[dict[str, Any]] = {"none": open, "gzip": gzip.open}
_MARK: Final = "enriched"


class BatchFiles:
    """The files of one message.

    Raises:
        ConfigError: They are elsewhere than on this machine, or of another format.
    """

    def __init__(self, message: Mapping[str, Any]) -> None:
        encoding = message.get("encoding")
        match encoding:
            case {"format": "jsonl", **more} if (kind := str(more.get("compression") or "none")) in _OPENERS:
                self._open = _OPENERS[kind]
            case _:
                raise ConfigError(
                    f"the BATCH has the encoding {encoding}: only JSON lines can be read, plain or with gzip"
                )
        manifest = message.get("manifest")
        if not isinstance(manifest, list) or not all(isinstance(each, str) for each in manifest):
            raise ConfigError("the BATCH has no manifest, or it is not a list of files")
        self.paths = [_path(each) for each in manifest]

    def lines(self, path: Path) -> Iterator[bytes]:
        """Yields the lines of a file, without their ends and without blank ones.

        Raises:
            ConfigError: It cannot be read.
        """
        try:
            with self._open(path, "rb") as file:
                while line := file.readline(MOST + 1):
                    if len(line) > MOST:
                        raise ConfigError(f"{path}: a line has more than {MOST:,} bytes: end each row with a line feed")
                    if line.strip():
                        yield line.rstrip(b"\r\n")
        except (OSError, EOFError, zlib.error) as error:
            raise ConfigError(f"{path}: the file of a BATCH cannot be read: {error}") from None

    def writing(self, path: Path) -> EnrichedFile:
        """Opens the file that takes the place of another one in the manifest: beside it, for this user alone."""
        stem, dot, rest = path.name.partition(".")
        return EnrichedFile(path.with_name(f"{stem}-{_MARK}{dot}{rest}"), self._open)


class EnrichedFile:
    """A file with the enriched rows of another one."""

    def __init__(self, path: Path, opener: Any) -> None:
        self.path = path
        self._opener = opener
        self._file: IO[bytes] | None = None

    @property
    def uri(self) -> str:
        """The file in a manifest."""
        return self.path.as_uri()

    def write(self, line: bytes) -> None:
        """Adds a line.

        Raises:
            StorageError: It cannot be written.
        """
        try:
            if self._file is None:
                os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600))
                self._file = self._opener(self.path, "wb")
            self._file.write(line)
        except OSError as error:
            raise StorageError(f"{self.path}: the file of a BATCH cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Ends the file; one without lines is there, too."""
        self.write(b"")
        if self._file is not None:
            self._file.close()


def _path(uri: str) -> Path:
    """Returns the path of a file of this machine."""
    try:
        parts = urlsplit(uri)
        path = Path(unquote(parts.path) if parts.scheme else uri)
        is_here = parts.scheme in ("", "file") and parts.netloc in ("", "localhost")
        if is_here and path.name and b"\0" not in os.fsencode(path):
            return path
    except ValueError:  # half of a URL, or of a character
        pass
    raise ConfigError(f"the BATCH names {uri!r}: only files on this machine can be read")
