"""Batches against the sandbox: each row gets one outcome, whatever goes wrong, and nothing is submitted twice."""

from __future__ import annotations

import gc
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Final

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from connector import Config, Connector, endpoints, sandbox
from connector import ledger as ledgers
from connector.base.clock import Clock
from connector.base.errors import (
    BudgetError,
    ConfigError,
    ConnectorError,
    FatalError,
    NotFoundError,
    OutageError,
    StorageError,
)
from connector.base.masking import Masker
from connector.base.records import IDLE, Item, Outcome, Record, Reply
from connector.base.room import Room
from connector.base.stop import Stop
from connector.calls import batch_lines, client
from connector.calls.batch_api import Batch
from connector.calls.batch_needs import Needs
from connector.calls.breaker import Breaker
from connector.calls.call import Call
from connector.calls.limits import Limits
from connector.calls.retry import Backoff
from connector.config.batch_providers import MB, PROVIDERS
from connector.engines import Control, Done, Gauge, load
from connector.engines._batch_parts import PART, Ident, Jobs, Part, found_among
from connector.engines.batch import forget
from connector.ledger.sqlite import SqliteLedger
from connector.run import pipeline, runtime
from connector.run.plan import Plan
from connector.sandbox.batches import FAULTS
from tests.engines.local_batches import TERMS, LocalBatches, LocalEngine
from tests.patience import PATIENCE

KEY: Final = {"Authorization": f"Bearer {sandbox.KEY}"}
ROWS: Final = 30


class Submitted:
    """What was submitted to a sandbox, read from its files and batches."""

    def __init__(self, url: str) -> None:
        self._url = url

    def batches(self) -> list[dict[str, Any]]:
        found = requests.get(f"{self._url}/batches?limit=100", headers=KEY, timeout=PATIENCE).json()["data"]
        return [batch for batch in found if not (batch["errors"] and "token" in batch["errors"]["data"][0]["code"])]

    def lines(self) -> Counter[str]:
        """How often each request was submitted, by its ID and its body."""
        counts: Counter[str] = Counter()
        for batch in self.batches():
            url = f"{self._url}/files/{batch['input_file_id']}/content"
            for line in requests.get(url, headers=KEY, timeout=PATIENCE).text.splitlines():
                found = json.loads(line)
                counts[found["custom_id"] + json.dumps(found["body"])] += 1
        return counts


def config(url: str, cache: str | Path = "none", batch: dict[str, Any] | None = None, **more: Any) -> Config:
    options = {"poll_seconds": 0.002, "max_batch_requests": 12, **(batch or {})}
    given = {"url": url, "api_key": sandbox.KEY, "model": sandbox.MODEL, "prompt": "{{ text }}", "cache": str(cache)}
    return Config.load({**given, "batch": options, "max_row_seconds": 1, **more})


def table(rows: int = ROWS) -> list[dict[str, Any]]:
    return [{"id": row, "text": f"Row {row}"} for row in range(rows)]


def enriched(url: str, rows: Sequence[dict[str, Any]] | None = None, **more: Any) -> list[dict[str, Any]]:
    return list(Connector(config(url, **more)).enrich(table() if rows is None else rows))


def statuses(rows: list[dict[str, Any]]) -> dict[str, int]:
    return dict(Counter(row["_llm"]["status"] for row in rows))


def is_right(rows: list[dict[str, Any]], number: int = ROWS) -> bool:
    """Whether each row is there once, in order, and has the answer to its own prompt."""
    return [row["id"] for row in rows] == list(range(number)) and all(
        row["content"] == f"Sandbox reply to: {row['text']}" for row in rows if row["_llm"]["status"] == "success"
    )


@pytest.mark.parametrize(
    "faults",
    [
        *(["slow"], ["token_limit:2"], ["create_429:2"], ["create_500:2"], ["lost_create:2"], ["lost_upload:2"]),
        *(["poll_500:3"], ["empty_error_id"], ["empty_error_file"], ["doubled_lines"], ["unknown_lines"]),
        *(["text_bodies"], ["upper_case"], ["wrong_counts"], ["cut_download:3"], ["cut_download:3", "no_range"]),
        *(["lost_create:2", "no_metadata"], ["lost_create:1", "create_500:1", "token_limit:1"]),
    ],
    ids="+".join,
)
def test_each_request_is_submitted_once_whatever_happens_to_calls_and_files(faults: list[str]) -> None:
    with sandbox.running(faults=faults) as url:
        rows = enriched(url)
        assert is_right(rows)
        assert statuses(rows) == {"success": ROWS}
        assert Submitted(url).lines().most_common(1)[0][1] == 1
        assert Submitted(url).lines().total() == ROWS


@pytest.mark.parametrize(
    ("faults", "again"),
    [
        (["expired:1"], 15),
        (["cancelled:1"], 15),
        (["partial:3"], 3),
        (["all_failed:1"], 30),
        (["missing_lines:2"], 2),
        (["broken_lines:2"], 2),
        (["text_bodies", "expired:1"], 15),
        (["gone_files:5"], 0),
    ],
    ids=str,
)
def test_only_rows_without_an_answer_are_submitted_again(faults: list[str], again: int) -> None:
    with sandbox.running(faults=faults) as url:
        rows = enriched(url, batch={"max_batch_requests": 100})
        assert (is_right(rows), statuses(rows)) == (True, {"success": ROWS})
        assert Submitted(url).lines().total() == ROWS + again


def test_rows_whose_answers_have_expired_are_asked_for_again(caplog: pytest.LogCaptureFixture) -> None:
    with sandbox.running(faults=["gone_files"]) as url:
        rows = enriched(url, batch={"fallback": "live"}, max_row_seconds=0.05)
        assert (is_right(rows), statuses(rows)) == (True, {"success": ROWS})
        assert len(Submitted(url).batches()) == 3
    assert "its answers are gone" in caplog.text


def test_rows_whose_lines_are_refused_fail_for_good_and_the_others_do_not() -> None:
    with sandbox.running(faults=["refused:2"]) as url:
        rows = enriched(url)
        assert (is_right(rows), statuses(rows)) == (True, {"success": ROWS - 2, "error": 2})
        assert Submitted(url).lines().total() == ROWS
    with sandbox.running(faults=["failed:1"]) as url:
        rows = enriched(url)
        assert (is_right(rows), statuses(rows)) == (True, {"success": ROWS - 1, "error": 1})
        (failed,) = (row for row in rows if row["_llm"]["status"] == "error")
        assert "the batch refuses this row's request: The request of this line is invalid." in str(failed["_llm"])


def test_what_a_batch_did_not_answer_is_called_live_by_choice() -> None:
    with sandbox.running(faults=["expired"]) as url:
        rows = enriched(url, batch={"fallback": "live"})
        assert (is_right(rows), statuses(rows)) == (True, {"success": ROWS})
        assert Submitted(url).lines().total() == ROWS
        assert {row["_llm"]["attempts"] for row in rows} == {1, 2}


def test_large_answers_of_a_batch_leave_the_room_to_those_of_live_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    rooms: list[Room] = []

    def opened(_most: float) -> Room:
        rooms.append(Room(math.inf))  # so that the run ends even if replies stay
        return rooms[-1]

    monkeypatch.setattr(runtime, "Room", opened)
    monkeypatch.setattr(batch_lines, "SMALL", 1)
    monkeypatch.setattr(client, "SMALL", 1)
    with sandbox.running(faults=["partial:3"]) as url:
        assert statuses(enriched(url, batch={"fallback": "live"})) == {"success": ROWS}
    assert [room.taken for room in rooms] == [0]


def test_rows_fail_in_the_end_where_batch_after_batch_expires() -> None:
    with sandbox.running(faults=["expired"]) as url:
        rows = enriched(url, max_retries=1)
        assert is_right(rows)
        assert statuses(rows)["success"] == ROWS - statuses(rows)["error"]
        assert "ended before this row was answered" in str([row for row in rows if row["_llm"]["error"]])


def test_a_batch_that_takes_too_long_is_cancelled_and_what_it_has_is_kept() -> None:
    polls = count()
    late = [0.0]

    def notify(what: str) -> None:
        if what == "after GET batches ID" and next(polls) == 1:  # its lines are known to be good, and are worked on
            late[0] = 1000.0

    clock = Clock(time=lambda: Clock().time() + late[0])
    with sandbox.running(notify=notify) as url:
        options = {"max_wait": 500, "max_batch_requests": 100}
        rows = list(Connector(config(url, batch=options), clock=clock).enrich(table()))
        assert {batch["status"] for batch in Submitted(url).batches()} == {"cancelled"}
    assert is_right(rows)
    assert statuses(rows) == {"success": ROWS // 2, "error": ROWS // 2}
    assert "longer than batch.max_wait" in str(rows[-1]["_llm"]["error"])


def test_a_number_beyond_a_double_is_a_row_s_own_affair() -> None:
    request = {"model": sandbox.MODEL, "messages": [{"role": "user", "content": "{{ text }}"}], "seed": "{{ seed }}"}
    rows = [{"id": 0, "text": "Row 0", "seed": 1}, {"id": 1, "text": "Row 1", "seed": 10**400}]
    with sandbox.running() as url:
        found = enriched(url, rows, prompt=None, model=None, request_format=request)
        assert (is_right(found, 2), statuses(found)) == (True, {"success": 1, "error": 1})
        assert "not parseable" in found[1]["_llm"]["error"]["message"]


def test_equal_rows_are_one_request() -> None:
    with sandbox.running() as url:
        rows = enriched(url, [{"id": row, "text": f"Row {row % 3}"} for row in range(ROWS)])
        assert is_right(rows)
        assert Submitted(url).lines().total() == 3


def test_files_are_split_by_model_by_lines_and_by_bytes() -> None:
    with sandbox.running() as url:
        rows = [{"id": row, "text": f"Row {row}", "model": f"m{row % 2}"} for row in range(ROWS)]
        template = {"model": "{{ model }}", "messages": [{"role": "user", "content": "{{ text }}"}]}
        with suppress(ConnectorError):  # the sandbox has no such models
            enriched(url, rows, prompt=None, model=None, request_format=template)
        batches = Submitted(url).batches()
        assert {batch["model"] for batch in batches} == {"m0", "m1"}
        assert max(batch["request_counts"]["total"] for batch in batches) == 12
    with sandbox.running() as url:
        assert is_right(enriched(url, batch={"max_batch_bytes": 1000}))
        files = requests.get(f"{url}/files?purpose=batch", headers=KEY, timeout=PATIENCE).json()["data"]
        assert all(file["bytes"] <= 1000 for file in files)
    with sandbox.running() as url:
        large, small = {"id": 0, "text": "x" * 2000}, {"id": 1, "text": "y"}
        row, other = enriched(url, [large, small], batch={"max_batch_bytes": 1000})
        assert (row["_llm"]["status"], other["_llm"]["status"]) == ("error", "success")
        assert "raise batch.max_batch_bytes" in row["_llm"]["error"]["message"]


def test_replies_that_do_not_fit_are_repaired_in_the_next_batch() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    with sandbox.running() as url:
        rows = enriched(
            url,
            request_format={
                "model": sandbox.MODEL,
                "messages": [{"role": "user", "content": "{{ text }}"}],
                "max_tokens": 2,  # which cuts the reply: it is asked for again with a higher limit
            },
            prompt=None,
            output_schema=schema,
            max_repairs=1,
        )
        assert all("n" in row for row in rows)
        assert len(Submitted(url).batches()) >= 4
        assert {row["_llm"]["attempts"] for row in rows} != {1}


@pytest.mark.parametrize(
    ("endpoint", "template"),
    [
        ("embeddings", {"model": sandbox.MODEL, "input": "{{ text }}"}),
        ("responses", {"model": sandbox.MODEL, "input": "{{ text }}"}),
        ("completions", {"model": sandbox.MODEL, "prompt": "{{ text }}"}),
    ],
)
def test_other_kinds_go_through_batches_as_well(endpoint: str, template: dict[str, Any]) -> None:
    with sandbox.running() as url:
        rows = enriched(url, endpoint=endpoint, request_format=template, prompt=None)
        assert statuses(rows) == {"success": ROWS}
        assert {batch["endpoint"] for batch in Submitted(url).batches()} == {f"/v1/{endpoint}"}


def test_a_batch_costs_half_to_the_cent() -> None:
    prices = {"input": 1_000_000, "output": 2_000_000}
    with sandbox.running() as url:
        batched, live = (enriched(url, prices=prices, **more) for more in ({}, {"batch": None}))
    with sandbox.running() as url:
        (live_row,) = Connector(config(url, prices=prices).model_copy(update={"batch": None})).enrich(table(1))
        (row,) = enriched(url, table(1), prices=prices)
        (own,) = enriched(url, table(1), prices={**prices, "batch": 0.25})
    assert row["_llm"]["cost_usd"] == live_row["_llm"]["cost_usd"] / 2
    assert own["_llm"]["cost_usd"] == live_row["_llm"]["cost_usd"] / 4
    assert len(batched) == len(live)


def test_no_batch_is_submitted_that_the_budget_may_not_cover(tmp_path: Path) -> None:
    prices = {"input": 0, "output": 1_000_000}  # a dollar a token; a batch takes half
    ledger = tmp_path / "run.ledger"
    template = {"model": sandbox.MODEL, "messages": [{"role": "user", "content": "{{ text }}"}], "max_tokens": 4}
    with sandbox.running() as url:
        given: dict[str, Any] = {
            "prices": prices,
            "request_format": template,
            "prompt": None,
            "cache": ledger,
        }
        with pytest.raises(BudgetError, match="the next batch of 6 requests may cost 12"):
            enriched(url, max_cost_usd=49, **given)
        assert Submitted(url).lines().total() == 24  # two of three
        rows = enriched(url, max_cost_usd=1000, **given)
        assert len(rows) == ROWS
        assert Submitted(url).lines().total() == ROWS


def test_a_refused_key_or_a_server_without_batches_ends_the_run(tmp_path: Path) -> None:
    with sandbox.running() as url:
        with pytest.raises(FatalError, match="refuses the key"):
            enriched(url, api_key="sk-wrong")
        with pytest.raises(FatalError, match="no files and batches"):
            enriched(f"{url}/x/chat/completions")
    with pytest.raises(OutageError, match="cannot be reached"):
        enriched(url, cache=tmp_path / "run.ledger", max_row_seconds=0.05)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"is_stream": True}, "whole: set is_stream to false"),
        ({"rows_per_call": 5}, "remove rows_per_call"),
        ({"endpoint": "images"}, "the kind images cannot be batched"),
        ({"url": "https://api.mistral.ai/v1"}, "its own API"),
        ({"batch": {"completion": "24h"}}, "batch.completion"),
        ({"batch": {"completion_window": "a day"}}, "is not a completion window"),
        ({"batch": 3}, "neither true, false nor an object"),
    ],
)
def test_what_cannot_be_batched_is_refused_before_anything_is_sent(options: dict[str, Any], told: str) -> None:
    given = {"url": "http://127.0.0.1:1/v1", "model": "m", "prompt": "{{ text }}", "batch": True, **options}
    with pytest.raises(ConfigError, match=told):
        Config.load(given)


@pytest.mark.parametrize("value", [True, "true", {}, "{}"])
def test_one_word_is_enough(value: Any) -> None:
    config = Config.load({"url": "http://127.0.0.1:1/v1", "model": "m", "prompt": "x", "batch": value})
    assert config.batch is not None
    assert Config.load({"url": "http://127.0.0.1:1/v1", "model": "m", "prompt": "x", "batch": False}).batch is None


def test_the_page_has_every_provider_as_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "batch.md").read_text(encoding="utf-8")
    for each in PROVIDERS.values():
        if each.advice:
            assert f"| {each.name} | none: {each.advice} |" in page
        else:
            limits = f"{each.max_requests:,} | {each.max_bytes // MB} | {each.windows}"
            assert f"| {each.name} | {limits} | `{each.prefix}/chat/completions` |" in page


# --- Ends and restarts ---


class StopHereError(BaseException):
    """Ends a run in the middle, as a kill does: nothing of it gets to tidy up what is on the server."""


@contextmanager
def ending_at(moment: int) -> Iterator[tuple[list[str], Any]]:
    """Counts what a sandbox is told of, and asks the connector that is set to stop at some moment."""
    seen: list[str] = []
    holder: dict[str, Connector] = {}

    def notify(what: str) -> None:
        seen.append(what)
        if len(seen) == moment and "run" in holder:
            holder["run"].stop.request(StopHereError())

    yield seen, (notify, holder)


@pytest.mark.parametrize("moment", range(1, 24, 2))
def test_a_run_that_is_stopped_at_any_moment_goes_on_and_submits_nothing_twice(tmp_path: Path, moment: int) -> None:
    ledger = tmp_path / "run.ledger"
    with ending_at(moment) as (_, (notify, holder)), sandbox.running(notify=notify) as url:
        holder["run"] = Connector(config(url, ledger))
        with suppress(StopHereError):
            list(holder["run"].enrich(table()))
        rows = enriched(url, cache=ledger)
        assert (is_right(rows), statuses(rows)) == (True, {"success": ROWS})
        assert Submitted(url).lines().total() == ROWS
        with SqliteLedger(ledger) as kept:
            assert kept.jobs() == []


def test_another_table_takes_over_what_a_stopped_run_has_submitted(tmp_path: Path) -> None:
    ledger = tmp_path / "run.ledger"
    with ending_at(8) as (_, (notify, holder)), sandbox.running(notify=notify) as url:
        holder["run"] = Connector(config(url, ledger))
        with pytest.raises(StopHereError):
            list(holder["run"].enrich(table()))
        submitted = Submitted(url).lines().total()
        assert 0 < submitted < ROWS + 1
        some = enriched(url, [{"id": 0, "text": "Row 0"}, {"id": 1, "text": "another"}], cache=ledger)
        assert is_right(some, 2)
        rows = enriched(url, cache=ledger)
        assert (is_right(rows), statuses(rows)) == (True, {"success": ROWS})
        assert Submitted(url).lines().total() == ROWS + 1


def test_rows_that_wait_for_a_batch_are_not_in_memory(tmp_path: Path) -> None:
    """However many there are: a call, its rows and what is written down of it lie on disk."""
    waiting: list[int] = []

    def alive() -> int:
        return sum(isinstance(each, Call | Record) for each in gc.get_objects())

    class Counting(LocalBatches):
        def retrieve(self, batch: str) -> Batch:
            """See `BatchAPI.retrieve`."""
            waiting.append(alive())
            return super().retrieve(batch)

    def send(_body: bytes) -> Reply:
        return Reply(200, {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}, {})

    before, rows = alive(), 5_000
    plan, control = Plan(config("http://localhost/v1")), Control(Limits(8), Backoff(), Breaker(), Stop(), Gauge())
    items = (Record(row, {"text": str(row)}) for row in range(rows))
    with SqliteLedger(tmp_path / "run.ledger") as ledger:
        terms = TERMS._replace(max_requests=1_000, quiet=math.inf)
        needs = Needs(Counting(send), ledger, "http://x/v1", endpoints.load("chat"), Masker([]), terms)
        results = pipeline.run(items, lambda _: plan, send, ledger, load("batch", needs), control)
        assert sum(isinstance(result, Outcome) for result in results) == rows
    assert max(waiting) - before < rows / 2  # those that are looked up or stored at once, whatever the number of rows


class Forgetting(SqliteLedger):
    """Sees to it that nothing is forgotten of a batch before its replies are stored."""

    def __init__(self) -> None:
        super().__init__(None)
        self.commit_seconds = 3600.0
        self.forgotten = 0

    def forget_job(self, name: str) -> None:
        """See `connector.ledger.Ledger.forget_job`."""
        lines = (self.job(f"{name}.lines") or b"").split()
        keys = [bytes.fromhex(line.partition(b":")[0].decode()) for line in lines]
        assert self.get(keys).known.keys() == set(keys)
        self.forgotten += bool(keys)
        super().forget_job(name)


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_batch_is_forgotten_once_its_replies_are_stored_however_late_that_is(*, is_closed: bool) -> None:
    """A row's reply waits for others to be stored with it; a run that ends early stores it at the very end."""
    ledger, plan = Forgetting(), Plan(config("http://localhost/v1"))
    control = Control(Limits(8), Backoff(), Breaker(), Stop(), Gauge())
    gauge, answered = control.gauge, []

    def send(body: bytes) -> Reply:
        answered.append(body)
        return Reply(200, {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}, {})

    def is_judged() -> bool:
        return len(answered) == 3 and gauge.in_flight == 1

    def items() -> Iterator[Item]:
        yield from (Record(row, {"text": str(row)}) for row in range(4))  # a batch of three, and one that waits
        while not is_judged():
            yield IDLE
        yield from [IDLE] * 5

    engine = LocalEngine(ledger, TERMS._replace(max_requests=3, quiet=math.inf))
    with ledger, closing(pipeline.run(items(), lambda _: plan, send, ledger, engine, control)) as results:
        outcomes = 0
        for result in results:
            outcomes += isinstance(result, Outcome)
            if is_closed and is_judged():
                results.close()
        assert (outcomes, ledger.forgotten, ledger.stats().entries) == ((0, 0, 3) if is_closed else (4, 2, 4))


def test_a_batch_that_another_run_of_a_folder_is_about_to_make_is_not_forgotten(tmp_path: Path) -> None:
    with ledgers.opened(ledgers.location_of(f"{tmp_path}/")) as ledger:
        part = Part()
        part.add(Ident(b"k" * 16, b"d" * 8), b"{}\n", 1)
        part.close(Clock().time())
        Jobs(ledger, "http://x/v1").begin(part)
        control = Control(Limits(8), Backoff(), Breaker(), Stop(), Gauge())
        assert not [
            each for each in LocalEngine(ledger).run(iter([]), lambda _: Reply(200, {}, {}), control) if each != IDLE
        ]
        assert ledger.jobs() == [part.name, f"{part.name}.lines"]
        part.drop()


NOWHERE: Final[list[Any]] = [None, [], {}]
WHOLE: Final = {"url": "http://x/v1", "file": "f", "batch": "b", "at": 1.0, "size": 1}


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"[]", b"null", b"{}", b"\xff", b"[" * 100_000),
        *(json.dumps({**WHOLE, name: value}).encode() for name in WHOLE for value in NOWHERE),
    ],
)
def test_a_stored_part_that_no_run_has_written_stops_the_run_in_words(data: bytes) -> None:
    with SqliteLedger(None) as ledger:
        ledger.keep_job("part", data)
        for look in (Jobs(ledger, "http://x/v1").parts, lambda: forget(ledger, "b")):
            with pytest.raises(StorageError, match="a record of a batch that cannot be read: delete 'part'"):
                look()
        ledger.keep_job("part", json.dumps(WHOLE).encode())
        ledger.keep_job("part.lines", b"no digits\n")
        (part,) = Jobs(ledger, "http://x/v1").parts()
        with pytest.raises(StorageError, match=r"delete 'part\.lines'"):
            list(Jobs(ledger, "http://x/v1").idents(part))


def test_a_row_that_comes_after_its_answer_was_read_is_not_asked_for_again() -> None:
    """An input that pauses: an earlier run's answers are read when it does, also those to rows that come later."""
    sent: Counter[bytes] = Counter()
    done: list[Done] = []

    def send(body: bytes) -> Reply:
        sent[body] += 1
        return Reply(200, {}, {})

    def call(row: int) -> Call:
        return Call(bytes([row]) * 16, b"%d" % row, [Record(row, {})])

    def until_submitted() -> Iterator[Any]:
        yield from map(call, range(3))
        while not api.batches:
            yield IDLE
        first.stop.request(StopHereError())

    def with_a_pause() -> Iterator[Any]:
        yield call(1)
        while not done:
            yield IDLE
        yield from map(call, (0, 2))

    api, first, second = LocalBatches(send), *(Control(Limits(8), Backoff(), Breaker(), Stop(), Gauge()) for _ in "12")
    with SqliteLedger(None) as ledger:
        terms = TERMS._replace(max_requests=3, quiet=math.inf)
        needs = Needs(api, ledger, "http://x/v1", endpoints.load("chat"), Masker([]), terms)
        assert not [item for item in load("batch", needs).run(until_submitted(), send, first) if item is not IDLE]
        for item in load("batch", needs).run(with_a_pause(), send, second):
            done += [item] if isinstance(item, Done) else []
    assert sorted(each.call.records[0].index for each in done) == [0, 1, 2]
    assert all(isinstance(each.result, Reply) for each in done)
    assert sent == Counter({b"0": 1, b"1": 1, b"2": 1})


@pytest.mark.parametrize("is_newest_first", [True, False])
def test_a_batch_is_found_whichever_end_of_the_list_comes_first(*, is_newest_first: bool) -> None:
    part = Part("mine")
    part.at = 1e6
    all_of_them = [Batch(f"b{number}", "completed", created=1.0 + number) for number in range(1000)]
    all_of_them.append(Batch("wanted", "in_progress", metadata={PART: "mine"}, created=part.at))
    asked = iter(all_of_them[:: -1 if is_newest_first else 1])
    assert found_among([part], lambda: asked)["mine"].id == "wanted"
    part.name = "never made"
    asked = iter(all_of_them[:: -1 if is_newest_first else 1])
    assert found_among([part], lambda: asked) == {}
    assert len(list(asked)) == (999 if is_newest_first else 0)  # it is not read to its end where that says nothing


def test_what_another_run_leaves_behind_after_this_one_began_is_not_asked_for_again(tmp_path: Path) -> None:
    sent: Counter[bytes] = Counter()

    def send(body: bytes) -> Reply:
        sent[body] += 1
        return Reply(200, {}, {})

    def calls(rows: int) -> list[Call]:
        return [Call(bytes([row]) * 16, b"%d" % row, [Record(row, {})]) for row in range(rows)]

    def until_submitted() -> Iterator[Any]:
        yield from calls(3)
        while not api.batches:
            yield IDLE
        other.stop.request(StopHereError())

    def after_another_run() -> Iterator[Any]:
        yield IDLE
        with ledgers.opened(location) as ledger:
            engine = load("batch", needs._replace(ledger=ledger))
            assert not [item for item in engine.run(until_submitted(), send, other) if item is not IDLE]
        yield from reversed(calls(5))  # the first file is full before all of them have come

    api, this, other = LocalBatches(send), *(Control(Limits(8), Backoff(), Breaker(), Stop(), Gauge()) for _ in "12")
    location, terms = ledgers.location_of(f"{tmp_path}/"), TERMS._replace(max_requests=3, quiet=math.inf)
    with ledgers.opened(location) as ledger:
        needs = Needs(api, ledger, "http://x/v1", endpoints.load("chat"), Masker([]), terms)
        done = [item for item in load("batch", needs).run(after_another_run(), send, this) if isinstance(item, Done)]
        assert ledger.jobs() == []
    assert sorted(each.call.records[0].index for each in done) == list(range(5))
    assert sent == Counter(b"%d" % row for row in range(5))
    assert len(api.batches) == 2


def test_what_an_earlier_run_has_submitted_counts_for_the_budget_before_it_is_answered(tmp_path: Path) -> None:
    template = {"model": sandbox.MODEL, "messages": [{"role": "user", "content": "{{ text }}"}], "max_tokens": 4}
    given: dict[str, Any] = {"prices": {"output": 1_000_000}, "request_format": template, "prompt": None}
    given["cache"] = tmp_path / "run.ledger"
    with ending_at(8) as (_, (notify, holder)), sandbox.running(faults=["slow"], notify=notify) as url:
        holder["run"] = Connector(config(url, **given))
        with pytest.raises(StopHereError):
            list(holder["run"].enrich(table(20)))  # 25 that are cut at the token limit would be an outage
        submitted = Submitted(url).lines().total()
        more = [{"id": row, "text": f"More {row}"} for row in range(12)]
        with pytest.raises(BudgetError, match=f"{2 * submitted} of .* are spent or submitted"):
            enriched(url, table(submitted) + more, max_cost_usd=2 * submitted + 23, **given)
        assert Submitted(url).lines().total() == submitted


class Losing(LocalBatches):
    """Loses all that it has, as a server that was killed: files once, or batches for good."""

    def __init__(self, *, files: bool) -> None:
        super().__init__(lambda _: Reply(200, {}, {}))
        self.loses_files, self.has_lost = files, False
        self.uploads = 0

    def upload(self, file: BinaryIO, filename: str) -> str:
        """See `BatchAPI.upload`."""
        self.uploads += 1
        return super().upload(file, filename)

    def create(self, file: str, endpoint: str, window: str, metadata: Mapping[str, str]) -> Batch:
        """See `BatchAPI.create`."""
        if self.loses_files and not self.has_lost:
            self.has_lost = True
            raise NotFoundError("No such File object", http_status=404)
        return super().create(file, endpoint, window, metadata)

    def retrieve(self, batch: str) -> Batch:
        """See `BatchAPI.retrieve`."""
        if not self.loses_files and batch == "batch_0":
            raise NotFoundError("No batch found", http_status=404)
        return super().retrieve(batch)


def answered_by(api: LocalBatches, ledger: SqliteLedger, patience: float = math.inf) -> tuple[list[Done], Control]:
    """Runs three calls through an endpoint."""
    control = Control(Limits(8), Backoff(max_elapsed=patience), Breaker(), Stop(), Gauge())
    calls = [Call(bytes([row]) * 16, b"%d" % row, [Record(row, {})]) for row in range(3)]
    needs = Needs(api, ledger, "http://x/v1", endpoints.load("chat"), Masker([]), TERMS)
    results = load("batch", needs).run(iter(calls), lambda _: Reply(200, {}, {}), control)
    return [item for item in results if isinstance(item, Done)], control


def test_a_file_that_the_server_loses_before_there_is_a_batch_is_uploaded_again() -> None:
    api = Losing(files=True)
    with SqliteLedger(None) as ledger:
        done, control = answered_by(api, ledger)
    assert (len(done), control.stop.reason, api.uploads, len(api.batches)) == (3, None, 2, 1)


def test_a_batch_that_the_endpoint_does_not_have_ends_the_run_until_it_is_given_up() -> None:
    """It may be paid for: the key may be that of another account."""
    api = Losing(files=False)
    with SqliteLedger(None) as ledger:
        for _ in range(2):
            done, control = answered_by(api, ledger, patience=0.0)
            assert (done, len(api.batches)) == ([], 1)
            assert "batch forget batch_0 " in str(control.stop.reason)
        assert not forget(ledger, "batch_1")
        assert forget(ledger, "batch_0")
        done, control = answered_by(api, ledger)
    assert (len(done), control.stop.reason, len(api.batches)) == (3, None, 2)


def test_a_run_that_is_stopped_leaves_answers_that_there_is_no_time_to_judge_to_the_next_one() -> None:
    class Stopping(LocalBatches):
        def download(self, file: str, into: BinaryIO, batch: str, requests: int) -> None:
            """See `BatchAPI.download`."""
            super().download(file, into, batch, requests)
            control.stop.request(StopHereError())

    api = Stopping(lambda _: Reply(200, {}, {}))
    control = Control(Limits(8), Backoff(), Breaker(), Stop(), Gauge(), grace=0.0)
    calls = [Call(bytes([row]) * 16, b"%d" % row, [Record(row, {})]) for row in range(3)]
    with SqliteLedger(None) as ledger:
        needs = Needs(api, ledger, "http://x/v1", endpoints.load("chat"), Masker([]), TERMS)
        for _ in load("batch", needs).run(iter(calls), lambda _: Reply(200, {}, {}), control):
            pass
        assert len(ledger.jobs()) == 2  # the part and its requests


@pytest.mark.parametrize("is_the_job", [True, False])
def test_what_other_runs_have_submitted_since_counts_for_the_budget_of_their_job(
    tmp_path: Path, *, is_the_job: bool
) -> None:
    """Four requests may be submitted together; another run submits two of them while this one gathers."""
    asked: list[tuple[int, int]] = []

    def admits(_size: int, requests: int, elsewhere: Sequence[tuple[int, int]]) -> ConnectorError | None:
        asked.append((requests, sum(number for _, number in elsewhere)))
        return BudgetError("no more") if sum(asked[-1]) > 3 else None

    def items() -> Iterator[Any]:
        yield IDLE
        with ledgers.opened(location) as ledger:
            part = Part()
            for row in range(2):
                part.add(Ident(b"%d" % row * 16, b"d" * 8), b"{}\n", 1)
            part.close(Clock().time())
            Jobs(ledger, "http://x/v1", "this" if is_the_job else "other").begin(part)
            part.drop()
        yield from (Call(bytes([row]) * 16, b"%d" % row, [Record(row, {})]) for row in range(2))

    api, control = LocalBatches(lambda _: Reply(200, {}, {})), Control(Limits(8), Backoff(), Breaker(), Stop(), Gauge())
    location = ledgers.location_of(f"{tmp_path}/")
    with ledgers.opened(location) as ledger:
        needs = Needs(api, ledger, "http://x/v1", endpoints.load("chat"), Masker([]), TERMS)
        engine = load("batch", needs._replace(admits=admits, job="this"))
        done = [item for item in engine.run(items(), lambda _: Reply(200, {}, {}), control) if isinstance(item, Done)]
    assert asked == [(2, 2 if is_the_job else 0)]
    assert (len(done), len(api.batches)) == ((0, 0) if is_the_job else (2, 1))


NAMES = sorted(FAULTS.keys() - {"failed", "refused", "slow", "gone_files"})


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.integers(1, 4)), max_size=4, unique_by=lambda each: each[0]),
    st.lists(st.integers(1, 30), max_size=3),
)
def test_whatever_fails_and_however_often_a_run_ends_each_row_has_one_outcome(
    tmp_path_factory: pytest.TempPathFactory, faults: list[tuple[str, int]], moments: list[int]
) -> None:
    ledger = tmp_path_factory.mktemp("run") / "run.ledger"
    counts = dict(faults)
    with ending_at(0) as (seen, (notify, holder)):
        stops: list[int] = []

        def heard(what: str) -> None:
            notify(what)
            if stops and len(seen) >= stops[0]:
                stops.clear()
                holder["run"].stop.request(StopHereError())

        with sandbox.running(faults=[f"{name}:{times}" for name, times in faults], notify=heard) as url:
            for moment in moments:
                holder["run"] = Connector(config(url, ledger, max_retries=20))
                stops[:] = [len(seen) + moment]
                with suppress(StopHereError):
                    list(holder["run"].enrich(table()))
                stops.clear()
            rows = enriched(url, cache=ledger, max_retries=20)
            assert (is_right(rows), statuses(rows)) == (True, {"success": ROWS})
            unanswered = {"expired", "cancelled", "partial", "all_failed", "missing_lines", "broken_lines"}
            if not unanswered & counts.keys():
                assert Submitted(url).lines().total() == ROWS
