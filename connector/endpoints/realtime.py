"""Realtime: text in, text out over a WebSocket at `/v1/realtime` (OpenAI API reference, "Realtime").

Requests and replies are those of the Responses API. What they become in a session is `_realtime_session`'s business,
which is opened only where this kind is chosen: it needs the extra `realtime`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from connector.base.clock import Clock
from connector.base.errors import ConfigError
from connector.base.masking import Masker
from connector.endpoints import Sender
from connector.endpoints._plain import CONCESSIONS, ROOM, packing, streamed, wire_form
from connector.endpoints._realtime_response import fold
from connector.endpoints.responses import (
    COLUMNS,
    REPLY,
    answer,
    minimal,
    raised,
    repaired,
    request_format,
    structured,
    value_types,
    values,
)
from connector.http.adapter import Settings

PATH: Final = "/realtime"


def dial(settings: Settings, url: str, mask: Masker, clock: Clock) -> Sender:
    """Sessions, opened as they are needed: at most one for each thread that calls.

    Raises:
        ConfigError: The library for WebSockets is not installed, or the settings cannot work.
    """
    try:
        opened: Any = import_module("connector.endpoints._realtime_session")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "websockets":
            raise
        raise ConfigError(
            "The realtime endpoint needs websockets: pip install 'openai-compatible-connector[realtime]'.",
            detail=str(error),
        ) from error
    sessions: Sender = opened.Sessions(settings, url, mask, clock)
    return sessions
