"""A preview shows what would be asked, without asking."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from connector import cli
from tests.commands.test_enrich import run
from tests.endpoint import Endpoint, answer_to


def preview(source: Path, *words: str) -> int:
    return cli.run(["preview", str(source), *words])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"text": f"row {number}"}) + "\n" for number in range(20)))
    return path


def test_requests_are_shown_and_nothing_is_called(
    source: Path, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    preview(source, "--url", endpoint.url, "--prompt", "Say {{ text }}", "--rows", "2")
    shown = capsys.readouterr().out
    assert shown.count("request to") == 2
    assert shown.count("Say row") == 2
    assert not endpoint.journal.calls


def test_a_call_shows_reply_and_columns_and_projects_the_whole_table(
    source: Path, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    preview(source, "--url", endpoint.url, "--model", "m", "--prompt", "Say {{ text }}", "--rows", "2", "--call")
    shown = capsys.readouterr().out
    assert shown.count(": reply") == 2
    assert answer_to("Say row 0") in shown
    assert "for all 20 rows, if they are like these 2:" in shown
    assert len(endpoint.journal.calls) == 2


def test_both_prices_are_shown_and_a_preview_of_batches_calls_at_once(
    source: Path, endpoint: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.json"
    config.write_text(json.dumps({"prices": {"output": 1_000_000}, "prompt": "Say {{ text }}"}))
    preview(source, "--url", endpoint.url, "--model", "m", "--config", str(config), "--rows", "2", "--call", "--batch")
    (line,) = (each for each in capsys.readouterr().out.splitlines() if each.startswith("  cost: "))
    live, batched = (float(part.split("$")[1].replace(",", "")) for part in line.split("; with --batch: "))
    assert live == 2 * batched > 0
    assert len(endpoint.journal.calls) == 2


@pytest.mark.parametrize(("named", "called"), [("{{ model }}", "new"), ("new", "new"), ("old", None), (None, None)])
def test_a_model_that_the_config_s_request_would_not_name_is_refused(
    named: str | None, called: str | None, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = {"messages": [{"role": "user", "content": "{{ text }}"}]} | ({"model": named} if named else {})
    config = tmp_path / "c.json"
    config.write_text(json.dumps({"url": "http://localhost/v1", "request_format": request}))
    code = preview(source, "--config", str(config), "--model", "new", "--rows", "1")
    said = capsys.readouterr()
    assert code == (0 if called else 2)
    assert (f'"model": "{called}"' in said.out) if called else ("--model: has no effect beside this" in said.err)


def test_half_of_a_character_in_a_column_is_shown_as_the_run_would_write_it(
    source: Path, endpoint: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.json"
    config.write_text(json.dumps({"prompt": "{{ text }}", "response_format": {"half": "{{ '\\ud800' }}x"}}))
    shared = ("--url", endpoint.url, "--model", "m", "--config", str(config), "--rows", "1", "--call")
    assert preview(source, *shared) == 0
    assert '"half": "\ufffdx"' in capsys.readouterr().out


def test_a_model_of_the_config_s_list_is_picked_whatever_its_request_names(source: Path, tmp_path: Path) -> None:
    models = [{"name": "a", "id": "one"}, {"name": "b", "id": "two", "input_price": 3, "output_price": 4}]
    request = {"model": "two", "messages": [{"role": "user", "content": "{{ text }}"}]}
    config = tmp_path / "c.json"
    config.write_text(json.dumps({"url": "http://localhost/v1", "request_format": request, "models": models}))
    assert preview(source, "--config", str(config), "--model", "b", "--rows", "1") == 0


def test_rows_come_from_the_whole_table_and_a_seed_gives_others(
    source: Path, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    def rows(*words: str) -> list[int]:
        assert preview(source, "--url", endpoint.url, "--prompt", "Say {{ text }}", *words) == 0
        return [int(line.split()[2][:-1]) for line in capsys.readouterr().out.splitlines() if line.startswith("── row")]

    assert rows("--sample", "head") == [1, 2, 3, 4, 5]
    assert rows() == rows("--seed", "0") != rows("--seed", "1")
    assert max(rows()) > 5
    assert rows("--rows", "30") == list(range(1, 21))


def test_what_all_requests_share_is_shown_once(
    source: Path, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    preview(source, "--url", endpoint.url, "--model", "m", "--prompt", "Say {{ text }}", "--column", "mood=good|bad")
    shown = capsys.readouterr().out
    assert shown.count("json_schema") == 2  # in one schema: the type, and the name of its content
    assert shown.count("every request to") == 1
    assert shown.count("Say row") == 5


def test_rows_of_several_files_are_named_by_their_file(
    tmp_path: Path, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path in paths:
        path.write_text("text\none\ntwo\n")
    preview(paths[0], str(paths[1]), "--url", endpoint.url, "--model", "m", "--prompt", "{{ text }}", "--call")
    shown = capsys.readouterr().out
    assert [shown.count(f"── {path} row {row}: request") for path in paths for row in (1, 2)] == [1] * 4
    assert f"{paths[1]} row 2: success" in shown


def test_rows_that_where_skips_are_not_shown(
    source: Path, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--url", endpoint.url, "--model", "m", "--prompt", "Say {{ text }}", "--call", "--where"]
    preview(source, *words, "{{ text in ('row 3', 'row 17') }}")
    shown = capsys.readouterr().out
    assert "row 4: success" in shown
    assert "row 18: success" in shown
    assert "for all 2 rows, if they are like these 2:" in shown
    preview(source, *words, "{{ text == 'none' }}")
    assert "there is no row to call for" in capsys.readouterr().out


def test_of_standard_input_the_first_rows_are_shown(endpoint: Endpoint) -> None:
    rows = "".join(json.dumps({"text": f"row {number}"}) + "\n" for number in range(20))
    done = run("preview", "-", "--url", endpoint.url, "--prompt", "Say {{ text }}", "--rows", "2", stdin=rows)
    assert "── row 1: request" in done.stdout
    assert "── row 2: request" in done.stdout
