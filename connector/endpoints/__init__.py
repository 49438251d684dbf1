"""The endpoint kinds. One module is one kind, complete: its path, options, request, stream folding and answers.

A kind is a plain module with the names of `Endpoint`. It is found by its file name: adding one touches no other file.

Sending a request belongs in `calls`, what an error body means in `replies`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Final, NamedTuple, Protocol, cast
from urllib.parse import urlsplit

from connector.base.clock import Clock
from connector.base.masking import Masker
from connector.base.records import JSON, Answer, Reply, Schema, Usage
from connector.http.adapter import Settings


class Shorthand(NamedTuple):
    """What the config says in place of a request format: `prompt` and `system_prompt` are templates.

    `images` are names of columns that hold images, `detail` is how closely the model looks at them; `files` says that
    images which the endpoint makes will be files. `max_tokens` and `temperature` are those of the model that was chosen
    from the config's list.
    """

    model: str | None = None
    system_prompt: str | None = None
    prompt: str | None = None
    images: tuple[str, ...] = ()
    detail: str | None = None
    files: bool = False
    tools: list[JSON] | None = None
    tool_choice: JSON = None
    max_tokens: int | None = None
    temperature: float | None = None


class Concession(NamedTuple):
    """Another way to ask for the same, for an endpoint that refuses the usual one."""

    is_asked: Callable[[str], bool]
    """Whether a refusal asks for it, by the refusal's words in lower case."""

    made: Callable[[dict[str, JSON]], dict[str, JSON] | None]
    """The request with the concession made; `None` where it has nothing to concede."""


class Packing(Protocol):
    """How the requests of several rows share one call."""

    @property
    def most(self) -> int:
        """Rows in a call at the most."""

    @property
    def most_bytes(self) -> int:
        """Bytes that the packed requests may have together: what the endpoint's own limits leave room for."""

    def alike(self, body: dict[str, JSON]) -> Hashable:
        """What two requests must have in common to share a call; `None` for one that goes alone."""

    def packed(self, bodies: Sequence[dict[str, JSON]]) -> dict[str, JSON]:
        """The one request that asks for what `bodies`, all alike, ask for."""

    def unpacked(self, body: dict[str, Any], count: int) -> list[dict[str, Any] | None]:
        """The reply to each of `count` packed requests, as if it had gone alone, in their order; its usage left out.

        `None` stands for one that the reply does not answer, or not surely. Raises nothing.
        """


class Sender(Protocol):
    """What makes calls, from any number of threads; as `connector.calls.client.Client` does over HTTP."""

    def __call__(self, body: bytes) -> Reply:
        """Sends a request and returns its final reply. Raises as `Client` does."""

    def close(self) -> None:
        """Lets go of what it holds open."""


class Endpoint(Protocol):
    """What a kind of endpoint consists of. What it has no use for it imports from `connector.endpoints._plain`."""

    PATH: str
    """What follows `/v1` in its URL, as `/chat/completions`."""

    REPLY: Schema
    """The JSON Schema of a whole reply, as far as it is sure: column types are read off it."""

    COLUMNS: Mapping[str, str]
    """The response format where the config has none."""

    CONCESSIONS: Mapping[str, Concession]
    """Other ways to ask, by name, for endpoints that refuse the usual. Tried in this order, each once for a call."""

    ROOM: int
    """How many times `max_response_bytes` its replies may have: texts are small, pictures and vectors are not."""

    def request_format(self, shorthand: Shorthand) -> dict[str, JSON]:
        """The request that the shorthands of the config stand for."""

    def structured(self, body: dict[str, JSON], schema: Schema) -> dict[str, JSON]:
        """The request, asking for a reply that `schema` describes."""

    def streamed(self, body: dict[str, JSON]) -> dict[str, JSON]:
        """The request, asking for a stream that ends with its usage."""

    def wire_form(self, body: bytes) -> tuple[str, bytes]:
        """The content type and the bytes by which a request, which is JSON everywhere else, goes over the wire.

        Raises:
            RecordError: It cannot be sent so.
        """

    def fold(self, events: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], bool]:
        """The whole reply that a stream's events make up, and whether it says itself that it is complete."""

    def answer(self, body: dict[str, Any]) -> Answer:
        """What a whole reply says. Raises nothing: a reply that is no answer gets a status that says so."""

    def values(self, body: dict[str, Any]) -> dict[str, JSON]:
        """What a response format may call by name beside `content` and the reply's own keys. Asked where one does."""

    def value_types(self, request: JSON) -> dict[str, Schema]:
        """The schemas of what `values` gives, and of `content` where the kind has one, for requests like `request`."""

    def minimal(self, body: dict[str, JSON]) -> dict[str, JSON]:
        """The cheapest request that proves key, endpoint and model to work, in place of `body`."""

    def repaired(self, body: dict[str, JSON], content: str, problem: str) -> dict[str, JSON] | None:
        """The request again, showing the model its reply and what is wrong with it; `None` where that cannot be."""

    def raised(self, body: dict[str, JSON]) -> dict[str, JSON] | None:
        """The request with a higher token limit, for a reply that was cut; `None` where it sets none."""

    def packing(self, batch_size: int | None, rows_per_call: int | None, schema: Schema | None) -> Packing | None:
        """How rows share calls, as configured; `None` for one row per call. `schema`: what each reply has to fit."""

    def dial(self, settings: Settings, url: str, mask: Masker, clock: Clock) -> Sender | None:
        """What makes its calls where they are no HTTP requests; `None` where they are.

        Raises:
            ConfigError: The settings cannot work, or a library is not installed.
        """


KINDS = tuple(sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_")))
"""The names of all kinds, which are also the values of the config's `endpoint`."""


_WEBSOCKETS: Final = {"ws": "http", "wss": "https"}
_UNKNOWN: Final = Usage()


@cache
def load(kind: str) -> Endpoint:
    """Opens one kind by its name, so that what only it needs is imported only where it is chosen."""
    return cast("Endpoint", import_module(f"{__name__}.{kind}"))


def kind_of(path: str) -> str | None:
    """The kind whose path a URL's path ends with; `None` for a base URL."""
    found = [kind for kind in KINDS if path.rstrip("/").endswith(load(kind).PATH)]
    return max(found, key=lambda kind: len(load(kind).PATH), default=None)


class Address(NamedTuple):
    """Where an endpoint is: its kind, its full URL, and the base URL that all endpoints of the server share."""

    kind: str
    url: str
    base_url: str


def address_of(url: str, kind: str | None = None) -> Address:
    """Completes a URL, which may be a base URL or a full one; the kind is `kind`, else read off the path, else chat.

    A ws:// URL becomes the http:// one that its handshake goes to (RFC 6455, section 1.3); its kind is realtime.
    """
    parts = urlsplit(url)
    found = kind_of(parts.path)
    if parts.scheme in _WEBSOCKETS:
        kind, parts = kind or found or "realtime", parts._replace(scheme=_WEBSOCKETS[parts.scheme])
    kind = kind or found or "chat"
    path = parts.path.rstrip("/").removesuffix(load(kind).PATH)
    base_url = parts._replace(path=path, query="", fragment="").geturl()
    full = parts if found == kind else parts._replace(path=path + load(kind).PATH)
    return Address(kind, full.geturl(), base_url)


def usage_of(body: dict[str, Any]) -> Usage:
    """Token counts under either of the names that OpenAI's API has for them; `None` where the endpoint gave none."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return _UNKNOWN
    details_in = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    details_out = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    taken, made = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    return Usage(
        _count(usage, "input_tokens") if taken is None else taken,
        _count(usage, "output_tokens") if made is None else made,
        _count(details_in, "cached_tokens") if details_in else None,
        _count(details_out, "reasoning_tokens") if details_out else None,
    )


def _count(usage: object, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and value >= 0 else None
