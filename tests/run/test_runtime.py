"""What a run opens: where its ledger is, how it waits for one, and what it warns of."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from connector.base.errors import Interrupted, StorageError
from connector.base.masking import Masker
from connector.base.records import Record, Reply
from connector.base.stop import Stop
from connector.config.config import Config
from connector.ledger.sqlite import SqliteLedger
from connector.run.plan import Plan
from connector.run.runtime import Runtime, is_loopback, transport_of

KEY = "canary-5f0c7d21e9"


def opened(url: str, **more: Any) -> None:
    """Opens what a run would."""
    transport_of(Config(url=url, **more), Masker()).close()


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "http://" in record.getMessage()]


@pytest.mark.parametrize("host", ["plain.example", "10.0.0.7:8000", "192.168.1.9", "[fd00::1]:8000", "llm.internal"])
def test_a_key_that_goes_over_plain_http_is_warned_of_once(host: str, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        opened(f"http://{host}/v1", api_key=KEY)
    (told,) = warned(caplog)
    assert host.partition("]")[0].strip("[").removesuffix(":8000") in told
    assert caplog.records[0].levelno == logging.WARNING
    assert KEY not in caplog.text


def test_a_header_may_be_a_key_too(caplog: pytest.LogCaptureFixture) -> None:
    opened("http://header.example/v1", headers={"api-key": KEY})
    assert len(warned(caplog)) == 1


def test_a_key_that_is_yet_to_be_made_is_warned_of_too(caplog: pytest.LogCaptureFixture) -> None:
    opened("http://made.example/v1", api_key_command=["false"])
    assert len(warned(caplog)) == 1


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("https://tls.example/v1", {"api_key": KEY}),
        ("http://keyless.example/v1", {}),
        ("http://localhost:8000/v1", {"api_key": KEY}),
        ("http://127.0.0.1:8000/v1", {"api_key": KEY}),
        ("http://[::1]:8000/v1", {"api_key": KEY}),
    ],
)
def test_nothing_is_said_where_nobody_can_listen_or_there_is_no_key(
    url: str, more: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    opened(url, **more)
    assert not warned(caplog)


@pytest.mark.parametrize(
    ("host", "stays"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("vllm.localhost", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost.example", False),
        ("mylocalhost", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("", False),
    ],
)
def test_a_host_is_loopback_by_name_or_address(host: str, *, stays: bool) -> None:
    assert is_loopback(host) is stays


def test_a_stop_ends_the_waiting_for_a_ledger(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Later(Stop):
        """Asked for once the run waits."""

        looks = 0

        @property
        def reason(self) -> BaseException | None:
            self.looks += 1
            return Interrupted(15) if self.looks > 2 else None

    plan = Plan(Config(url="http://localhost/v1", model="m", prompt="{{ text }}"))
    path = tmp_path / "100 % run.ledger"
    with SqliteLedger(path), pytest.raises(Interrupted):
        Runtime(plan, path, stop=Later())
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"another run is using the ledger {path}: waiting for it to end"]


@pytest.mark.parametrize("first", [4096, 8192], ids=["where it begins", "amid the replies"])
def test_a_ledger_that_is_damaged_inside_is_set_aside_so_that_the_same_command_goes_on(
    first: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At once where that shows at its opening, else at the end of the run that it stops."""
    path = tmp_path / "run.ledger"
    plan = Plan(Config(url="http://127.0.0.1:1/v1", model="m", prompt="{{ x }}"))
    records = [Record(number, {"x": number}) for number in range(500)]
    with SqliteLedger(path) as ledger:
        ledger.put(
            [(plan.requests.key(plan.requests.body(record.data)), Reply(200, {"a": 1}, {})) for record in records]
        )
    content = path.read_bytes()
    path.write_bytes(content[:first] + b"\xff" * (len(content) - first))

    def run() -> None:
        with Runtime(plan, path) as runtime:
            runtime.ledger.get([plan.requests.call(record).key for record in records])

    with suppress(StorageError):
        run()
    aside = path.with_name("run.ledger.corrupt")
    assert f"kept as {aside}" in caplog.text
    assert aside.exists()
    run()
    assert not path.with_name("run.ledger.corrupt2").exists()


def test_a_key_that_goes_through_a_proxy_in_the_clear_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        opened("http://127.0.0.1:8000/v1", api_key=KEY, proxy="http://me:pw@proxy.example:3128")
        opened("https://tunnelled.example/v1", api_key=KEY, proxy="http://proxy.example:3128")
    (told,) = [record.getMessage() for record in caplog.records if "proxy" in record.getMessage()]
    assert "127.0.0.1 over http:// through the proxy proxy.example, which can read them" in told
    assert "pw" not in told


@pytest.mark.parametrize("seconds", [5.0, 90.0])
def test_a_stop_waits_for_calls_in_flight_as_long_as_a_call_may_take(seconds: float) -> None:
    config = Config.load({"url": "http://localhost/v1", "model": "m", "prompt": "x", "config": {"timeout": seconds}})
    with Runtime(Plan(config), None) as runtime:
        assert runtime.control.grace == seconds


@pytest.mark.parametrize(
    ("options", "is_told"),
    [({"max_cost_usd": 1}, True), ({"max_cost_usd": 1, "prices": {"input": 1}}, False), ({}, False)],
)
def test_a_budget_without_prices_is_warned_of_before_the_first_call(
    options: dict[str, object], caplog: pytest.LogCaptureFixture, *, is_told: bool
) -> None:
    config = Config.load({"url": "http://localhost/v1", "model": "m", "prompt": "x", **options})
    with Runtime(Plan(config), None):
        assert any("max_cost_usd" in message for message in caplog.messages) is is_told
