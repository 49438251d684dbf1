"""All that the studio does, without its page."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from threading import Event
from typing import Any

import pytest

pytest.importorskip("nicegui", reason="the extra studio is not installed")

from connector import cli, stores
from connector.base.errors import ConfigError
from connector.base.records import Record
from connector.studio.draft import Draft, OutputColumn, placed
from connector.studio.guard import Guard
from connector.studio.labels import Labels
from connector.studio.server import report_at
from connector.studio.session import Session
from tests.commands.test_evaluate import SCHEMA, labels, saying
from tests.endpoint import Endpoint
from tests.images import png
from tests.patience import PATIENCE

SECRET = "sk-" + "7" * 40


def session(folder: Path, url: str, *, rows: int = 30, **options: Any) -> Session:
    path = folder / "reviews.csv"
    told = [
        f'{n},"item {n} {"broken" if n % 3 == 0 else "fine"}",{"bad" if n % 3 == 0 else "good"}' for n in range(rows)
    ]
    path.write_text("\n".join(["id,review,label", *told]) + "\n")
    given = stores.load("files").Options(path=str(path))
    config = {"url": url, "model": "weak", "prompt": "{{ review }}", "output_schema": SCHEMA} | options
    return Session(given, [str(path)], [("a", config)], labels=folder / "labels.jsonl")


def test_fields_and_json_are_two_views_of_one_config() -> None:
    draft = Draft({"prompt": "Hi {{ name }}"})
    draft.put_columns([OutputColumn("mood", "one of", ("good", "bad")), OutputColumn("score", "number")])
    draft.put_model("m", temperature=0.5, max_tokens=20)
    told = json.loads(draft.text)
    assert told["output_schema"]["properties"]["mood"] == {"type": "string", "enum": ["good", "bad"]}
    assert told["models"] == [{"name": "m", "id": "m", "temperature": 0.5, "max_tokens": 20}]
    draft.put_text(draft.text.replace("Hi", "Hello").replace('"bad"', '"bad", "mixed"'))
    assert draft.get("prompt") == "Hello {{ name }}"
    assert draft.columns == [OutputColumn("mood", "one of", ("good", "bad", "mixed")), OutputColumn("score", "number")]
    before = draft.options
    draft.put_text('{"prompt": ')
    assert draft.broken is not None
    assert draft.options == before
    draft.put_text('{"prompt": "x", "output_schema": {"type": "object", "properties": {"a": {"minimum": 3}}}}')
    assert draft.columns is None  # only the JSON tells them


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": SECRET},
        {"api_key": f"${{TEAM}}:{SECRET}"},
        {"headers": {"X-Team": SECRET}},
        {"url": f"https://h/v1?api-key={SECRET}"},
        {"output": {"type": "sql", "url": "postgresql://me:hunter22@h/db", "table": "t"}},
        {"proxy": "http://me:hunter22@h:1"},
        {"tools": [{"type": "mcp", "server_label": "s", "server_url": "https://s/mcp", "authorization": "hunter22"}]},
    ],
)
def test_no_view_shows_a_secret_and_what_is_saved_has_it(options: dict[str, Any]) -> None:
    draft = Draft({"prompt": "Hi", **options})
    assert SECRET not in draft.text
    assert "hunter22" not in draft.text
    assert "hunter22" not in draft.rendered(Record(0, {}), []).text
    draft.put("prompt", "Hello")
    draft.put_text(draft.text)
    assert draft.options == {"prompt": "Hello", **options}
    assert draft.copy("B").options == draft.options


@pytest.mark.parametrize("name", ["review", "not", "true", "None", "self", "range", "in", "record", "a'b", "x}}y", "ä"])
def test_a_column_that_is_inserted_is_that_column_whatever_its_name(name: str) -> None:
    draft = Draft({"url": "http://h/v1", "model": "m", "prompt": f"It says {placed(name)}"})
    assert "It says fine" in draft.rendered(Record(0, {name: "fine"}), [name]).text


def test_a_reference_to_the_environment_is_not_a_secret() -> None:
    assert "${OPENAI_API_KEY}" in Draft({"api_key": "${OPENAI_API_KEY}"}).text


def test_what_is_wrong_is_reported_where_it_is_with_what_was_meant(tmp_path: Path) -> None:
    opened = session(tmp_path, "http://127.0.0.1:9/v1", prompt="{{ revew }}")
    opened.truth = "label"
    (problem,) = opened.problems(opened.drafts[0])
    assert problem.path == "prompt"
    assert 'did you mean "review"' in problem.message
    opened.drafts[0].put("prompt", "{{ label }}")
    assert "no column" in opened.problems(opened.drafts[0])[0].message  # no prompt sees the truth
    opened.drafts[0].put("prompt", "{{ review }}")
    assert not opened.problems(opened.drafts[0])
    assert "item 4 fine" in opened.rendered(opened.drafts[0], opened.table.records[4]).text


def test_rows_may_name_images_beside_the_table_as_in_every_other_way_in(tmp_path: Path) -> None:
    (tmp_path / "item.png").write_bytes(png(1_000))
    opened = session(tmp_path, "http://127.0.0.1:9/v1", image_columns=["photo"])
    record = Record(0, {"review": "a chair", "photo": "item.png"})
    told = opened.drafts[0].copy("B").rendered(record, ["review", "photo"])
    assert list(told.problems) == []
    assert '"[image/png, ' in told.text  # the page gets the request at each edit, so it has no files in it
    assert "base64" not in told.text


def test_rows_that_cannot_be_rendered_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"t": None if n < 3 else "x"}) + "\n" for n in range(10)))
    given = stores.load("files").Options(path=str(path))
    opened = Session(given, [str(path)], [("", {"prompt": "{{ t.x.y }}"})], labels=tmp_path / "l")
    (problem,) = [
        each for each in opened.problems(opened.drafts[0]) if "3 of" in each.message or "10 of" in each.message
    ]
    assert problem.path == "rows"


class Rows(list[Record]):
    """Rows that come from somewhere else."""

    def __init__(self, records: Iterator[Record]) -> None:
        super().__init__()
        self._records = records

    def __iter__(self) -> Iterator[Record]:
        return self._records


def test_what_the_whole_table_costs_is_found_out_apart_and_can_be_stopped(tmp_path: Path) -> None:
    named = {"response_format": {"mood": "{{ parsed.label }}"}}
    opened = session(tmp_path, "http://127.0.0.1:9/v1", rows=300, **named)
    rows, asked, seen = opened.table.records, Event(), []

    def slow() -> Iterator[Record]:
        for record in rows:
            assert asked.wait(PATIENCE)
            seen.append(record)
            yield record

    opened.table.records = Rows(slow())  # they come only once the page has gone on
    job = opened.whole(opened.drafts[0])
    assert (job.is_over, seen) == (False, [])
    with pytest.raises(ConfigError, match="estimating is still running: wait for its end, or stop it"):
        opened.whole(opened.drafts[0])
    asked.set()
    assert job.wait(PATIENCE)
    assert (job.state, job.done) == ("done", 300)
    assert job.summary.startswith("A: 300 rows: ")
    opened.table.records = Rows(repeat(rows[0]))  # they have no end
    job = opened.whole(opened.drafts[0])
    job.end()
    assert job.wait(PATIENCE)
    assert (job.state, job.summary) == ("stopped", "")


def test_a_search_finds_rows_whatever_their_case(tmp_path: Path) -> None:
    opened = session(tmp_path, "http://127.0.0.1:9/v1", rows=300)
    assert len(opened.table.found("ITEM 29")) == 11
    assert [opened.table.records[place].index for place in opened.table.found("ITEM 29")[1:3]] == [290, 291]
    assert len(opened.table.found("")) == 300
    assert [(each.name, each.type) for each in opened.table.columns] == [
        ("id", "whole number"),
        ("review", "text"),
        ("label", "text"),
    ]


def test_variants_are_tried_compared_and_run_and_no_row_is_paid_for_twice(tmp_path: Path) -> None:
    with Endpoint(script=saying(labels)) as endpoint:
        opened = session(tmp_path, endpoint.url, prices={"input": 1, "output": 1})
        opened.truth = "label"
        better = opened.add(opened.drafts[0])
        assert better is not None
        better.put_model("strong")
        opened.choose(30)
        assert [found.calls for _, found in opened.estimate(opened.drafts) if not isinstance(found, ConfigError)] == [
            30,
            30,
        ]
        job = opened.try_out(opened.drafts)
        with pytest.raises(ConfigError, match="is still running"):
            opened.try_out(opened.drafts)
        assert job.wait(PATIENCE)
        assert (job.state, job.error) == ("done", "")
        found = opened.compare()
        assert found is not None
        assert [each.right for each in found.variants] == [20, 30]
        assert found.comparisons[0].verdict == "better"
        assert "item" in opened.reply(better, opened.outcomes(better)[0]) or "bad" in opened.reply(
            better, opened.outcomes(better)[0]
        )
        assert not opened.is_stale(better)

        assert opened.clashing(better) == ["label"]
        assert better.name_apart(opened.table.names)
        assert better.columns == [OutputColumn("label", "one of", ("good", "bad"))]
        config, output = tmp_path / "best.json", tmp_path / "out.jsonl"
        command = opened.save(better, str(config))
        assert f"--config {config}" in command
        with pytest.raises(ConfigError, match="already exists"):
            opened.save(better, str(config))
        job = opened.run(better, str(output), report=str(tmp_path / "r.json"))
        assert job.wait(PATIENCE)
        assert (job.state, job.error) == ("done", "")
        rows = [json.loads(line) for line in output.read_text().splitlines()]
        assert [row["label_answer"] == row["label"] for row in rows] == [True] * 30
        assert json.loads((tmp_path / "r.json").read_text())["outcomes"]["rows"] == 30
        assert len(endpoint.journal.calls) == 60
        words = ["enrich", opened.inputs[0], "--config", str(config), "--output", str(tmp_path / "o.csv"), "-q"]
        assert cli.run(words) == 0
        assert len(endpoint.journal.calls) == 60


def test_labels_are_the_truth_where_no_column_is_and_they_stay(tmp_path: Path) -> None:
    with Endpoint(script=saying(labels)) as endpoint:
        opened = session(tmp_path, endpoint.url)
        opened.truth = None
        opened.drafts[0].put_columns([OutputColumn("verdict", "one of", ("good", "bad"))])
        opened.drafts[0].put("output_schema", {**SCHEMA, "properties": SCHEMA["properties"]})
        opened.drafts[0].put("response_format", {"verdict": "{{ parsed.label }}"})
        opened.choose(6)
        assert opened.try_out(opened.drafts).wait(PATIENCE)
        found = opened.compare()
        assert found is not None
        assert found.targets == []
        for record in opened.sample:
            opened.label(record, "bad" if record.index % 3 == 0 else "good")
        assert opened.compared is not None
        assert opened.compared.targets == ["verdict"]
        wrong = sum(record.index % 3 == 0 for record in opened.sample)
        assert opened.compared.variants[0].right == 6 - wrong
        again = session(tmp_path, endpoint.url)
        assert again.labels.get(opened.sample[0], "verdict") is not None
        opened.label(opened.sample[0], None)
        assert opened.compared.compared == 5


def test_a_label_is_not_lost_with_a_line_that_was_cut_off_before_it(tmp_path: Path) -> None:
    path, record = tmp_path / "labels.jsonl", Record(0, {"review": "fine"})
    path.write_text('{"row": "7')
    Labels(path).put(record, "label", "good")
    assert Labels(path).get(record, "label") == "good"
    assert len(path.read_bytes().splitlines()) == 2


@pytest.mark.parametrize(
    ("on_error", "state", "rows"), [("record", "done", 6), ("skip", "done", 4), ("fail", "failed", 6)]
)
def test_failed_rows_of_a_run_end_as_on_error_says(tmp_path: Path, on_error: str, state: str, rows: int) -> None:
    with Endpoint(script=saying(lambda call: {"label": "odd" if "broken" in call.prompt else "good"})) as endpoint:
        opened = session(tmp_path, endpoint.url, rows=6, on_error=on_error, max_repairs=0)
        opened.drafts[0].name_apart(opened.table.names)
        job = opened.run(opened.drafts[0], str(tmp_path / "out.jsonl"))
        assert job.wait(PATIENCE)
        assert (job.state, "on_error is fail" in job.error) == (state, state == "failed")
        assert len((tmp_path / "out.jsonl").read_text().splitlines()) == rows


def test_a_run_is_paused_and_stopped_and_keeps_what_it_has_paid_for(tmp_path: Path) -> None:
    with Endpoint(script=saying(labels)) as endpoint:
        opened = session(tmp_path, endpoint.url, rows=3000, concurrency=2)
        opened.drafts[0].name_apart(opened.table.names)
        job = opened.run(opened.drafts[0], str(tmp_path / "out.csv"))
        endpoint.journal.wait_for(calls=5)
        job.pause()
        states = [job.state]
        job.go_on()
        states.append(job.state)
        job.end()
        assert job.wait(PATIENCE)
        assert [*states, job.state] == ["paused", "running", "stopped"]
        assert "not paid for again" in job.error
        assert not (tmp_path / "out.csv").exists()
        paid = len(endpoint.journal.calls)
        assert paid < 3000
        assert opened.run(opened.drafts[0], str(tmp_path / "out.csv")).wait(PATIENCE)
        assert len(endpoint.journal.calls) == 3000


def test_a_judge_compares_two_variants_where_nobody_knows_the_truth(tmp_path: Path) -> None:
    def answer(call: Any) -> dict[str, str]:
        if call.body["model"] != "judge":
            return labels(call)
        first = call.prompt.partition("The first answer:")[2].partition("The second answer:")[0]
        return {"reason": "it is broken", "better": "first" if "bad" in first else "second"}

    with Endpoint(script=saying(answer)) as endpoint:
        opened = session(tmp_path, endpoint.url)
        opened.drafts[0].name_apart(opened.table.names)
        with pytest.raises(ConfigError, match="two variants"):
            opened.judge()
        other = opened.add(opened.drafts[0])
        assert other is not None
        other.put_model("strong")
        opened.judge_model = "judge"
        opened.choose(30)
        assert opened.try_out(opened.drafts).wait(PATIENCE)
        assert opened.judge().wait(PATIENCE)
        assert opened.compared is not None
        (by_judge,) = opened.compared.comparisons
        assert (by_judge.by, by_judge.verdict, by_judge.only_second) == ("judge", "better", 10)
        assert {row.verdict for row in opened.rows} == {"B", "tie"}


def test_variants_that_were_tried_on_other_rows_are_not_compared(tmp_path: Path) -> None:
    with Endpoint(script=saying(labels)) as endpoint:
        opened = session(tmp_path, endpoint.url)
        opened.truth = "label"
        other = opened.add(opened.drafts[0])
        assert other is not None
        other.put_model("strong")
        opened.choose(8, seed=1)
        assert opened.try_out([opened.drafts[0]]).wait(PATIENCE)
        assert opened.compare() is not None
        opened.choose(8, seed=2)
        assert (opened.compared, opened.rows) == (None, [])
        assert opened.compare() is None
        assert opened.try_out([other]).wait(PATIENCE)
        found = opened.compare()
        assert found is not None
        assert [(each.name, each.right) for each in found.variants] == [("B", 8)]
        assert {row.number for row in opened.rows} == {record.index + 1 for record in opened.sample}
        with pytest.raises(ConfigError, match="on the same rows"):
            opened.judge()


def test_a_report_takes_the_place_of_no_other_file(tmp_path: Path) -> None:
    opened = session(tmp_path, "http://127.0.0.1:9/v1")
    opened.drafts[0].name_apart(opened.table.names)
    job = opened.run(opened.drafts[0], str(tmp_path / "r.json"), report=f"{tmp_path}/./r.json")
    assert job.wait(PATIENCE)
    assert job.state == "failed"
    assert "reads or writes this file" in job.error
    assert opened.report_path is None


@pytest.mark.parametrize(("name", "kind"), [("r.json", "application/json"), ("r.html", "text/html")])
def test_no_report_runs_anything_in_the_studio(name: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text('{"error": "<script>steal()</script>"}')
    served = report_at(tmp_path / name)
    assert served.media_type == kind
    assert served.headers["content-security-policy"].startswith("sandbox; default-src 'none'")


def test_the_models_of_the_endpoint_are_listed(tmp_path: Path, endpoint: Endpoint) -> None:
    assert session(tmp_path, endpoint.url).models(Draft({"url": endpoint.url})) == ["echo-1"]


Sent = list[dict[str, Any]]


def asked(guard: Guard, *, kind: str = "http", query: str = "", **headers: str) -> Sent:
    """What a guarded application answers."""
    sent: Sent = []

    async def send(message: Any) -> None:
        sent.append(dict(message))

    async def receive() -> Any:
        return {"type": f"{kind}.connect"}

    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "path": "/", "method": "GET", "query_string": query.encode(), "headers": pairs}
    asyncio.run(guard(scope, receive, send))
    return sent


@pytest.fixture
def guarded() -> tuple[Guard, str]:
    """A guard, and the cookie of its person."""

    async def inner(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        del receive
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"the page"})
        else:
            await send({"type": "websocket.accept"})

    guard = Guard(inner, 8123)
    first = asked(guard, query=f"token={guard.token}", host="127.0.0.1:8123")
    headers = dict(first[0]["headers"])
    assert first[0]["status"] == 200
    cookie = headers[b"set-cookie"].decode()
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert guard.token not in cookie
    return guard, cookie.partition(";")[0]


def test_its_person_sees_the_page_under_a_policy_that_lets_nothing_out(guarded: tuple[Guard, str]) -> None:
    guard, cookie = guarded
    sent = asked(guard, host="localhost:8123", cookie=cookie)
    assert sent[1]["body"] == b"the page"
    policy = dict(sent[0]["headers"])[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    socket = asked(guard, kind="websocket", host="localhost:8123", cookie=cookie, origin="http://localhost:8123")
    assert socket == [{"type": "websocket.accept"}]


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "127.0.0.1:8123"},
        {"host": "127.0.0.1:8123", "cookie": "studio_8123=guess"},
        {"host": "evil.example:8123", "cookie": "ours"},
        {"host": "127.0.0.1:9999", "cookie": "ours"},
        {"host": "127.0.0.1:8123", "cookie": "ours", "origin": "http://evil.example"},
        {"host": "127.0.0.1:8123", "cookie": "ours", "origin": "null"},
        {"host": "127.0.0.1:8123", "cookie": "ours", "origin": "http://127.0.0.1:9999"},
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_nobody_else_sees_anything(kind: str, headers: dict[str, str], guarded: tuple[Guard, str]) -> None:
    guard, cookie = guarded
    given = {name: cookie if value == "ours" else value for name, value in headers.items()}
    sent = asked(guard, kind=kind, **given)
    if kind == "http":
        assert sent[0]["status"] == 403
        assert b"page" not in sent[1]["body"]
    else:
        assert sent == [{"type": "websocket.close", "code": 1008}]
    wrong = asked(guard, query="token=guess", host="127.0.0.1:8123")
    assert wrong[0]["status"] == 403


@pytest.mark.parametrize("others", ["a@b=1", 'x={"a": "b c"}', "flag", "a b", "=", "studio_8123=theirs", "ä=1;;"])
def test_cookies_of_other_programs_on_the_machine_lock_nobody_out(others: str, guarded: tuple[Guard, str]) -> None:
    guard, cookie = guarded
    for sent in (f"{others}; {cookie}", f"{cookie}; {others}"):
        assert asked(guard, host="127.0.0.1:8123", cookie=sent)[0]["status"] == 200
    assert asked(guard, host="127.0.0.1:8123", cookie=others)[0]["status"] == 403


def test_a_socket_without_an_origin_is_not_a_browser_s(guarded: tuple[Guard, str]) -> None:
    guard, cookie = guarded
    assert asked(guard, kind="websocket", host="127.0.0.1:8123", cookie=cookie)[0]["type"] == "websocket.close"


def test_nobody_else_can_make_what_the_page_reads_at_its_start() -> None:
    importlib.import_module("connector.studio.server")
    with pytest.raises(OSError, match="Not a directory"):
        Path(os.environ["NICEGUI_STORAGE_PATH"]).mkdir(parents=True)
