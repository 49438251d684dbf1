"""How an answer is compared with the truth: by type, however the two are written.

| scale | right if it is | also reported |
|---|---|---|
| category | the same label | precision and recall of each label, the confusion matrix |
| boolean | the same truth value | the same |
| number | the same number | the mean absolute error |
| text | the same text | whether it is close: without case, spaces and punctuation at least 90 % the same |
| list | the same set of items | how much of the sets is the same (F1) |

An object is compared field by field. A truth from CSV is text, so it is read as the type of the answer.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from rapidfuzz import fuzz

from connector.base.errors import ConfigError
from connector.base.records import JSON, Schema
from connector.base.regex import regex
from connector.base.suggestions import there_are
from connector.base.values import is_null

Scale = Literal["category", "boolean", "number", "text", "list"]

CLOSE: Final = 0.9
"""The similarity from which two texts are close, from 0 to 1: RapidFuzz's normalized indel similarity."""

_CATEGORIES: Final = 20  # without a schema, at most so many different truths are taken as labels
_LONGEST_LABEL: Final = 60
_TRUE: Final = frozenset({"true", "yes", "y", "t", "1"})
_FALSE: Final = frozenset({"false", "no", "n", "f", "0"})
_NOT_WORDS: Final = regex(r"[^\w]+")
_SEPARATORS: Final = regex(r"[|;,\n]")
_SCALES: Final[Mapping[str, Scale]] = {
    "boolean": "boolean",
    "integer": "number",
    "number": "number",
    "array": "list",
}
_DIGITS: Final = 1e-9
_LARGEST: Final = 1e150  # number whose errors can be added up; larger ones, infinity and NaN are compared as texts


class Target(NamedTuple):
    """What is compared with the truth: a column of the answers or a field in it, and where the input has the truth.

    `is_fixed`: the labels are those of a schema, so they are compared exactly.
    """

    name: str
    path: tuple[str, ...]
    truth: tuple[str, ...]
    scale: Scale
    is_fixed: bool = False


class Mark(NamedTuple):
    """Whether an answer is right; `amount` is the error of a number, the similarity of a text, or the F1 of a list."""

    is_right: bool
    amount: float | None = None


def targets(
    named: str, columns: Mapping[str, Schema], inputs: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> list[Target]:
    """Returns the targets that an option `--truth` names.

    Args:
        named: `COLUMN` of the input, which has the truth for the answers' column of that name, or for their only one;
            `ANSWER=COLUMN` names both. Either may be a path into objects: `address.city`.
        columns: The answers' columns with their schemas.
        inputs: The input's columns.
        rows: The input's rows, from which the scale is inferred if no schema gives it.

    Raises:
        ConfigError: There is no such column.
    """
    answer, is_pair, truth = named.partition("=")
    truth = truth if is_pair else answer
    truth_path = _path(truth, inputs)
    if not truth_path or truth_path[0] not in inputs:
        there = there_are(truth, list(inputs))
        change = "" if is_pair else f"; write {answer}=COLUMN where the names differ"
        raise ConfigError(f"--truth {named}: there is no column {json.dumps(truth)} in the input; {there}{change}")
    path = _path(answer, columns)
    if path[0] not in columns and not is_pair and len(columns) == 1:
        path = (next(iter(columns)),)
    if path[0] not in columns:
        there = there_are(answer, list(columns))
        raise ConfigError(
            f"--truth {named}: there is no column {json.dumps(answer)} in the answers; {there}; "
            f"write ANSWER={truth} to say which one is meant"
        )
    schema: Schema = columns[path[0]]
    for part in path[1:]:
        schema = schema.get("properties", {}).get(part, {})
    values = [value for row in rows if not is_null(value := at(row, truth_path))]
    return list(_leaves(".".join(path), path, truth_path, schema, values))


def _path(text: str, columns: Sequence[str] | Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the parts of a path, whose first one is a column that may have dots in its name."""
    return (text,) if text in columns else tuple(text.split("."))


def _leaves(
    name: str, path: tuple[str, ...], truth: tuple[str, ...], schema: Schema, values: Sequence[JSON]
) -> Iterator[Target]:
    kinds = schema.get("type", ())
    kind = next((each for each in ([kinds] if isinstance(kinds, str) else kinds) if each != "null"), None)
    read = [_json(value) for value in values]
    fields = list(schema.get("properties", ())) if kind == "object" else []
    if not fields and kind in (None, "object") and read and all(isinstance(each, dict) for each in read):
        fields = list(dict.fromkeys(field for each in read for field in each))
    if fields:
        for field in fields:
            inner = [each[field] for each in read if isinstance(each, dict) and not is_null(each.get(field))]
            inside = schema.get("properties", {}).get(field, {})
            yield from _leaves(f"{name}.{field}", (*path, field), (*truth, field), inside, inner)
        return
    if "enum" in schema and kind in (None, "string"):
        yield Target(name, path, truth, "category", is_fixed=True)
    elif (scale := _SCALES.get(str(kind))) is not None:
        yield Target(name, path, truth, scale)
    else:
        yield Target(name, path, truth, _scale_of(values))


def _scale_of(values: Sequence[JSON]) -> Scale:
    """Infers the scale from values of the truth."""
    if values and all(isinstance(each, bool) for each in values):
        return "boolean"
    if values and all(isinstance(each, int | float) and not isinstance(each, bool) for each in values):
        return "number"
    if values and all(isinstance(each, list) for each in values):
        return "list"
    texts = [str(each) for each in values]
    different = set(texts)
    are_labels = len(different) <= _CATEGORIES and all(len(each) <= _LONGEST_LABEL for each in different)
    return "category" if are_labels and 2 * len(different) <= len(texts) else "text"


def at(value: JSON, path: Sequence[str]) -> JSON:
    """Returns the value at a path; `None` if there is none. Objects may be JSON text, as in CSV."""
    for part in path:
        value = _json(value) if isinstance(value, str) else value
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _json(value: JSON) -> JSON:
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def read(value: JSON, target: Target) -> JSON:
    """Converts a value to the type of the target's scale; one of another kind stays as it is."""
    if is_null(value):
        return None
    match target.scale:
        case "boolean":
            word = str(value).strip().lower()
            return True if word in _TRUE else False if word in _FALSE else value
        case "number":
            return _number(value)
        case "list":
            return _items(value)
        case "category":
            return str(value) if target.is_fixed else label(value)
        case "text":
            return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def label(value: JSON) -> str:
    """Returns a label without case, spaces, a full stop or quotes, which people and models add."""
    return unicodedata.normalize("NFKC", str(value)).casefold().strip(" \t\r\n.\"'`*")


def mark(answer: JSON, truth: JSON, scale: Scale) -> Mark:
    """Compares an answer with the truth, both as `read` returns them; a missing answer is wrong."""
    if truth is None or answer is None:
        return Mark(truth is None and answer is None)
    if scale == "number":
        if not isinstance(answer, int | float) or not isinstance(truth, int | float):
            return Mark(answer == truth)
        return Mark(math.isclose(answer, truth, rel_tol=_DIGITS, abs_tol=_DIGITS), abs(answer - truth))
    if scale == "text":
        return Mark(str(answer).strip() == str(truth).strip(), fuzz.ratio(_plain(answer), _plain(truth)) / 100)
    if scale == "list":
        return _of_sets(answer, truth)
    return Mark(answer == truth)


def _number(value: JSON) -> JSON:
    if isinstance(value, bool):
        return value
    try:
        found = float(value)
    except (TypeError, ValueError):
        return value
    except OverflowError:
        found = math.inf
    if not abs(found) <= _LARGEST:
        return str(value)
    return int(found) if found.is_integer() else found


def _items(value: JSON) -> JSON:
    value = _json(value)
    if isinstance(value, str):
        return [part.strip() for part in _SEPARATORS.split(value) if part.strip()]
    return list(value) if isinstance(value, list | tuple) else value


def _plain(text: JSON) -> str:
    return _NOT_WORDS.sub(" ", unicodedata.normalize("NFKC", str(text)).casefold()).strip()


def _of_sets(answer: JSON, truth: JSON) -> Mark:
    if not isinstance(answer, list) or not isinstance(truth, list):
        return Mark(answer == truth)
    found, wanted = ({_item(each) for each in items} for items in (answer, truth))
    if not found and not wanted:
        return Mark(True, 1.0)
    return Mark(found == wanted, 2 * len(found & wanted) / (len(found) + len(wanted)))


def _item(value: JSON) -> str:
    return label(value) if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
