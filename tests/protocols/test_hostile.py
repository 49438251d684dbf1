"""Whatever stands in a catalog, a state or a message, it is taken or refused in words: it is never a fault of ours."""

from __future__ import annotations

import copy
import gzip
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from connector.base.errors import ConfigError
from connector.base.records import Checkpoint, Record
from connector.base.schemas import portable
from connector.base.streams import Target
from connector.protocols import Arguments, MessageWriter, json_file, serve_verb
from connector.protocols._airbyte_catalog import selections, states, targets
from connector.protocols._airbyte_destination import _Inbox as airbyte
from connector.protocols._airbyte_messages import failure, log
from connector.protocols._batch_files import BatchFiles
from connector.protocols._row_store import Inbox
from connector.protocols._singer_tap import sync
from connector.protocols._singer_target import _Inbox as singer
from connector.stores.staging.spool import encode

COLUMNS: Final = {
    "id": {"type": ["null", "integer"]},
    "text": {"anyOf": [{"type": "string"}, {"type": "null"}], "format": "date"},
    "more": {"type": "object", "properties": {"a": {"type": "array", "items": {"enum": ["x"], "type": "string"}}}},
}
STREAM: Final = {"name": "in", "json_schema": {"type": "object", "properties": COLUMNS}}
CATALOG: Final = {
    "streams": [{"stream": STREAM, "destination_sync_mode": "append_dedup", "primary_key": [["id"]]}],
}
STATE: Final = [{"type": "STREAM", "stream": {"stream_descriptor": {"name": "in"}, "stream_state": {"rows": 1}}}]
MESSAGES: Final = [
    {"type": "RECORD", "record": {"stream": "in", "data": {"id": 1}}},
    {"type": "STATE", "state": STATE[0]},
    {"type": "TRACE", "trace": {"stream_status": {"stream_descriptor": {"name": "in"}, "status": "COMPLETE"}}},
]
SINGER: Final = [
    {"type": "SCHEMA", "stream": "in", "schema": STREAM["json_schema"], "key_properties": ["id"]},
    {"type": "RECORD", "stream": "in", "record": {"id": 1}},
    {"type": "STATE", "value": {"rows": 1}},
]
TAPS: Final = {
    "streams": [
        {
            "tap_stream_id": "in",
            "schema": {"properties": COLUMNS},
            "key_properties": ["id"],
            "metadata": [{"breadcrumb": ["properties", "id"], "metadata": {"inclusion": "automatic"}}],
        }
    ]
}
BATCH: Final = {"encoding": {"format": "jsonl", "compression": "gzip"}, "manifest": ["file:///nowhere/a.jsonl.gz"]}


def nested(depth: int, inner: Any = 1) -> Any:
    for _ in range(depth):
        inner = {"properties": {"a": inner}, "type": "object"}
    return inner


HOSTILE: Final = [
    *(None, True, 0, -1, 1e308, 10**400, "", "x", "\0", "\ud800", "..", "//[", "x" * 300),
    *([], {}, ["x"], [None], [[]], [["id"]], [["id", "x"]], {"x": 1}, {"$ref": "#"}, {"$ref": 5}, {"type": {}}),
    *(
        {"anyOf": 5},
        {"anyOf": [5]},
        {"type": "object", "properties": []},
        {"type": "string", "enum": 5},
        nested(40),
        nested(200),
    ),
]


def changed(document: Any) -> Iterator[Any]:
    """Yields the document with each hostile value at each of its places, and without each of its members."""
    yield from HOSTILE
    if isinstance(document, dict | list):
        for place in list(document) if isinstance(document, dict) else range(len(document)):
            for value in changed(document[place]):
                yield put(document, place, value)
    if isinstance(document, dict):
        for name in document:
            yield {other: value for other, value in document.items() if other != name}


def put(document: Any, place: Any, value: Any) -> Any:
    made = copy.copy(document)
    made[place] = value
    return made


class Input:
    """A connector whose input has one row."""

    summary = None

    def spec(self) -> dict[str, Any]:
        return {"properties": {}}

    def read(self, *_: object) -> Iterator[Any]:
        yield Checkpoint({"rows": 1})


def taken(catalog: Any) -> None:
    if isinstance(catalog, dict):  # all else is the path of a file
        sync(Arguments("map", {}, catalog), Input(), MessageWriter(json.loads, lambda: None))  # type: ignore[arg-type]


def received(inbox: Inbox, messages: Any) -> None:
    for message in messages if isinstance(messages, list) else [messages]:
        for item in inbox.items([json.dumps(message).encode()]):
            if isinstance(item, Record):
                encode(item.data)


def declared(target: Target) -> Target:
    ", ".join(target.primary_key)
    return target._replace(added={"label": {}})


@pytest.mark.parametrize(
    ("read", "document"),
    [
        (targets, CATALOG),
        (selections, CATALOG),
        (states, STATE),
        (lambda schema: portable(schema, schema if isinstance(schema, dict) else {}), STREAM["json_schema"]),
        (taken, TAPS),
        (lambda messages: received(airbyte([Target("in", added={"label": {}})]), messages), MESSAGES),
        (lambda messages: received(singer(declared), messages), SINGER),
        (lambda message: BatchFiles(message if isinstance(message, dict) else {}), BATCH),
    ],
    ids=["targets", "selections", "states", "schema", "tap", "airbyte", "singer", "batch"],
)
def test_whatever_stands_there_is_taken_or_refused(read: Callable[[Any], Any], document: Any) -> None:
    read(document)
    for each in changed(document):
        with suppress(ConfigError):
            read(each)


def test_what_is_nested_too_deeply_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "catalog.json"
    for depth in (60, 150, 450):
        path.write_text(json.dumps({"streams": [{"stream": {"name": "in", "json_schema": nested(depth)}}]}))
        with pytest.raises(ConfigError, match="the catalog is nested too deeply"):
            json_file(str(path), "catalog")
    assert json.dumps(portable(nested(450), {})).count("properties") == 100


@pytest.mark.parametrize("value", ["\ud800", json.loads("[" * 300 + "]" * 300)], ids=["half", "deep"])
def test_a_message_with_what_is_hardly_json_comes_out(value: Any) -> None:
    written: list[bytes] = []
    message = {"type": "STATE", "state": value}
    arguments = Arguments("read")
    output = MessageWriter(written.append, lambda: None)
    assert serve_verb(lambda *_: iter([message]), arguments, Input(), output, log=log, failure=failure) == 0  # type: ignore[arg-type]
    assert json.loads(b"".join(written)) == message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + b"x" * 40, "cannot be read"),
        (gzip.compress(b'{"id": 1}\n' * 1000)[:40], "cannot be read"),
        (gzip.compress(b'{"id": "' + b" " * (65 << 20) + b'"}', 1), "a line has more than"),
    ],
    ids=["damaged", "cut", "a line without end"],
)
def test_a_file_of_rows_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        list(BatchFiles({**BATCH, "manifest": [str(path)]}).lines(path))


def test_no_link_leads_enriched_rows_to_another_file(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("kept")
    os.symlink(tmp_path / "other", tmp_path / "rows-enriched.jsonl.gz")  # noqa: PTH211
    file = BatchFiles(BATCH).writing(tmp_path / "rows.jsonl.gz")
    with pytest.raises(Exception, match="cannot be written"):
        file.write(b"{}\n")
    assert (tmp_path / "other").read_text() == "kept"
