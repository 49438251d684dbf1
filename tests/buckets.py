"""A real server of buckets on loopback, for tests: moto's, which speaks S3. It starts when a test first needs it."""

from __future__ import annotations

import atexit
import urllib.request
from functools import cache
from itertools import count
from typing import Final

import pytest

NUMBERS: Final = count()


def bucket() -> str:
    """The URL of an empty folder in a bucket of its own. Skips the test where there is no such server."""
    port, name = _server(), f"bucket-{next(NUMBERS)}"
    made = urllib.request.Request(f"http://127.0.0.1:{port}/{name}", method="PUT")
    with urllib.request.urlopen(made, timeout=10):
        return f"s3://key:secret@{name}/folder?scheme=http&endpoint_override=127.0.0.1%3A{port}&region=us-east-1"


@cache
def _server() -> int:
    moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    atexit.register(server.stop)
    _, port = server.get_host_and_port()
    return int(port)
