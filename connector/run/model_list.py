"""The list of models that a server offers: `GET /models`, in any of the shapes that servers give it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode, urlsplit

from connector.base.clock import Clock
from connector.base.decoding import Allowance, loads, storable
from connector.base.errors import BadRequestError, ReplyError
from connector.base.masking import Masker
from connector.base.records import JSON, Checkpoint, Outcome, Provenance, Record, Schema, Status, is_ok
from connector.base.streams import Stream
from connector.config.config import Config
from connector.http.preparing import resolved
from connector.http.transport import Transport
from connector.replies.refusals import error_of
from connector.run.runtime import transport_of

_MOST_PAGES: Final = 200
_LISTS: Final = ("data", "models", "items", "results")
_IDS: Final = ("id", "name", "model", "slug")
_OWNERS: Final = ("owned_by", "owner", "organization", "publisher", "provider")
_TIMES: Final = ("created", "created_at", "modified_at", "createdAt")

_SCHEMA: Final[Schema] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "owned_by": {"type": ["null", "string"]},
        "created": {"type": ["null", "integer"]},
        "object": {"type": ["null", "string"]},
    },
}
STREAM: Final = Stream("models", _SCHEMA, ("id",))
"""The models as a stream of their own."""


class Model(NamedTuple):
    """A model of the list. `created` is in seconds since 1970; `None` stands for what the server does not say."""

    id: str
    owned_by: str | None = None
    created: int | None = None
    object: str | None = None


def models(transport: Transport, url: str, mask: Masker, clock: Clock) -> list[Model]:
    """Returns all models that the server lists at `url`, page after page, each once, in its order.

    All pages together may take as long, as many bytes and as much memory as one call may.

    Raises:
        ConnectorError: There is no list.
    """
    deadline, left = transport.deadline(), transport.max_response_bytes
    allowance = Allowance(left)

    def get(page: str) -> JSON:
        return transport.auth.attempt(partial(got, page))

    def got(page: str) -> JSON:
        nonlocal left
        response = transport.get(page, deadline)
        try:
            data = response.read()
        finally:
            response.close()
        left -= len(data)
        if left < 0:
            raise ReplyError(f"the list of models is larger than max_response_bytes = {transport.max_response_bytes}")
        if not is_ok(response.status):
            raise error_of(response.status, response.headers, data, now=clock.time(), mask=mask)
        allowance.take(data)
        try:
            return mask.value(storable(loads(data)))
        except ValueError:
            raise BadRequestError("the list of models is not JSON: does url point to an API?") from None

    return list(paged(get, url))


def records(config: Config, clock: Clock) -> Iterator[Outcome | Checkpoint]:
    """Yields the models as the outcomes of a stream, and a checkpoint behind them; each read starts over.

    Raises:
        ConnectorError: There is no list.
    """
    mask = Masker(config.secrets)
    with closing(transport_of(config, mask)) as transport:
        found = models(transport, config.models_url, mask, clock)
    for index, each in enumerate(found):
        yield Outcome(Record(index, each._asdict(), STREAM.name), Status.SUCCESS, {}, {}, Provenance(Status.SUCCESS))
    yield Checkpoint({"models": len(found)})


def paged(get: Callable[[str], JSON], url: str) -> Iterator[Model]:
    """Yields the models of all pages, up to the first page that has no new ones.

    Raises:
        BadRequestError: A page holds no list.
    """
    seen: set[str] = set()
    page: str | None = url
    for _ in range(_MOST_PAGES):
        body = get(page or url)
        fresh = [each for each in models_in(body) if each.id not in seen]
        yield from {each.id: each for each in fresh}.values()
        seen.update(each.id for each in fresh)
        page = _next(body, url) if fresh else None
        if page is None:
            return


def models_in(body: JSON) -> list[Model]:
    """Returns the models in one answer.

    Raises:
        BadRequestError: It holds no list.
    """
    found = body
    for _ in range(2):  # a list may lie in an object of an object
        if isinstance(found, dict):
            found = next((found[name] for name in _LISTS if isinstance(found.get(name), list | dict)), None)
    if not isinstance(found, list):
        raise BadRequestError("the endpoint's reply to GET /models has no list of models: does url point to an API?")
    return [model for model in map(_model, found) if model.id]


def _model(item: Any) -> Model:
    if not isinstance(item, dict):
        return Model(item if isinstance(item, str) else "")
    name = next((item[key] for key in _IDS if isinstance(item.get(key), str)), "")
    owner = next((item[key] for key in _OWNERS if isinstance(item.get(key), str)), None)
    created = next((item[key] for key in _TIMES if item.get(key)), None)
    kind = item.get("object")
    return Model(name, owner, _seconds(created), kind if isinstance(kind, str) else None)


def _seconds(time: Any) -> int | None:
    if isinstance(time, int | float) and not isinstance(time, bool):
        try:
            return int(time)
        except (ValueError, OverflowError):
            return None
    try:
        return int(datetime.fromisoformat(time).timestamp()) if isinstance(time, str) else None
    except (ValueError, OverflowError):
        return None


def _next(body: JSON, url: str) -> str | None:
    """Returns the next page: by OpenAI's and Anthropic's `last_id`, Google's token, or a link to the same server."""
    if not isinstance(body, dict):
        return None
    if body.get("has_more") and isinstance(body.get("last_id"), str):
        return _with(url, after=body["last_id"], after_id=body["last_id"])
    if isinstance(token := body.get("nextPageToken"), str) and token:
        return _with(url, pageToken=token)
    if isinstance(link := body.get("next"), str) and link:
        target = resolved(url, link)
        return target if target and urlsplit(target)[:2] == urlsplit(url)[:2] else None
    return None


def _with(url: str, **parameters: str) -> str:
    parts = urlsplit(url)
    return parts._replace(query="&".join(filter(None, (parts.query, urlencode(parameters))))).geturl()
