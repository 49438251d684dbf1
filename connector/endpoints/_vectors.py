"""A vector in any of the forms that servers send it in."""

from __future__ import annotations

import math
import sys
from array import array
from binascii import a2b_base64
from typing import Any, Final

from connector.base.decoding import loads

_LARGEST: Final = 3.4028234663852886e38  # of single precision
_FLOAT: Final = 4  # bytes
_NUMBERS: Final = frozenset({float, int})


def vector_of(value: Any) -> list[float]:
    """The numbers of an embedding: a list of them, base64 of little-endian float32, or JSON text of the list.

    A list for each token becomes their mean, as servers make it that are asked for one vector.

    Raises:
        ValueError: It is no vector of finite numbers in single precision; says so in the user's words.
    """
    vector = _decoded(value) if isinstance(value, str) else value
    if isinstance(vector, list) and vector and all(isinstance(each, list) for each in vector):
        vector = _mean([_checked(each) for each in vector])
    return _checked(vector)


def _decoded(text: str) -> Any:
    try:
        if text.lstrip().startswith("["):
            return loads(text)
        data = a2b_base64(text, strict_mode=True)
    except ValueError:
        raise ValueError("the reply's embedding is a text that is neither base64 nor JSON") from None
    if len(data) % _FLOAT:
        raise ValueError("the reply's embedding is cut: its base64 holds no whole number of float32 values")
    vector = array("f", data)
    if sys.byteorder == "big":
        vector.byteswap()
    return vector.tolist()


def _mean(vectors: list[list[float]]) -> list[float]:
    if len({len(vector) for vector in vectors}) > 1:
        raise ValueError("the reply's embedding has lists of different lengths")
    return [math.fsum(column) / len(vectors) for column in zip(*vectors, strict=True)]


def _checked(vector: Any) -> list[float]:
    if not isinstance(vector, list) or not vector:
        raise ValueError("the reply has no embedding, or an empty one")
    kinds = set(map(type, vector))
    if not kinds <= _NUMBERS:
        raise ValueError("the reply's embedding holds something that is no number")
    if not _length(vector) <= _LARGEST:  # as NaN never is
        raise ValueError("the reply's embedding holds a number that single precision has not: NaN, or too large")
    return vector if kinds == {float} else list(map(float, vector))


def _length(vector: list[float]) -> float:
    try:
        return math.hypot(*vector)
    except OverflowError:  # of a whole number
        return math.inf
