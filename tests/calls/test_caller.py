"""A caller pickles: a copy of it in another process calls the same endpoint, over connections of its own."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import pytest

from connector import engines
from connector.base.clock import Clock
from connector.base.records import Outcome, Record, Reply
from connector.calls.call import Call
from connector.calls.client import Client
from connector.config.config import Config
from connector.engines import Control, Engine
from connector.http.transport import Response
from connector.run.plan import Plan
from connector.run.runtime import Runtime, fallbacks_of
from tests.endpoint import Action, Endpoint, answer_to
from tests.faults import Good, status

KEY = "canary-5f0c7d21e9"
ELSEWHERE = """
import pickle, sys
send, body = pickle.loads(sys.stdin.buffer.read())
reply = send(body)
send.close()
sys.stdout.buffer.write(pickle.dumps(reply))
"""


def planned(endpoint: Endpoint) -> Plan:
    return Plan(Config.load({"url": endpoint.url, "model": "m", "prompt": "{{ text }}", "api_key": KEY}))


def handed(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What a run hands its engine to call with, and a request to make, pickled."""
    found: list[bytes] = []

    class Spy:
        WAITING = 1

        def run(self, items: Any, send: Any, _control: Control) -> Any:
            found.extend(pickle.dumps((send, call.body)) for call in items if isinstance(call, Call))
            yield from ()

    spy: Engine = Spy()
    monkeypatch.setattr(engines, "load", lambda: spy)
    with Runtime(plan, None) as runtime:
        list(runtime.run([Record(0, {"text": "hello"})]))
    (pickled,) = found
    return pickled


def elsewhere(pickled: bytes) -> Reply:
    """The reply to a call that a fresh process makes."""
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], input=pickled, capture_output=True, check=False)
    assert not done.returncode, done.stderr.decode()
    reply: Reply = pickle.loads(done.stdout)
    return reply


def test_what_an_engine_is_handed_makes_the_call_in_a_fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    with Endpoint() as endpoint:
        reply = elsewhere(handed(planned(endpoint), monkeypatch))
        (call,) = endpoint.journal.calls
    assert reply.status == 200
    assert call.body["messages"] == [{"role": "user", "content": "hello"}]
    assert call.headers["authorization"] == f"Bearer {KEY}"


def test_a_fresh_process_masks_a_secret_too(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = status(422, {"error": {"message": f"not with {KEY}", "code": None, "type": "x"}})(Good({}), {})
    with Endpoint(lambda _: Action("refused", refusal)) as endpoint:
        reply = elsewhere(handed(planned(endpoint), monkeypatch))
    assert reply.status == 422
    assert KEY not in str(reply)
    assert "***" in reply.body["error"]["message"]


def test_a_fresh_process_applies_the_stored_fallbacks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    request = {"model": "m", "messages": [{"role": "user", "content": "{{ text }}"}], "max_tokens": 5}
    with Endpoint() as endpoint:
        plan = Plan(Config(url=endpoint.url, request_format=request))
        fallbacks_of(plan, Clock()).learn(plan.requests.body({"text": "x"}), ["max_completion_tokens"])
        elsewhere(handed(plan, monkeypatch))
        (call,) = endpoint.journal.calls
    assert call.body["max_completion_tokens"] == 5
    assert "max_tokens" not in call.body


def test_a_fresh_process_makes_a_key_by_its_command_too(monkeypatch: pytest.MonkeyPatch) -> None:
    half = len(KEY) // 2
    command = [sys.executable, "-c", f"print('{KEY[:half]}' + '{KEY[half:]}')"]
    with Endpoint() as endpoint:
        plan = Plan(Config.load({"url": endpoint.url, "model": "m", "prompt": "x", "api_key_command": command}))
        pickled = handed(plan, monkeypatch)
        assert KEY.encode() not in pickled
        elsewhere(pickled)
        (call,) = endpoint.journal.calls
    assert call.headers["authorization"] == f"Bearer {KEY}"


def test_a_fault_of_ours_while_a_reply_is_read_fails_its_row_alone(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Client._read  # noqa: SLF001 - where nobody has foreseen anything to go wrong

    def broken(self: Client, response: Response, entered: list[int], request: bytes) -> dict[str, Any]:
        body = read(self, response, entered, request)
        if answer_to("bad") in str(body):
            raise KeyError(KEY)
        return body

    monkeypatch.setattr(Client, "_read", broken)
    plan = planned(endpoint)
    with Runtime(plan, None) as runtime:
        texts = ["good", "bad", "good too"]
        results = runtime.run(Record(number, {"text": text}) for number, text in enumerate(texts))
        outcomes = {each.record.index: each for each in results if isinstance(each, Outcome)}
    assert [str(outcomes[number].status) for number in range(3)] == ["success", "error", "success"]
    error = outcomes[1].provenance.error
    assert error is not None
    assert "this program failed on the reply (KeyError at test_caller.py" in error.message
    assert KEY not in error.message
