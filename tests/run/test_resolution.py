"""Asking again for a better reply, falling back where it refuses, and rows that share a call: over a real socket."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any, cast

import pytest

from connector import Config, Connector
from connector.base.errors import ConnectorError
from connector.base.records import Record, Reply
from connector.ledger import Found
from connector.ledger.sqlite import SqliteLedger
from connector.run.plan import Plan
from connector.run.runtime import Runtime
from tests.endpoint import Action, Call, Endpoint, answer_to, good
from tests.faults import FAULTS, Good, play, render, status
from tests.patience import PATIENCE

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


def said(call: Call, content: str, finish_reason: str = "stop") -> Action:
    """A good reply, but for its content."""
    body: Any = good(call).body
    body["choices"][0] |= {"message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}
    return Action("said", play(render(good(call)._replace(body=body))))


def refuses(code: int, message: str) -> Action:
    return Action("refused", status(code, {"error": {"message": message, "code": None, "type": "x"}})(Good({}), {}))


def enriched(endpoint: Endpoint, rows: int = 1, **options: Any) -> list[dict[str, Any]]:
    config = {"url": endpoint.url, "model": "m", "prompt": "row {{ id }}", "max_retries": 1, **options}
    return list(Connector(config).enrich({"id": index} for index in range(rows)))


def bodies(endpoint: Endpoint) -> list[Any]:
    return [call.body for call in endpoint.journal.calls]


# Replies that do not fit their schema


def test_a_reply_that_does_not_fit_is_asked_for_again_with_its_error() -> None:
    contents = iter(['{"n": "seven"}', '{"n": 7}'])
    with Endpoint(lambda call: said(call, next(contents))) as endpoint:
        (row,) = enriched(endpoint, output_schema=SCHEMA)
    first, second = bodies(endpoint)
    assert row["n"] == 7
    assert row["_llm"]["status"] == "success"
    assert row["_llm"]["attempts"] == 2
    assert second["messages"][:-2] == first["messages"]
    assert second["messages"][-2] == {"role": "assistant", "content": '{"n": "seven"}'}
    assert '"seven" is not of type "integer"' in second["messages"][-1]["content"]


def test_a_reply_of_megabytes_is_final() -> None:
    """It would be kept until a better one comes, beside those of all other calls in flight."""
    large = json.dumps({"n": "x" * 2_500_000})
    with Endpoint(lambda call: said(call, large)) as endpoint:
        rows = enriched(endpoint, 3, output_schema=SCHEMA)
    assert [row["_llm"]["status"] for row in rows] == ["invalid_output"] * 3
    assert len(bodies(endpoint)) == 3


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many replies were stored, each time that some were."""
    counts: list[int] = []
    put = SqliteLedger.put

    def counted(ledger: SqliteLedger, replies: Iterable[tuple[bytes, Reply]]) -> None:
        listed = list(replies)
        counts.append(len(listed))
        put(ledger, listed)

    monkeypatch.setattr(SqliteLedger, "put", counted)
    return counts


def test_large_replies_are_stored_one_by_one(stored: list[int]) -> None:
    with Endpoint(lambda call: said(call, "x" * 2_500_000)) as endpoint:
        rows = enriched(endpoint, 6)
    assert [row["_llm"]["status"] for row in rows] == ["success"] * 6
    assert stored == [1] * 6


def test_the_parts_of_a_large_reply_are_stored_together(stored: list[int]) -> None:
    """Vectors as JSON take megabytes in each reply, and would be stored a row at a time."""

    def vectors(call: Call) -> Action:
        data = [{"index": index, "embedding": [0.5] * 4_000} for index in range(len(call.body["input"]))]
        return Action("vectors", play(render(Good({"model": "m", "data": data}))))

    with Endpoint(vectors) as endpoint:
        rows = enriched(endpoint, 64, url=f"{endpoint.base_url}/embeddings")
    assert [len(row["embedding"]) for row in rows] == [4_000] * 64
    assert len(endpoint.journal.calls) == 1
    assert sum(stored) == 64
    assert max(stored) > 1


@pytest.mark.parametrize(("size", "most"), [(5_000_000, 1), (2_000_000, 3)])
def test_large_replies_are_looked_up_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: int, most: int
) -> None:
    together: list[int] = []
    get = SqliteLedger.get

    def counted(ledger: SqliteLedger, keys: Sequence[bytes]) -> Found:
        found = get(ledger, keys)
        together.append(len(found.known))
        return found

    with Endpoint(lambda call: said(call, "x" * size)) as endpoint:
        first = enriched(endpoint, 6, cache=str(tmp_path / "l"))
        monkeypatch.setattr(SqliteLedger, "get", counted)
        assert [row["content"] for row in enriched(endpoint, 6, cache=str(tmp_path / "l"))] == [
            row["content"] for row in first
        ]
    assert max(together) == most
    assert sum(together) == len(bodies(endpoint)) == 6


def test_both_replies_are_counted() -> None:
    contents = iter(["{}", '{"n": 7}'])
    with Endpoint(lambda call: said(call, next(contents))) as endpoint:
        (row,) = enriched(endpoint, output_schema=SCHEMA)
        alone = enriched(endpoint, rows=0)
    used = [cast("Any", good(call).body)["usage"]["prompt_tokens"] for call in endpoint.journal.calls]
    assert row["_llm"]["input_tokens"] == sum(used)
    assert not alone


@pytest.mark.parametrize("repairs", [0, 1, 2, 3])
def test_a_row_is_repaired_no_more_often_than_configured(repairs: int) -> None:
    with Endpoint(lambda call: said(call, "no JSON")) as endpoint:
        (row,) = enriched(endpoint, output_schema=SCHEMA, max_repairs=repairs)
    assert len(bodies(endpoint)) == 1 + repairs
    assert row["_llm"]["status"] == "invalid_output"
    assert row["_llm"]["attempts"] == 1 + repairs
    assert row["_llm"]["error"]["content"] == "no JSON"


def test_a_cut_reply_gets_a_higher_limit_once_and_is_not_repaired() -> None:
    request = {"messages": [{"role": "user", "content": "row {{ id }}"}], "max_tokens": 10}
    with Endpoint(lambda call: said(call, '{"n": ', "length")) as endpoint:
        (row,) = enriched(endpoint, request_format=request, output_schema=SCHEMA, max_repairs=3)
    assert [body["max_tokens"] for body in bodies(endpoint)] == [10, 40]
    assert row["_llm"]["status"] == "truncated"
    assert row["_llm"]["attempts"] == 2


def test_without_a_limit_of_ours_a_cut_reply_is_not_paid_for_again() -> None:
    with Endpoint(lambda call: said(call, '{"n": ', "length")) as endpoint:
        (row,) = enriched(endpoint, output_schema=SCHEMA)
    assert len(bodies(endpoint)) == 1
    assert row["_llm"]["status"] == "truncated"


def test_without_a_schema_nothing_is_asked_again() -> None:
    with Endpoint(lambda call: said(call, "cut", "length")) as endpoint:
        enriched(endpoint, request_format={"messages": [], "max_tokens": 10})
        enriched(endpoint)
    assert len(bodies(endpoint)) == 2


@pytest.mark.parametrize("refusal", [400, 500])
def test_if_the_repair_fails_the_first_reply_counts(refusal: int) -> None:
    def script(call: Call) -> Action:
        return said(call, "no JSON") if len(call.body["messages"]) == 1 else refuses(refusal, "no")

    with Endpoint(script) as endpoint:
        (row,) = enriched(endpoint, output_schema=SCHEMA)
    assert row["_llm"]["status"] == "invalid_output"
    assert row["_llm"]["error"]["content"] == "no JSON"
    assert row["_llm"]["attempts"] == len(bodies(endpoint))


def test_a_repaired_reply_is_known_to_the_next_run(tmp_path: Any) -> None:
    contents = iter(["no JSON", '{"n": 7}'])
    with Endpoint(lambda call: said(call, next(contents))) as endpoint:
        first = enriched(endpoint, output_schema=SCHEMA, cache=str(tmp_path / "ledger"))
        again = enriched(endpoint, output_schema=SCHEMA, cache=str(tmp_path / "ledger"))
    assert len(bodies(endpoint)) == 2
    assert again[0]["n"] == first[0]["n"] == 7
    assert again[0]["_llm"]["input_tokens"] == first[0]["_llm"]["input_tokens"]


# Fallbacks


def needs(refused: Callable[[Any], bool], message: str, code: int = 400) -> Callable[[Call], Action | None]:
    return lambda call: refuses(code, message) if refused(call.body) else None


def test_the_token_cap_is_settled_by_the_endpoint_s_own_error_and_remembered() -> None:
    request = {"model": "m", "messages": [{"role": "user", "content": "row {{ id }}"}], "max_tokens": 10}
    script = needs(lambda body: "max_tokens" in body, "'max_tokens' is not supported: use 'max_completion_tokens'.")
    with Endpoint(script) as endpoint:
        rows = enriched(endpoint, rows=20, request_format=request, concurrency=1)
        refusals = len(bodies(endpoint)) - 20
        assert 1 <= refusals <= 8, "the next ones may be on their way already"
        assert {row["_llm"]["status"] for row in rows} == {"success"}
        assert sorted(row["_llm"]["attempts"] for row in rows) == [1] * (20 - refusals) + [2] * refusals
        enriched(endpoint, rows=20, request_format=request, concurrency=1)
    assert len(bodies(endpoint)) == 40 + refusals, "the next run knows it"


@pytest.mark.parametrize("code", [400, 422, 500])
def test_a_schema_that_is_refused_goes_down_to_json_mode_and_then_into_the_prompt(code: int) -> None:
    script = needs(lambda body: "response_format" in body, "response_format is not supported", code)
    with Endpoint(lambda call: script(call) or said(call, '{"n": 7}')) as endpoint:
        rows = enriched(endpoint, rows=3, output_schema=SCHEMA, concurrency=1, max_retries=0)
    asked = [body.get("response_format", {}).get("type") for body in bodies(endpoint)]
    strict = [body.get("response_format", {}).get("json_schema", {}).get("strict") for body in bodies(endpoint)]
    assert [row["n"] for row in rows] == [7, 7, 7]
    assert asked[-4:] == ["json_object", None, None, None]
    assert asked[0] == "json_schema"
    assert strict[0] is True
    assert all("JSON Schema" in body["messages"][-1]["content"] for body in bodies(endpoint)[-3:])


def test_what_no_fallback_helps_is_the_row_s_error() -> None:
    with Endpoint(needs(lambda _: True, "response_format is not supported")) as endpoint:
        (row,) = enriched(endpoint, output_schema=SCHEMA)
    assert row["_llm"]["status"] == "error"
    assert "response_format is not supported" in row["_llm"]["error"]["message"]
    assert len(bodies(endpoint)) == 3


# Several rows in a call


def packed(call: Call, answer: Callable[[int, str], Any]) -> Action:
    """Answers a packed call, entry by entry; `None` leaves one out."""
    inputs = json.loads(call.prompt.partition("\n\n")[2])
    answers = [{"id": each["id"], "answer": answer(each["id"], each["input"])} for each in inputs]
    return said(call, json.dumps({"answers": [each for each in answers if each["answer"] is not None]}))


def is_packed(call: Call) -> bool:
    return "inputs that have nothing to do" in call.prompt


def test_rows_share_calls_and_each_gets_its_own_answer() -> None:
    with Endpoint(lambda call: packed(call, lambda _, text: f"to {text}")) as endpoint:
        rows = enriched(endpoint, rows=25, rows_per_call=10)
    assert [row["content"] for row in rows] == [f"to row {index}" for index in range(25)]
    assert sorted(call.prompt.count('"id"') - 1 for call in endpoint.journal.calls) == [5, 10, 10]


def test_tokens_of_a_shared_call_add_up_over_its_rows() -> None:
    with Endpoint(lambda call: packed(call, lambda _, text: f"to {text}")) as endpoint:
        rows = enriched(endpoint, rows=7, rows_per_call=10)
    (call,) = endpoint.journal.calls
    body: Any = good(call).body
    assert sum(row["_llm"]["input_tokens"] for row in rows) == body["usage"]["prompt_tokens"]


def test_an_answer_of_another_type_is_asked_for_again_without_the_others() -> None:
    def script(call: Call) -> Action | None:
        if not is_packed(call):
            return None
        answers = [{"id": place, "answer": 7 if place == 3 else "x"} for place in range(1, 6)]
        return said(call, json.dumps({"answers": answers}))

    with Endpoint(script) as endpoint:
        rows = enriched(endpoint, rows=5, rows_per_call=5)
    assert [row["_llm"]["status"] for row in rows] == ["success"] * 5
    assert [call.prompt for call in endpoint.journal.calls][1:] == ["row 2"]
    assert [row["_llm"]["attempts"] for row in rows] == [1, 1, 2, 1, 1]


@pytest.mark.parametrize("content", ["no JSON", "[]", '{"answers": 1}', '{"answers": [{"id": 1, "answer": "a"}] * 9'])
def test_a_reply_that_cannot_be_taken_apart_is_split_until_rows_stand_alone(content: str) -> None:
    with Endpoint(lambda call: said(call, content) if is_packed(call) else None) as endpoint:
        rows = enriched(endpoint, rows=8, rows_per_call=8)
    assert {row["_llm"]["status"] for row in rows} == {"success"}
    assert len(endpoint.journal.calls) == 1 + 2 + 4 + 8


@pytest.mark.parametrize("ids", [[1, 1], [1, 9], [0, 1], [2], [1, 2, 2], [1, 2, 3], ["1", "2"], [True, 2], [1, None]])
def test_an_id_that_is_doubled_foreign_or_missing_discredits_all_answers(ids: list[Any]) -> None:
    def script(call: Call) -> Action | None:
        answers = [{"id": place, "answer": "of somebody"} for place in ids]
        return said(call, json.dumps({"answers": answers})) if is_packed(call) else None

    with Endpoint(script) as endpoint:
        rows = enriched(endpoint, rows=2, rows_per_call=2)
    assert [row["content"] for row in rows] == [answer_to("row 0"), answer_to("row 1")]
    assert {call.prompt for call in endpoint.journal.calls[1:]} == {"row 0", "row 1"}
    assert len(endpoint.journal.calls) == 3


def test_a_bad_row_ends_up_alone_and_its_neighbours_are_answered() -> None:
    def script(call: Call) -> Action | None:
        if "row 5" in call.prompt:
            return refuses(400, "row 5 is too long")
        return packed(call, lambda _, text: f"to {text}") if is_packed(call) else None

    with Endpoint(script) as endpoint:
        rows = enriched(endpoint, rows=8, rows_per_call=8)
    assert [row["_llm"]["status"] for row in rows] == ["success"] * 5 + ["error"] + ["success"] * 2
    assert "row 5 is too long" in rows[5]["_llm"]["error"]["message"]
    assert len(endpoint.journal.calls) == 7


def test_an_answer_that_does_not_fit_is_repaired_alone() -> None:
    def script(call: Call) -> Action:
        if is_packed(call):
            return packed(call, lambda place, _: {"n": place} if place != 2 else {"n": "two"})
        return said(call, '{"n": 2}')

    with Endpoint(script) as endpoint:
        rows = enriched(endpoint, rows=3, rows_per_call=3, output_schema=SCHEMA)
    assert [row["n"] for row in rows] == [1, 2, 3]
    assert len(endpoint.journal.calls) == 2
    assert bodies(endpoint)[1]["messages"][0]["content"] == "row 1"


def test_rows_that_were_answered_together_are_not_asked_again_alone(tmp_path: Any) -> None:
    cache = str(tmp_path / "ledger")
    with Endpoint(lambda call: packed(call, lambda _, text: text) if is_packed(call) else None) as endpoint:
        enriched(endpoint, rows=6, rows_per_call=3, cache=cache)
        enriched(endpoint, rows=6, cache=cache)
    assert len(endpoint.journal.calls) == 2


def test_only_rows_whose_requests_are_alike_share_a_call() -> None:
    request = {
        "model": "{{ 'a' if id % 2 else 'b' }}",
        "messages": [{"role": "user", "content": "row {{ id }}"}],
    }
    with Endpoint(lambda call: packed(call, lambda _, text: text) if is_packed(call) else None) as endpoint:
        rows = enriched(endpoint, rows=9, request_format=request, rows_per_call=10)
    assert sorted(body["model"] for body in bodies(endpoint)) == ["a", "b"]
    assert {row["_llm"]["status"] for row in rows} == {"success"}


def test_a_cap_is_one_for_each_row() -> None:
    request = {"messages": [{"role": "user", "content": "row {{ id }}"}], "max_tokens": 10}
    with Endpoint(lambda call: packed(call, lambda _, text: text) if is_packed(call) else None) as endpoint:
        enriched(endpoint, rows=4, request_format=request, rows_per_call=4)
    assert bodies(endpoint)[0]["max_tokens"] == 40


# Failures that may be due to the request


def fails(call: Call, *names: str) -> Action | None:
    """A bare 500 for a request that has one of these parameters."""
    return Action("500", status(500, b"Internal Server Error")(Good({}), {})) if set(names) & set(call.body) else None


def test_a_server_that_fails_at_every_schema_gets_a_fallback_in_this_run_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with Endpoint(lambda call: fails(call, "response_format") or said(call, '{"n": 7}')) as endpoint:
        rows = enriched(endpoint, 200, output_schema=SCHEMA, concurrency=4, max_retries=4)
    assert [row["n"] for row in rows] == [7] * 200
    with_schema = sum("response_format" in body for body in bodies(endpoint))
    assert with_schema < 3 * 200, (
        "once three rows have failed five times it is known, and the others are not tried so often"
    )
    assert not any(b"prompt" in path.read_bytes() for path in tmp_path.rglob("*.endpoint.json"))


def test_a_gateway_that_fails_at_every_stream_is_asked_for_whole_replies() -> None:
    with Endpoint(lambda call: fails(call, "stream")) as endpoint:
        rows = enriched(endpoint, 20, is_stream=True, concurrency=4, max_retries=4)
    assert [row["_llm"]["status"] for row in rows] == ["success"] * 20


def test_what_was_paid_for_rows_that_a_stop_left_without_an_outcome_is_counted() -> None:
    paid: list[int] = []

    def script(call: Call) -> Action:
        usage: Any = good(call).body["usage"]
        paid.append(usage["total_tokens"])
        return said(call, "no JSON")

    with Endpoint(script) as endpoint:
        config = Config(url=endpoint.url, model="m", prompt="row {{ id }}", output_schema=SCHEMA, concurrency=8)
        with Runtime(Plan(config), None) as runtime:
            results = runtime.run(Record(index, {"id": index}) for index in range(200))
            with pytest.raises(ConnectorError):
                for _ in runtime.summary.watched(results):
                    pass
            assert runtime.summary.tokens == sum(paid)
            assert runtime.summary.calls == len(paid) == len(endpoint.journal.calls)


def test_one_row_at_which_a_server_fails_changes_nothing_for_the_others() -> None:
    def script(call: Call) -> Action:
        return (fails(call, "response_format") if call.prompt == "row 5" else None) or said(call, '{"n": 7}')

    with Endpoint(script) as endpoint:
        rows = enriched(endpoint, 20, output_schema=SCHEMA, concurrency=1)
    assert [row["n"] for row in rows] == [7] * 20
    others = [call.body for call in endpoint.journal.calls if call.prompt != "row 5"]
    assert all("json_schema" in body["response_format"] for body in others[:-1])


@pytest.mark.parametrize("failure", ["500", "502", "close", "reset"])
def test_a_list_of_prompts_at_which_a_server_fails_is_halved(failure: str) -> None:
    def script(call: Call) -> Action | None:
        prompts = call.body["prompt"]
        return Action(failure, FAULTS[failure].make(good(call), {})) if isinstance(prompts, list) else None

    with Endpoint(script) as endpoint:
        url = f"{endpoint.base_url}/completions"
        config = {"url": url, "model": "m", "prompt": "row {{ id }}", "max_retries": 2, "batch_size": 8}
        rows = list(Connector({**config, "concurrency": 2}).enrich({"id": index} for index in range(16)))
    assert [row["_llm"]["status"] for row in rows] == ["success"] * 16


@pytest.mark.parametrize("bad", [0, 3])
@pytest.mark.parametrize("fault", ["403-html", "403-moderation"])
def test_one_row_that_a_firewall_or_a_moderation_stops_stops_no_other_in_any_run(
    bad: int, fault: str, tmp_path: Path
) -> None:
    texts = [f"row {n}" + (f" [[fault:{fault}]]" if n == bad else "") for n in range(6)]
    expected = ["success"] * 6
    expected[bad] = str(FAULTS[fault].whole)
    with Endpoint() as endpoint:
        config = {
            "url": endpoint.url,
            "model": "m",
            "prompt": "{{ t }}",
            "concurrency": 1,
            "cache": str(tmp_path / "l"),
        }
        for _ in range(2):
            rows = list(Connector(config).enrich({"t": text} for text in texts))
            assert [row["_llm"]["status"] for row in rows] == expected


def test_the_rows_of_a_run_may_be_taken_by_changing_threads(endpoint: Endpoint, tmp_path: Path) -> None:
    config = {"url": endpoint.url, "model": "m", "prompt": "row {{ id }}", "cache": str(tmp_path / "ledger")}
    rows = Connector(config).enrich({"id": index} for index in range(50))
    taken: list[Any] = []
    for _ in range(10):
        thread = Thread(target=lambda: taken.extend(islice(rows, 5)))
        thread.start()
        thread.join(PATIENCE)
    assert [row["_llm"]["status"] for row in taken] == ["success"] * 50
    closing = Thread(target=rows.close)
    closing.start()
    closing.join(PATIENCE)
