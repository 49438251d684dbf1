"""What the tests of `check` share: a config that works, and servers that stand in for those that do not."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from connector import Connector, Diagnosis
from tests.endpoint import Action, Call, Endpoint

MODELS: Final = ["gpt-4o-mini", "gpt-4o", "text-embedding-3-small"]


def check(endpoint: Endpoint | None = None, **options: Any) -> Diagnosis:
    """The diagnosis of a config that works, but for `options`."""
    url = {"url": endpoint.base_url} if endpoint else {}
    base = {**url, "api_key": "sk-test", "model": "gpt-4o-mini", "prompt": "Classify: {{ text }}"}
    given = {**base, **options}
    return Connector().check({name: value for name, value in given.items() if value is not None})


def answer(status: int, body: Any, kind: str = "application/json", *fields: str) -> Action:
    """An answer as it is."""
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    head = [f"HTTP/1.1 {status} X", f"content-type: {kind}", f"content-length: {len(data)}", *fields]
    return Action(str(status), ["\r\n".join(head).encode() + b"\r\n\r\n" + data])


def refusing(status: int, message: str, **error: Any) -> Action:
    """A refusal in OpenAI's shape."""
    return answer(status, {"error": {"message": message, "type": "invalid_request_error", "param": None, **error}})


def offering(
    script: Callable[[Call], Action | None] | None = None, models: list[str] = MODELS
) -> Callable[[Call], Action | None]:
    """A script that lists models, and otherwise does as the inner one says."""

    def outer(call: Call) -> Action | None:
        if script and (action := script(call)):
            return action
        if call.method == "GET" and call.path.partition("?")[0] == "/v1/models":
            return answer(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in models]})
        return None

    return outer


def posted(script: Callable[[dict[str, Any]], Action | None]) -> Callable[[Call], Action | None]:
    """A script that looks at what is posted to the chat endpoint, and lists models."""

    def inner(call: Call) -> Action | None:
        is_chat = call.method == "POST" and call.kind == "chat" and isinstance(call.body, dict)
        return script(call.body) if is_chat and "messages" in call.body else None

    return offering(inner)


@contextmanager
def tls_server(
    folder: Path, name: str, *, expired: bool = False, asks: bool = False, alerts: bool = False
) -> Iterator[int]:
    """A server with a certificate of its own for `name`, which has no models and answers all the same; its port.

    The certificate is `cert.pem` in the folder, its key `key.pem`; `asks` wants the client to show one like it. Who
    speaks plain HTTP sees a closed connection, or an alert of TLS if it `alerts`.
    """
    path, key = str(folder / "cert.pem"), str(folder / "key.pem")
    command = "openssl req -x509 -days 2 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=test"
    names = ["-addext", f"subjectAltName={name}", "-keyout", key, "-out", path]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    if expired:
        _expire(folder, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    if asks:
        context.load_verify_locations(path)
        context.verify_mode = ssl.CERT_REQUIRED
    models, answer = b'{"data": []}', b'{"choices": [{"message": {"role": "assistant", "content": "ok"}}]}'
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"

    def serve(peer: socket.socket) -> None:
        if alerts and peer.recv(1, socket.MSG_PEEK) != b"\x16":
            peer.recv(1 << 16)
            peer.sendall(b"\x15\x03\x03\x00\x02\x02\x16")  # fatal, record overflow
            return
        with suppress(OSError), closing(context.wrap_socket(peer, server_side=True)) as sock:
            body = models if sock.recv(1 << 16).startswith(b"GET") else answer
            sock.sendall(head % len(body) + body)

    with served(serve) as port:
        yield port


def _expire(folder: Path, name: str) -> None:
    """Signs the certificate anew, for a day that is long gone; `openssl req` cannot date one back."""
    (folder / "index").touch()
    (folder / "ca.conf").write_text(
        f"[ca]\ndefault_ca=d\n[d]\ndatabase={folder}/index\nnew_certs_dir={folder}\ndefault_md=sha256\npolicy=p\n"
        f"x509_extensions=e\nserial={folder}/serial\n[p]\ncommonName=supplied\n[e]\nsubjectAltName={name}\nbasicConstraints=CA:true\n"
    )
    asking = f"openssl req -new -key {folder}/key.pem -subj /CN=test -out {folder}/request"
    signing = f"openssl ca -batch -selfsign -notext -rand_serial -config {folder}/ca.conf -keyfile {folder}/key.pem "
    dates = "-startdate 20200101000000Z -enddate 20200102000000Z "
    for command in (asking, f"{signing}{dates}-in {folder}/request -out {folder}/cert.pem"):
        subprocess.run(command.split(), check=True, capture_output=True)


@contextmanager
def served(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that handles one connection after the other; its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def accept() -> None:
        while True:
            peer, _ = listener.accept()
            with closing(peer):
                if over.is_set():
                    return
                peer.settimeout(5)
                with suppress(OSError):
                    serve(peer)

    thread = threading.Thread(target=accept)
    thread.start()
    port = listener.getsockname()[1]
    try:
        yield port
    finally:
        over.set()
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join()
        listener.close()
