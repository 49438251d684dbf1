"""Embeddings: `POST /v1/embeddings` (OpenAI API reference, "Embeddings"). Many rows share a call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final

from connector.base.decoding import loads
from connector.base.errors import BadRequestError
from connector.base.records import JSON, Answer, Schema, Status
from connector.base.values import dumps
from connector.endpoints import Concession, Packing, Shorthand, usage_of
from connector.endpoints._plain import dial, fold, raised, repaired, streamed, structured
from connector.endpoints._prompt import as_text
from connector.endpoints._shapes import listed, mapped, text_or_none
from connector.endpoints._vectors import vector_of

PATH: Final = "/embeddings"
COLUMNS: Final[Mapping[str, str]] = {"embedding": "{{ embedding }}"}
ROOM: Final = 4

_TEXT: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer"}
REPLY: Final[Schema] = {
    "type": "object",
    "properties": {
        "object": _TEXT,
        "model": _TEXT,
        "data": {
            "type": "array",
            "items": {"type": "object", "properties": {"object": _TEXT, "index": _COUNT, "embedding": {}}},
        },
        "usage": {"type": "object", "properties": {"prompt_tokens": _COUNT, "total_tokens": _COUNT}},
    },
}

_USUAL_BATCH: Final = 64
_MOST_INPUTS: Final = 2048  # OpenAI's limit
_MOST_TOKENS: Final = 300_000  # OpenAI's limit on all inputs of a call together
_EMPTY: Final = b'"input":""'


def _as_floats(body: dict[str, JSON]) -> dict[str, JSON] | None:
    """Numbers in plain JSON, which every server sends where nothing else is asked for."""
    if "encoding_format" not in body:
        return None
    return {name: value for name, value in body.items() if name != "encoding_format"}


CONCESSIONS: Final[Mapping[str, Concession]] = {
    "plain_floats": Concession(lambda words: "encoding" in words or "base64" in words, _as_floats)
}


def request_format(shorthand: Shorthand) -> dict[str, JSON]:
    """The prompt is the text to embed. Base64 is asked for: a quarter of the bytes, on the wire and in the ledger."""
    model = {} if shorthand.model is None else {"model": shorthand.model}
    return {**model, "input": as_text(shorthand.prompt or ""), "encoding_format": "base64"}


def wire_form(body: bytes) -> tuple[str, bytes]:
    """The JSON as it is. Raises `BadRequestError` for an empty text, which servers refuse in words of no use."""
    if _EMPTY in body and loads(body).get("input") == "":
        raise BadRequestError("the text to embed is empty: leave the row out, or say what to embed instead")
    return "application/json", body


def minimal(body: dict[str, JSON]) -> dict[str, JSON]:
    """One word."""
    model = {"model": body["model"]} if "model" in body else {}
    return {**model, "input": "ping"}


def answer(body: dict[str, Any]) -> Answer:
    """A vector of finite numbers is a success; there is no text."""
    usage, model = usage_of(body), text_or_none(body.get("model"))
    try:
        vector_of(_first(body))
    except ValueError as error:
        return Answer(None, None, model, usage, Status.INVALID_OUTPUT, str(error))
    return Answer(None, None, model, usage)


def values(body: dict[str, Any]) -> dict[str, JSON]:
    """The vector, whatever form it came in, and how many numbers it has."""
    vector = vector_of(_first(body))
    return {"embedding": vector, "dimensions": len(vector)}


def value_types(request: JSON) -> dict[str, Schema]:  # noqa: ARG001 - the contract's signature
    """A list of numbers in single precision, which is how models have them."""
    return {"embedding": {"type": "array", "items": {"type": "number", "format": "float"}}, "dimensions": _COUNT}


def _first(body: dict[str, Any]) -> Any:
    data = listed(body.get("data"))
    return mapped(data[0]).get("embedding") if data else None


class Batches:
    """Packs requests that differ in nothing but their text.

    Args:
        most: Rows in a call at the most.
    """

    most_bytes: Final = _MOST_TOKENS  # no tokenizer makes more tokens than there are bytes

    def __init__(self, most: int) -> None:
        self.most = min(most, _MOST_INPUTS)

    def alike(self, body: dict[str, JSON]) -> Hashable:
        """Everything but the text. One that is empty goes alone, and so do inputs that are lists already."""
        text = body.get("input")
        return dumps({**body, "input": None}) if isinstance(text, str) and text else None

    def packed(self, bodies: Sequence[dict[str, JSON]]) -> dict[str, JSON]:
        """One request with the texts of all."""
        return {**bodies[0], "input": [body["input"] for body in bodies]}

    def unpacked(self, body: dict[str, Any], count: int) -> list[dict[str, Any] | None]:
        """Each vector by its `index`; one that is missing, or comes twice, answers nothing.

        Where no vector has an index, there are as many as texts, or none can be told from the others.
        """
        items = [item for item in listed(body.get("data")) if isinstance(item, dict)]
        if len(items) == count and not any("index" in item for item in items):
            items = [{**item, "index": place} for place, item in enumerate(items)]
        placed = [(item["index"], item) for item in items if type(item.get("index")) is int]
        times = Counter(place for place, _ in placed)
        found = {place: item for place, item in placed if times[place] == 1}
        rest = {name: value for name, value in body.items() if name != "usage"}
        return [{**rest, "data": [{**found[place], "index": 0}]} if place in found else None for place in range(count)]


def packing(batch_size: int | None, rows_per_call: int | None, schema: Schema | None) -> Packing | None:  # noqa: ARG001 - the contract's signature
    """Rows share calls unless the config says otherwise: each text is embedded on its own all the same."""
    most = batch_size or _USUAL_BATCH
    return Batches(most) if most > 1 else None
