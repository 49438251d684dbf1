"""What makes the calls of a run: opened from plain data, so that another process can open its own."""

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
    """The endpoint that is called, and how: all that opening connections to it takes. It pickles, secrets included.

    Attributes:
        kind: The endpoint's kind.
        url: Where requests go.
        settings: The transport's settings.
        mask: Takes the secrets out of what the endpoint says.
        memory: The file that remembers the endpoint's fallbacks; `None` to remember nothing.
        clock: Where the time comes from.
    """

    kind: str
    url: str
    settings: Settings
    mask: Masker
    memory: Path | None = None
    clock: Clock = Clock()


class Caller:
    """Makes the calls to an endpoint, with the fallbacks that it is known to need. Thread-safe.

    It pickles as its `Remote`: a copy in another process opens connections of its own and begins with the fallbacks
    that are remembered.

    Args:
        room: What large replies enter; a copy in another process has none.

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

        Whatever else goes wrong with a reply is the failure of its row as well.
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
    """Opens what makes the calls to an endpoint: its kind's own sender, else a client over HTTP. The caller closes it.

    Raises:
        ConfigError: The settings cannot work, or a library is not installed.
    """
    own = endpoint.open_sender(settings, url, mask, clock, room)
    return own or Client(Transport(settings), endpoint, url, mask, clock, room)
