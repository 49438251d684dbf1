"""Embeddings of the sandbox.

The shape is that of https://platform.openai.com/docs/api-reference (embeddings/object). A vector counts the words of
its text, each at an index given by the word, and is normalized: texts that share words are close to each other.
"""

from __future__ import annotations

import math
import re
import zlib
from array import array
from base64 import b64encode
from typing import Any, Final

from jsonschema import Draft202012Validator

from connector.base.records import JSON
from connector.sandbox.validation import COUNT, MODEL, TEXT, form
from connector.sandbox.values import TOKEN

_SIZE: Final = 256
_FILLED: Final = TEXT | {"minLength": 1}
stream: Final = None
REQUEST: Final = Draft202012Validator(
    form(
        "model",
        "input",
        model=TEXT,
        input=_FILLED | {"type": ["string", "array"], "minItems": 1, "maxItems": 2048, "items": _FILLED},
        dimensions=COUNT | {"maximum": 3072},
        encoding_format={"enum": ["float", "base64", None]},
    )
)
"""The schema of a request."""


def reply(body: dict[str, Any]) -> dict[str, Any]:
    """Returns the whole reply to a checked request."""
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    size = int(body.get("dimensions") or _SIZE)
    is_packed = body.get("encoding_format") == "base64"
    spent = sum(len(TOKEN.findall(text)) for text in texts)
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if is_packed else vector.tolist()}
        for index, vector in enumerate(_vector(text, size) for text in texts)
    ]
    usage = {"prompt_tokens": spent, "total_tokens": spent}
    return {"object": "list", "model": MODEL, "data": data, "usage": usage}


def _vector(text: str, size: int) -> array[float]:
    counts = [0] * size
    for word in re.findall(r"\w+", text.lower()) or [text]:
        place = zlib.crc32(word.encode())
        counts[place % size] += 1 if place >> 31 else -1
    length = math.hypot(*counts)
    return array("f", [count / length for count in counts] if length else [1.0] + [0.0] * (size - 1))


def _packed(vector: array[float]) -> JSON:
    return b64encode(vector.tobytes()).decode()
