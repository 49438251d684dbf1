"""The caller of a run, opened from plain data, so that another process can open its own."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from connector import endpoints
from connector.base.clock import Clock
from connector.base.errors import ConnectorError, ReplyError, our_fault
from connector.base.masking import Masker
from connector.base.records import Reply
from connector.base.room import Room
from connector.calls.client import Client
from connector.calls.fallbacks import Fallbacks
from connector.endpoints import Endpoint, Sender
from connector.http.transport import Settings, Transport

_REFUSED: Final = 400


class Remote(NamedTuple):
    """All that is needed to open connections to an endpoint. Can be pickled, with its secrets.

    Attributes:
        kind: The endpoint's kind.
        url: Where requests go.
        settings: The transport's settings.
        mask: Removes secrets from what the endpoint says.
        memory: The file that stores the endpoint's fallbacks; `None` to store nothing.
        clock: The clock.
    """

    kind: str
    url: str
    settings: Settings
    mask: Masker
    memory: Path | None = None
    clock: Clock = Clock()


class Caller:
    """Makes the calls to an endpoint, with the fallbacks that it is known to need. Thread-safe.

    It is pickled as its `Remote`: a copy in another process opens its own connections and starts with the stored
    fallbacks.

    Args:
        room: The room that large replies enter; a copy in another process has none.

    Attributes:
        fallbacks: The fallbacks in use.

    Raises:
        ConfigError: The settings cannot work, or a library is not installed.
    """

    def __init__(self, remote: Remote, room: Room | None = None) -> None:
        self._remote = remote
        endpoint = endpoints.load(remote.kind)
        self.fallbacks = Fallbacks(endpoint.FALLBACKS, remote.memory, remote.clock)
        self._sender = sender_of(endpoint, remote.settings, remote.url, remote.mask, remote.clock, room)

    def __reduce__(self) -> tuple[type[Caller], tuple[Remote]]:
        return Caller, (self._remote,)

    def __call__(self, body: bytes) -> Reply:
        """Sends a request and returns its final reply. Raises as `connector.calls.client.Client` does.

        Any unexpected error with a reply also becomes the failure of its row.
        """
        fitted = self.fallbacks.fitted(body)
        try:
            reply = self._sender(fitted)
        except ConnectorError:
            raise
        except Exception as error:
            raise ReplyError(our_fault(error)) from error
        if reply.status >= _REFUSED:
            self.fallbacks.noticed(fitted, reply)
        return reply

    def close(self) -> None:
        """Closes the connections."""
        self._sender.close()


def sender_of(
    endpoint: Endpoint, settings: Settings, url: str, mask: Masker, clock: Clock, room: Room | None = None
) -> Sender:
    """Opens the sender for an endpoint: that of its kind, else a client over HTTP. The caller has to close it.

    Raises:
        ConfigError: The settings cannot work, or a library is not installed.
    """
    own = endpoint.open_sender(settings, url, mask, clock, room)
    return own or Client(Transport(settings), endpoint, url, mask, clock, room)
