"""The values of Arrow columns in Python, without pandas; no value of any type fails.

`to_pylist` needs pandas for nanoseconds and fails on years that Python lacks. A time that `datetime` cannot hold in
full is text here, as `connector.base.values` writes it. Maps are objects.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Any, Final

import pyarrow as pa
from pyarrow import compute, types

from connector.base import numbers
from connector.base.values import date_text, duration_text, is_null, text, time_text, timestamp_text

_DIGITS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_FAILS: Final = (pa.ArrowException, ArithmeticError, KeyError, ValueError)  # a KeyError for an unknown time zone
_DAY: Final = 86_400_000  # milliseconds


def rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Returns the rows of a batch."""
    columns = [values_of(column) for column in batch.columns]
    names = batch.schema.names
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)] or [{}] * batch.num_rows


def values_of(array: pa.Array) -> list[Any]:
    """Returns the values of a column."""
    kind = array.type
    for applies, convert in _CONVERSIONS:
        if applies(kind):
            return convert(array)
    try:
        values: list[Any] = array.to_pylist()
    except UnicodeDecodeError:  # written without a check of the texts
        return [_bytes(scalar).decode(errors="replace") if scalar.is_valid else None for scalar in array]
    return values


def _bytes(scalar: Any) -> bytes:
    content: bytes = scalar.as_buffer().to_pybytes()
    return content


def _times(array: pa.Array) -> list[Any]:
    """Returns times and durations as Python's own; as text where Python cannot hold a value in full."""
    exact = _microseconds(array.type)
    try:
        values: list[Any] = array.cast(exact).to_pylist()
    except _FAILS:
        return [_time(scalar, exact) for scalar in array]
    return values


def _time(scalar: Any, exact: pa.DataType) -> Any:
    if not scalar.is_valid:
        return None
    try:
        return scalar.cast(exact).as_py()
    except _FAILS:
        return _time_text(scalar.type, scalar.value)


def _time_text(kind: pa.DataType, ticks: int) -> str:
    if types.is_date32(kind):
        return date_text(ticks)
    if types.is_date64(kind):
        return date_text(ticks // _DAY)
    digits = _DIGITS[kind.unit]
    if types.is_time(kind):
        return time_text(ticks, digits)
    if types.is_duration(kind):
        days, rest = divmod(abs(ticks), 86_400 * 10**digits)
        return duration_text(0, days, rest, digits) if ticks >= 0 else duration_text(0, -days, -rest, digits)
    return timestamp_text(ticks, digits, "Z" if kind.tz else "")


def _microseconds(kind: pa.DataType) -> pa.DataType:
    if types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    if types.is_duration(kind):
        return pa.duration("us")
    return pa.time64("us") if types.is_time(kind) else kind


def _is_list(kind: pa.DataType) -> bool:
    return (
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or str(kind).startswith(("list_view<", "large_list_view<"))
    )


def _lists(array: pa.Array) -> list[Any]:
    lengths = compute.list_value_length(array).to_pylist()
    items = iter(values_of(array.flatten()))  # flatten() skips the items of nulls
    return [None if length is None else list(islice(items, length)) for length in lengths]


def _structs(array: pa.Array) -> list[Any]:
    names = [field.name for field in array.type]
    parts = [values_of(part) for part in array.flatten()]
    rows = zip(*parts, strict=True) if parts else iter([()] * len(array))
    return [
        dict(zip(names, row, strict=True)) if valid else None
        for row, valid in zip(rows, array.is_valid().to_pylist(), strict=True)
    ]


def _maps(array: pa.Array) -> list[Any]:
    return [_map(scalar.values) if scalar.is_valid else None for scalar in array]


def _map(pairs: pa.Array) -> dict[str, Any]:
    keys, items = (values_of(part) for part in pairs.flatten())
    return {"null" if is_null(key) else text(key): item for key, item in zip(keys, items, strict=True)}


def _unions(array: pa.Array) -> list[Any]:
    return [values_of(pa.array([scalar.value]))[0] if scalar.is_valid else None for scalar in array]


def _decoded(array: pa.Array) -> list[Any]:
    """Returns the values of a dictionary-encoded column. Arrow's own decoding lacks types, such as Polars' texts."""
    values = values_of(array.dictionary)
    return [None if index is None else values[index] for index in array.indices.to_pylist()]


def _storage(array: pa.Array) -> list[Any]:
    """Returns the values of an extension type: Arrow's own, or as pandas converts its types, else the stored values.

    A pandas period is stored as a number that means nothing without its frequency.
    """
    if array.type in _KNOWN:
        values: list[Any] = array.to_pylist()
        return values
    if isinstance(array.type, _JSON):
        return [None if text is None else _json(text) for text in values_of(array.storage)]
    make = getattr(array.type, "to_pandas_dtype", None)
    with suppress(Exception):  # an extension's code can raise anything
        return list(make().__from_arrow__(array))  # type: ignore[misc]
    return values_of(array.storage)


def _json(text: str) -> Any:
    try:
        return numbers.loads(text)
    except ValueError:
        return text


_KNOWN: Final = (pa.uuid(),) if hasattr(pa, "uuid") else ()
_JSON: Final[Any] = getattr(pa, "JsonType", ())
_CONVERSIONS: Final[tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], list[Any]]], ...]] = (
    (lambda kind: types.is_temporal(kind) and not types.is_interval(kind), _times),
    (types.is_map, _maps),
    (_is_list, _lists),
    (types.is_struct, _structs),
    (types.is_union, _unions),
    (types.is_dictionary, _decoded),
    (types.is_run_end_encoded, lambda array: values_of(compute.run_end_decode(array))),
    (lambda kind: isinstance(kind, pa.BaseExtensionType), _storage),
)
