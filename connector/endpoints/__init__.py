"""The endpoint kinds. Each module is one complete kind: path, requests, replies, streams, and what `check` sends.

A kind is a plain module with the names of `Endpoint`; what it does not define itself, it imports from `_defaults`. It
is found by its file name, so adding one touches no other file, and no module outside this folder names a kind. A module
whose name starts with an underscore is shared by several kinds, or imported only if its kind is chosen.

What does not belong here: sending a request (`calls`), the meaning of an error body (`replies`), and a stand-in that
answers like a kind (`sandbox`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, cast
from urllib.parse import urlsplit

from connector.base.clock import Clock
from connector.base.masking import Masker
from connector.base.records import JSON, Answer, Reply, Schema, Usage
from connector.base.regex import regex
from connector.base.room import Room
from connector.http.preparing import Settings

DEFAULT_KIND: Final = "chat"
"""The kind of a base URL, and the one that `check` calls to fill its table of capabilities."""


class Shorthand(NamedTuple):
    """The options with which a config can replace a request format.

    Attributes:
        system_prompt: A template.
        prompt: A template.
        images: Names of the columns that hold images.
        detail: How closely the model looks at the images.
        files: Whether images in replies are written to files.
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
    """Whether to try it after a refusal, given the text of the refusal in lower case."""

    apply: Callable[[dict[str, JSON]], dict[str, JSON] | None]
    """Returns the changed request; `None` if there is nothing to change."""

    about: str
    """What is different about such requests or their replies, for people."""


class Packing(Protocol):
    """How the requests of several rows share one call."""

    @property
    def most(self) -> int:
        """The highest number of rows in a call."""

    @property
    def most_bytes(self) -> int:
        """The highest total size of the packed requests, in bytes, within the endpoint's limits."""

    def alike(self, body: dict[str, JSON]) -> Hashable:
        """Returns a key that is equal for requests that may share a call; `None` for one that must go alone."""

    def packed(self, bodies: Sequence[dict[str, JSON]]) -> dict[str, JSON]:
        """Returns one request that asks for what all of `bodies` ask for, which are all `alike`."""

    def unpacked(self, body: dict[str, Any], count: int) -> list[dict[str, Any] | None]:
        """Splits a reply into one for each of `count` packed requests, in their order, without usage.

        `None` for a request that the reply does not certainly answer. Raises nothing.
        """


Expectation: TypeAlias = Callable[[dict[str, Any], Answer], str | None]
"""Returns what a successful reply (its body, and its `Answer`) lacks of what its request asked for; `None` if nothing.
"""


MOMENT: Final = 0.5
"""Seconds that the end of a message may come after the last event of a stream: some servers never send it."""


class EndOfStream:
    """Follows the events of one stream, to find out whether its reply is all there: for most kinds, after any event.

    Attributes:
        is_complete: Whether the stream may end here.
    """

    def __init__(self) -> None:
        self.is_complete = False

    @property
    def patience(self) -> float | None:
        """For how many seconds the rest is worth waiting for, if only the usage is to come; else `None`."""
        return None

    def follow(self, event: dict[str, Any]) -> None:  # noqa: ARG002 - other kinds look at it
        """Takes the next event."""
        self.is_complete = True


class Sender(Protocol):
    """Makes calls, from any number of threads; `connector.calls.client.Client` is the one for HTTP."""

    def __call__(self, body: bytes) -> Reply:
        """Sends a request and returns its final reply. Raises what `Client` raises."""

    def close(self) -> None:
        """Closes its connections."""


class Endpoint(Protocol):
    """The contract of an endpoint kind. `connector.endpoints._defaults` defines what most kinds have in common."""

    PATH: str
    """The part of the URL after `/v1`, such as `/chat/completions`."""

    REPLY: Schema
    """The JSON Schema of a whole reply, with what all servers agree on. Column types are derived from it."""

    COLUMNS: Mapping[str, str]
    """The response format for configs without one."""

    FALLBACKS: Mapping[str, Fallback]
    """Other ways to make a request, by name, in the order in which they are tried, each at most once per call."""

    REPLY_SIZE_FACTOR: int
    """How many times `max_response_bytes` a reply may have: texts are short, images and vectors are not."""

    HAS_OUTPUT_TOKENS: bool
    """Whether replies have output tokens, which are priced separately."""

    OVER_HTTP: bool
    """Whether the URL takes HTTP requests; if not, it takes WebSocket handshakes only."""

    COSTLY: str
    """Why `check` does not send a request, as the end of "since it …"; empty if one costs a few tokens at most."""

    IN_CAPABILITIES: bool
    """Whether the table of capabilities says if a server has this kind."""

    IN_BATCHES: bool
    """Whether its requests can go through the Batch API."""

    def request_format(self, shorthand: Shorthand) -> dict[str, JSON]:
        """Returns the request format for the shorthand options. Raises `ConfigError` for options it does not take."""

    def missing_text(self, body: dict[str, JSON]) -> str | None:
        """Returns the path of a null where the API requires a text, such as `messages[0].content`; `None` if none.

        A null that the API accepts, such as null instructions, does not count.
        """

    def structured(self, body: dict[str, JSON], schema: Schema) -> dict[str, JSON]:
        """Returns the request with a demand for a reply that fits `schema`."""

    def streamed(self, body: dict[str, JSON]) -> dict[str, JSON]:
        """Returns the request with a demand for a stream that ends with the usage."""

    def encode(self, body: bytes) -> tuple[str, bytes]:
        """Returns the content type and the payload to send for a request, which is JSON up to here.

        Raises:
            RecordError: The request cannot be sent.
        """

    def decode(self, data: bytes | str) -> Any:
        """Decodes the JSON of a reply, with the exact value of each number, except where digits do not matter.

        Raises:
            ValueError: It is not JSON (an `orjson.JSONDecodeError`), or nested too deeply.
        """

    def fold(self, events: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """Merges the events of a stream into a whole reply; returns an empty object if there is nothing in them."""

    def end_of_stream(self, request: bytes) -> EndOfStream:
        """Returns what finds the end of the stream that answers a request."""

    def is_chunk(self, event: dict[str, Any]) -> bool:
        """Returns whether `fold` knows the shape of an event; an unknown one makes the whole stream suspect."""

    def broken_off(self, body: dict[str, Any]) -> str | None:
        """Returns why a whole reply says that the endpoint broke it off, which may be temporary; else `None`."""

    def expectation(self, request: JSON, reads: Collection[str]) -> Expectation | None:
        """Returns a check of what `request`, whose strings are templates, demands of successful replies.

        `None` if it demands nothing that a reply could lack. `reads` are the names that the response format reads.
        """

    def answer(self, body: dict[str, Any]) -> Answer:
        """Reads a whole reply. Raises nothing: a reply without an answer gets a status that says so."""

    def values(self, body: dict[str, Any]) -> dict[str, JSON]:
        """Returns the names and values that a response format may use besides `content` and the reply's own keys."""

    def value_types(self, request: JSON) -> dict[str, Schema]:
        """Returns the schemas of `values`, and of `content` if the kind has one, for requests like `request`."""

    def minimal(self, body: dict[str, JSON]) -> dict[str, JSON]:
        """Returns the cheapest request that proves that the key, the endpoint and the model of `body` work."""

    def repaired(self, body: dict[str, JSON], content: str, problem: str) -> dict[str, JSON] | None:
        """Returns the request with the model's reply and what is wrong with it; `None` if this kind cannot ask so."""

    def raised(self, body: dict[str, JSON]) -> dict[str, JSON] | None:
        """Returns the request with a higher token limit, after a truncated reply; `None` if it sets no limit."""

    def packing(self, batch_size: int | None, rows_per_call: int | None, schema: Schema | None) -> Packing | None:
        """Returns how rows share calls, as configured; `None` for one row per call. Each reply has to fit `schema`."""

    def other_purpose(self, model: str) -> str | None:
        """Returns what a model is for, judged by its name, if it is not for this kind; else `None`."""

    def dedicated_model(self, offered: Sequence[str]) -> str | None:
        """Returns the first model whose name says that it is for this kind only; `None` if any model will do."""

    def open_sender(self, settings: Settings, url: str, mask: Masker, clock: Clock, room: Room | None) -> Sender | None:
        """Opens the sender of a kind whose calls are not HTTP requests; returns `None` if they are.

        Large replies enter `room`; their receiver has to leave it.

        Raises:
            ConfigError: The settings cannot work, or a library is not installed.
        """


KINDS = tuple(sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_")))
"""The names of all kinds, which are also the values of the option `endpoint`."""

_VERSION: Final = regex(r"v[0-9][a-z0-9]*|")
"""Matches the last part of the path of a base URL: a version, or nothing."""

_WEBSOCKETS: Final = {"ws": "http", "wss": "https"}
_UNKNOWN: Final = Usage()

MOST_TOKENS: Final = 10**8
"""No call has more tokens: the longest context holds 10 million, and the largest embedding call, 2,048 texts of 8,192
tokens, 17 million. A higher count is taken as missing."""


@cache
def load(kind: str) -> Endpoint:
    """Imports a kind by its name. Lazy, so that what only one kind needs is imported only if it is chosen."""
    return cast("Endpoint", import_module(f"{__name__}.{kind}"))


def kind_of(path: str) -> str | None:
    """Returns the kind whose path the given URL path ends with; `None` for a base URL.

    Most end with an API version, as no kind's path does, or with the path of the default kind, as no other kind's
    does. These two are recognized without loading all kinds.
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
    """Reads the token counts, under either set of names in OpenAI's API; `None` for a missing or impossible count."""
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
    """Returns the usage of a reply or chunk that has it elsewhere: Moonshot in a choice, Groq in `x_groq`."""
    choices = body.get("choices")
    for holder in (body.get("x_groq"), *(reversed(choices) if isinstance(choices, list) else ())):
        usage = holder.get("usage") if isinstance(holder, dict) else None
        if isinstance(usage, dict):
            return usage
    return None


def _count(usage: object, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None
