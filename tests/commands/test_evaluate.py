"""Two configs on the same rows: which is better, what it costs, and an exit code that CI can stop at."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy", reason="the extra evaluate is not installed")

from connector import cli
from connector.commands import ExitCode
from tests.endpoint import Action, Call, Endpoint, good
from tests.faults import play, render
from tests.report.samples import HOSTILE

SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["good", "bad"]}},
    "required": ["label"],
    "additionalProperties": False,
}
Answer = Callable[[Call], Any]


def saying(answer: Answer) -> Callable[[Call], Action | None]:
    """An endpoint whose answers are functions of the call."""

    def script(call: Call) -> Action | None:
        if call.method != "POST":
            return None
        reply = good(call)
        reply.body["choices"][0]["message"]["content"] = json.dumps(answer(call))
        return Action("said", play(render(reply)))

    return script


def labels(call: Call) -> dict[str, str]:
    """Model `strong` is right on all rows, `weak` calls all good."""
    is_bad = "broken" in call.prompt and call.body["model"] == "strong"
    return {"label": "bad" if is_bad else "good"}


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    rows = [f'{n},"item {n} {"broken" if n % 3 == 0 else "fine"}",{"bad" if n % 3 == 0 else "good"}' for n in range(40)]
    path.write_text("\n".join(["id,review,label", *rows, "99,nobody knows,"]) + "\n")
    return path


def config(folder: Path, name: str, url: str, **options: Any) -> str:
    path = folder / f"{name}.json"
    given = {"url": url, "prompt": "{{ review }}", "output_schema": SCHEMA, "prices": {"input": 1, "output": 1}}
    path.write_text(json.dumps(given | options))
    return str(path)


def test_it_says_which_is_better_by_how_much_and_what_it_costs(
    reviews: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Endpoint(script=saying(labels)) as endpoint:
        weak = config(tmp_path, "weak", endpoint.url, model="weak")
        strong = config(tmp_path, "strong", endpoint.url, model="strong", prices={"input": 0.7, "output": 0.7})
        words = ["evaluate", str(reviews), "--config", weak, "--config", strong, "--truth", "label"]
        page = tmp_path / "out.html"
        assert cli.run([*words, "--report", str(page), "--not-worse", "--min-accuracy", "99"]) == ExitCode.DONE
        told = " ".join(capsys.readouterr().out.split())
        assert "B is better than A by 35.0 points" in told
        assert "B costs 30 % less" in told
        assert "p < 0.001" in told
        assert "14 rows on which the variants differ" in told
        calls = len(endpoint.journal.calls)
        assert calls == 80  # the row without a truth is not asked for

        assert cli.run([*words, "--json"]) == ExitCode.DONE
        found = json.loads(capsys.readouterr().out)
        weak_score = found["variants"][0]["scores"][0]
        assert (weak_score["right"], weak_score["rows"]) == (26, 40)
        assert weak_score["confusion"]["counts"] == [[26, 0], [14, 0]]
        assert [(each["label"], each["recall"]["value"]) for each in weak_score["labels"]] == [("good", 1), ("bad", 0)]
        assert {row["rank"] for row in found["rows"][:14]} == {0}
        assert {name for row in found["rows"] for name in row["input"]} == {"id", "review"}

        backwards = ["evaluate", str(reviews), "--config", strong, "--config", weak, "--truth", "label"]
        assert cli.run([*backwards, "--not-worse"]) == ExitCode.FAILED_ROWS
        assert cli.run([*backwards, "--max-loss", "60"]) == ExitCode.DONE
        assert cli.run([*backwards, "--max-loss", "20"]) == ExitCode.FAILED_ROWS
        assert cli.run([*backwards, "--min-accuracy", "70"]) == ExitCode.FAILED_ROWS
        assert "not met: the accuracy of B is 65.0 %, less than 70 %" in capsys.readouterr().err
    assert "label" not in json.dumps([call.prompt for call in endpoint.journal.calls])


def test_nothing_is_paid_for_twice_and_the_run_that_follows_has_its_replies(reviews: Path, tmp_path: Path) -> None:
    unlabelled = tmp_path / "all.csv"
    unlabelled.write_text(re.sub(r",(label|good|bad)?$", "", reviews.read_text(), flags=re.MULTILINE))
    with Endpoint(script=saying(labels)) as endpoint:
        one = config(tmp_path, "one", endpoint.url, model="strong")
        for _ in range(2):
            assert cli.run(["evaluate", str(reviews), "--config", one, "--truth", "label", "--sample", "25"]) == 0
        assert len(endpoint.journal.calls) == 25
        assert cli.run(["enrich", str(unlabelled), "--config", one, "--output", str(tmp_path / "o.csv"), "-q"]) == 0
        assert len(endpoint.journal.calls) == 41


def test_a_judge_sees_both_orders_and_only_a_steady_verdict_counts(
    reviews: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(call: Call) -> dict[str, str]:
        if call.body["model"] != "judge":
            return labels(call)
        first = call.prompt.partition("The first answer:")[2].partition("The second answer:")[0]
        if "item 3 " in call.prompt:  # favours a place
            return {"reason": "it came first", "better": "first"}
        return {"reason": "it says that it is broken", "better": "first" if "bad" in first else "second"}

    with Endpoint(script=saying(answer)) as endpoint:
        weak, strong = (config(tmp_path, name, endpoint.url, model=name) for name in ("weak", "strong"))
        judge = tmp_path / "judge.json"
        judge.write_text(json.dumps({"url": endpoint.url, "model": "judge"}))
        renamed = tmp_path / "r.csv"
        renamed.write_text(reviews.read_text().replace("id,review,label", "id,review,known", 1))
        words = ["evaluate", str(renamed), "--config", weak, "--config", strong, "--judge", str(judge), "--json"]
        assert cli.run(words) == ExitCode.DONE
        found = json.loads(capsys.readouterr().out)
        (compared,) = found["comparisons"]
        assert (compared["only_second"], compared["only_first"], compared["unsteady"]) == (13, 0, 1)
        assert compared["verdict"] == "better"
        assert "{{ first }}" in found["judge"]["prompt"]
        judged = [call for call in endpoint.journal.calls if call.body["model"] == "judge"]
        assert len(judged) == 28  # two orders of the 14 rows whose answers differ


def test_a_page_shows_hostile_rows_and_answers_as_text(tmp_path: Path) -> None:
    rows = tmp_path / "r.jsonl"
    rows.write_text("".join(json.dumps({"review": text, "label": text}) + "\n" for text in HOSTILE * 2))
    page = tmp_path / "out.html"
    with Endpoint(script=saying(lambda call: {"label": call.prompt})) as endpoint:
        schema = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}
        one = config(tmp_path, "<img src=x onerror=alert(1)>", endpoint.url, output_schema=schema, model="<b>m</b>")
        other = config(tmp_path, "b", endpoint.url, output_schema=schema, prompt="no: {{ review }}", model="m")
        words = ["evaluate", str(rows), "--config", one, "--config", other, "--truth", "label"]
        assert cli.run([*words, "--report", str(page), "--quiet"]) == ExitCode.DONE
    text = page.read_text()
    body = text[text.index("<body>") :]
    assert not re.search(r"<(script|img|iframe|svg|b>m)", body)
    assert "&lt;img src=x" in body


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--truth", "lable"], 'did you mean "label"'),
        (["--judge", "j.json"], "nothing to be compared with"),
        (["--not-worse", "--truth", "label"], "nothing to be compared with"),
        (["--min-accuracy", "3"], "name its column with --truth"),
        (["--truth", "label", "--report", "out.pdf"], "end its name in .html"),
    ],
)
def test_what_cannot_be_compared_is_reported_before_any_call(
    words: list[str], told: str, reviews: Path, tmp_path: Path, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    one = config(tmp_path, "one", endpoint.url)
    assert cli.run(["evaluate", str(reviews), "--config", one, *words]) == ExitCode.USAGE
    assert told in capsys.readouterr().err
    assert not endpoint.journal.calls


@pytest.mark.parametrize("command", ["evaluate", "studio"])
def test_what_is_not_installed_is_reported_with_the_extra(
    command: str, reviews: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(("connector.evaluate", "connector.studio"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rapidfuzz", None)
    one = config(tmp_path, "one", "http://127.0.0.1:9/v1")
    assert cli.run([command, str(reviews), "--config", one]) == ExitCode.USAGE
    assert f"openai-compatible-connector[{command}]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "name the table"),
        (["reviews.csv", "--truth", "lable"], "there is no column of this name"),
        (["-"], "only once"),
        (["reviews.csv", "--port", "70000"], "0 to 65535"),
        (["reviews.csv", *(["-c", "c.json"] * 5)], "up to 4 configs"),
    ],
)
def test_a_studio_that_cannot_be_opened_says_why(
    words: list[str], told: str, reviews: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nicegui", reason="the extra studio is not installed")
    monkeypatch.chdir(reviews.parent)
    assert cli.run(["studio", *words, "--no-browser"]) == ExitCode.USAGE
    assert told in capsys.readouterr().err
