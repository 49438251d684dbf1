"""Vectors in single precision: an `array` is a buffer that goes to Arrow without becoming a list of Python's floats.

Where there are no types, an `array` is what a list of numbers is; JSON has it as one.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any

from connector.base.records import Schema


def is_vector(schema: Schema) -> bool:
    """Returns whether the values of a column are lists of numbers in single precision, by its schema."""
    items = schema.get("items")
    is_single = isinstance(items, dict) and items.get("format") == "float" and items.get("type") == "number"
    return is_single and "array" in schema.get("type", ())


def single(numbers: Iterable[Any]) -> array[float]:
    """Returns numbers in single precision, as which those of Python are rounded.

    Raises:
        TypeError: One of them is no number.
    """
    if type(numbers) is array and numbers.typecode == "f":
        return numbers
    try:
        return array("f", numbers)
    except OverflowError:  # a whole number beyond every float
        return array("f", (float(str(number)) for number in numbers))
