"""Serves the page, on this machine only, until Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import traceback
import webbrowser
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

os.environ.setdefault("NICEGUI_STORAGE_PATH", f"{os.devnull}/none")  # where nobody can put a file for it to read

import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse, PlainTextResponse, Response
from nicegui import app as nicegui
from nicegui import ui

from connector.base.terminal import write
from connector.studio.guard import Guard
from connector.studio.page import Page
from connector.studio.session import Session

_LOOPBACK: Final = "127.0.0.1"
_OF_REPORTS: Final = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_PATIENCE: Final = 60.0  # seconds that calls in flight get at the end


def serve(session: Session, *, port: int, announce: Callable[[str], None], opens: bool) -> None:
    """Serves a session until the process is asked to end; calls in flight then finish and their replies are kept.

    Args:
        port: The port; 0 takes a free one.
        announce: Called with the address, including the token.
        opens: Whether to open the address in the browser.

    Raises:
        OSError: The port is in use.
    """
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((_LOOPBACK, port))
        listening.listen()  # a client that has the address now waits until the server is ready
        number = listening.getsockname()[1]
        guard = Guard(application(session), number)
        for name in ("uvicorn", "uvicorn.error", "nicegui"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # their tracebacks quote texts, which may hold a secret
        settings = uvicorn.Config(
            guard,
            log_level="critical",
            access_log=False,
            ws_max_size=2**24,
            timeout_graceful_shutdown=1,
            server_header=False,
        )
        address = f"http://{_LOOPBACK}:{number}/?token={guard.token}"
        announce(address)
        if opens:
            _open(address)
        uvicorn.Server(settings).run(sockets=[listening])


def application(session: Session) -> FastAPI:
    """Returns the page as an application, without access control: the caller has to add `Guard`."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/report")
    def report() -> Response:
        return report_at(session.report_path)

    async def end() -> None:
        if session.job is not None and not session.job.is_over:
            session.job.end()
            await asyncio.to_thread(session.job.wait, _PATIENCE)

    nicegui.on_shutdown(end)  # before the signal that ends the server ends the process
    nicegui.on_exception(_report)
    ui.run_with(
        app,
        root=lambda: Page(session).build(),
        title="Studio",
        favicon="data:,",
        dark=None,
        language="en-US",
        tailwind=False,
        show_welcome_message=False,
    )
    return app


def report_at(path: Path | None) -> Response:
    """Returns a report for the browser. Nothing in it may run; JSON, which is not escaped, is not sent as a page."""
    if path is None or not path.is_file():
        return PlainTextResponse("There is no report yet.", 404)
    kind = "application/json" if path.suffix.lower() == ".json" else "text/html"
    return FileResponse(path, media_type=kind, headers={"content-security-policy": _OF_REPORTS})


def _report(error: Exception) -> None:
    """Reports a bug of ours by its class and place, without its message, which may hold a secret."""
    place = "".join(traceback.format_tb(error.__traceback__)[-3:])
    write(
        sys.stderr, f"this is a bug in the studio; please report it with these lines\n{type(error).__name__}\n{place}"
    )


def _open(address: str) -> None:
    """Opens the address through a file that only this user can read, since all users can see command lines."""
    with NamedTemporaryFile("w", suffix=".html", prefix="studio-", delete=False, encoding="utf-8") as file:
        file.write(f'<!doctype html><meta http-equiv="refresh" content="0; url={address}"><title>Studio</title>')
    webbrowser.open(Path(file.name).as_uri())
