"""Reads the outcomes of a run back from its output, where a row's provenance is in `_llm`, or in `_llm_…` columns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, get_args, get_type_hints

from connector.base.errors import ConfigError
from connector.base.records import GROUP, Failure, Outcome, Provenance, Record, Schema, Status, is_earlier
from connector.stores import Source

_PARTS: Final = f"{GROUP}_"
_STATUS: Final = "status"
_JSON_TYPES: Final = {list: "array", dict: "object", bool: "boolean", int: "integer", float: "number"}
_NUMBERS: Final = {
    name: kind for name, hint in get_type_hints(Provenance).items() for kind in get_args(hint) if kind in (int, float)
}


def outcomes(source: Source, added: Mapping[str, Schema] | None) -> Iterator[Outcome]:
    """Yields the outcome of each row of an output.

    Args:
        source: The output, opened as an input.
        added: The columns that the run added, with their schemas, by which types are restored; `None` if they are not
            known: all columns then count as added.

    Raises:
        ConfigError: A row does not say what became of it.
    """
    for item in source.read():
        if not isinstance(item, Record):
            continue
        if item.problem:
            raise ConfigError(item.problem)
        provenance = _provenance(item)
        row = {name: value for name, value in item.data.items() if not is_earlier(name)}
        given = row if added is None else {name: value for name, value in row.items() if name not in added}
        columns = row if added is None else {name: _typed(row.get(name), schema) for name, schema in added.items()}
        yield Outcome(Record(item.index, given), provenance.status, columns, {}, provenance)


def _provenance(record: Record) -> Provenance:
    group = record.data.get(GROUP)
    parts = group if isinstance(group, Mapping) else _flat(record.data)
    try:
        status = Status(str(parts.get(_STATUS)))
    except ValueError:
        raise ConfigError(
            f"row {record.index + 1} has no {GROUP}.{_STATUS}, which says what became of it: name an output of enrich, "
            'whose config has metadata "full"'
        ) from None
    known = {name: _value(name, parts.get(name)) for name in Provenance._fields}
    return Provenance(**{**known, "status": status, "error": _failure(parts.get("error")), "cached": _is_true(parts)})


def _typed(value: Any, schema: Schema) -> Any:
    """Returns a value in the type that the run gave it; a file may hold it as text, or a text as a number."""
    declared = schema.get("type")
    kinds = {*(declared if isinstance(declared, list) else [declared])} - {"null"}
    if value is None or not kinds or None in kinds or isinstance(value, str) == ("string" in kinds):
        return value
    if not isinstance(value, str):
        return json.dumps(value) if kinds == {"string"} and isinstance(value, bool | int | float) else value
    try:
        known = json.loads(value)
    except (ValueError, RecursionError):
        return value
    kind = _JSON_TYPES.get(type(known))
    if kind not in kinds and not (kind == "integer" and "number" in kinds):
        return value
    try:
        exact = Decimal(value.strip()) if kind == "number" else known
    except InvalidOperation:  # an exponent of twenty digits
        return value
    return known if known == exact or Decimal(repr(known)) == exact else exact  # with all its digits


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(_PARTS): value for name, value in row.items() if name.startswith(_PARTS)}


def _is_true(parts: Mapping[str, Any]) -> bool:
    return str(parts.get("cached")).lower() == "true"


def _value(name: str, value: Any) -> Any:
    """Returns a part of the provenance in its own type, which CSV loses if its values look like another one."""
    if name == "attempts":
        return _number(value, int) or 0
    kind = _NUMBERS.get(name)
    return _number(value, kind) if kind else None if value is None else str(value)


def _number(value: Any, kind: type) -> Any:
    try:
        return None if value is None else kind(float(value))
    except (ValueError, TypeError, OverflowError):
        return None


def _failure(value: Any) -> Failure | None:
    """Returns an error from an object or its JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return Failure("", value)
    if not isinstance(value, Mapping) or value.get("message") is None:
        return None
    content = value.get("content")
    return Failure(
        str(value.get("class") or ""),
        str(value["message"]),
        _number(value.get("http_status"), int),
        None if content is None else str(content),
    )
