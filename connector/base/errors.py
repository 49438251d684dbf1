"""The error tree, sorted by what the caller does next.

    ConnectorError
    ├── ConfigError              stop before the first call; lists every problem
    │   └── StateMismatchError       the state of an input that is now read differently: start again
    ├── FatalError               stop the run; what was paid for is in the ledger
    │   ├── AuthenticationError      the key is missing, wrong or not allowed
    │   │   └── PermissionDeniedError    403: fails only its row, if other rows are answered
    │   ├── QuotaError               the account has no credit left
    │   ├── NotFoundError            the URL or the model does not exist
    │   ├── OutageError              everything fails in the same way
    │   ├── BudgetError              `max_cost_usd` or `max_total_tokens` is reached
    │   ├── DatabaseUnavailableError a database does not answer, even after retries
    │   └── StorageError             the ledger or the output cannot be written
    │       └── LedgerUnavailableError   a ledger's database or bucket does not answer, even after retries
    ├── RetryableError           try again, after `wait` seconds if the endpoint said so
    │   ├── RateLimitError           429
    │   ├── ServerError              408, 409, 425, 5xx, an error frame inside a 200
    │   ├── APITimeoutError          the whole call took longer than `config.timeout`
    │   ├── APIConnectionError       refused, reset, DNS, TLS
    │   └── CutError                 the reply was cut off
    └── RecordError              this row only
        ├── TemplateError            the row cannot be rendered into a request
        ├── BadRequestError          the endpoint refuses this request
        └── ReplyError               the reply cannot be used

`message` is for the user and ends with what to do: `parted` separates that from what is wrong. `detail` is technical
and may be empty. Neither ever contains a secret.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from signal import Signals
from typing import Final, NamedTuple

from connector.base.regex import regex

_CHANGE: Final = regex(
    r"(?:: |; )(?=(?:add|ask|change|check|give|have|leave|name|raise|remove|rename|report|set|use|wait|write)\b)"
)
"""Introduces what to change; an endpoint's own words are in parentheses."""


def parted(message: str) -> tuple[str, str]:
    """Splits a message into what is wrong and what to change; the latter is empty if the message does not say it."""
    found = _CHANGE.search(message, 1 + max(message.rfind("("), message.rfind(")")))
    return (message[: found.start()], message[found.end() :]) if found is not None else (message, "")


class Problem(NamedTuple):
    """One thing wrong with a config: where (a dotted path, empty for the whole), and what to change."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConnectorError(Exception):
    """An error that this package raises on purpose.

    `sends` is how often the request of a failed attempt was sent: twice if a keep-alive connection had died.
    """

    sends = 1

    def __init__(self, message: str, *, detail: str = "", http_status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.http_status = http_status


class ConfigError(ConnectorError):
    """The config, the command or the input is wrong. `problems` lists everything that is wrong."""

    def __init__(self, problems: Sequence[Problem] | str, *, detail: str = "") -> None:
        self.problems = [Problem("", problems)] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(map(str, self.problems)), detail=detail)


class StateMismatchError(ConfigError):
    """A saved state does not fit the way in which the input is now read."""


class FatalError(ConnectorError):
    """No further call makes sense in this run. A 403 or 404 fails only its row once other rows were answered."""


class AuthenticationError(FatalError):
    """The key is missing or wrong (401)."""


class PermissionDeniedError(AuthenticationError):
    """The key may not do this, or a firewall stopped the call (403). Fails only its row if others are answered."""


class QuotaError(FatalError):
    """The account has no credit left (402, or 429 with `insufficient_quota`)."""


class NotFoundError(FatalError):
    """The URL or the model does not exist (404)."""


class OutageError(FatalError):
    """Call after call fails in the same way."""


class BudgetError(FatalError):
    """The run has spent its budget."""


class StorageError(FatalError):
    """The ledger or the output cannot be written, so no more calls may be paid for."""


class LedgerUnavailableError(StorageError):
    """The ledger's database or bucket does not answer. That is temporary: the same command can continue later."""


class DatabaseUnavailableError(FatalError):
    """A database does not answer or is too busy. That is temporary: the same command can continue later."""


class RetryableError(ConnectorError):
    """Worth another attempt; `wait` is how many seconds the endpoint asks to wait, `None` if it does not say.

    `is_connected` is false if there was no connection at all, so that the endpoint cannot have seen the call.
    `was_closed` is true if the endpoint closed the connection without an answer: the request may be the reason.
    """

    is_connected = True
    was_closed = False

    def __init__(
        self, message: str, *, detail: str = "", http_status: int | None = None, wait: float | None = None
    ) -> None:
        super().__init__(message, detail=detail, http_status=http_status)
        self.wait = wait


class RateLimitError(RetryableError):
    """The endpoint asks to slow down (429)."""


class ServerError(RetryableError):
    """The endpoint failed (408, 409, 425, 5xx, or an error inside a 200)."""


class APITimeoutError(RetryableError):
    """The call did not end within its deadline."""


class APIConnectionError(RetryableError):
    """No connection, or it was lost before any byte of the answer: refused, reset, DNS, TLS."""

    is_connected = False


class CutError(RetryableError):
    """The reply was cut off before its end."""


class RecordError(ConnectorError):
    """This row cannot be answered; the others can."""


class TemplateError(RecordError):
    """The row cannot be rendered: a column is missing, a text is null, a value is not valid JSON."""


class BadRequestError(RecordError):
    """The endpoint refuses this request (400, 413, 422 and other 4xx)."""


class ReplyError(RecordError):
    """A final reply that cannot be used: not JSON, not an object, or of another kind than was asked for."""


class Interrupted(Exception):  # noqa: N818 - a request by the user, not an error
    """The user or the platform asked the run to stop, by the signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {Signals(number).name}")
        self.number = number


def our_fault(error: Exception) -> str:
    """Returns the message for an unforeseen error: its class and place, without texts that may hold a secret."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return (
        f"this program failed on the reply ({type(error).__name__}{place}): please report this line, "
        "with the reply as `ledger export` prints it if it contains nothing private"
    )
