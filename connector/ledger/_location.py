"""Where a ledger is, as `cache` says it: a file, or the URL of one that several runs share."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote, unquote

from connector.base.environment import expanded
from connector.base.masking import looks_secret
from connector.base.regex import regex

FILE: Final = "file"
FOLDERS: Final = (FILE, "s3", "gs", "gcs", "abfs", "abfss")
"""The schemes of folders and buckets: of those pyarrow file systems that show a file only once it is complete."""

DATABASES: Final = ("postgresql", "postgres")
_BUCKETS: Final = FOLDERS[1:]

_LOCATION: Final = regex(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)", re.DOTALL)


class Url:
    """The URL of a ledger that several runs may share. As text it has no secret: neither user, password nor options.

    `${NAME}` in it is replaced by an environment variable when the ledger is opened; before the `@`, the value needs no
    percent-encoding.

    Attributes:
        scheme: The part before `://`, in lower case.
    """

    __slots__ = ("_text", "scheme")

    def __init__(self, text: str) -> None:
        found = _LOCATION.fullmatch(text)
        if found is None:
            raise ValueError("is not a URL")
        self._text = text
        self.scheme = found["scheme"].lower()

    @property
    def path(self) -> str:
        """What follows `://`."""
        return self._text.partition("://")[2]

    @property
    def names_place(self) -> bool:
        """Whether it has a host or a bucket, after the user if there is one."""
        login, place = self._split()
        return (place if login else self.path)[:1] not in ("", "/", "?")

    @property
    def folder(self) -> Path | None:
        """The local folder that it names; `None` for a bucket or a database."""
        return Path(unquote(self.path)) if self.scheme == FILE else None

    def revealed(self) -> str:
        """Returns the whole URL, with its variables replaced and its secrets.

        Raises:
            ConfigError: A variable is not set.
        """
        login, place = self._split()
        return expanded(login, lambda value: quote(value, safe="")) + expanded(place)

    def secrets(self) -> Iterator[str]:
        """Yields the secrets in it: the password, and options that look secret. Raises as `revealed` does."""
        login, place = Url(self.revealed())._split()  # noqa: SLF001 - of the same class
        password = login.partition("://")[2].partition(":")[2].removesuffix("@")
        beside = password.partition("@")[2]  # which libpq takes for a part of the host, and shows
        yield from {password, unquote(password), beside} - {""}
        for name, value in parse_qsl(place.partition("?")[2]):
            if looks_secret(name, value):
                yield value

    def _split(self) -> tuple[str, str]:
        """Returns the URL up to the `@` before its host, and the rest.

        As in libpq, a `?` before that `@` belongs to the password, unless a `/` comes first.
        """
        server = self.path.partition("/")[0]
        place = server if "@" in server else self.path.partition("?")[0]
        if self.scheme == FILE or "@" not in place:
            return "", self._text
        end = len(self._text) - len(self.path) + place.rfind("@") + 1
        return self._text[:end], self._text[end:]

    def __str__(self) -> str:
        place = self._split()[1].partition("?")[0]
        return place if "://" in place else f"{self.scheme}://{place}"

    def __repr__(self) -> str:
        return f"Url({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Url) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> tuple[type[Url], tuple[str]]:
        return Url, (self._text,)


Location = Path | Url | None
"""A SQLite file, the URL of a database or a folder, or `None` for a ledger in memory."""


def location_of(text: str) -> Path | Url:
    """Returns what `cache` or a command line names: a URL, also for a folder, which exists or ends in `/`; else a file.

    Raises:
        ValueError: It is a URL of an unknown scheme, or names no place; the message says what to write.
    """
    if _LOCATION.fullmatch(text) is None:
        try:
            is_folder = text.endswith("/") or Path(text).is_dir()
        except OSError as error:
            raise ValueError(f"is not the path of a ledger: {error.strerror}: name another one") from None
        whole = os.path.abspath(text).replace("%", "%25")  # noqa: PTH100 - links stay as they are
        return Url(f"{FILE}://{whole}") if is_folder else Path(text)
    url = Url(text)
    if url.scheme not in (*DATABASES, *FOLDERS):
        raise ValueError(
            f"a ledger cannot be kept at {url.scheme}://: write postgresql://…, s3://…, gs://…, abfs://…, or a path"
        )
    if url.scheme == FILE and not url.path.startswith("/"):
        raise ValueError("file:// needs an absolute path: write file:///folder/")
    if url.scheme in _BUCKETS and not url.names_place:
        raise ValueError(f"{url.scheme}:// names no bucket: write {url.scheme}://bucket/folder/")
    return url
