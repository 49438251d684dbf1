"""Embeddings: vectors in every form, many rows per call, and a bad row that harms no other."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

import duckdb
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector import BadRequestError, Connector
from connector.base.masking import Masker
from connector.base.records import Answer, Status, Usage
from connector.base.values import dumps
from connector.calls.judging import kept
from connector.endpoints import Shorthand, embeddings
from connector.endpoints.embeddings import (
    FALLBACKS,
    answer,
    decode,
    encode,
    expectation,
    packing,
    request_format,
    values,
    vector_of,
)
from tests.commands.test_enrich import lines, run
from tests.endpoint import Action, Call, Endpoint, good, vector_to
from tests.faults import play, render, status

FLOATS: Final = st.lists(st.floats(-(2.0**36), 2.0**36, width=32), min_size=1, max_size=20)
"""Beyond, no embedding is, and base64 of float32 is read as that of float64 if that makes more sense."""

_REFUSED: Final = {"error": {"message": "base64 encoding is not currently supported", "type": "BadRequestError"}}


def packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def reply(*vectors: Any, **more: Any) -> dict[str, Any]:
    data = [{"object": "embedding", "index": place, "embedding": vector} for place, vector in enumerate(vectors)]
    return {"object": "list", "model": "m", "data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}, **more}


# --- Vectors ---------------------------------------------------------------------------------------------------------


@given(vector=FLOATS)
def test_a_vector_is_the_same_in_whatever_form_it_comes(vector: list[float]) -> None:
    assert vector_of(vector) == vector
    assert list(vector_of(packed(vector))) == vector
    assert vector_of(json.dumps(vector)) == vector
    assert vector_of([vector]) == vector


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("dimensions", [64, 384, 1536])
@pytest.mark.parametrize("is_single", [True, False])
def test_base64_of_float64_is_recognized_by_its_numbers(seed: int, dimensions: int, *, is_single: bool) -> None:
    random = Random(seed)
    vector = [random.gauss(0, 1) / math.sqrt(dimensions) for _ in range(dimensions)]
    if is_single:  # as from a server that computes in single precision and widens the result
        vector = list(struct.unpack(f"<{dimensions}f", struct.pack(f"<{dimensions}f", *vector)))
    assert vector_of(base64.b64encode(struct.pack(f"<{dimensions}d", *vector)).decode()) == vector


@pytest.mark.parametrize(
    ("asked", "numbers", "problem"),
    [
        (4, 8, "the embedding's base64 holds 8 numbers for 4 dimensions: leave out encoding_format"),
        (4, 4, None),
        (4, 6, None),
        ("{{ n }}", 8, None),
        (None, 8, None),
    ],
)
def test_twice_as_many_numbers_as_dimensions_are_numbers_of_another_type(
    asked: Any, numbers: int, problem: str | None
) -> None:
    unmet = expectation({"input": "{{ text }}", "dimensions": asked}, ())
    body, plain = reply(packed([0.5] * numbers)), reply([0.5] * numbers)
    told = None if unmet is None else unmet(body, answer(body))
    assert told == problem
    assert unmet is None or unmet(plain, answer(plain)) is None


def test_vectors_of_tokens_become_their_mean() -> None:
    assert vector_of([[1.0, 2.0], [3.0, 6.0]]) == [2.0, 4.0]


def test_whole_numbers_become_floats() -> None:
    assert [type(each) for each in vector_of([1, 0, 2.5])] == [float] * 3


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "no embedding"),
        ({}, "no embedding"),
        ([], "empty"),
        ("", "empty"),
        ("no base64!", "neither base64 nor JSON"),
        ("[0.1, NaN]", "neither base64 nor JSON"),
        ("AAAA", "cut"),
        ([0.1, None], "not a number"),
        ([0.1, True], "not a number"),
        ([0.1, "0.2"], "not a number"),
        ([[0.1], 0.2], "not a number"),
        ([[0.1], [0.2, 0.3]], "different lengths"),
        ([[], []], "empty"),
        ([0.1, math.nan], "NaN"),
        ([math.nan, 0.1], "NaN"),
        ([0.1, math.inf], "too large"),
        ([-1e39], "too large"),
        ([10**400], "too large"),
        (packed([0.5, math.nan]), "NaN"),
    ],
)
def test_what_is_not_a_vector_fails_its_row_and_says_why(value: Any, told: str) -> None:
    said = answer(reply(value))
    assert said.status is Status.INVALID_OUTPUT
    assert told in (said.problem or "")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=20,
    )
)  # fmt: skip
def test_json_is_read_as_orjson_reads_it(value: Any) -> None:
    data = orjson.dumps(value)
    assert repr(decode(data)) == repr(orjson.loads(data))
    assert repr(decode(data.decode())) == repr(value)


@pytest.mark.parametrize("raw", ["", "{", "NaN", '{"a": -Infinity}', '"\\ud83d"', '"\ud83d"', '{"a": 1} x', "[" * 500])
def test_invalid_json_raises_the_same_error_as_everywhere(raw: str) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        decode(raw)
    assert decode("[" * 500 + "]" * 500)  # orjson reads that many levels; they are refused when the reply is kept


def test_a_reply_is_read_with_its_usage_and_has_no_text() -> None:
    said = answer(reply([0.5, 0.25]))
    assert said == Answer(None, None, "m", Usage(3), Status.SUCCESS)
    assert values(reply([0.5, 0.25])) == {"embedding": [0.5, 0.25], "dimensions": 2}


# --- Requests --------------------------------------------------------------------------------------------------------


def test_base64_is_asked_for_and_given_up_where_it_is_refused() -> None:
    body = request_format(Shorthand("m", None, "{{ text }}"))
    assert body["encoding_format"] == "base64"
    fallback = FALLBACKS["plain_floats"]
    assert fallback.matches("'base64 encoding is not currently supported'")
    assert fallback.apply(body) == {"model": "m", "input": body["input"]}
    assert fallback.apply({"model": "m", "input": "x"}) is None


def test_an_empty_text_is_an_error_of_its_own_before_it_is_sent() -> None:
    with pytest.raises(BadRequestError, match="is empty"):
        encode(dumps({"model": "m", "input": ""}))
    for harmless in ({"input": 'x"input":""'}, {"input": "x", "meta": {"input": ""}}):
        assert encode(dumps(harmless)) == ("application/json", dumps(harmless))


# --- Packing ---------------------------------------------------------------------------------------------------------


def test_only_requests_that_differ_in_their_text_share_a_call() -> None:
    batches = packing(64, None, None)
    assert batches is not None
    one = batches.alike({"model": "m", "input": "a", "dimensions": 4})
    assert one == batches.alike({"model": "m", "input": "b", "dimensions": 4})
    assert one != batches.alike({"model": "m", "input": "b", "dimensions": 8})
    for alone in ("", ["a", "b"], [1, 2], None):
        assert batches.alike({"model": "m", "input": alone}) is None


@pytest.mark.parametrize(("batch_size", "most"), [(None, 64), (2, 2), (2048, 2048), (5000, 2048)])
def test_a_batch_is_as_large_as_configured_and_never_larger_than_openai_admits(batch_size: Any, most: int) -> None:
    batches = packing(batch_size, None, None)
    assert batches is not None
    assert batches.most == most


def test_one_row_per_call_can_be_asked_for() -> None:
    assert packing(1, None, None) is None


def taken_apart(*items: Any, count: int = 2) -> list[Any]:
    """The vectors that a batch's reply is found to hold for each row."""
    batches = packing(64, None, None)
    assert batches is not None
    found = batches.unpacked({"model": "m", "data": list(items), "usage": {"total_tokens": 9}}, count)
    assert all(part is None or part.keys() == {"model", "data"} for part in found)
    assert all(part is None or part["data"][0].get("index", 0) == 0 for part in found)
    return [None if part is None else part["data"][0]["embedding"] for part in found]


def item(index: Any, vector: Any) -> dict[str, Any]:
    return {"index": index, "embedding": vector}


@pytest.mark.parametrize(
    ("items", "vectors"),
    [
        ([item(0, "a"), item(1, "b")], ["a", "b"]),
        ([item(1, "b"), item(0, "a")], ["a", "b"]),
        ([{"embedding": "a"}, {"embedding": "b"}], ["a", "b"]),
        ([item(0, "a")], [None, None]),
        ([item(1, "b")], [None, None]),
        ([item(0, "a"), item(0, "b")], [None, None]),
        ([item(0, "a"), item(1, "b"), item(1, "c")], [None, None]),
        ([item(0, "a"), item(2, "b")], [None, None]),
        ([item(1, "a"), item(2, "b")], [None, None]),
        ([item(0, "a"), item(-1, "b")], [None, None]),
        ([item(0, "a"), item("1", "b"), item(True, "c"), item([1], "d")], [None, None]),
        ([item(0, "a"), item(True, "b")], [None, None]),
        ([item(0, "a"), item(1.0, "b")], [None, None]),
        ([item(0, "a"), {"embedding": "b"}], [None, None]),
        ([{"embedding": "a"}], [None, None]),
        ([{"embedding": "a"}, {"embedding": "b"}, {"embedding": "c"}], [None, None]),
        ([None, 7, item(1, "b")], [None, None]),
        ([], [None, None]),
    ],
)
def test_each_row_gets_its_own_vector_or_none_does_where_an_index_is_wrong(
    items: list[Any], vectors: list[Any]
) -> None:
    assert taken_apart(*items) == vectors


@given(order=st.permutations(range(7)))
def test_the_order_of_vectors_does_not_matter(order: list[int]) -> None:
    assert taken_apart(*(item(index, index) for index in order), count=7) == list(range(7))


def test_base64_that_spells_a_short_key_by_chance_is_no_secret_but_the_texts_beside_it_are() -> None:
    text = "AAAAkey7AAAA"
    body = kept(decode(dumps(reply(text, model="key7"))), Masker(["key7"]))
    assert body == reply(base64.b64decode(text), model="***")


def test_numbers_are_not_parsed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "packed", lambda _: pytest.fail("it is for base64"))
    for body in (reply([0.5, 1.0], packed([0.5])), reply(), {"error": {"message": '"embedding": "'}}):
        assert decode(dumps(body)) == body


def test_vectors_in_either_alphabet_of_base64_and_without_padding_are_the_same() -> None:
    vector = [-1.8125, -1.9375, 1.03125, -0.28125]
    text = packed(vector)
    assert {*"+/="} <= {*text}
    for other in (text, text.rstrip("="), text.replace("+", "-").replace("/", "_")):
        assert list(values(decode(dumps(reply(other))))["embedding"]) == vector


# --- End to end ------------------------------------------------------------------------------------------------------


def config(endpoint: Endpoint, **more: Any) -> dict[str, Any]:
    return {
        "url": f"{endpoint.base_url}/embeddings",
        "model": "m",
        "prompt": "{{ text }}",
        "concurrency": 1,
        "cache": "none",
        "max_retries": 0,
        **more,
    }


def enriched(texts: list[Any], chosen: dict[str, Any]) -> list[dict[str, Any]]:
    return list(Connector(chosen).enrich([{"text": text} for text in texts]))


def texts_of(calls: list[Call]) -> list[Any]:
    return [call.body["input"] for call in calls]


def test_rows_share_calls_and_each_gets_its_own_vector_and_its_share_of_the_tokens(endpoint: Endpoint) -> None:
    texts = [f"row {number}" for number in range(150)]
    rows = enriched(texts, config(endpoint))
    assert [len(asked) for asked in texts_of(endpoint.journal.calls)] == [64, 64, 22]
    assert all(row["embedding"] == vector_to(row["text"]) for row in rows)
    told = sum(len("\n".join(asked)) // 4 + 1 for asked in texts_of(endpoint.journal.calls))
    assert sum(row["_llm"]["input_tokens"] for row in rows) == told


@pytest.mark.parametrize("bad", [0, 37, 63])
def test_one_bad_row_of_a_batch_fails_alone_after_about_two_calls_for_each_halving(bad: int) -> None:
    texts = [f"row {number}" + " [[fault:400]]" * (number == bad) for number in range(64)]
    with Endpoint() as endpoint:
        rows = enriched(texts, config(endpoint))
        calls = len(endpoint.journal.calls)
    assert calls == 1 + 2 * int(math.log2(64))
    failed = [row for row in rows if row["_llm"]["status"] != "success"]
    assert [row["text"] for row in failed] == [texts[bad]]
    assert failed[0]["embedding"] is None
    assert failed[0]["_llm"]["error"]["http_status"] == 400
    assert all(row["embedding"] == vector_to(row["text"]) for row in rows if row not in failed)


def spoilt(edit: Callable[[list[Any]], list[Any]]) -> Callable[[Call], Action | None]:
    """A server that makes this of the vectors of every batch with the row "bad" in it."""

    def script(call: Call) -> Action | None:
        asked = call.body.get("input")
        if not isinstance(asked, list) or "bad" not in asked:
            return None
        right = good(call)
        return Action("spoilt", play(render(right._replace(body={**right.body, "data": edit(right.body["data"])}))))

    return script


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda data: data[:-1], id="missing"),
        pytest.param(lambda data: [data[0], *data[:-1]], id="doubled"),
        pytest.param(lambda data: [*data[:-1], {**data[-1], "index": 99}], id="out-of-range"),
        pytest.param(lambda data: data[::-1], id="swapped"),
        pytest.param(lambda data: [{"embedding": each["embedding"]} for each in data][:-1], id="without-index"),
        pytest.param(lambda data: [*data, *data], id="all-doubled"),
        pytest.param(lambda _: [], id="none"),
    ],
)
def test_rows_without_a_certain_vector_are_asked_for_again(edit: Callable[[list[Any]], list[Any]]) -> None:
    texts = [*(f"row {number}" for number in range(6)), "bad", "last"]
    with Endpoint(spoilt(edit)) as endpoint:
        rows = enriched(texts, config(endpoint))
        calls = endpoint.journal.calls
    assert [row["embedding"] for row in rows] == [vector_to(text) for text in texts]
    assert len(calls) <= 1 + 2 * len(texts)


def test_a_server_that_refuses_base64_is_asked_for_floats_and_that_is_remembered(tmp_path: Path) -> None:
    def script(call: Call) -> Action | None:
        return Action("refused", status(400, _REFUSED)(good(call), {})) if "encoding_format" in call.body else None

    with Endpoint(script) as endpoint:
        chosen = config(endpoint, cache=str(tmp_path / "ledger"), batch_size=4)
        rows = enriched([f"row {number}" for number in range(12)], chosen)
        rows += enriched(["another row"], chosen)
        actions = [call.action for call in endpoint.journal.calls]
    assert all(row["embedding"] == vector_to(row["text"]) for row in rows)
    assert actions.count("answer") == 4
    assert 1 <= actions.count("refused") <= 3
    assert actions[-1] == "answer"


@pytest.mark.parametrize("raw", ["123456789012345678901234567890", "9" * 4_000, "9" * 5_000, "1e400", "-1e400"])
def test_a_number_of_any_size_beside_a_vector_is_kept_with_it(tmp_path: Path, raw: str) -> None:
    def odd(call: Call) -> Action:
        whole = render(good(call), text=lambda body: body.replace(b"{", b'{"odd": %b, ' % raw.encode(), 1))
        return Action("odd", play(whole))

    with Endpoint(odd) as endpoint:
        chosen = config(endpoint, cache=str(tmp_path / "ledger"))
        for _ in range(2):  # by a call, and out of the ledger
            assert [row["embedding"] for row in enriched(["a", "b"], chosen)] == [vector_to("a"), vector_to("b")]
        assert len(endpoint.journal.calls) == 1


def test_an_empty_text_fails_alone_and_is_not_even_sent(endpoint: Endpoint) -> None:
    rows = enriched(["one", "", "two", None], config(endpoint))
    assert [row["_llm"]["status"] for row in rows] == ["success", "error", "success", "error"]
    assert "is empty" in rows[1]["_llm"]["error"]["message"]
    assert 'column "text" is null' in rows[3]["_llm"]["error"]["message"]
    assert texts_of(endpoint.journal.calls) == [["one", "two"]]


def test_a_row_too_large_to_share_goes_alone(endpoint: Endpoint) -> None:
    enriched(["a", "b" * 299_990, "c", "d"], config(endpoint))
    assert sorted(map(len, texts_of(endpoint.journal.calls))) == [1, 2, 299_990]


def test_dimensions_are_asked_for_in_a_request_format(endpoint: Endpoint) -> None:
    (row,) = enriched(
        ["hi"],
        config(
            endpoint,
            prompt=None,
            request_format={"model": "m", "input": "{{ text }}", "dimensions": 3},
            response_format={"vector": "{{ embedding }}", "size": "{{ dimensions }}", "raw": "{{ data[0].index }}"},
        ),
    )
    assert (row["vector"], row["size"], row["raw"]) == (vector_to("hi", 3), 3, 0)


@pytest.mark.parametrize("expression", ["{{ data[0].embedding }}", "{{ data }}"])
@pytest.mark.parametrize("texts", [["a", "b"], ["a"]], ids=["shared", "alone"])
def test_a_response_format_that_reads_the_reply_itself_finds_the_text_that_came(
    tmp_path: Path, endpoint: Endpoint, texts: list[str], expression: str
) -> None:
    chosen = config(
        endpoint,
        cache=str(tmp_path / "ledger"),
        response_format={"vector": "{{ embedding }}", "raw": expression},
    )
    for _ in range(2):  # by a call, and out of the ledger
        rows = enriched(texts, chosen)
        assert [row["vector"] for row in rows] == list(map(vector_to, texts))
        found = [row["raw"] if isinstance(row["raw"], str) else row["raw"][0]["embedding"] for row in rows]
        assert found == [packed(vector_to(text)) for text in texts]
    assert len(endpoint.journal.calls) == 1


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_the_column_is_a_list_of_float32_in_parquet_and_json_elsewhere(tmp_path: Path, ending: str) -> None:
    source, output = tmp_path / "in.csv", tmp_path / f"out.{ending}"
    source.write_text("id,text\n" + "".join(f"{number},row {number}\n" for number in range(5)))
    with Endpoint() as endpoint:
        url = f"{endpoint.base_url}/embeddings"
        done = run("enrich", source, "-o", output, "--url", url, "--model", "m", "--prompt", "{{ text }}")
        assert done.returncode == 0, done.stderr
        assert len(endpoint.journal.calls) == 1
    expected = [vector_to(f"row {number}") for number in range(5)]
    if ending == "parquet":
        (kind, *_), *_ = duckdb.execute(f"SELECT typeof(embedding) FROM '{output}'").fetchall()
        assert kind == "FLOAT[]"
        assert [
            row for (row,) in duckdb.execute(f"SELECT embedding FROM '{output}' ORDER BY id").fetchall()
        ] == expected
    elif ending == "csv":
        cells = duckdb.execute(f"SELECT embedding FROM read_csv('{output}', all_varchar = true)").fetchall()
        assert [json.loads(cell) for (cell,) in cells] == expected
    else:
        assert [row["embedding"] for row in lines(output)] == expected


def test_discover_declares_the_column_as_a_list_of_floats(tmp_path: Path, endpoint: Endpoint) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text\nhi\n")
    chosen = config(endpoint, input={"type": "files", "path": str(source)})
    stream = Connector(chosen).discover()[0]
    assert stream.schema["properties"]["embedding"] == {
        "type": ["null", "array"],
        "items": {"type": "number", "format": "float"},
    }


def test_a_row_in_the_ledger_is_not_asked_for_again_whatever_batch_it_was_in(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    chosen = config(endpoint, cache=str(tmp_path / "ledger"))
    first = enriched(["a", "b"], chosen)
    again = enriched(["b", "c", "a"], {**chosen, "batch_size": 2})
    assert texts_of(endpoint.journal.calls) == [["a", "b"], "c"]
    vectors = {row["text"]: row["embedding"] for row in again}
    assert [vectors[row["text"]] for row in first] == [row["embedding"] for row in first]


def test_check_asks_for_a_single_word(endpoint: Endpoint) -> None:
    assert Connector(config(endpoint)).check().ok
    assert texts_of(endpoint.journal.calls[-1:]) == ["ping"]


def test_a_fault_that_passes_is_tried_again_as_a_whole_batch(endpoint: Endpoint) -> None:
    rows = enriched(["a", "b [[fault:500;times=1]]", "c"], config(endpoint, max_retries=2))
    assert [call.action for call in endpoint.journal.calls] == ["500", "answer"]
    assert [row["_llm"]["attempts"] for row in rows] == [2, 2, 2]
