"""The processes of a benchmark: a client on its core, the stub on another, and what both of them took."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from functools import cached_property
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any, Final, NamedTuple, Self
from urllib.parse import urlsplit

from tests.bench.machine import cores, on
from tests.bench.tls import Certificate

ROOT: Final = Path(__file__).resolve().parents[2]

_SAMPLES: Final = 0.1  # seconds between two looks at the stub
_MIDDLE: Final = (0.2, 0.8)  # of the calls: neither the start nor the end
_LEAST: Final = 1.0  # seconds that the middle must last: calls come in waves
_UNINSTALLED: Final = "PYTHONDONTWRITEBYTECODE"  # under which this tree would be compiled at each start, unlike peers
_ENVIRONMENT: Final = {
    **{name: value for name, value in os.environ.items() if name != _UNINSTALLED},
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # or it fetches a list when it starts
}
_LONGEST: Final = 300.0  # seconds after which a process hangs: each is made for a few
_BYTES_OR_KB: Final = 1 if sys.platform == "darwin" else 1024


class Spent(NamedTuple):
    """What a process took: user and system time together, and the most memory that it held."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


class Process:
    """A process on the client's core. What it prints goes to `out`; what it complains about is told if it fails.

    If it is `free`, it runs on any core, as users run it. Its environment trusts the `certificate`.
    """

    def __init__(
        self, command: Sequence[str], out: Path, *, free: bool = False, certificate: Certificate | None = None
    ) -> None:
        environment = {**_ENVIRONMENT, **({"SSL_CERT_FILE": str(certificate.path)} if certificate else {})}
        self._errors = out.with_suffix(".stderr")
        with nullcontext() if free else on(cores()[1]), out.open("wb") as stdout, self._errors.open("wb") as stderr:
            self._started = time.perf_counter()
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stdout, stderr=stderr)

    def spent(self) -> Spent:
        """Waits for its end, and ends it if it hangs; raises `RuntimeError` if it failed."""
        hanging = threading.Timer(_LONGEST, self._process.kill)
        hanging.start()
        try:
            _, status, usage = os.wait4(self._process.pid, 0)
        finally:
            hanging.cancel()
        seconds = time.perf_counter() - self._started
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if self._process.returncode:
            problem = self._errors.read_text(encoding="utf-8")[-2000:]
            raise RuntimeError(f"ended with {self._process.returncode} after {seconds:.0f} s: {problem}")
        return Spent(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * _BYTES_OR_KB / 1e6)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Ends it as `kill -9` does."""
        self._process.kill()
        self._process.wait()


class Stub:
    """The endpoint in its own process, on its own core unless it is `free`; a context manager.

    With a `certificate` it speaks TLS. It is started by whoever asks for its `url` first.
    """

    def __init__(
        self, latency: float, *options: str, free: bool = False, certificate: Certificate | None = None
    ) -> None:
        self._free = free
        self._ending = ExitStack()
        self.certificate = certificate
        self._command = [sys.executable, "-m", "tests.bench.stub", f"--latency={latency}", *options]
        if certificate:
            self._command += ["--tls", *map(str, certificate)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    @cached_property
    def url(self) -> str:
        """Its base URL."""
        with nullcontext() if self._free else on(cores()[0]):
            process = subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self._ending.callback(process.communicate)
        self._ending.callback(process.kill)
        assert process.stdout
        if not (url := process.stdout.readline().strip()):
            raise RuntimeError("the endpoint has not started")
        return url

    @cached_property
    def _connection(self) -> HTTPConnection:
        place = urlsplit(self.url).netloc
        made = HTTPConnection(place)
        if self.certificate:
            made = HTTPSConnection(place, context=ssl.create_default_context(cafile=self.certificate.path))
        self._ending.callback(made.close)
        return made

    def stats(self) -> dict[str, Any]:
        """What the stub has counted so far."""
        self._connection.request("GET", "/stats")
        stats: dict[str, Any] = json.loads(self._connection.getresponse().read())
        return stats


class Watch:
    """Looks at the stub while a client runs; a context manager."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._over = threading.Event()
        self._samples: list[tuple[float, int]] = []
        self.before = self.after = stub.stats()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.after = self._stub.stats()

    def _look(self) -> None:
        while not self._over.wait(_SAMPLES):
            self._samples.append((time.perf_counter(), self._stub.stats()["calls"] - self.before["calls"]))

    def counted(self, what: str) -> Any:
        """How much has been added to one of the stub's counters."""
        return self.after[what] - self.before[what]

    @property
    def sustained(self) -> float | None:
        """Calls a second in the middle of the run; `None` if it was too short to tell."""
        low, high = (share * self.counted("calls") for share in _MIDDLE)
        middle = [(at, calls) for at, calls in self._samples if low <= calls <= high]
        (first, before), (last, after) = (middle[0], middle[-1]) if middle else ((0.0, 0), (0.0, 0))
        return (after - before) / (last - first) if last - first >= _LEAST else None
