"""The connector in Python: lazy, ordered, bounded, and closed by its user at any time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest
from pydantic import BaseModel

from connector import (
    AuthenticationError,
    Checkpoint,
    Config,
    ConfigError,
    Connector,
    Outcome,
    RecordError,
    Selection,
    Status,
)
from connector import ledger as ledgers
from connector.base import schemas
from connector.endpoints import usage_of
from tests.endpoint import Action, Call, Endpoint, act, answer_to, shuffled


def config(endpoint: Endpoint, **more: Any) -> dict[str, Any]:
    return {"url": endpoint.base_url, "model": "m", "prompt": "{{ text }}", "concurrency": 16, **more}


@pytest.fixture
def slow() -> Iterator[Endpoint]:
    with Endpoint(latency=shuffled(0.0, 0.03)) as endpoint:
        yield endpoint


def test_rows_come_back_in_order_with_their_own_answers(slow: Endpoint) -> None:
    given = [{"id": number, "text": f"row {number % 50}"} for number in range(300)]
    rows = list(Connector(config(slow)).enrich(given))
    assert [row["id"] for row in rows] == list(range(300))
    assert all(row["content"] == answer_to(row["text"]) for row in rows)
    assert len(slow.journal.calls) == 50


def test_rows_are_taken_only_as_they_are_needed(slow: Endpoint) -> None:
    taken = 0

    def endless() -> Iterator[dict[str, str]]:
        nonlocal taken
        while True:
            taken += 1
            yield {"text": f"row {taken}"}

    rows = Connector(config(slow)).enrich(endless())
    assert len(list(islice(rows, 20))) == 20
    rows.close()
    assert taken < 2000
    assert len(slow.journal.calls) < 500


def test_what_was_in_flight_when_it_was_closed_is_not_paid_for_again(slow: Endpoint, tmp_path: Path) -> None:
    connector = config(slow, cache=str(tmp_path / "ledger"))
    given = [{"text": f"row {number}"} for number in range(100)]
    rows = Connector(connector).enrich(given)
    next(rows)
    rows.close()
    assert len(list(Connector(connector).enrich(given))) == 100
    assert len(slow.journal.calls) == 100


def test_two_generators_that_take_turns_on_one_ledger_are_refused_rather_than_stuck(
    slow: Endpoint, tmp_path: Path
) -> None:
    connector = Connector(config(slow, cache=str(tmp_path / "ledger")))
    given = [{"text": f"row {number}"} for number in range(100)]
    first = connector.enrich(given)
    next(first)
    with pytest.raises(ConfigError, match=r"another enrich\(\) in this thread is using this ledger"):
        next(connector.enrich(given))
    first.close()
    assert len(list(connector.enrich(given))) == 100


def test_while_entered_it_keeps_its_connections_from_table_to_table(endpoint: Endpoint) -> None:
    with Connector(config(endpoint, concurrency=2)) as connector:
        for table in range(5):
            assert len(list(connector.enrich([{"text": f"{table} {row}"} for row in range(4)]))) == 4
        unfinished = connector.enrich([{"text": "left"}, {"text": "early"}])
        next(unfinished)
        assert len({call.connection for call in endpoint.journal.calls}) <= 2
    assert [row["text"] for row in unfinished] == ["early"]


def test_a_wrong_key_raises() -> None:
    with (
        Endpoint(lambda call: act(call, "401")) as endpoint,
        pytest.raises(AuthenticationError, match="refuses the key"),
    ):
        list(Connector(config(endpoint)).enrich([{"text": "a"}]))


def test_on_error_fail_gives_every_row_and_then_fails(endpoint: Endpoint) -> None:
    rows = Connector(config(endpoint, on_error="fail")).enrich([{"text": "[[fault:400]]"}, {"text": "a"}])
    assert [row["_llm"]["status"] for row in islice(rows, 2)] == ["error", "success"]
    with pytest.raises(RecordError, match="1 row failed"):
        next(rows)


def test_no_config_is_an_error() -> None:
    with pytest.raises(ConfigError, match="there is no config"):
        Connector().discover()


def test_read_yields_outcomes_and_checkpoints(endpoint: Endpoint, tmp_path: Path) -> None:
    table = tmp_path / "t.jsonl"
    table.write_text('{"text": "a"}\n{"text": "b"}\n')
    connector = Connector(config(endpoint, input={"type": "files", "path": str(table)}))
    stream, models = connector.discover()
    assert (models.name, models.primary_key) == ("models", ("id",))
    *outcomes, last = [item for item in connector.read() if isinstance(item, Outcome | Checkpoint)]
    assert stream.name == "t"
    assert sorted(outcome.row["text"] for outcome in outcomes if isinstance(outcome, Outcome)) == ["a", "b"]
    assert isinstance(last, Checkpoint)
    with pytest.raises(ConfigError, match='there is no stream "x"'):
        list(connector.read(catalog=[Selection("x")]))


def test_check_tells_what_is_wrong_step_by_step(endpoint: Endpoint) -> None:
    assert Connector(config(endpoint)).check().ok
    for url, told in ((endpoint.origin, "/v1"), ("http://127.0.0.1:9", "refuses connections")):
        diagnosis = Connector(config(endpoint, url=url)).check()
        assert not diagnosis.ok
        assert told in diagnosis.message


def test_models_are_a_stream_beside_that_of_the_input(endpoint: Endpoint, tmp_path: Path) -> None:
    table = tmp_path / "t.jsonl"
    table.write_text('{"text": "a"}\n')
    connector = Connector(config(endpoint, input={"type": "files", "path": str(table)}))

    def read(*names: str) -> list[dict[str, Any]]:
        selected = [Selection(name) for name in names]
        return [item.row for item in connector.read(catalog=selected) if isinstance(item, Outcome)]

    listed = {"id": "echo-1", "owned_by": "tests", "created": 1, "object": "model"}
    assert read("models") == [listed]
    assert not [call for call in endpoint.journal.calls if call.method == "POST"]
    assert [row.get("text", row.get("id")) for row in read("t", "models")] == ["a", "echo-1"]
    assert [row["text"] for row in read("t")] == ["a"]


def test_models_are_the_only_stream_without_an_input(endpoint: Endpoint) -> None:
    connector = Connector({"url": endpoint.base_url})
    (stream,) = connector.discover()
    items = list(connector.read(catalog=[Selection("models", is_incremental=True)], state={"models": {"rows": 1}}))
    assert [set(item.row) for item in items if isinstance(item, Outcome)] == [set(stream.schema["properties"])]
    with pytest.raises(ConfigError, match="input: is missing"):
        list(connector.read())


def test_an_input_called_models_is_read_as_what_it_is(endpoint: Endpoint, tmp_path: Path) -> None:
    table = tmp_path / "models.jsonl"
    table.write_text('{"text": "a"}\n')
    connector = Connector(config(endpoint, input={"type": "files", "path": str(table)}))
    (stream,) = connector.discover()
    (row,) = [item.row for item in connector.read(catalog=[Selection("models")]) if isinstance(item, Outcome)]
    assert row["text"] == "a"
    assert "content" in stream.schema["properties"]


def test_what_a_run_came_to_is_known_afterwards(endpoint: Endpoint) -> None:
    connector = Connector(config(endpoint, prices={"input": 1, "output": 2}))
    list(connector.enrich([{"text": "a"}, {"text": "[[fault:400]]"}, {"text": "a"}]))
    summary = connector.summary
    assert summary.statuses == {Status.SUCCESS: 2, Status.ERROR: 1}
    assert (summary.rows, summary.failed, summary.cached, summary.calls) == (3, 1, 1, 2)
    assert summary.tokens > 0
    assert summary.cost_usd
    (cause,) = summary.causes
    assert (cause.count, cause.error, cause.rows) == (1, "BadRequestError", (2,))
    assert "1 row failed" in str(summary)


def test_rows_that_wait_for_an_earlier_one_are_counted_where_a_run_is_stopped() -> None:
    def script(call: Call) -> Action | None:
        return act(call, {"row 0": "503", "row 9": "401"}[call.prompt]) if call.prompt[-1] in "09" else None

    rows = [{"text": f"row {number}"} for number in range(10)]
    with Endpoint(script) as endpoint:
        connector = Connector(config(endpoint, concurrency=1))
        with pytest.raises(AuthenticationError):
            list(connector.enrich(rows))
    assert connector.summary.statuses == {Status.SUCCESS: 8}
    assert connector.summary.tokens > 0


def test_all_that_was_paid_for_is_counted_where_a_consumer_ends_early(endpoint: Endpoint, tmp_path: Path) -> None:
    connector = Connector(config(endpoint, cache=str(tmp_path / "ledger")))
    with closing(connector.enrich({"text": f"row {number}"} for number in range(1000))) as rows:
        next(rows)
    with ledgers.opened(tmp_path / "ledger") as ledger:
        paid = [usage_of(entry.reply.body) for entry in ledger.entries()]
    assert 1 <= len(paid) < 1000
    assert connector.summary.attempts == len(paid)
    assert connector.summary.input_tokens == sum(each.input_tokens or 0 for each in paid)
    assert connector.summary.output_tokens == sum(each.output_tokens or 0 for each in paid)


def test_each_run_has_a_summary_of_its_own(endpoint: Endpoint) -> None:
    connector = Connector(config(endpoint))
    first = connector.enrich([{"text": "a"}, {"text": "b"}])
    next(first)
    list(connector.enrich([{"text": "c"}]))
    one = connector.summary
    list(first)
    assert (one.rows, connector.summary) == (1, one)


def test_a_connector_shows_what_it_does_and_no_secret() -> None:
    secret = "sk-" + "9" * 30
    shown = repr(
        Connector(
            {
                "url": f"https://llm.example/v1?key={secret}",
                "api_key": secret,
                "headers": {"x-api-key": secret},
                "model": "small",
                "prompt": f"Is this good? {{{{ text }}}} {secret} " + "word " * 100,
                "response_format": {"label": "{{ content }}"},
                "cache": "a.ledger",
            }
        )
    )
    assert secret not in shown
    assert shown.startswith("Connector(url='https://")
    for part in ("llm.example", "model='small'", "columns=['label']", "prompt='Is this good?", "a.ledger"):
        assert part in shown
    assert len(shown) < 400
    assert repr(Connector()) == "Connector()"


ODD_ROWS: list[tuple[Any, str]] = [
    ({"y": 1}, r"a dict is one row.*pass a list of dicts"),
    ({"text": ["a", "b"]}, r"a dict is one row, or columns without rows"),
    ("reviews.csv", r"this is of type str, not a table: read the file first"),
    (Path("reviews.csv"), r"Path, not a table: read the file first"),
    (b"text", r"of type bytes, not a table"),
    (7, r"of type int, not a table: pass a list of dicts"),
    (None, r"this is None, not a table"),
    (pl.LazyFrame({"text": ["a"]}), r"a LazyFrame has no rows yet: pass what its collect\(\) returns"),
]


@pytest.mark.parametrize(("rows", "told"), ODD_ROWS)
def test_what_is_not_a_table_is_refused_at_once_with_what_to_pass(endpoint: Endpoint, rows: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Connector(config(endpoint)).enrich(rows)
    assert not endpoint.journal.calls


@pytest.mark.parametrize("row", ["text", 5, None, ("a", "b"), b"x"])
def test_a_row_that_is_not_a_dict_is_named_by_its_number(endpoint: Endpoint, row: Any) -> None:
    with pytest.raises(ConfigError, match=r"row 2 is of type \w+: make a dict of it"):
        list(Connector(config(endpoint)).enrich([{"text": "a"}, row]))


class Sentiment(BaseModel):
    """What a review says."""

    label: Literal["good", "bad"]
    words: list[str]
    score: int | None = None


def test_a_pydantic_model_is_an_output_schema(endpoint: Endpoint) -> None:
    given = config(endpoint, output_schema=Sentiment)
    connector = Connector(given)
    (row,) = connector.enrich([{"text": '{"label": "good", "words": ["a"]}'}])
    asked = endpoint.journal.calls[0].body["response_format"]["json_schema"]
    assert asked["schema"]["additionalProperties"] is False
    assert asked["schema"]["properties"]["label"]["enum"] == ["good", "bad"]
    assert list(row) == ["text", "label", "words", "score", "_llm"]
    assert (
        Config(**given).output_schema
        == Config(**config(endpoint, output_schema=schemas.of_model(Sentiment))).output_schema
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (dict, "output_schema is the class dict: give a JSON Schema, or the class of a pydantic model"),
        (Enum, "is the class Enum"),
        (list[Sentiment], "is an object of GenericAlias"),
        (Sentiment(label="good", words=[]), "is an object of Sentiment"),
    ],
)
def test_the_error_for_a_schema_of_none_says_what_it_may_be(endpoint: Endpoint, given: object, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Connector(config(endpoint, output_schema=given))
    assert told.replace("output_schema is", "output_schema: is") in caught.value.message


def test_a_bar_follows_the_rows_and_says_what_failed(endpoint: Endpoint, capsys: pytest.CaptureFixture[str]) -> None:
    given = [{"text": f"row {number}"} for number in range(9)] + [{"text": "[[fault:400]]"}]
    list(Connector(config(endpoint, prices={"input": 1, "output": 2})).enrich(given, progress=True))
    line = capsys.readouterr().err.split("\r")[-1]
    for part in ("100%", "10/10", "failed=1", "cost=$"):
        assert part in line


def test_the_bar_says_what_to_install(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ConfigError, match="run pip install tqdm"):
        Connector(config(endpoint)).enrich([{"text": "a"}], progress=True)


def test_a_forecast_says_what_enrich_would_do_without_a_call(endpoint: Endpoint, tmp_path: Path) -> None:
    connector = Connector(config(endpoint, cache=str(tmp_path / "l"), prices={"input": 1, "output": 1}))
    rows: list[dict[str, Any]] = [{"text": "a"}, {"text": "b"}, {"text": "a"}, {"text": None}]
    first = connector.forecast(pl.DataFrame(rows))
    assert (first.rows, first.calls, first.same, first.unsendable, first.known) == (4, 2, 1, 1, 0)
    assert not (tmp_path / "l").exists()
    assert endpoint.journal.calls == []
    list(connector.enrich(rows[:1]))
    second = connector.forecast(rows)
    assert (second.known, second.calls) == (2, 1)
    assert second.cost_usd
    started = connector.enrich(rows)
    next(started)
    with pytest.raises(ConfigError, match=r"another enrich\(\) in this thread"):
        connector.forecast(rows)
    started.close()
