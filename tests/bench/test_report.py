"""The page and its picture, from runs that are made up."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.bench import chart, path, profile, report, scenarios
from tests.bench.__main__ import measured
from tests.bench.harness import LATENCY, Bench, Run, Trial, check, review
from tests.bench.path import ASIDE, FLOORS, STAGES
from tests.bench.processes import Process
from tests.bench.scenarios import ALL
from tests.bench.stages import Sample

RUNS = [
    Run(scenario, client, case, turn, 1_000, 4.0 + turn, 2.0, 1.0, 99.0, 1_064, 250.0, 0.1)
    for scenario in ALL
    for client, case in (("connector", "64"), ("aiohttp_loop", "64"))
    for turn in range(3)
]


def test_every_scenario_has_its_section() -> None:
    assert list(report.SECTIONS) == list(ALL)


def test_every_stage_and_every_floor_is_one_that_can_be_measured() -> None:
    assert all(callable(getattr(Sample, name)) for name in (*STAGES, *ASIDE, *FLOORS))


def test_every_stage_and_the_whole_path_run(tmp_path: Path) -> None:
    found = {run.case for run in profile.runs(Bench(tmp_path, (), 1, 1), 3)}
    assert found == {*STAGES, *ASIDE, *FLOORS, path.WHOLE}


def test_a_stage_is_shown_with_its_budget_in_microseconds_and_its_share() -> None:
    told = {"map": 4.0, "plain_json": 2.0, "the_whole_path": 80.0}
    runs = [Run("stages", "connector", name, 0, 1_001, 1.0, cost / 1000) for name, cost in told.items()]
    page = report.document({}, runs)
    assert f"| map | 4.0 | {2 * STAGES['map'].budget:.1f} | 5.0 % | reply to outcome |" in page


def test_a_figure_is_a_median_with_its_spread() -> None:
    page = report.document({"CPU": "one"}, RUNS)
    assert "| 64 | this connector | 1,000 | 200 (167 to 250) | 62.5 % (52.1 to 78.1) | 78.1 % |" in page


def test_calls_made_twice_are_those_beyond_the_rows() -> None:
    page = report.document({}, [run for run in RUNS if run.scenario == "kill"][:3])
    assert "Calls made twice, in each round: 64, 64, 64" in page


def test_the_start_is_taken_off_the_cost_of_a_row() -> None:
    assert RUNS[0].cpu_ms == pytest.approx(1000 / 999)


def test_the_picture_is_well_formed_and_names_each_client() -> None:
    root = ET.fromstring(chart.draw(RUNS))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"64 in flight", "this connector", "bare aiohttp loop"} <= set(texts)


def test_calls_without_stragglers_come_in_waves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "STRAGGLER_SHARE", 0.0)
    assert scenarios.ideal_seconds(130, 64) == pytest.approx(3 * 0.05)


def test_a_straggler_holds_up_nobody_else() -> None:
    assert scenarios.ideal_seconds(5_000, 64) < 1.7 * 5_000 * 0.05 / 64 + 3


def test_the_readme_says_what_the_runs_say() -> None:
    case = ("throughput", "256")
    runs = [
        Run(case[0], client, case[1], turn, 1_001, 1_001 / rate, cpu, 0.0)
        for client, rate, cpu in (("connector", 1_216.0, 0.1), ("openai_sdk", 640.0, 1.2))
        for turn in range(3)
    ]
    readme = "before\n| 256 calls in flight | much | more |\nbehind"
    before, row, behind = report.claimed(readme, runs).split("\n")
    assert (before, behind) == ("before", "behind")
    assert row.startswith(
        "| 256 calls in flight | 50 % of the possible rate (OpenAI's SDK) | 95 %, for 1/12 of the CPU"
    )


def test_the_readme_stays_as_it_is_where_a_client_has_failed() -> None:
    runs = [Run("throughput", "connector", "256", 0, 1_001, 1.0)]
    assert report.claimed("| 256 calls in flight | much |", runs) == "| 256 calls in flight | much |"


@pytest.mark.parametrize("client", scenarios.PACES)
@pytest.mark.parametrize("flight", scenarios.FLIGHTS)
@pytest.mark.parametrize("latency", [0.0, LATENCY])
def test_no_trial_is_longer_than_it_may_be(client: str, flight: int, latency: float) -> None:
    load = scenarios.Load(latency, flight)
    rows = load.rows(client, 8.0)
    assert flight <= rows <= scenarios.ROWS
    assert rows == flight or load.seconds(client, rows) <= 8.0 + 0.2 + scenarios.PACES[client].start


def test_all_of_it_takes_twenty_five_minutes_at_most(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [*scenarios.SWIFT[1:], "openai_sdk", "openai_aiohttp", "langchain_batch"], 3, 1.0)
    assert sum(trial.seconds for scenario in ALL.values() for trial in scenario(bench)) < 25 * 60


def test_a_client_that_fails_takes_nothing_with_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    good = Run("tls", "connector", "64", 0, 1, 1.0)

    def measure(command: str) -> list[Run]:
        Process([sys.executable, "-c", command], tmp_path / "stdout").spent()
        return [good]

    failures: list[str] = []
    commands = ["raise SystemExit('no such model')", ""]
    trials = [Trial(good, 1.0, partial(measure, command)) for command in commands]
    assert [measured(trial, failures) for trial in trials] == [[], [good]]
    assert failures == ["this connector (tls, 64)"]
    assert "no such model" in capsys.readouterr().err


@pytest.mark.parametrize(("ids", "problem"), [([0], "missing"), ([0, 1, 1], "twice"), ([0, 1], "")])
def test_an_output_is_checked_row_by_row(tmp_path: Path, ids: list[int], problem: str) -> None:
    target = tmp_path / "out.jsonl"
    rows = [{"id": row, "content": f"echo:{review(row)}"} for row in ids]
    target.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if problem:
        with pytest.raises(RuntimeError, match=problem):
            check(target, 2)
    else:
        check(target, 2)
