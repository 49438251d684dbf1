"""Every scheme sends a key in its own way; a key is made once for all who need it, again when it is old or refused."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from connector.base.errors import AuthenticationError, ConnectorError, FatalError
from connector.base.masking import MASK, Masker
from connector.http.auth import KEYLESS, SCHEMES, Auth, MadeKey, auth_of, printed, scheme_of
from connector.http.transport import Settings, Transport
from tests.http.test_transport import Serve, answering, reply, serve

__all__ = ["serve"]  # a fixture

KEY = "canary/5f0c 7d21e9".replace(" ", "+")
THREADS = 16


class Clock:
    """Monotonic seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Keys:
    """Makes `key-1`, `key-2` and so on; `broken`: fails instead."""

    def __init__(self) -> None:
        self.made = 0
        self.broken = False

    def __call__(self) -> str:
        self.made += 1
        if self.broken:
            raise FatalError(f"no key at try {self.made}")
        return f"key-{self.made}"


def made(keys: Callable[[], str], seconds: float = 300, clock: Clock | None = None) -> MadeKey:
    return MadeKey(scheme_of("bearer"), keys, seconds, Masker(), monotonic=clock or Clock())


def bearer(number: int) -> tuple[tuple[str, str], ...]:
    return (("Authorization", f"Bearer key-{number}"),)


def at_once(work: Callable[[], object]) -> list[object]:
    """What many threads get, each from one call: its result or its error."""
    found: list[object] = []

    def catch() -> None:
        try:
            found.append(work())
        except ConnectorError as error:
            found.append(error)

    threads = [threading.Thread(target=catch) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == THREADS
    return found


# How a key is sent


@pytest.mark.parametrize("makes", [False, True], ids=["given", "made"])
@pytest.mark.parametrize("name", [*SCHEMES, "api-key", "X-Goog-Api-Key"])
def test_every_scheme_sends_the_key_where_it_says_and_nowhere_else(serve: Serve, name: str, makes: bool) -> None:
    server, scheme = serve(answering(reply())), scheme_of(name)
    auth = auth_of(name, (lambda: KEY) if makes else KEY, (), 300, Masker())
    with closing(Transport(Settings(auth=auth))) as transport:
        transport.post(server.url, b"{}").read()
    (request,) = server.requests
    lines = [line for line in [request.line, *request.headers] if KEY in line]
    assert lines == ([f"{scheme.header}: {scheme.value.format(KEY)}"] if scheme.header else [])
    assert KEY not in repr(auth) + repr(Settings(auth=auth)) + repr(vars(transport))


def test_names_of_schemes_are_recognized_in_any_case() -> None:
    assert scheme_of("Bearer") == SCHEMES["bearer"]
    assert scheme_of("api-key").fields(KEY) == (("api-key", KEY),)
    assert scheme_of("bearer").fields("") == ()


def test_a_header_set_by_the_user_overrides_the_key(serve: Serve) -> None:
    server = serve(answering(reply()))
    settings = Settings(auth=auth_of("bearer", KEY, (), 300, Masker()), headers={"authorization": "mine"})
    with closing(Transport(settings)) as transport:
        transport.post(server.url, b"{}").read()
    (request,) = server.requests
    assert "authorization: mine" in request.headers
    assert KEY not in str(request)


@pytest.mark.parametrize("key", ["", lambda: pytest.fail("asked for")])
def test_nothing_is_made_where_no_key_is_sent(key: Any) -> None:
    assert auth_of("none", key, ["false"], 300, Masker()) is KEYLESS


# When a key is made


def test_a_key_is_used_until_it_expires_and_requests_then_carry_a_new_one(serve: Serve) -> None:
    server, clock, keys = serve(answering(reply())), Clock(), Keys()
    with closing(Transport(Settings(auth=made(keys, 300, clock)))) as transport:
        assert keys.made == 0
        for passed in (0.0, 299.9, 0.1, 299.9):
            clock.now += passed
            transport.post(server.url, b"{}").read()
    sent = [line for request in server.requests for line in request.headers if "Bearer" in line]
    assert sent == [f"Authorization: Bearer key-{number}" for number in (1, 1, 2, 2)]
    assert keys.made == 2


def test_a_key_with_a_lifetime_of_zero_never_expires() -> None:
    clock, keys = Clock(), Keys()
    auth = made(keys, 0, clock)
    auth.fields()
    clock.now += 1e9
    assert auth.fields() == bearer(1)


def test_requests_with_one_key_are_prepared_once(serve: Serve) -> None:
    server = serve(answering(reply()))
    with closing(Transport(Settings(auth=made(Keys())))) as transport:
        for _ in range(5):
            transport.post(server.url, b"{}").read()
        info = transport._preparer.prepared.cache_info()  # noqa: SLF001 - the step that must not be repeated
    assert (info.misses, info.hits) == (1, 4)


def test_threads_that_need_a_key_at_the_same_time_share_one() -> None:
    keys, barrier = Keys(), threading.Barrier(THREADS)
    auth = made(keys)

    def first() -> object:
        barrier.wait()
        return auth.fields()

    assert at_once(first) == [bearer(1)] * THREADS
    assert keys.made == 1


def test_many_calls_refused_at_once_make_one_new_key_and_are_each_made_once_more() -> None:
    keys, barrier, calls = Keys(), threading.Barrier(THREADS), list[object]()
    auth = made(keys)

    def call() -> object:
        used = auth.fields()
        calls.append(used)
        if used == bearer(1):
            barrier.wait()
            raise AuthenticationError("expired")
        return used

    assert at_once(lambda: auth.attempt(call)) == [bearer(2)] * THREADS
    assert keys.made == 2
    assert sorted(map(str, calls)) == sorted(map(str, [bearer(1), bearer(2)] * THREADS))


def test_a_call_whose_key_another_thread_has_replaced_makes_none_itself() -> None:
    keys = Keys()
    auth = made(keys)

    def call() -> object:
        if keys.made == 1:
            with pytest.raises(AuthenticationError):
                auth.attempt(refused)  # another call, which brings key 2
            raise AuthenticationError("expired")
        return auth.fields()

    def refused() -> object:
        raise AuthenticationError("expired")

    assert auth.attempt(call) == bearer(2)
    assert keys.made == 2


def test_a_new_key_that_is_refused_too_ends_it_after_two_calls() -> None:
    keys, calls = Keys(), list[object]()

    def call() -> None:
        calls.append(None)
        raise AuthenticationError("not you")

    with pytest.raises(AuthenticationError, match="not you"):
        made(keys).attempt(call)
    assert (keys.made, len(calls)) == (2, 2)


def test_a_key_that_is_made_again_unchanged_is_not_tried_again() -> None:
    calls, barrier, asked = list[object](), threading.Barrier(THREADS), list[object]()

    def call() -> None:
        calls.append(None)
        barrier.wait()
        raise AuthenticationError("not you")

    def same() -> str:
        asked.append(None)
        return "the-same-key"

    auth = made(same)
    assert {str(error) for error in at_once(lambda: auth.attempt(call))} == {"not you"}
    assert (len(asked), len(calls)) == (2, THREADS)


def test_calls_whose_new_key_cannot_be_made_fail_together_and_a_later_one_tries_again() -> None:
    keys, barrier = Keys(), threading.Barrier(THREADS)
    auth = made(keys)

    def call() -> object:
        barrier.wait()
        keys.broken = True
        raise AuthenticationError("expired")

    assert {str(error) for error in at_once(lambda: auth.attempt(call))} == {"no key at try 2"}
    assert keys.made == 2
    keys.broken = False
    assert auth.fields() == bearer(3)


def test_a_failing_key_is_not_taken_for_a_refused_one() -> None:
    keys = Keys()
    keys.broken = True
    with pytest.raises(FatalError, match="no key at try 1"):
        made(keys).attempt(lambda: pytest.fail("called without a key"))
    assert keys.made == 1


def test_every_key_that_was_made_is_masked_even_in_a_url() -> None:
    mask, clock = Masker(["given-secret"]), Clock()
    keys: Iterator[str] = iter(["first/canary+1", "second/canary+2"])
    auth: Auth = MadeKey(scheme_of("bearer"), lambda: next(keys), 10, mask, monotonic=clock)
    auth.fields()
    clock.now += 10
    auth.fields()
    told = "first/canary+1 second/canary+2 first%2Fcanary%2B1 second%2Fcanary%2B2 given-secret"
    assert mask(told) == " ".join([MASK] * 5)


# Where it comes from


def test_a_program_s_output_is_the_key_without_its_line_end(tmp_path: Path) -> None:
    script = tmp_path / "a key"
    script.write_text('#!/bin/sh\necho "with $1 and $2" >&2\necho "$1"\n')
    script.chmod(0o700)
    assert printed([str(script), KEY, "two words; $HOME"], Masker()) == KEY


def test_no_shell_reads_a_command() -> None:
    with pytest.raises(FatalError, match="printed more than a key"):
        printed(["echo", "$HOME", ";", "id"], Masker())
    assert printed(["echo", "$HOME"], Masker()) == "$HOME"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["sh", "-c", "echo who are you >&2; exit 3"], '"sh" ended with exit code 3 (who are you): run it by hand'),
        (["sh", "-c", "exit 4"], '"sh" ended with exit code 4: run it by hand'),
        (["sh", "-c", "kill -9 $$"], '"sh" was ended by SIGKILL: run it by hand'),
        (["true"], '"true" printed no key: have it print the key and nothing else'),
        (["echo", "two", "words"], '"echo" printed more than a key'),
        (["printf", "one\\ntwo"], '"printf" printed more than a key'),
        (["printf", "caf\\303\\251"], '"printf" printed more than a key, or one with characters'),
        (["cat"], '"cat" printed no key'),
        (["/no/such/program"], '"program" cannot be started (No such file or directory): name a program that exists'),
        (["/"], "cannot be started (Permission denied)"),
    ],
)
def test_a_program_without_a_key_is_reported_with_its_cause(command: list[str], told: str) -> None:
    with pytest.raises(FatalError) as caught:
        printed(command, Masker())
    assert caught.value.message.startswith("api_key_command: ")
    assert told in caught.value.message


@pytest.mark.parametrize("command", [["sleep", "600"], ["sh", "-c", "sleep 600; true"], ["yes"]])
def test_a_program_that_does_not_end_is_killed_with_all_that_it_started(command: list[str]) -> None:
    with pytest.raises(FatalError, match=r"did not end within 0.01 seconds: have it print the key without asking"):
        printed(command, Masker(), timeout=0.01)


@pytest.mark.parametrize("script", ['echo {key}; echo "I had {key}" >&2; exit 1', 'echo "Bearer {key}" >&2; exit 1'])
def test_a_failing_program_s_complaint_shows_no_key(script: str) -> None:
    with pytest.raises(FatalError, match=r"exit code 1 \(.*\*\*\*") as caught:
        printed(["sh", "-c", script.format(key="canary-5f0c7d21e9")], Masker())
    assert "canary" not in caught.value.message


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda: "", "api_key: the function returned no key: have it return the key"),
        (lambda: None, "api_key: the function returned no key"),
        (lambda: "a b", "api_key: the function returned more than a key"),
        (lambda: os.environ["NO_SUCH"], "api_key: the function failed (KeyError): have it return the key"),
    ],
)
def test_a_function_without_a_key_is_reported_with_its_cause(function: Callable[[], str], told: str) -> None:
    auth = auth_of("bearer", function, (), 300, Masker())
    with pytest.raises(FatalError) as caught:
        auth.fields()
    assert told in caught.value.message
    assert "canary" not in caught.value.message
