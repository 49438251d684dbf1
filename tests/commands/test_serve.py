"""A process that answers a platform's verbs over a socket: as one process per call does, for many at once."""

from __future__ import annotations

import errno
import json
import logging
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from connector import protocols
from connector.base.clock import Clock
from connector.base.errors import ConfigError, Interrupted
from connector.base.stop import Stop
from connector.commands import ExitCode, serve
from connector.commands.serve import Server
from connector.protocols import Arguments, LogHandler, MessageWriter
from tests.endpoint import Action, Call, Endpoint, answer_to, good
from tests.faults import said
from tests.patience import PATIENCE
from tests.protocols.test_multiwoven import KEY, Messages, of_type, request


class Resident(NamedTuple):
    """A server of this process, and what a platform's connection to an endpoint is there."""

    path: Path
    endpoint: Endpoint
    stop: Stop

    def asked(self, verb: str, query: str = "", line: bytes | None = None, **changes: Any) -> Messages:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.path))
            with client.makefile("rb") as reader:
                assert json.loads(reader.readline()) == {"type": "ready"}
                self.ask(client, verb, query, line, **changes)
                return [json.loads(each) for each in reader]

    def ask(self, client: socket.socket, verb: str, query: str = "", line: bytes | None = None, **changes: Any) -> None:
        connection = {
            "url": self.endpoint.url,
            "api_key": KEY,
            "request_format": request("ping"),
            "response_format": "{}",
            "max_retries": 0,
            **changes,
        }
        model = {"query": query, "query_type": "ai_ml"}
        asked = {"verb": verb, "sync_config": {"source": {"connection_specification": connection}, "model": model}}
        client.sendall(line or json.dumps(asked).encode() + b"\n")


@pytest.fixture
def resident(endpoint: Endpoint) -> Iterator[Resident]:
    stop = Stop()
    with tempfile.TemporaryDirectory() as folder, serve.listening(Path(folder) / "s") as listener:
        assert listener is not None
        server = Server(protocols.load("multiwoven"), stop)
        thread = threading.Thread(target=server.serve, args=(listener, 3600.0))
        thread.start()
        yield Resident(Path(folder) / "s", endpoint, stop)
        stop.request(Interrupted(15))
        thread.join()


def contents(messages: Messages) -> list[str]:
    return [record["data"]["choices"][0]["message"]["content"] for record in of_type(messages, "record")]


def test_fifty_calls_at_once_get_each_its_own_answer(resident: Resident) -> None:
    prompts = [f"prompt {number}" for number in range(50)]
    with ThreadPoolExecutor(len(prompts)) as pool:
        said = list(pool.map(lambda prompt: resident.asked("read", request(prompt)), prompts))
    assert [contents(messages) for messages in said] == [[answer_to(prompt)] for prompt in prompts]
    assert all(messages[-1] == {"type": "exit", "code": 0} for messages in said)


def test_connections_to_the_endpoint_stay_open_and_belong_to_one_key(resident: Resident) -> None:
    for key in ("one", "two", "one", "two", "one"):
        assert contents(resident.asked("read", request("hi"), api_key=key)) == [answer_to("hi")]
    calls = resident.endpoint.journal.calls
    assert [call.headers["authorization"] for call in calls] == [
        f"Bearer {key}" for key in "one two one two one".split()
    ]
    assert len({call.connection for call in calls}) == len({"one", "two"})


def test_every_verb_is_answered(resident: Resident) -> None:
    assert resident.asked("spec")[0]["connector_spec"]["connector_query_type"] == "ai_ml"
    assert resident.asked("check")[0]["connection_status"]["status"] == "succeeded"
    assert resident.asked("discover")[0]["catalog"]["streams"] == []
    streamed = resident.asked("read", request("hi", stream=True), is_stream=True)
    assert len(of_type(streamed, "record")) == len("role text text end usage".split())


def test_an_error_is_reported_in_the_words_of_the_form_and_the_next_call_goes_on(resident: Resident) -> None:
    *_, log, end = resident.asked("read", request("[[fault:401]]"))
    assert 'set "API Key"' in log["log"]["message"]
    assert "OPENAI" not in log["log"]["message"]
    assert end == {"type": "exit", "code": 1}
    assert contents(resident.asked("read", request("hi"))) == [answer_to("hi")]


@pytest.mark.parametrize("line", [b"{\n", b"[]\n", b'{"verb": "write"}\n', b'"' + b"[" * 9999 + b"\n", b"\n"])
def test_what_is_not_a_call_is_refused(resident: Resident, line: bytes) -> None:
    assert resident.asked("", line=line) == [{"type": "exit", "code": 2}]


def test_no_variable_and_no_file_of_the_machine_reaches_a_config(
    resident: Resident, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-server")
    for given in ("${HOME}", "${OPENAI_API_KEY}", "", None):
        resident.asked("read", request("hi"), api_key=given, headers='{"X-Home": "${HOME}"}')
    for call in resident.endpoint.journal.calls:
        assert call.headers.get("authorization") in (None, "Bearer ${HOME}", "Bearer ${OPENAI_API_KEY}")
        assert call.headers["x-home"] == "${HOME}"
    told = resident.asked("discover", input={"type": "files", "path": "/etc/*"})[0]["log"]["message"]
    assert told.startswith("input: has no place")


def test_what_one_call_logs_goes_to_it_alone() -> None:
    said: dict[str, list[str]] = {"one": [], "two": []}
    both = threading.Barrier(2)

    def answer(name: str) -> None:
        handler = LogHandler(lambda _, text: said[name].append(text))
        both.wait()
        logging.getLogger("connector").warning("of %s", name)
        both.wait()
        handler.close()

    threads = [threading.Thread(target=answer, args=(name,)) for name in said]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {"one": ["of one"], "two": ["of two"]}


def test_a_caller_that_goes_away_disturbs_nobody(resident: Resident) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(resident.path))
    assert contents(resident.asked("read", request("hi"))) == [answer_to("hi")]


def test_who_does_not_take_an_answer_holds_up_neither_others_nor_the_end() -> None:
    def large(call: Call) -> Action | None:
        return Action("large", said(content="x" * 1_000_000)(good(call), {})) if call.prompt == "large" else None

    stop = Stop()
    with (
        Endpoint(script=large) as endpoint,
        tempfile.TemporaryDirectory() as folder,
        serve.listening(Path(folder) / "s") as listener,
    ):
        assert listener is not None
        server = Server(protocols.load("multiwoven"), stop, patience=0.05)
        thread = threading.Thread(target=server.serve, args=(listener, 3600.0))
        thread.start()
        resident = Resident(Path(folder) / "s", endpoint, stop)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(resident.path))
            resident.ask(client, "read", request("large"))  # more than a socket holds
            endpoint.journal.wait_for()
            assert contents(resident.asked("read", request("hi"))) == [answer_to("hi")]
            stop.request(Interrupted(15))
            thread.join(PATIENCE)
            assert not thread.is_alive()
            with client.makefile("rb") as reader:
                assert not reader.read().endswith(b'"code":0}\n')


def test_a_caller_that_takes_nothing_is_waited_for_once() -> None:
    raised: list[type[OSError]] = []

    class Endless:
        VERBS: tuple[str, ...] = ("spec",)

        def serve(self, _arguments: Arguments, _connector: object, output: MessageWriter) -> int:
            for _ in range(2):
                try:
                    while True:
                        output.write(bytes(2**16))
                except OSError as error:
                    raised.append(type(error))
            return 0

    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b'{"verb": "spec"}\n')
        Server(Endless(), Stop(), patience=0.05)._serve(ours)  # noqa: SLF001 - one connection, without a socket's file
    assert raised == [TimeoutError, BrokenPipeError]


def test_an_unused_process_ends_and_takes_its_socket_along(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    ticks = iter(range(100))
    with serve.listening(tmp_path / "s") as listener:
        assert listener is not None
        clock = Clock(monotonic=lambda: float(next(ticks)))
        Server(protocols.load("multiwoven"), Stop(), clock).serve(listener, 3.0)
    assert not (tmp_path / "s").exists()


def test_a_stop_lets_a_call_finish() -> None:
    stop, arrived, go = Stop(), threading.Event(), threading.Event()

    def waits(_: Call) -> None:
        arrived.set()
        go.wait(PATIENCE)

    with Endpoint(script=waits) as slow, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s"
        with serve.listening(path) as listener, ThreadPoolExecutor(2) as pool:
            assert listener is not None
            serving = pool.submit(Server(protocols.load("multiwoven"), stop).serve, listener, 3600.0)
            asking = pool.submit(Resident(path, slow, stop).asked, "read", request("hi"))
            assert arrived.wait(PATIENCE)
            stop.request(Interrupted(15))
            go.set()
            assert contents(asking.result()) == [answer_to("hi")]
            serving.result()


@pytest.mark.parametrize("part", [b"", b'{"verb": "spec"'])
def test_who_never_asks_does_not_hold_up_the_end(part: bytes) -> None:
    stop = Stop()
    with tempfile.TemporaryDirectory() as folder, serve.listening(Path(folder) / "s") as listener:
        assert listener is not None
        thread = threading.Thread(target=Server(protocols.load("multiwoven"), stop).serve, args=(listener, 3600.0))
        thread.start()
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(str(Path(folder) / "s"))
            assert silent.recv(100) == b'{"type":"ready"}\n'
            silent.sendall(part)
            stop.request(Interrupted(15))
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_who_never_asks_is_left_alone(resident: Resident, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "_ASKING", 0.01)
    with socket.socket(socket.AF_UNIX) as silent, silent.makefile("rb") as reader:
        silent.connect(str(resident.path))
        assert reader.read() == b'{"type":"ready"}\n'


def test_callers_beyond_the_files_that_a_process_may_open_wait_for_room(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [OSError(errno.EMFILE, "Too many open files")] * 2

    class Full(socket.socket):
        def accept(self) -> tuple[socket.socket, Any]:
            if errors:
                raise errors.pop()
            return super().accept()

    monkeypatch.setattr(serve, "_TICK", 0.001)
    stop = Stop()
    with tempfile.TemporaryDirectory() as folder, Full(socket.AF_UNIX) as listener:
        path = Path(folder) / "s"
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=Server(protocols.load("multiwoven"), stop).serve, args=(listener, 3600.0))
        thread.start()
        assert contents(Resident(path, endpoint, stop).asked("read", request("hi"))) == [answer_to("hi")]
        stop.request(Interrupted(15))
        thread.join()
    assert not errors


def program(path: Path) -> list[str]:
    return [sys.executable, "-m", "connector", "serve", "--protocol", "multiwoven", "--socket", str(path)]


def test_a_second_process_at_the_same_socket_ends_at_once(resident: Resident) -> None:
    done = subprocess.run(program(resident.path), check=False, capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, b"")
    assert contents(resident.asked("read", request("hi"))) == [answer_to("hi")]


@pytest.mark.parametrize("mode", [0o755, 0o770, None])
def test_a_folder_that_others_reach_is_refused(tmp_path: Path, mode: int | None) -> None:
    folder = tmp_path / "open"
    if mode is not None:
        folder.mkdir()
        folder.chmod(mode)
    done = subprocess.run(program(folder / "s"), check=False, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == ExitCode.USAGE
    assert str(folder) in done.stderr


@pytest.mark.parametrize("kind", ["file", "folder", "link to a file"])
def test_what_is_not_a_socket_is_refused_and_stays(tmp_path: Path, kind: str) -> None:
    path, kept = tmp_path / "s", tmp_path / "kept"
    tmp_path.chmod(0o700)
    kept.write_text("kept")
    if kind == "folder":
        path.mkdir()
    elif kind == "file":
        path.write_text("kept")
    else:
        path.symlink_to(kept)
    with pytest.raises(ConfigError, match="this is not a socket: name another path"), serve.listening(path):
        pass
    assert path.is_dir() if kind == "folder" else path.read_text() == "kept"
