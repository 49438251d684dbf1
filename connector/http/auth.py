"""Authentication: how a key is sent with a request, and where it comes from.

A scheme says how. `SCHEMES` holds the named ones: to add a scheme, add a line there. Any other name is taken as a
header whose value is the key. A key is fixed (`GivenKey`), or made by a program or a function (`MadeKey`), which is
asked for another one when the key has expired or is refused.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

from connector.base.errors import AuthenticationError, FatalError
from connector.base.masking import Masker
from connector.base.regex import regex

COMMAND_SECONDS: Final = 30.0
"""How many seconds a program may take to print a key."""

_KEY: Final = regex(r"[\x21-\x7e]+")
_MOST_SHOWN: Final = 300  # characters of a failed program's standard error

Fields: TypeAlias = tuple[tuple[str, str], ...]
"""Header fields, as names and values. A tuple, since it is part of the key by which prepared requests are cached."""

_T = TypeVar("_T")


class Scheme(NamedTuple):
    """A way to send a key: the header (empty for none), its value with `{}` for the key, and a phrase that says so."""

    header: str
    value: str
    how: str

    def fields(self, key: str) -> Fields:
        """Returns the header fields that carry `key`; none for an empty key."""
        return ((self.header, self.value.format(key)),) if self.header and key else ()


SCHEMES: Final = {
    "bearer": Scheme("Authorization", "Bearer {}", "as a bearer token"),  # RFC 6750, section 2.1
    "none": Scheme("", "", "not at all"),
}
"""The named schemes."""


def scheme_of(name: str) -> Scheme:
    """Returns the scheme of this name; a name that is not in `SCHEMES` is a header, such as Azure's `api-key`."""
    return SCHEMES.get(name.lower()) or Scheme(name, "{}", f"in the header {name}")


class Auth(Protocol):
    """Authenticates each request. Thread-safe."""

    settled: Fields
    """The fields that are known before the first call; empty where a key has yet to be made."""

    def fields(self) -> Fields:
        """Returns the header fields for the next request. Raises `FatalError` if no key can be made."""

    def attempt(self, call: Callable[[], _T]) -> _T:
        """Returns what `call` returns; calls once more if it raises `AuthenticationError` and there is a new key.

        Raises what `call` raises, and `FatalError` if no key can be made.
        """


class GivenKey:
    """A fixed key, as the header fields that carry it; by default there is none."""

    def __init__(self, fields: Fields = ()) -> None:
        self.settled = fields

    def fields(self) -> Fields:
        """See `Auth`."""
        return self.settled

    def attempt(self, call: Callable[[], _T]) -> _T:
        """See `Auth`; there is no other key."""
        return call()


KEYLESS: Final = GivenKey()


class _Made(NamedTuple):
    """The outcome of making a key: its header fields, when it expires (monotonic seconds), or why there is none."""

    fields: Fields
    until: float
    failure: FatalError | None = None


class MadeKey:
    """A key that is made when it is first needed, and again when it has expired or is refused.

    If several threads need a new key at once, one of them makes it, and all use it or raise its error.

    Args:
        make: Returns a key; raises `FatalError` if it cannot.
        seconds: How long a key is used; 0: until the endpoint refuses it.
        mask: Learns every key before it is used.
    """

    settled: Fields = ()

    def __init__(
        self,
        scheme: Scheme,
        make: Callable[[], str],
        seconds: float,
        mask: Masker,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scheme = scheme
        self._make = make
        self._seconds = seconds or inf
        self._mask = mask
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._made: _Made | None = None

    def __reduce__(self) -> tuple[Callable[..., MadeKey], tuple[Any, ...]]:
        """A copy in another process makes a key of its own."""
        again = partial(MadeKey, monotonic=self._monotonic)
        return again, (self._scheme, self._make, self._seconds, self._mask)

    def fields(self) -> Fields:
        """See `Auth`."""
        return self._current().fields

    def attempt(self, call: Callable[[], _T]) -> _T:
        """See `Auth`. A new key that is the same as the old one is not tried again."""
        used = self._current()
        try:
            return call()
        except AuthenticationError:
            if self._another(used).fields == used.fields:
                raise
        return call()

    def _current(self) -> _Made:
        made = self._made
        return made if made is not None and self._monotonic() < made.until else self._another(made)

    def _another(self, known: _Made | None) -> _Made:
        """Returns the successor of `known`: the one that another thread has made meanwhile, or a new one."""
        with self._lock:
            made = self._made
            if made is None or made is known:
                made = self._made = self._fresh()
        if made.failure is not None:
            raise FatalError(made.failure.message) from made.failure
        return made

    def _fresh(self) -> _Made:
        try:
            key = self._make()
        except FatalError as error:
            return _Made((), -inf, error)
        self._mask.learn(key)
        return _Made(self._scheme.fields(key), self._monotonic() + self._seconds)


def auth_of(
    scheme: str,
    key: str | Callable[[], str],
    command: Sequence[str],
    seconds: float,
    mask: Masker,
    monotonic: Callable[[], float] = time.monotonic,
) -> Auth:
    """Returns authentication by `scheme`, with a key that is text, or that a function returns or `command` prints."""
    chosen = scheme_of(scheme)
    if not chosen.header:
        return KEYLESS
    if not isinstance(key, str):
        make = partial(_returned, key)
    elif command:
        make = partial(printed, command, mask)
    else:
        return GivenKey(chosen.fields(key))
    return MadeKey(chosen, make, seconds, mask, monotonic=monotonic)


def printed(command: Sequence[str], mask: Masker, *, timeout: float = COMMAND_SECONDS) -> str:
    """Runs a program without a shell and returns the key that it prints on standard output.

    The program cannot prompt: it has no standard input and no terminal. After `timeout` seconds it and its child
    processes are killed.

    Raises:
        FatalError: The program cannot be started, fails, takes too long, or prints no key.
    """
    where = f'api_key_command: "{mask(Path(command[0]).name)}"'
    try:
        process = subprocess.Popen(  # noqa: S603 - the user's own program, which no platform can choose
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        message = f"{where} cannot be started ({error.strerror}): name a program that exists, then its arguments"
        raise FatalError(message) from None
    with process:
        try:
            output, complaint = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            _kill(process)
            message = (
                f"{where} did not end within {timeout:g} seconds: have it print the key without asking for anything"
            )
            raise FatalError(message) from None
        except BaseException:
            _kill(process)
            raise
    if process.returncode:
        mask.learn(output.decode("utf-8", "replace").strip())  # which its complaint may repeat
        raise FatalError(f"{where} {_ended(process.returncode, complaint, mask)}: run it by hand to see why")
    return _checked(output.decode("utf-8", "replace"), f"{where} printed", "have it print the key and nothing else")


def _returned(function: Callable[[], str]) -> str:
    """Returns the key that a function returns. Raises `FatalError` if it fails or returns none."""
    try:
        key = function()
    except Exception as error:
        message = f"api_key: the function failed ({type(error).__qualname__}): have it return the key"
        raise FatalError(message) from error
    return _checked(key if isinstance(key, str) else "", "api_key: the function returned", "have it return the key")


def _checked(text: str, where: str, change: str) -> str:
    """Returns the key in `text`, stripped. Raises `FatalError` if it is empty or has characters that no key has."""
    key = text.strip()
    if not key:
        raise FatalError(f"{where} no key: {change}")
    if not _KEY.fullmatch(key):
        raise FatalError(f"{where} more than a key, or one with characters that no key has: {change}")
    return key


def _ended(code: int, complaint: bytes, mask: Masker) -> str:
    how = f"ended with exit code {code}" if code > 0 else f"was ended by {signal.Signals(-code).name}"
    said = mask(" ".join(complaint.decode("utf-8", "replace").split()))
    return f"{how} ({said[-_MOST_SHOWN:]})" if said else how


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kills a program and its children, since we would wait for a child that still has its output open."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
