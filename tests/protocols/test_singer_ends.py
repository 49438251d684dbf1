"""The two ends of a Singer pipeline: a tap that reads the input, and a target that keeps what it is sent, enriched."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from connector.base.records import ROW_KEY
from connector.config.spec import spec
from connector.protocols._singer_plugins import typed
from tests.endpoint import Endpoint, answer_to
from tests.patience import PATIENCE
from tests.protocols.messages import Message, record, schema, state, text_of
from tests.stores.helpers import table


class Pipeline:
    """A table, the configs of a tap, a mapper and a target, and how to run them."""

    def __init__(self, path: Path, endpoint: Endpoint) -> None:
        self.path = path
        general = {"url": endpoint.base_url, "api_key": "sk-canary", "model": "m", "metadata": "none"}
        self.config: dict[str, Message] = {
            "tap": {
                **general,
                "prompt": "{{ text }}",
                "input": {"type": "files", "path": str(path / "reviews.csv")},
                "primary_key": "id",
                "cursor_field": "at",
            },
            "map": {**general, "prompt": "{{ text }}", "response_format": {"label": "{{ content }}"}},
            "target": {
                **general,
                "prompt": "{{ text }}",
                "response_format": {"second": "{{ content }}"},
                "output": {"type": "files", "path": str(path / "out_{stream}.jsonl")},
            },
        }
        self.write_rows(6)

    def write_rows(self, count: int) -> None:
        rows = [f"{number},row {number},{number}" for number in range(count)]
        (self.path / "reviews.csv").write_text("\n".join(["id,text,at", *rows, ""]))

    def file(self, name: str, content: Any) -> str:
        path = self.path / f"{name}.json"
        path.write_text(json.dumps(content))
        return str(path)

    def run(self, role: str, *words: str, given: str = "", **changes: Any) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).with_name(f"{role}-openai-compatible")
        config = self.file(role, {**self.config[role], **changes})
        command = [str(program), "--config", config, *words]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=PATIENCE)
        assert "canary" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def messages(self, role: str, *words: str, **changes: Any) -> list[Message]:
        done = self.run(role, *words, **changes)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def stored(self, stream: str = "reviews") -> list[Message]:
        return table(self.path / f"out_{stream}.jsonl")

    def batch(self, *records: Message, packed: bool = True) -> Message:
        """A BATCH message with the rows of these messages in a file."""
        path = self.path / f"rows.jsonl{'.gz' if packed else ''}"
        data = text_of(each["record"] for each in records).encode()
        path.write_bytes(gzip.compress(data) if packed else data)
        encoding = {"format": "jsonl", **({"compression": "gzip"} if packed else {})}
        return {"type": "BATCH", "stream": "reviews", "encoding": encoding, "manifest": [path.as_uri()]}


@pytest.fixture
def pipeline(tmp_path: Path, endpoint: Endpoint) -> Pipeline:
    return Pipeline(tmp_path, endpoint)


def of_type(messages: list[Message], kind: str) -> list[Message]:
    return [message for message in messages if message["type"] == kind]


def catalog_of(pipeline: Pipeline, **changes: Any) -> Message:
    catalog: Message = json.loads(pipeline.run("tap", "--discover", **changes).stdout)
    return catalog


# --- The tap ---------------------------------------------------------------------------------------------------------


def test_a_tap_gives_its_streams_and_every_row_by_its_schema_and_goes_on_from_its_state(pipeline: Pipeline) -> None:
    reviews, models = catalog_of(pipeline)["streams"]
    assert (reviews["tap_stream_id"], reviews["key_properties"], reviews["replication_key"]) == (
        "reviews",
        ["id"],
        "at",
    )
    assert [each["metadata"][0]["metadata"]["selected-by-default"] for each in (reviews, models)] == [True, False]
    first = pipeline.messages("tap")
    declared, *rest = first
    assert (declared["type"], declared["key_properties"], rest[-1]["type"]) == ("SCHEMA", ["id"], "STATE")
    validator = Draft7Validator(declared["schema"])
    for each in of_type(first, "RECORD"):
        validator.validate(each["record"])
    (bare, *_) = of_type(pipeline.messages("tap", metadata=None, provenance="none"), "RECORD")
    assert list(bare["record"]) == ["id", "text", "at", "content"]
    rows = {each["record"]["id"]: each["record"]["content"] for each in of_type(first, "RECORD")}
    assert rows == {number: answer_to(f"row {number}") for number in range(6)}
    pipeline.write_rows(9)
    more = pipeline.messages("tap", "--state", pipeline.file("state", rest[-1]["value"]))
    assert sorted(each["record"]["id"] for each in of_type(more, "RECORD")) == [6, 7, 8]


def test_a_tap_reads_the_selected_streams_and_columns_in_the_way_that_the_catalog_says(pipeline: Pipeline) -> None:
    catalog = catalog_of(pipeline, primary_key=None)
    reviews, models = catalog["streams"]
    models["metadata"][0]["metadata"]["selected"] = True
    for each in reviews["metadata"]:
        each["metadata"]["selected"] = each["breadcrumb"] != ["properties", "text"]
    reviews["metadata"][0]["metadata"]["replication-method"] = "FULL_TABLE"
    words = ("--catalog", pipeline.file("catalog", catalog))
    messages = pipeline.messages("tap", *words, primary_key=None)
    assert [each["stream"] for each in of_type(messages, "SCHEMA")] == ["reviews", "models"]
    rows = [each["record"] for each in of_type(messages, "RECORD") if each["stream"] == "reviews"]
    assert {tuple(row) for row in rows} == {("id", "at", "content", ROW_KEY)}
    again = pipeline.messages("tap", *words, "--state", pipeline.file("state", messages[-1]["value"]), primary_key=None)
    assert len([each for each in of_type(again, "RECORD") if each["stream"] == "reviews"]) == 6
    assert messages[-1]["value"]["bookmarks"].keys() == {"reviews", "models"}


@pytest.mark.parametrize("words", [("--catalog", "[]"), ("--state", '{"bookmarks": 3}')])
def test_a_catalog_or_state_that_is_none_is_the_user_s_to_mend(pipeline: Pipeline, words: tuple[str, str]) -> None:
    done = pipeline.run("tap", words[0], pipeline.file("given", json.loads(words[1])))
    assert (done.returncode, done.stdout) == (2, "")
    assert "Singer" in done.stderr


# --- The target ------------------------------------------------------------------------------------------------------


def test_a_target_stores_what_a_tap_gives_enriched_and_hands_back_its_state(pipeline: Pipeline) -> None:
    for count in (6, 8):
        pipeline.write_rows(count)
        given = pipeline.run("tap").stdout
        done = pipeline.run("target", given=given)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1]) == json.loads(given.splitlines()[-1])["value"]
        rows = {row["id"]: row["second"] for row in pipeline.stored()}
        assert rows == {number: answer_to(f"row {number}") for number in range(count)}
        assert len(pipeline.stored()) == count  # by their key


def test_a_target_appends_rows_without_a_key_and_keeps_streams_apart(pipeline: Pipeline) -> None:
    declared = [schema(name, key_properties=[]) for name in ("reviews", "others")]
    given = text_of([*declared, record(1), record(1), record(2, "others"), state(1), {"type": "ACTIVATE_VERSION"}])
    for times in (1, 2):
        done = pipeline.run("target", given=given, streams=["reviews"])
        assert done.returncode == 0, done.stderr
        assert [row["id"] for row in pipeline.stored()] == [1, 1] * times
    assert pipeline.stored("others") == [{"id": 2, "text": "row 2"}] * 2


BROKEN: list[tuple[Message | str, str]] = [
    ("{", "line 3: it is not JSON"),
    (record(1, "others"), 'line 3: there is no stream "others" whose SCHEMA has come'),
    ({"type": "RECORD", "stream": "reviews"}, "line 3: the RECORD is not a valid Singer message"),
    ({"type": "BATCH", "stream": "reviews", "encoding": {"format": "parquet"}}, "line 3: the BATCH has the encoding"),
    ({"type": "SCHEMA", "stream": "reviews", "schema": {"properties": [1]}}, "line 3: the schema of stream"),
]


@pytest.mark.parametrize(("broken", "told"), BROKEN, ids=[told[8:35] for _, told in BROKEN])
def test_a_target_stores_what_came_before_a_bad_message_and_no_state_behind_it(
    pipeline: Pipeline, broken: Message | str, told: str
) -> None:
    done = pipeline.run("target", given=text_of([schema(), record(1), broken, state(2)]))
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert [row["id"] for row in pipeline.stored()] == [1]


# --- Batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False], ids=["gzip", "plain"])
def test_rows_in_files_are_mapped_into_files_which_a_target_reads(pipeline: Pipeline, packed: bool) -> None:
    rows = [record(number) for number in range(5)]
    given = text_of([schema(), record(9), pipeline.batch(*rows, packed=packed), state(1)])
    mapped = pipeline.run("map", given=given)
    assert mapped.returncode == 0, mapped.stderr
    messages = [json.loads(line) for line in mapped.stdout.splitlines()]
    assert [each["type"] for each in messages] == ["SCHEMA", "RECORD", "BATCH", "STATE"]
    (uri,) = messages[2]["manifest"]
    path = Path(uri.removeprefix("file://"))
    assert path.parent == pipeline.path
    assert oct(path.stat().st_mode)[-3:] == "600"
    read: Callable[[bytes], bytes] = gzip.decompress if packed else bytes
    inside = [json.loads(line) for line in read(path.read_bytes()).splitlines()]
    assert inside == [{**each["record"], "label": answer_to(each["record"]["text"])} for each in rows]
    done = pipeline.run("target", given=mapped.stdout)
    assert done.returncode == 0, done.stderr
    assert [row["id"] for row in pipeline.stored()] == [9, *range(5)]
    assert all(row["label"] == row["second"] for row in pipeline.stored())


def test_a_file_of_a_batch_that_is_broken_or_elsewhere_is_named(pipeline: Pipeline) -> None:
    batch = pipeline.batch(record(1), packed=False)
    for manifest, told in ((["s3://bucket/x"], "s3://bucket/x"), ([f"{batch['manifest'][0]}.gone"], "rows.jsonl.gone")):
        done = pipeline.run("map", given=text_of([schema(), {**batch, "manifest": manifest}]))
        assert done.returncode == 2
        assert told in done.stderr
    (pipeline.path / "rows.jsonl").write_text('{"id": 1, "text": "a"}\n[2]\n')
    done = pipeline.run("map", given=text_of([schema(), batch]))
    assert "rows.jsonl, line 2: it is not an object" in done.stderr


# --- Settings --------------------------------------------------------------------------------------------------------


def test_numbers_and_truth_values_may_be_text_as_the_environment_has_them() -> None:
    given = {"max_cost_usd": "0.5", "concurrency": "8", "is_stream": "True", "prices": {"input": "1.5"}, "prompt": "7"}
    expected = {"max_cost_usd": 0.5, "concurrency": 8, "is_stream": True, "prices": {"input": 1.5}, "prompt": "7"}
    assert typed(given, spec()) == expected
    for odd in ({"concurrency": "many"}, {"is_stream": "2"}, {"max_cost_usd": ""}, {"config": {"timeout": "30"}}):
        assert typed(odd, spec()) == odd


@pytest.mark.parametrize("role", ["map", "tap", "target"])
def test_each_plugin_says_what_it_is(pipeline: Pipeline, role: str) -> None:
    about = json.loads(pipeline.run(role, "--about").stdout)
    assert about["name"] == f"{role}-openai-compatible"
    assert ("input" in about["settings"]["properties"]) == (role == "tap")
    assert ("output" in about["settings"]["properties"]) == (role == "target")
    assert ("metadata" in about["settings"]["properties"]) == (role != "tap")
    Draft7Validator.check_schema(about["settings"])
    assert pipeline.run(role, "--test").returncode == 0


@pytest.mark.parametrize(("role", "code"), [("tap", 0), ("target", 1)])
def test_without_input_and_output_only_a_tap_can_do_something(pipeline: Pipeline, role: str, code: int) -> None:
    """It has the stream of models."""
    done = pipeline.run(role, "--test", input=None, output=None)
    assert done.returncode == code, done.stderr
    assert bool(code) == done.stderr.startswith("failed: output: is missing: say where to write the rows")
