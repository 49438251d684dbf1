"""The endpoint kinds. One module is one kind, complete: path, requests, replies, streams, and what `check` asks.

A kind is a plain module with the names of `Endpoint`; what it does not define itself it imports from `_defaults`. It is
found by its file name, so that adding one touches no other file, and no module outside this folder names a kind. A
module with an underscore before its name is shared by several kinds, or imported only where its kind is chosen.

Sending a request does not belong here but in `calls`, the meaning of an error body in `replies`, a stand-in that
answers like a kind in `sandbox`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, cast
from urllib.parse import urlsplit

from connector.base.clock import Clock
from connector.base.masking import Masker
from connector.base.records import JSON, Answer, Reply, Schema, Usage
from connector.base.room import Room
from connector.http.adapter import Settings

DEFAULT_KIND: Final = "chat"
"""The kind of a base URL, and the one that `check` asks for its table of capabilities."""


class Shorthand(NamedTuple):
    """The options that a config may have in place of a request format.

    Attributes:
        system_prompt: A template.
        prompt: A template.
        images: Names of the columns that hold images.
        detail: How closely the model looks at the images.
        files: Whether images that the endpoint makes are written to files.
        max_tokens: The limit of the chosen entry of `models`.
        temperature: The temperature of the chosen entry of `models`.
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


class Fallback(NamedTuple):
    """Another way to make a request, for an endpoint that refuses the usual one."""

    matches: Callable[[str], bool]
    """Whether a refusal calls for it, judged by the words of the refusal in lower case."""

    apply: Callable[[dict[str, JSON]], dict[str, JSON] | None]
    """Returns the changed request; `None` where there is nothing to change."""

    about: str
    """What requests that are made in this way, or their replies, are like, for people."""


class Packing(Protocol):
    """How the requests of several rows share one call."""

    @property
    def most(self) -> int:
        """The highest number of rows in a call."""

    @property
    def most_bytes(self) -> int:
        """The highest number of bytes that the packed requests may have together, as the endpoint's limits allow."""

    def alike(self, body: dict[str, JSON]) -> Hashable:
        """Returns what two requests must have in common to share a call; `None` for one that must go alone."""

    def packed(self, bodies: Sequence[dict[str, JSON]]) -> dict[str, JSON]:
        """Returns the one request that asks for what all of `bodies` ask for. They are all alike."""

    def unpacked(self, body: dict[str, Any], count: int) -> list[dict[str, Any] | None]:
        """Returns a reply to each of `count` packed requests, in their order, as if it had gone alone, without usage.

        `None` stands for a request that the reply does not answer, or not for certain. Raises nothing.
        """


Expectation: TypeAlias = Callable[[dict[str, Any], Answer], str | None]
"""Returns what a successful reply, and what was read of it, does not do that its request asked for; `None` if all."""


class Sender(Protocol):
    """Makes calls, from any number of threads; `connector.calls.client.Client` is the one for HTTP."""

    def __call__(self, body: bytes) -> Reply:
        """Sends a request and returns its final reply. Raises what `Client` raises."""

    def close(self) -> None:
        """Closes its connections."""


class Endpoint(Protocol):
    """The contract of an endpoint kind. `connector.endpoints._defaults` has what few kinds define themselves."""

    PATH: str
    """The part of its URL after `/v1`, such as `/chat/completions`."""

    REPLY: Schema
    """The JSON Schema of a whole reply, as far as every server keeps to it: column types are derived from it."""

    COLUMNS: Mapping[str, str]
    """The response format for configs that have none."""

    FALLBACKS: Mapping[str, Fallback]
    """Other ways to make a request, by name, in the order in which they are tried: each at most once for a call."""

    REPLY_SIZE_FACTOR: int
    """How many times `max_response_bytes` a reply may be long: texts are short, images and vectors are not."""

    HAS_OUTPUT_TOKENS: bool
    """Whether replies have output tokens, which have a price of their own."""

    OVER_HTTP: bool
    """Whether its URL takes HTTP requests. One that does not takes WebSocket handshakes alone."""

    COSTLY: str
    """Why `check` does not try a request, as the end of "since it …"; empty where one costs a few tokens."""

    IN_CAPABILITIES: bool
    """Whether the table of capabilities says if a server has this kind."""

    IN_BATCHES: bool
    """Whether its requests can go through the Batch API."""

    def request_format(self, shorthand: Shorthand) -> dict[str, JSON]:
        """Returns the request format that the shorthand options stand for. Raises `ConfigError` where they cannot."""

    def missing_text(self, body: dict[str, JSON]) -> str | None:
        """Returns the path of a null where the API wants a text, as in `messages[0].content`; `None` where all is well.

        A null of which the API makes something, such as no instructions, is no such null.
        """

    def structured(self, body: dict[str, JSON], schema: Schema) -> dict[str, JSON]:
        """Returns the request, asking for a reply that fits `schema`."""

    def streamed(self, body: dict[str, JSON]) -> dict[str, JSON]:
        """Returns the request, asking for a stream that ends with the usage."""

    def encode(self, body: bytes) -> tuple[str, bytes]:
        """Returns the content type and the bytes to send for a request, which is JSON everywhere else.

        Raises:
            RecordError: The request cannot be sent.
        """

    def decode(self, data: bytes | str) -> Any:
        """Decodes the JSON of a reply: each number exactly, unless it need not mean all of its digits.

        Raises:
            ValueError: It is not JSON; an `orjson.JSONDecodeError`, unless it is nested too deeply.
        """

    def fold(self, events: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], bool]:
        """Puts the events of a stream together into a whole reply; the flag tells whether that says it is complete."""

    def is_chunk(self, event: dict[str, Any]) -> bool:
        """Returns whether an event of a stream is of a shape that `fold` knows; another one discredits the stream."""

    def broken_off(self, body: dict[str, Any]) -> str | None:
        """Returns why a whole reply says that it was broken off, which may pass; `None` if it does not say so."""

    def expectation(self, request: JSON, reads: Collection[str]) -> Expectation | None:
        """Returns what requests such as `request`, whose strings are templates, ask of a reply that is a success.

        `None` if there is nothing that it could fail to do. `reads` are the names that the response format reads.
        """

    def answer(self, body: dict[str, Any]) -> Answer:
        """Reads a whole reply. Raises nothing: a reply without an answer gets a status that says so."""

    def values(self, body: dict[str, Any]) -> dict[str, JSON]:
        """Returns the names a response format may use beside `content` and the reply's own keys, with their values."""

    def value_types(self, request: JSON) -> dict[str, Schema]:
        """Returns the schemas of `values`, and of `content` where the kind has one, for requests such as `request`."""

    def minimal(self, body: dict[str, JSON]) -> dict[str, JSON]:
        """Returns the cheapest request that proves that key, endpoint and the model of `body` work."""

    def repaired(self, body: dict[str, JSON], content: str, problem: str) -> dict[str, JSON] | None:
        """Returns the request with the model's reply and what is wrong with it; `None` where there is no way to ask."""

    def raised(self, body: dict[str, JSON]) -> dict[str, JSON] | None:
        """Returns the request with a higher token limit, for a reply that was cut; `None` where it sets no limit."""

    def packing(self, batch_size: int | None, rows_per_call: int | None, schema: Schema | None) -> Packing | None:
        """Returns how rows share calls, as configured; `None` for one row per call. Each reply has to fit `schema`."""

    def other_purpose(self, model: str) -> str | None:
        """Returns what a model is for, judged by its name, if it is for something else than this kind; else `None`."""

    def dedicated_model(self, offered: Sequence[str]) -> str | None:
        """Returns the first model that is, judged by its name, for this kind alone; `None` where any will do."""

    def open_sender(self, settings: Settings, url: str, mask: Masker, clock: Clock, room: Room | None) -> Sender | None:
        """Opens what makes the calls where those are no HTTP requests; returns `None` where they are.

        Large replies enter `room`; whoever takes one leaves it.

        Raises:
            ConfigError: The settings cannot work, or a library is not installed.
        """


KINDS = tuple(sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_")))
"""The names of all kinds, which are also the values of the option `endpoint`."""

_VERSION: Final = re.compile(r"v[0-9][a-z0-9]*|")
"""The last part of the path of most base URLs; of others it is empty."""

_WEBSOCKETS: Final = {"ws": "http", "wss": "https"}
_UNKNOWN: Final = Usage()

MOST_TOKENS: Final = 10**8
"""No call has more tokens: the longest contexts hold 10 million, the most texts of a call, 2,048 of 8,192, 17 million.
A higher count is none."""


@cache
def load(kind: str) -> Endpoint:
    """Imports a kind by its name, so that what only one kind needs is imported only where it is chosen."""
    return cast("Endpoint", import_module(f"{__name__}.{kind}"))


def kind_of(path: str) -> str | None:
    """Returns the kind whose path a URL's path ends with; `None` for a base URL.

    Most URLs end with the version of an API, as no kind's path does, or with the path of the default kind, as no other
    kind's does: they are told without loading all kinds.
    """
    path = path.rstrip("/")
    if _VERSION.fullmatch(path.rpartition("/")[2]):
        return None
    if path.endswith(load(DEFAULT_KIND).PATH):
        return DEFAULT_KIND
    found = [kind for kind in KINDS if path.endswith(load(kind).PATH)]
    return max(found, key=lambda kind: len(load(kind).PATH), default=None)


class Address(NamedTuple):
    """An endpoint's kind, its full URL, and the base URL that all endpoints of the server share."""

    kind: str
    url: str
    base_url: str


def address_of(url: str, kind: str | None = None) -> Address:
    """Completes a URL, which may be a base URL or a full one.

    The kind is `kind`, else the one whose path the URL ends with, else the default kind. A ws:// URL becomes the http://
    URL of its handshake (RFC 6455, section 1.3); a ws:// base URL means the kind that is not `OVER_HTTP`.
    """
    parts = urlsplit(url)
    found = kind_of(parts.path)
    if parts.scheme in _WEBSOCKETS:
        kind = kind or found or next(each for each in KINDS if not load(each).OVER_HTTP)
        parts = parts._replace(scheme=_WEBSOCKETS[parts.scheme])
    kind = kind or found or DEFAULT_KIND
    path = parts.path.rstrip("/").removesuffix(load(kind).PATH)
    base_url = parts._replace(path=path, query="", fragment="").geturl()
    full = parts if found == kind else parts._replace(path=path + load(kind).PATH)
    return Address(kind, full.geturl(), base_url)


def usage_of(body: dict[str, Any]) -> Usage:
    """Reads the token counts, under either set of names in OpenAI's API; `None` for what is missing or cannot be."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        usage = usage_elsewhere(body)
        if usage is None:
            return _UNKNOWN
    details_in = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    details_out = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    sent, made = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    return Usage(
        _count(usage, "input_tokens") if sent is None else sent,
        _count(usage, "output_tokens") if made is None else made,
        _count(details_in, "cached_tokens") if details_in else None,
        _count(details_out, "reasoning_tokens") if details_out else None,
        _count(details_in, "cache_write_tokens") if details_in else None,
    )


def usage_elsewhere(body: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the usage that a reply or a chunk has at another place: Moonshot's in a choice, Groq's in `x_groq`."""
    choices = body.get("choices")
    for holder in (body.get("x_groq"), *(reversed(choices) if isinstance(choices, list) else ())):
        usage = holder.get("usage") if isinstance(holder, dict) else None
        if isinstance(usage, dict):
            return usage
    return None


def _count(usage: object, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None
