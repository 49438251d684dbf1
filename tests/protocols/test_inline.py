"""Messages in flight, line by line: what is enriched, what passes untouched, what is refused, and in which order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector import ConfigError, Connector
from connector.base.records import IDLE, Idle
from connector.protocols import singer
from connector.protocols._inline_mapper import InlineMapper
from connector.protocols._record_lines import split_exactly, split_quickly
from tests.endpoint import Endpoint, answer_to, shuffled
from tests.protocols.messages import Message, record, schema, state

format_of = singer._format_of  # noqa: SLF001 - the table of forms that is under test
Line = Message | str | None
"""A message, a line as it is, or a pause."""


@pytest.fixture(scope="module")
def busy() -> Iterator[Endpoint]:
    with Endpoint(latency=shuffled(0.0, 0.01)) as endpoint:
        yield endpoint


class Flight:
    """Lines go in, lines come out; `error` is what ended it."""

    def __init__(self, endpoint: Endpoint, *given: Line, **config: Any) -> None:
        base: dict[str, Any] = {
            "url": endpoint.base_url,
            "model": "m",
            "prompt": "{{ text }}",
            "cache": "none",
            "metadata": "none",
        }
        base["response_format"] = {"label": "{{ content }}"}
        self.lines: list[str] = []
        self.error = ""
        transform = Connector({**base, **config}).transform()
        mapper = InlineMapper(transform, format_of)
        encoded = (
            None
            if each is None
            else (each if isinstance(each, str) else json.dumps(each)).encode(errors="surrogatepass")
            for each in given
        )
        try:
            with closing(transform.run(mapper.items(encoded))) as results:
                for each in results:
                    self.lines += [] if isinstance(each, Idle) else mapper.written(each).decode().split("\n")[:-1]
        except ConfigError as error:
            self.error = error.message

    @property
    def messages(self) -> list[Message]:
        assert not self.error
        return [json.loads(line) for line in self.lines]


# --- Lines are what they were ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        '{"type":"RECORD","stream":"reviews","record":{"text":"x","n":12345678901234567890.12345678901234567890}}',
        '{"type": "RECORD", "stream": "reviews", "record": {"text": "}}\\"{", "o": {"a": [{}]}}, "version": 3}',
        '{"record": {"text": "\\u00e9", "id": NaN}, "time_extracted": "}", "stream": "reviews", "type": "RECORD"}',
        '{"type": "RECORD", "stream": "reviews", "record": {"text": "x", "half": "\\ud83d"}, "a": {"b": {"c": "}"}}}',
        '  { "type" : "RECORD" , "stream" : "re\\u0076iews" , "record" : { "text" : "x" } , "version" : 1 } \r',
    ],
)
def test_a_line_is_never_rewritten_around_the_columns(busy: Endpoint, line: str) -> None:
    flight = Flight(busy, schema(), line)
    before, _, after = flight.lines[1].partition(',"label":"echo:')
    assert before + after.partition('"')[2] == line


@pytest.mark.parametrize(
    "around",
    ['{{"type":"RECORD","stream":"reviews","record":{}}}', '{{"record" : {}, "stream":"reviews", "type":"RECORD"}}'],
)
def test_the_provenance_of_an_earlier_run_is_replaced_in_flight_too(busy: Endpoint, around: str) -> None:
    row = '{"_llm": {"status": "error"}, "text": "é", "n": 1.10, "_llm_status": "error", "_llm_row_key": "k"}'
    line = Flight(busy, schema(), around.format(row), metadata="status").lines[1]
    found = json.loads(line)["record"]
    assert found["_llm"]["status"] == "success"
    assert set(found) == {"text", "n", "_llm_row_key", "label", "_llm"}
    assert '"n":1.10' in line


def test_a_record_of_no_fields_gains_columns_too(busy: Endpoint) -> None:
    empty = {"type": "RECORD", "stream": "reviews", "record": {}}
    assert Flight(busy, schema(), empty, prompt="Hi").messages[1]["record"] == {"label": answer_to("Hi")}


PASSING = '{"type" : "RECORD",  "stream": "users", "record": {"id": 1.50, "text": "\\u00e9"}}'


@pytest.mark.parametrize("streams", [["reviews"], '["re*"]', {"reviews": None}, {"re?iews": {"metadata": "none"}}])
def test_streams_that_are_not_named_pass_byte_for_byte(endpoint: Endpoint, streams: Any) -> None:
    passing = json.dumps(schema("users", "label"), separators=(" ,", ": "))
    flight = Flight(endpoint, passing, PASSING, schema(), PASSING, None, record(1), PASSING, streams=streams)
    assert [line for number, line in enumerate(flight.lines) if number not in (2, 4)] == [passing, *[PASSING] * 3]
    assert json.loads(flight.lines[4])["record"]["label"] == answer_to("row 1")
    assert set(endpoint.journal.by_prompt) == {"row 1"}


def test_unknown_messages_and_blank_lines_do_no_harm(busy: Endpoint) -> None:
    unknown = {"type": "SOMETHING", "stream": "reviews", "more": {"record": {}}}
    assert Flight(busy, "", unknown, schema(), "  ", unknown).messages[2] == unknown


def test_a_schema_may_come_again_and_bring_columns(busy: Endpoint) -> None:
    more = schema("reviews", "text", "more")
    mapped = Flight(busy, schema(), record(1), more, record(2), more).messages
    described = [list(each["schema"]["properties"]) for each in mapped if each["type"] == "SCHEMA"]
    assert described == [["id", "text", "label"], *[["id", "text", "more", "label"]] * 2]


def test_a_schema_without_columns_tells_nothing_of_them(busy: Endpoint) -> None:
    mapped = Flight(busy, schema() | {"schema": {"type": "object"}}, record(1)).messages
    assert list(mapped[0]["schema"]["properties"]) == ["label"]
    assert mapped[1]["record"]["label"] == answer_to("row 1")


# --- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("nonsense", "it is not JSON"),
        ('{"type": "RECORD", "stream": "reviews", "record": {"id": 1}, }', "it is not JSON"),
        ('{"type": "RECORD", "stream": "reviews", "record": {"id": 1}', "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ('{"type": "RECORD", "stream": "reviews", "record": {"text": "\ud83d"}}', "it is not JSON"),
        ("\0".join('{"type": "RECORD", "stream": "reviews", "record": {}}\0'), "it is not JSON"),
        ("[1]", "this is not a message"),
        ('{"stream": "reviews"}', "this is not a message"),
        ('{"type": "RECORD", "stream": "other", "record": {}}', 'a RECORD of stream "other" comes before its SCHEMA'),
        ('{"record": {}, "type": "RECORD", "stream": "other"}', 'a RECORD of stream "other" comes before its SCHEMA'),
        ('{"type": "RECORD", "stream": "reviews", "record": 1}', "the RECORD has no record, or it is not an object"),
        ('{"type": "RECORD", "stream": "reviews"}', "the RECORD has no record, or it is not an object"),
        ('{"type": "RECORD", "record": {}}', "the RECORD has no stream"),
        ('{"type": "RECORD", "stream": "a\tb", "record": {}}', "it is not JSON"),
        ('{"type": "BATCH", "stream": "reviews", "manifest": []}', "the BATCH has the encoding None"),
        ('{"type": "BATCH", "stream": "other"}', 'a BATCH of stream "other" comes before its SCHEMA'),
        ('{"type": "BATCH", "stream": ["reviews"]}', "the BATCH has no stream"),
        ('{"type": "SCHEMA", "stream": "other"}', "the SCHEMA has no stream, or no schema"),
        (
            '{"type": "SCHEMA", "stream": "other", "schema": {"properties": [1]}}',
            'the schema of stream "other" has properties that are not an object',
        ),
        (
            '{"type": "RECORD", "stream": "reviews", "record": {"text": "", "label": 1}}',
            'the record of stream "reviews" already has "label"',
        ),
    ],
)
def test_a_line_that_cannot_be_is_reported_by_its_number_and_all_before_it_is_out(
    busy: Endpoint, line: str, told: str
) -> None:
    before = [schema(), *map(record, range(30)), state(9)]
    flight = Flight(busy, *before, None, "", line, record(77))
    assert flight.error.startswith(f"standard input, line {len(before) + 2}: {told}")
    assert len(flight.lines) == len(before)
    assert json.loads(flight.lines[-1]) == state(9)


def test_a_batch_of_a_stream_that_passes_passes(busy: Endpoint) -> None:
    batch = {"type": "BATCH", "stream": "users", "manifest": ["file://x"]}
    assert Flight(busy, schema("users"), batch, streams=["reviews"]).messages[1] == batch


def test_the_input_waits_while_64_mib_are_on_their_way(busy: Endpoint) -> None:
    transform = Connector({"url": busy.base_url, "model": "m", "prompt": "x", "cache": "none"}).transform()
    line = json.dumps({"type": "STATE", "value": "x" * (1 << 20)}).encode()
    taken = 0
    for item in InlineMapper(transform, format_of).items(line for _ in range(200)):
        if item is IDLE:
            break
        taken += 1
    assert 60 < taken < 70


# --- Airbyte's messages ----------------------------------------------------------------------------------------------


def in_flight(number: int, stream: str = "reviews", **more: Any) -> Message:
    row = {"stream": stream, "data": {"id": number, "text": f"row {number}"}, "emitted_at": 1, **more}
    return {"type": "RECORD", "record": row}


STATE = {"type": "STATE", "state": {"type": "STREAM", "stream": {"stream_descriptor": {"name": "reviews"}}}}
LOG = {"type": "LOG", "log": {"level": "INFO", "message": "}"}}


@pytest.mark.parametrize("first", [[], [LOG], [STATE]])
@pytest.mark.parametrize("more", [{}, {"meta": {"changes": []}}, {"namespace": "public"}])
def test_airbyte_s_messages_are_known_by_the_first(busy: Endpoint, first: list[Message], more: Message) -> None:
    given = [*first, in_flight(1, **more), STATE, LOG, in_flight(2, "users"), in_flight(3)]
    mapped = Flight(busy, *given, streams=["reviews"]).messages
    for each in (given[len(first)], given[-1]):
        each["record"]["data"]["label"] = answer_to(each["record"]["data"]["text"])
    assert mapped == given


@pytest.mark.parametrize("namespace", ["", '"namespace":null,', '"namespace":"public",'])
def test_airbyte_s_usual_order_of_fields_passes_unparsed(busy: Endpoint, namespace: str) -> None:
    line = f'{{"type":"RECORD","record":{{{namespace}"stream":"users","data":{{"n":1.50}},"emitted_at":nonsense}}}}'
    assert Flight(busy, LOG, line, streams=["reviews"]).lines[1] == line


def test_airbyte_s_catalog_gains_the_columns(busy: Endpoint) -> None:
    described = {"type": "object", "properties": {"id": {}, "text": {}}}
    streams: list[Message] = [
        {"name": name, "json_schema": described, "supported_sync_modes": []} for name in ("users", "reviews")
    ]
    catalog = {"type": "CATALOG", "catalog": {"streams": streams}}
    mapped, row = Flight(busy, catalog, in_flight(1), streams=["reviews"], metadata="status").messages
    users, reviews = mapped["catalog"]["streams"]
    assert list(reviews["json_schema"]["properties"]) == ["id", "text", "label", "_llm"]
    assert users == streams[0]
    assert row["record"]["data"]["_llm"]["status"] == "success"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"type": "CATALOG", "catalog": {}}, "the CATALOG has no streams"),
        ({"type": "CATALOG", "catalog": {"streams": {}}}, "the CATALOG has no streams"),
        ({"type": "CATALOG", "catalog": {"streams": ["x"]}}, "the CATALOG has a stream without name"),
        ({"type": "CATALOG", "catalog": {"streams": [{"name": [], "json_schema": {}}]}}, "the CATALOG has a stream"),
        ({"type": "CATALOG", "catalog": {"streams": [{"name": "a", "json_schema": None}]}}, "the CATALOG has a stream"),
        ({"type": "RECORD", "record": {"stream": "reviews"}}, "the RECORD has no record.data, or it is not an object"),
        ({"type": "RECORD", "record": {"data": {}}}, "the RECORD has no stream"),
        ({"type": "RECORD"}, "the RECORD has no stream"),
    ],
)
def test_airbyte_s_messages_are_refused_by_the_same_rules(busy: Endpoint, line: Message, told: str) -> None:
    assert Flight(busy, LOG, line).error.startswith(f"standard input, line 2: {told}")


# --- For any input ---------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=4)
SPACES = st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " :  ")])


@given(row=OBJECTS, more=OBJECTS, order=st.randoms(use_true_random=False), spaces=SPACES)
@settings(deadline=None)
def test_the_row_of_any_record_is_found_wherever_it_is(row: Message, more: Message, order: Any, spaces: Any) -> None:
    members = list((more | {"type": "RECORD", "stream": "s", "record": row}).items())
    order.shuffle(members)
    line = json.dumps(dict(members), separators=spaces).encode()
    cut = split_exactly(line, ("record",))
    assert json.dumps(cut.row) == json.dumps(row)
    assert cut.head + cut.tail == line
    gained = cut.head + (b"," if row else b"") + b'"\\u0000new":1' + cut.tail
    assert list(json.loads(gained)["record"]) == [*row, "\0new"]


@given(row=OBJECTS, more=OBJECTS, spaces=SPACES, path=st.sampled_from([("record",), ("record", "data")]))
@settings(deadline=None)
def test_a_guess_is_right_or_none_is_made(row: Message, more: Message, spaces: Any, path: tuple[str, ...]) -> None:
    inner = {name: value for name, value in more.items() if name not in path}
    line = json.dumps({"record": {"data": row, **inner} if len(path) > 1 else row, **inner}, separators=spaces).encode()
    exact = split_exactly(line, path)
    start = line.index(b"{", 1 if len(path) == 1 else line.index(b"{", 1) + 1)
    cut = split_quickly(line, start, len(path))
    assert cut is None or (cut.head, cut.tail) == (exact.head, exact.tail)


STREAMS = ("reviews", "users", "other")
KINDS = st.sampled_from([*STREAMS, "STATE", "ACTIVATE_VERSION", "SCHEMA", "pause"])


@given(kinds=st.lists(KINDS, max_size=60))
@settings(deadline=None, max_examples=50)
def test_any_interleaving_comes_out_whole_and_in_order(busy: Endpoint, kinds: list[str]) -> None:
    given: list[Line] = [*map(schema, STREAMS)]
    for number, kind in enumerate(kinds):
        if kind in STREAMS:
            given.append(record(number, kind))
        elif kind == "SCHEMA":
            given.append(schema("users"))
        else:
            given.append(None if kind == "pause" else {"type": kind, "number": number})
    mapped = Flight(busy, *given, streams=["reviews", "users"], concurrency=16).messages
    for each in mapped:
        if each.get("stream") in ("reviews", "users"):
            if each["type"] == "RECORD":
                assert each["record"].pop("label") == answer_to(each["record"]["text"])
            else:
                del each["schema"]["properties"]["label"]
    assert mapped == [each for each in given if each is not None]
