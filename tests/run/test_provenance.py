"""The `_llm` column follows from the typed record: its names, their order, their types, and what each detail keeps."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft7Validator

from connector.base.records import Answer, Failure, Provenance, Reply, Status
from connector.run.provenance import SCHEMA, Detail, as_column, column, failure, group, of_reply

FULL = Provenance(
    Status.INVALID_OUTPUT, Failure("ReplyError", "not JSON", 200, "hm"), 2, "m", "stop", 7, 2, 0, 1, 0.5, 12, "r", "k"
)


def test_the_column_has_the_names_and_types_that_pipelines_rely_on() -> None:
    text, count = {"type": ["null", "string"]}, {"type": ["null", "integer"]}
    statuses = ["success", "error", "invalid_output", "truncated", "filtered", "skipped"]
    error = {"class": text, "message": text, "http_status": count, "content": text}
    assert list(SCHEMA.items()) == [
        ("status", {"type": "string", "enum": statuses}),
        ("error", {"type": ["null", "object"], "properties": error}),
        ("attempts", count),
        ("model", text),
        ("finish_reason", text),
        ("input_tokens", count),
        ("output_tokens", count),
        ("cached_tokens", count),
        ("reasoning_tokens", count),
        ("cost_usd", {"type": ["null", "number"]}),
        ("latency_ms", count),
        ("request_id", text),
        ("prompt_hash", text),
        ("cached", {"type": ["null", "boolean"]}),
    ]


@pytest.mark.parametrize("provenance", [FULL, Provenance(Status.SUCCESS)])
def test_a_value_has_the_schema_s_names_in_its_order_and_fits_it(provenance: Provenance) -> None:
    value = as_column(provenance)
    assert list(value) == list(SCHEMA)
    Draft7Validator({"type": "object", "properties": dict(SCHEMA)}).validate(value)
    assert type(value["status"]) is str


def test_an_error_is_an_object_of_its_own() -> None:
    assert as_column(FULL)["error"] == {
        "class": "ReplyError",
        "message": "not JSON",
        "http_status": 200,
        "content": "hm",
    }
    assert as_column(Provenance(Status.SUCCESS))["error"] is None


@pytest.mark.parametrize(("detail", "names"), [("full", list(SCHEMA)), ("status", ["status", "error"])])
def test_a_detail_keeps_its_parts_in_schema_and_value(detail: Detail, names: list[str]) -> None:
    assert list(column(detail)["_llm"]["properties"]) == list(group(FULL, detail)["_llm"]) == names


def test_without_metadata_there_is_no_column() -> None:
    nothing: dict[str, Any] = {}
    assert column("none") == group(FULL, "none") == nothing


def test_of_a_long_reply_the_beginning_is_kept() -> None:
    assert failure("ReplyError", "no", content="x" * 20_000).content == "x" * 10_000
    assert failure("ReplyError", "no", content="").content is None


def test_of_a_long_name_by_an_endpoint_the_beginning_is_kept() -> None:
    answer = Answer("content", "f" * 10_000, "m" * 10_000)
    found = of_reply(Reply(200, {}, {}), answer, Status.SUCCESS, None, b"key", None, cached=False)
    assert (found.finish_reason, found.model) == ("f" * 1_000, "m" * 1_000)
