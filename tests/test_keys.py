"""Keys that expire, whole: a program or a function makes them, over every way to call, and no platform can name one."""

from __future__ import annotations

import http
import pickle
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection

from connector import Config, ConfigError, Connector, cli
from connector.base.clock import Clock
from connector.base.errors import FatalError
from connector.base.masking import Masker
from connector.base.values import dumps
from connector.check import diagnose
from connector.endpoints.realtime import open_sender
from connector.http.auth import MadeKey, scheme_of
from connector.http.preparing import Settings
from connector.run.plan import Plan
from tests.endpoint import Action, Call, Endpoint, act
from tests.endpoints.realtime_server import Realtime
from tests.faults import NOTHING, Good, steps
from tests.test_secrets import passing, project, run, written

CANARY = "canary-5f0c7d21e9"
ROWS = 120


class Gate:
    """Takes one key at a time: `first` up to so many answers, from then on the second."""

    def __init__(self, first: int, refusal: str = "401") -> None:
        self.first = first
        self.taken = 0
        self.refused = 0
        self._refusal = refusal

    def __call__(self, call: Call) -> Action | None:
        given = call.headers.get("authorization", "")
        if given == f"Bearer {CANARY}-{1 if self.taken < self.first else 2}":
            self.taken += 1
            return None
        self.refused += 1
        good = Good({}, key=given.removeprefix("Bearer "))
        return Action(self._refusal, steps(good, self._refusal, NOTHING))


class Program:
    """A program that prints `canary-…-1`, then `canary-…-2` and so on, and remembers how often it was run."""

    def __init__(self, path: Path, fails_at: int = 0) -> None:
        self._runs = path / "runs"
        script = f'echo run >> {self._runs}; n=$(wc -l < {self._runs}); printf "canary-%s-%d\\n" 5f0c7d21e9 $n'
        fails = f'; if [ $n -eq {fails_at} ]; then printf "canary-%s-%d is lost" 5f0c7d21e9 $n >&2; exit 7; fi'
        self.command = ["sh", "-c", script + fails]

    def forget(self) -> None:
        self._runs.unlink(missing_ok=True)

    @property
    def runs(self) -> int:
        return len(self._runs.read_text().splitlines()) if self._runs.exists() else 0


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def config(url: str, **more: Any) -> Config:
    return Config(url=url, model="m", prompt="{{ text }}", cache="none", concurrency=16, max_retries=0, **more)


def rows() -> list[dict[str, str]]:
    return [{"text": f"row {number}"} for number in range(ROWS)]


# Over every way to call


@pytest.mark.parametrize("refusal", ["401", "401-string", "400-key"])
def test_a_key_that_expires_with_many_rows_in_flight_is_made_again_once_and_costs_no_row(
    program: Program, refusal: str
) -> None:
    gate = Gate(ROWS // 3, refusal)
    with Endpoint(script=gate) as endpoint:
        found = list(Connector(config(endpoint.base_url, api_key_command=program.command)).enrich(rows()))
        calls = endpoint.journal.by_prompt
    assert {row["_llm"]["status"] for row in found} == {"success"}
    assert {row["_llm"]["attempts"] for row in found} == {1}
    assert program.runs == 2
    assert gate.taken == ROWS
    assert 1 <= gate.refused <= 16
    assert sum(calls.values()) == ROWS + gate.refused
    assert max(calls.values()) == 2


def test_the_key_may_come_from_a_function() -> None:
    made: list[str] = []

    def make() -> str:
        made.append(f"{CANARY}-{len(made) + 1}")
        return made[-1]

    gate = Gate(ROWS // 3)
    with Endpoint(script=gate) as endpoint:
        given = config(endpoint.base_url, api_key=make)
        found = list(Connector(given).enrich(rows()))
    assert {row["_llm"]["status"] for row in found} == {"success"}
    assert (len(made), gate.taken) == (2, ROWS)
    assert "make" not in repr(given)


def test_a_key_is_made_again_for_the_list_of_models_and_for_requests_that_others_render(program: Program) -> None:
    payload = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
    ways: list[Callable[[Connector], object]] = [
        lambda connector: list(connector.read(catalog={"streams": [{"stream": {"name": "models"}}]})),
        lambda connector: connector.call(None, payload),
        lambda connector: list(connector.events(None, {**payload, "stream": True})),
    ]
    for way in ways:
        program.forget()
        with Endpoint(script=Gate(0)) as endpoint:
            assert way(Connector(config(endpoint.url, api_key_command=program.command)))
        assert program.runs == 2


def test_a_handshake_that_is_refused_is_made_again_with_another_key(program: Program) -> None:
    def refusal(connection: ServerConnection, request: Request) -> Response | None:
        is_right = request.headers["Authorization"] == f"Bearer {CANARY}-2"
        return None if is_right else connection.respond(http.HTTPStatus.UNAUTHORIZED, "expired")

    with Realtime(refusal=refusal) as server:
        found = list(Connector(config(server.url, api_key_command=program.command)).enrich(rows()[:8]))
        assert {row["_llm"]["status"] for row in found} == {"success"}
        keys = [request.headers["Authorization"][-1] for request in server.handshakes]
    assert program.runs == 2
    assert set(keys) == {"1", "2"}


def test_a_session_that_an_older_key_opened_is_not_used_again() -> None:
    now, made = [0.0], iter(range(1, 10))
    auth = MadeKey(scheme_of("bearer"), lambda: f"{CANARY}-{next(made)}", 300, Masker(), monotonic=lambda: now[0])
    with Realtime() as server:
        sender = open_sender(
            Settings(timeout=5.0, auth=auth), f"http://{server.host}/v1/realtime", Masker(), Clock(), None
        )
        with closing(sender):
            for passed in (0.0, 299.0, 1.0, 299.0):
                now[0] += passed
                assert sender(dumps({"model": "m", "input": f"at {now[0]}"})).status == 200
        assert [request.headers["Authorization"][-1] for request in server.handshakes] == ["1", "2"]


def test_check_says_which_key_is_missing_and_why(tmp_path: Path, endpoint: Endpoint) -> None:
    given = config(endpoint.base_url, api_key_command=Program(tmp_path, fails_at=1).command)
    diagnosis = diagnose(Plan(given))
    assert not diagnosis.ok
    assert diagnosis.steps[-1].name == "key"
    assert 'api_key_command: "sh" ended with exit code 7 (*** is lost): run it by hand' in diagnosis.message
    assert "canary" not in str([call.headers for call in endpoint.journal.calls])


def test_check_makes_one_key_for_all_its_calls(program: Program, endpoint: Endpoint) -> None:
    diagnosis = diagnose(Plan(config(endpoint.base_url, api_key_command=program.command)))
    assert diagnosis.ok, diagnosis.message
    assert "the endpoint accepts the key, sent as a bearer token" in str(diagnosis.steps)
    assert program.runs == 1


# Where a command may come from


def test_a_command_is_a_list_or_one_text_quoted_as_for_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    for command in (["a b", "--c", "d e"], "'a b' --c \"d e\""):
        given = Config(api_key_command=command)
        assert given.api_key_command == ("a b", "--c", "d e")
        assert (given.key, given.makes_key) == ("", True)
        assert pickle.loads(pickle.dumps(given)) == given
        assert "a b" not in repr(given)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"api_key_command": "a 'b"}, "api_key_command: cannot be split into arguments (No closing quotation)"),
        ({"api_key_command": 5}, "api_key_command: is neither a text nor a list of texts"),
        ({"api_key_command": ["a", 1]}, "api_key_command: is neither a text nor a list of texts"),
        ({"api_key_command": "''"}, "api_key_command: names no program"),
        ({"api_key_command": ["a\0b"]}, "api_key_command: holds a NUL character"),
        ({"api_key_command": "a", "api_key": "b"}, "api_key_command: makes the key, and api_key is set as well"),
        ({"api_key_seconds": -1}, "api_key_seconds: Input should be greater than or equal to 0"),
    ],
)
def test_a_command_that_cannot_work_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.load(options)
    assert told in str(caught.value)


@pytest.mark.parametrize("line", [["enrich", "in.jsonl", "-o", "out.jsonl"], ["preview", "in.jsonl", "--call"]])
@pytest.mark.parametrize("way", ["file", "option"])
def test_people_name_a_command_in_a_file_or_on_the_command_line(
    tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch, line: list[str], way: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with Endpoint(script=Gate(0)) as endpoint:
        named = {"api_key": None, "api_key_command": program.command} if way == "file" else {}
        given = ["-c", str(project(tmp_path, endpoint, ["a", "b"], **named))]
        script = program.command[2].replace("'", "'\\''")
        option = ["--api-key-command", f"sh -c '{script}'"] if way == "option" else []
        assert cli.run([*line, *given, *option]) == 0
        for people in (["models", *given, *option], ["check", "--format", "json", *given, *option]):
            program.forget()
            assert cli.run(people) == 0
    assert program.runs == 2


VERBS = [
    ["check", "--config", "config.json"],
    ["discover", "--config", "config.json"],
    ["read", "--config", "config.json", "--catalog", "catalog.json"],
    ["write", "--config", "config.json", "--catalog", "catalog.json"],
    ["--protocol", "multiwoven", "check", "--config", "connection.json"],
    ["--protocol", "multiwoven", "check", "--config", "config.json"],
    ["--protocol", "multiwoven", "discover", "--config", "config.json"],
    ["--protocol", "multiwoven", "read", "--sync-config", "sync.json"],
    ["--config", "config.json"],
    ["--config", "config.json", "--test"],
]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_no_dialect_runs_a_command(
    tmp_path: Path,
    program: Program,
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
    verb: list[str],
) -> None:
    output = {"type": "files", "path": "{stream}.jsonl"}
    project(tmp_path, endpoint, ["a"], api_key=None, api_key_command=program.command, output=output)
    monkeypatch.chdir(tmp_path)
    cli.run(verb)
    shown = b"".join(capfdbinary.readouterr()).decode()
    assert "api_key_command: would let everybody who can edit this connection run programs where it runs" in shown
    assert program.runs == 0
    assert not endpoint.journal.calls


@pytest.mark.parametrize("verb", [["spec"], ["--protocol", "multiwoven", "spec"], ["--about"]], ids=" ".join)
def test_no_dialect_offers_a_command(verb: list[str], capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert cli.run(verb) == 0
    shown = capfdbinary.readouterr().out
    assert b"api_key" in shown
    assert b"api_key_" not in shown


# Secrets


def test_no_key_that_a_program_prints_is_shown_or_stored(tmp_path: Path) -> None:
    scripts: list[tuple[Program, Callable[[Call], Action | None]]] = [
        (Program(tmp_path), Gate(4)),
        (Program(tmp_path), Gate(10**6)),
        (Program(tmp_path), lambda call: act(call, "401")),
        (Program(tmp_path, fails_at=2), Gate(2)),
    ]
    for program, script in scripts:
        program.forget()
        with Endpoint(script=script) as endpoint:
            texts = ["a", "b", *(f"[[fault:{name}]]" for name in passing(streamed=False))]
            given = project(tmp_path, endpoint, texts, api_key=None, headers={}, api_key_command=program.command)
            shown = run(tmp_path, "enrich", "in.jsonl", "-c", given, "-o", "out.jsonl")
            assert CANARY in str([call.headers for call in endpoint.journal.calls])
        assert "DEBUG:" in shown
        assert program.runs >= 1
        assert CANARY not in shown
        assert CANARY not in written(tmp_path, given)


def test_a_program_that_fails_in_a_run_stops_it_with_its_exit_code(tmp_path: Path) -> None:
    program = Program(tmp_path, fails_at=2)
    with Endpoint(script=Gate(4)) as endpoint:
        connector = Connector(config(endpoint.base_url, api_key_command=program.command))
        with pytest.raises(FatalError, match=r'api_key_command: "sh" ended with exit code 7 \(\*\*\* is lost\)'):
            list(connector.enrich(rows()))
    assert program.runs == 2
