"""Causes of failures: they hold for every message, whatever differs from row to row."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from connector.base import schemas
from connector.base.errors import TemplateError
from connector.base.records import Failure, Outcome, Provenance, Record, Status
from connector.run.causes import Cause, Causes
from connector.templates.template import Template


def failed(number: int, message: str, kind: str = "BadRequestError", row: dict[str, Any] | None = None) -> Outcome:
    provenance = Provenance(Status.ERROR, Failure(kind, message, 400))
    return Outcome(Record(number - 1, row or {}), Status.ERROR, {}, {}, provenance)


def causes(outcomes: Iterable[Outcome]) -> list[Cause]:
    counted = Causes()
    for outcome in outcomes:
        counted.add(outcome)
    return list(counted)


SAME: list[tuple[str, list[str], str]] = [
    ("numbers", ["8192 tokens, but you sent 9000", "8192 tokens, but you sent 12,345"], "8192 tokens, but you sent …"),
    ("request ids", ["failed (req_01abF)", "failed (req_77Xyz)"], "failed (…)"),
    ("uuids", [f"job {a}: failed" for a in ("0b1c-44aa-9", "ffe2-0001-3")], "job …: failed"),
    ("dates", ["due 2024-01-02T03:04:05Z", "due 2025-11-12T13:14:15Z"], "due …"),
    ("urls", ["cannot load https://a.example/x.png now", "cannot load https://b.example/y now"], "cannot load … now"),
    ("double quotes", ['at $.label, "Good" is not one of ["a","b"]', 'at $.label, "Bad" is not one of ["a","b"]'],
     'at $.label, … is not one of ["a","b"]'),
    ("escaped quotes", [r'got "a \" 5" here', 'got "" here'], "got … here"),
    ("single quotes", ["no model 'x y'", "no model 'z'"], "no model …"),
    ("an apostrophe within a quote", ["no model 'it's x'", "no model 'that's y'"], "no model …"),
    ("backticks", ["`alpha` is unknown", "`beta` is unknown"], "… is unknown"),
    ("a quote that was cut", ['it is "abc', 'it is "d e f'], "it is …"),
    ("refusals", ["the model refused: I can't, sorry", "the model refused: No."], "the model refused: …"),
    ("texts of replies", ["the reply is JSON, but not an object: [1]", "the reply is JSON, but not an object: true"],
     "the reply is JSON, but not an object: …"),
    ("places in lists", ["at $.items[3].price, 4 is too high", "at $.items[17].price, 9 is too high"],
     "at $.items[…].price, … is too high"),
    ("an apostrophe is no quote", ["the model's 4 rows don't fit", "the model's 7 rows don't fit"],
     "the model's … rows don't fit"),
]  # fmt: skip


@pytest.mark.parametrize(("messages", "reason"), [case[1:] for case in SAME], ids=[case[0] for case in SAME])
def test_what_differs_from_row_to_row_is_not_a_cause_of_its_own(messages: list[str], reason: str) -> None:
    (found,) = causes(failed(number, message) for number, message in enumerate(messages, 1))
    assert (found.count, found.reason, found.rows) == (2, reason, (1, 2))


def test_what_is_the_same_in_every_row_is_reported_unchanged() -> None:
    (found,) = causes(failed(number, "this key may not use 'gpt-4o' (HTTP 400)") for number in (1, 2))
    assert found.reason == "this key may not use 'gpt-4o' (HTTP 400)"


def test_texts_of_the_row_are_removed_even_without_quotes() -> None:
    rows = ["Arrived very late, alas", "The best pan of them all"]
    (found,) = causes(failed(n, f"blocked: {text}!", row={"review": text}) for n, text in enumerate(rows, 1))
    assert found.reason == "blocked: …!"


DIFFERENT: list[tuple[str, list[str]]] = [
    ("columns", ['prompt: there is no column "a"; there are: b', 'prompt: there is no column "b"; there are: a']),
    ("templates", ['prompt: "{{ a }}" fails on this row: x', 'system_prompt: "{{ a }}" fails on this row: x']),
    ("paths", ["at $.label, it is null", "at $.price, it is null"]),
    ("missing properties", ['at $, "a" is a required property', 'at $, "b" is a required property']),
]  # fmt: skip


@pytest.mark.parametrize("messages", [case[1] for case in DIFFERENT], ids=[case[0] for case in DIFFERENT])
def test_errors_to_fix_in_different_places_are_different_causes(messages: list[str]) -> None:
    found = causes(failed(number, message, "TemplateError") for number, message in enumerate(messages, 1))
    assert len(found) == 2


def test_the_same_words_with_another_status_are_another_cause() -> None:
    other = Outcome(Record(1, {}), Status.FILTERED, {}, {}, Provenance(Status.FILTERED, Failure("A", "no", 400)))
    assert len(causes([failed(1, "no", "A"), other])) == 2


SHARED: list[tuple[Any, Callable[[int], dict[str, Any]], str, str]] = [
    ("{{ a }} {{ b }}", lambda n: {"a": "x", "b": None, "n": n}, "b is null in request_format.text",
     'use {{ b | default("…") }}'),
    ("a {{ n.x }}", lambda n: {"n": {"x": None, "y": n}}, "a {{ n.x }} is null in request_format.text",
     'use {{ … | default("…") }}'),
    ("{{ a }}", lambda n: {"z": n, f"c{n}": n}, 'request_format.text: there is no column "a"; there are: …', ""),
    ("{{ 1 / a }} €", lambda n: {"a": "word" * n},
     "request_format.text: '{{ 1 / a }} €' fails on this row: unsupported operand type(s) for /: 'int' and 'str'", ""),
    ("{{ 1 / a }} €", lambda n: {"a": 0, "n": n},
     "request_format.text: '{{ 1 / a }} €' fails on this row: division by zero", ""),
]  # fmt: skip


@pytest.mark.parametrize(("source", "row", "reason", "change"), SHARED)
def test_template_errors_are_grouped_by_column_and_leaf(
    source: str, row: Callable[[int], dict[str, Any]], reason: str, change: str
) -> None:
    template = Template({"text": source}, "request_format")
    outcomes = []
    for number in (1, 2, 3):
        with pytest.raises(TemplateError) as caught:
            template.render(row(number))
        outcomes.append(failed(number, str(caught.value), "TemplateError", row(number)))
    (found,) = causes(outcomes)
    assert (found.reason, found.change, found.count) == (reason, change, 3)


def test_replies_that_break_the_schema_in_the_same_way_are_one_cause() -> None:
    checker = schemas.checker_of({"type": "object", "properties": {"label": {"enum": ["good", "bad"]}}})
    problems = [checker.problem({"label": label}, 99) for label in ("GOOD", "nice", 'the "best"', "b" * 500, None, 7)]
    found = causes(failed(n, f"the reply does not fit output_schema: {each}") for n, each in enumerate(problems, 1))
    assert len(found) <= 3  # texts, null and numbers; long texts are cut


@pytest.mark.parametrize(
    ("message", "reason", "change"),
    [
        ("the reply was cut at the token limit: raise max_tokens", "the reply was cut at the token limit",
         "raise max_tokens"),
        ("the endpoint does not have this model (HTTP 404: set: x): change model",
         "the endpoint does not have this model (HTTP 404: set: x)", "change model"),
        ("the endpoint refuses this request (HTTP 400: wrong: use another)",
         "the endpoint refuses this request (HTTP 400: wrong: use another)", ""),
    ],
)  # fmt: skip
def test_the_change_to_make_is_separated_from_the_reason(message: str, reason: str, change: str) -> None:
    (found,) = causes([failed(1, message)])
    assert (found.reason, found.change) == (reason, change)


def test_the_first_rows_are_named_in_whatever_order_they_end() -> None:
    (found,) = causes(failed(number, "no") for number in (900, 30, 700, 2, 100, 50, 40, 1))
    assert found.rows == (1, 2, 30, 40, 50)


def test_streams_are_named_only_if_there_are_several() -> None:
    one, other = failed(1, "no"), failed(2, "no")
    one.record.stream, other.record.stream = "a", "b"
    assert [each.stream for each in causes([one])] == [""]
    assert [str(each) for each in causes([one, other])] == ['1 × stream "a": no (row 1)', '1 × stream "b": no (row 2)']


def test_a_million_different_messages_take_bounded_memory() -> None:
    counted = Causes()
    words = (f"{chr(97 + a)}{chr(97 + b)}{chr(97 + c)}" for a in range(26) for b in range(26) for c in range(26))
    for number, word in enumerate(words, 1):
        counted.add(failed(number, f"reason {word}"))
    assert len(counted) == 1_001
    first = next(iter(counted))
    assert (first.count, first.reason) == (26**3 - 1_000, "other reasons, each of a few rows")
    assert sys.getsizeof(first.rows) < 200


@pytest.mark.parametrize("message", ["", "\n", '"' * 600, "'" * 5_000, "a/" * 5_000, "`" * 700, "1" * 9_000, "\x1b[2J"])
def test_no_message_raises(message: str) -> None:
    (found,) = causes([failed(1, message), failed(2, message)])
    assert found.count == 2
    assert len(found.reason) <= 700


def test_a_failed_row_without_an_error_has_a_cause_too() -> None:
    (found,) = causes([Outcome(Record(0, {}), Status.FILTERED, {}, {}, Provenance(Status.FILTERED))])
    assert found.reason == "the row is filtered"
