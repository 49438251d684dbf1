"""The file system of a ledger's URL, from pyarrow: where the folder is, and what errors mean."""

from __future__ import annotations

from contextlib import suppress
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from connector.base.errors import ConfigError
from connector.base.masking import Masker
from connector.base.regex import regex
from connector.ledger import Url

_FINAL: Final = regex(
    "ACCESS_DENIED|FORBIDDEN|NO_SUCH_BUCKET|INVALID|SIGNATURE|redential|(?:HTTP status |http_status_code=|[]] )40[0134]"
)
"""Matches errors of S3, Google and Azure that no retry would resolve."""

_AZURE: Final = ("abfs", "abfss")
_DEFAULTS: Final = {
    "s3": "allow_delayed_open=true",  # a small file is one request, not three
    "gs": "retry_limit_seconds=10",  # of retries by Google's library itself; its default is 15 minutes
    "gcs": "retry_limit_seconds=10",
}
"""Default options, unless a URL sets them."""


class System:
    """The file system that a URL names.

    Attributes:
        files: The file system.
        folder: The folder in it.
        local: The folder, if it is on this machine; else `None`.

    Raises:
        ConfigError: The URL is not one that the file systems know, or the region of its bucket cannot be found out.
    """

    def __init__(self, url: Url) -> None:
        self._mask = Masker(url.secrets())
        self.local = url.folder
        self.files: pafs.FileSystem = pafs.LocalFileSystem()
        self.folder = str(self.local)
        try:
            if self.local is None:
                self.files, self.folder = _opened(url)
        except OSError as error:  # the bucket's region is looked up if the URL does not say it
            change = "check that the bucket exists and can be reached, or add its region, such as ?region=eu-west-1"
            raise ConfigError(f"cache: {self.said(error)}: {change}") from None
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise ConfigError(f"cache: {self.said(error)}: write it as s3://bucket/folder/") from None

    def is_final(self, error: BaseException) -> bool:
        """Returns whether a retry would fail, too: local folders do not recover, nor do wrong credentials or names."""
        if self.local is not None or isinstance(error, FileNotFoundError):
            return True
        return _FINAL.search(str(error)) is not None

    def advice(self, what: str) -> str:
        """Returns what to do if the folder cannot be "read" or "written"."""
        if self.local is None:
            return "check that the bucket exists, and that the credentials may read and write it"
        return "make room" if what == "written" else "check that it exists and that this user may read it"

    def said(self, error: BaseException) -> str:
        """Returns the message of an error, on one line and without secrets."""
        return self._mask(" ".join(str(error).split()))

    def detail(self, error: BaseException) -> str:
        """Returns the `repr` of an error, without secrets."""
        return self._mask(repr(error))


def _opened(url: Url) -> tuple[pafs.FileSystem, str]:
    revealed = url.revealed()
    if url.scheme in _AZURE and urlsplit(revealed).password:
        return _by_account_key(revealed)
    default = _DEFAULTS.get(url.scheme)
    if default is not None and default.partition("=")[0] not in revealed:
        with suppress(pa.ArrowInvalid):  # an older pyarrow does not know the option, or the URL itself is wrong
            return _by_url(f"{revealed}{'&' if '?' in revealed else '?'}{default}")
    return _by_url(revealed)


def _by_url(revealed: str) -> tuple[pafs.FileSystem, str]:
    system, folder = pafs.FileSystem.from_uri(revealed)
    return system, folder


def _by_account_key(revealed: str) -> tuple[pafs.FileSystem, str]:
    """Opens Azure's storage with an account key, which pyarrow does not read from a URL.

    The account comes before the key, `abfs://account:key@container/folder`, or is the first part of the host,
    `abfs://container:key@account.dfs.core.windows.net/folder`.
    """
    parts = urlsplit(revealed)
    user, host = unquote(parts.username or ""), parts.hostname or ""
    account, container = (host.partition(".")[0], user) if "." in host else (user, host)
    options = dict(parse_qsl(parts.query))
    scheme = "http" if options.pop("enable_tls", "true") == "false" else "https"
    system = pafs.AzureFileSystem(
        account,
        account_key=unquote(parts.password or ""),
        blob_storage_scheme=scheme,
        dfs_storage_scheme=scheme,
        **options,
    )
    return system, f"{container}/{unquote(parts.path).strip('/')}".rstrip("/")
