"""Embeddings: `POST /v1/embeddings` (OpenAI API reference, "Embeddings"). Many rows share a call."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Literal

import orjson
from pydantic_core import SchemaValidator, ValidationError, core_schema, from_json

from connector.base.errors import BadRequestError
from connector.base.numbers import loads
from connector.base.records import JSON, Answer, Schema, Status
from connector.base.regex import regex
from connector.base.values import dumps
from connector.base.vectors import packed, unpacked
from connector.endpoints import Expectation, Fallback, Packing, Shorthand, usage_of
from connector.endpoints._defaults import (
    COSTLY,
    OVER_HTTP,
    broken_off,
    end_of_stream,
    fold,
    is_chunk,
    open_sender,
    raised,
    repaired,
    streamed,
    structured,
)
from connector.endpoints._inputs import InputPacking
from connector.endpoints._models import EMBEDDING, is_chat_model, purpose_of
from connector.endpoints._prompt import as_text
from connector.endpoints._shapes import as_dict, as_list, by_place, null_in, text_or_none

PATH: Final = "/embeddings"
IN_BATCHES: Final = True
COLUMNS: Final[Mapping[str, str]] = {"embedding": "{{ embedding }}"}
REPLY_SIZE_FACTOR: Final = 4
HAS_OUTPUT_TOKENS: Final = False
IN_CAPABILITIES: Final = True

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
_MOST_BYTES: Final = 300_000  # OpenAI's limit on the tokens of a call; no tokenizer makes more than there are bytes
_EMPTY: Final = b'"input":""'
_LARGEST: Final = 3.4028234663852886e38  # the largest number in single precision
_FLOAT: Final = 4  # bytes
_DOUBLE: Final = 8
_ABSURD: Final = 1e12
"""More than the length of any embedding. Float64 read as float32 is far longer: every second number is noise."""

_SHORTEST: Final = 1e-3
_LONGEST: Final = 1e6
"""The range of lengths of embeddings; noise read as float64 is hardly ever within it."""

_NUMBERS: Final = frozenset({float, int})
_AS_FLOATS: Final = SchemaValidator(
    core_schema.list_schema(core_schema.float_schema(strict=True, allow_inf_nan=False), strict=True)
).validate_python
"""Returns a list of numbers as floats, in less than half the time of a check of each item's type."""

_NOT_SINGLE: Final = "the reply's embedding holds NaN, or a number too large for single precision"
_SMALL: Final = bytes(byte for byte in range(256) if byte % 0x80 < 0x50)  # noqa: PLR2004 - see below
"""The high bytes of float32 values whose magnitude is below 2**33, so finite."""

_FEW: Final = 8192
"""A vector of so many small numbers has a length below `_ABSURD`."""


def _as_floats(body: dict[str, JSON]) -> dict[str, JSON] | None:
    """Leaves out `encoding_format`: every server then sends numbers in plain JSON."""
    if "encoding_format" not in body:
        return None
    return {name: value for name, value in body.items() if name != "encoding_format"}


FALLBACKS: Final[Mapping[str, Fallback]] = {
    "plain_floats": Fallback(
        lambda words: "encoding" in words or "base64" in words, _as_floats, "vectors come as numbers, not packed"
    )
}


def request_format(shorthand: Shorthand) -> dict[str, JSON]:
    """Returns a request to embed the prompt, with base64: a quarter of the bytes on the wire and in the ledger."""
    model = {} if shorthand.model is None else {"model": shorthand.model}
    return {**model, "input": as_text(shorthand.prompt or ""), "encoding_format": "base64"}


def missing_text(body: dict[str, JSON]) -> str | None:
    """Returns the path of an input that is null."""
    return null_in(body.get("input", ""), "input")


def encode(body: bytes) -> tuple[str, bytes]:
    """Returns the JSON as it is. Raises `BadRequestError` for an empty text: servers' refusals of it are vague."""
    if _EMPTY in body and loads(body).get("input") == "":
        raise BadRequestError("the text to embed is empty: leave the row out, or give another text to embed")
    return "application/json", body


def decode(data: bytes | str) -> Any:
    """Decodes JSON. Vectors in base64 become their bytes at once, in a third of the time that orjson takes.

    Raises:
        orjson.JSONDecodeError: It is not JSON, or has a number that is too large for a double.
    """
    first = _FIRST.search(data) if isinstance(data, bytes) else None
    for read in (packed, _plain) if first and first[1] == b'"' else (_plain,):
        with suppress(ValueError, TypeError, OverflowError):  # also too deep, or a text with half a character
            value = read(data)
            if _is_finite(value):
                return value
    return orjson.loads(data)


def _is_finite(value: Any) -> bool:
    """Returns whether no number in a value is infinite, by a single sum for each list of numbers.

    Raises:
        OverflowError: An integer is too large for a double.
    """
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        with suppress(TypeError):  # not all of them are numbers
            return math.isfinite(sum(value))
        return all(map(_is_finite, value))
    return not isinstance(value, int | float) or math.isfinite(value)


_FIRST: Final = regex(rb'"embedding"\s*:\s*(.)')
"""The beginning of the first vector: numbers would be parsed in vain by `packed`."""

_plain: Final = partial(from_json, allow_inf_nan=False)
"""In a seventh of orjson's time if there are long texts, and less memory."""


def minimal(body: dict[str, JSON]) -> dict[str, JSON]:
    """Returns a request of one word, with the same model."""
    model = {"model": body["model"]} if "model" in body else {}
    return {**model, "input": "ping"}


def answer(body: dict[str, Any]) -> Answer:
    """Reads the vector: a success if its numbers are finite. There is no text."""
    usage, model = usage_of(body), text_or_none(body.get("model"))
    try:
        _read(_first(body))
    except ValueError as error:
        return Answer(None, None, model, usage, Status.INVALID_OUTPUT, str(error))
    return Answer(None, None, model, usage)


def expectation(request: JSON, reads: Collection[str]) -> Expectation | None:  # noqa: ARG001 - the contract's signature
    """Returns a check that finds vectors of twice the requested `dimensions`, whose numbers have another type.

    Vectors of any other length come from a server that does not know the parameter.
    """
    asked = as_dict(request).get("dimensions")
    if type(asked) is not int:
        return None

    def unmet(body: dict[str, Any], answer: Answer) -> str | None:
        del answer
        given = _first(body)
        found = len(_read(given)) if isinstance(given, str | bytes) else 0
        if found != 2 * asked:
            return None
        return f"the embedding's base64 holds {found} numbers for {asked} dimensions: leave out encoding_format"

    return unmet


def values(body: dict[str, Any]) -> dict[str, Any]:
    """Returns the vector, an `array` if it came in base64, and how many numbers it has."""
    vector = _read(_first(body))
    return {"embedding": vector, "dimensions": len(vector)}


def value_types(request: JSON) -> dict[str, Schema]:  # noqa: ARG001 - the contract's signature
    """Returns the schemas: numbers in single precision, which is what models compute."""
    return {"embedding": {"type": "array", "items": {"type": "number", "format": "float"}}, "dimensions": _COUNT}


def _first(body: dict[str, Any]) -> Any:
    try:
        return body["data"][0]["embedding"]
    except (LookupError, TypeError):  # it has none, or another shape
        return None


def packing(batch_size: int | None, rows_per_call: int | None, schema: Schema | None) -> Packing | None:  # noqa: ARG001 - the contract's signature
    """Packs rows unless `batch_size` is 1: texts that share a call do not influence each other."""
    most = min(batch_size or _USUAL_BATCH, _MOST_INPUTS)
    return InputPacking(most, _MOST_BYTES, "data") if most > 1 else None


def other_purpose(model: str) -> str | None:
    """Returns "chat" for chat models, and the purpose of other models that do not embed."""
    purpose = purpose_of(model)
    if purpose in (None, EMBEDDING):
        return "chat" if is_chat_model(model) else None
    return purpose


def dedicated_model(offered: Sequence[str]) -> str | None:
    """Returns the first model with "embed" in its name."""
    return next((name for name in offered if "embed" in name.lower()), None)


class _Reader:
    """Reads vectors and keeps the last one, as each is read twice: to judge the reply, and to map it to columns."""

    def __init__(self) -> None:
        self._last: tuple[Any, Sequence[float]] = (None, ())

    def read(self, value: Any) -> Sequence[float]:
        last, vector = self._last
        if value is None or value is not last:
            vector = vector_of(value)
            self._last = (value, vector)
        return vector


_read: Final = _Reader().read


def vector_of(value: Any) -> Sequence[float]:
    """Reads an embedding: a list of numbers, that list as JSON text, or little-endian float32 as base64 or bytes.

    Base64 of float64, as from vLLM 0.5.2, is recognized by its numbers, which make no sense as float32. From a list
    for each token it returns their mean, as most servers do by themselves.

    Returns:
        The numbers of base64 as an `array`, those of JSON as a list.

    Raises:
        ValueError: It is not a vector of finite numbers in single precision. The message is meant for users.
    """
    vector = _decoded(value) if isinstance(value, str) else _vector(value) if type(value) is bytes else value
    if type(vector) is array:
        return vector
    if isinstance(vector, list) and vector and all(isinstance(each, list) for each in vector):
        vector = _mean([_checked(each) for each in vector])
    return _checked(vector)


def _decoded(text: str) -> Any:
    try:
        if text.lstrip().startswith("["):
            return loads(text)
        data = unpacked(text)
    except ValueError:
        raise ValueError("the reply's embedding is a text that is neither base64 nor JSON") from None
    return _vector(data)


def _vector(data: bytes) -> Any:
    """Returns the numbers in bytes; `None` if there are none."""
    if len(data) % _FLOAT:
        raise ValueError("the reply's embedding is cut: its base64 holds no whole number of float32 values")
    vector = _numbers(data, _FLOAT)
    if not data or (len(vector) <= _FEW and not data[_FLOAT - 1 :: _FLOAT].translate(None, _SMALL)):
        return vector or None
    if not _length(vector) < _ABSURD and len(data) % _DOUBLE == 0:
        doubles = _numbers(data, _DOUBLE)
        if _SHORTEST < _length(doubles) < _LONGEST:
            return doubles.tolist()
    if not _length(vector) <= _LARGEST:  # false for NaN too
        raise ValueError(_NOT_SINGLE)
    return vector


def _numbers(data: bytes, size: int) -> array[float]:
    """Returns little-endian floats of `size` bytes each."""
    numbers = array("f" if size == _FLOAT else "d", data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _mean(vectors: list[list[float]]) -> list[float]:
    if len({len(vector) for vector in vectors}) > 1:
        raise ValueError("the reply's embedding has lists of different lengths")
    return [math.fsum(column) / len(vectors) for column in zip(*vectors, strict=True)]


def _checked(vector: Any) -> list[float]:
    if not isinstance(vector, list) or not vector:
        raise ValueError("the reply has no embedding, or an empty one")
    try:
        numbers: list[float] = _AS_FLOATS(vector)
    except ValidationError:  # it takes only integers of 64 bits
        if not _NUMBERS.issuperset(map(type, vector)):
            raise ValueError("the reply's embedding holds a value that is not a number") from None
        numbers = vector
    if not _length(numbers) <= _LARGEST:  # false for NaN too
        raise ValueError(_NOT_SINGLE)
    return list(map(float, numbers)) if numbers is vector else numbers


def _length(vector: Sequence[float]) -> float:
    try:
        return math.hypot(*vector)
    except OverflowError:  # an integer beyond every float
        return math.inf
