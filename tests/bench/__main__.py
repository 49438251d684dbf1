"""`make bench`: this connector beside other ways to run a table, each in its own process, taking turns."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tests.bench import pages, report
from tests.bench.ceiling import ceiling
from tests.bench.harness import Bench, Run, Trial
from tests.bench.machine import facts, load, pinning
from tests.bench.scenarios import ALL

_PEERS: Final = {
    "aiohttp_loop": "aiohttp",
    "openai_sdk": "openai",
    "openai_aiohttp": "aiohttp",
    "langchain_batch": "langchain_openai",
}
_OPTIONAL: Final = {"litellm": ("litellm_loop", "litellm")}


def main() -> None:
    """Runs it. The docs are written only by a whole run: no scenario left out, nothing made smaller."""
    arguments = _arguments()
    names = arguments.only or [*ALL]
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        scale, rounds = (0.05, 1) if arguments.quick else (1.0, arguments.rounds)
        bench = Bench(Path(directory), _peers(arguments.peers), rounds, scale, full=arguments.full)
        planned = {name: sum(trial.seconds for trial in ALL[name](bench)) for name in names}
        _say(_plan(planned))
        if not arguments.list:
            _run(bench, planned, is_whole=not arguments.only and not arguments.quick)


def _run(bench: Bench, planned: Mapping[str, float], *, is_whole: bool) -> None:
    """Measures one scenario after another, and writes what there is after each: the next may be interrupted."""
    started, machine = time.monotonic(), facts()
    _say(f"{pinning()}; {machine['Python']}, load {machine['Load']}")
    machine["The endpoint's own ceiling"] = ceiling()
    _say(machine["The endpoint's own ceiling"])
    before, runs, failures = machine["Load"], list[Run](), list[str]()
    for at, (name, seconds) in enumerate(planned.items(), 1):
        begun = time.monotonic()
        for trial in ALL[name](bench):
            runs += measured(trial, failures)
        _say(f"{name}: {time.monotonic() - begun:.0f} s of {seconds:.0f} expected")
        machine["Load"] = f"{before}, {load()} after"
        machine["It took"] = f"{(time.monotonic() - started) / 60:.0f} minutes"
        lacking = {"Failed": "; ".join(dict.fromkeys(failures)), "Not measured": ", ".join([*planned][at:])}
        if is_whole:
            write(machine | {title: text for title, text in lacking.items() if text}, runs)
    print("\n".join(report.sections(runs)))  # noqa: T201 - this is its output
    if failures:
        sys.exit(f"{len(failures)} runs failed")


def measured(trial: Trial, failures: list[str]) -> Sequence[Run]:
    """What a trial came to: nothing if it failed, since the figures of all others are not to be lost with it."""
    scenario, client, case = trial.run[:3]
    try:
        runs = trial.measure()
    except Exception as problem:  # noqa: BLE001 - a client that we don't know may fail in any way
        _say(f"{scenario} {case} {client} failed: {problem}")
        failures.append(f"{report.NAMES[client]} ({scenario}, {case})")
        return []
    for run in runs:
        figures = f"{run.rate:,.0f} rows/s, {run.cpu_ms:.3f} ms CPU a row, {run.peak_mb:.0f} MB"
        _say(f"{scenario} {run.case} {client}: {figures}")
    return runs


def write(machine: Mapping[str, str], runs: Sequence[Run]) -> None:
    """Writes the figures, and what is made from them: the page, its picture, and the README's claim."""
    spark = json.loads(pages.FIGURES.read_text(encoding="utf-8")).get("spark")
    figures = {"machine": machine, "runs": [run._asdict() for run in runs], "spark": spark}
    pages.FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    for path, text in pages.files().items():
        path.write_text(text, encoding="utf-8")


def _plan(planned: Mapping[str, float]) -> str:
    """How long all of it takes on an idle machine of two cores."""
    each = ", ".join(f"{name} {seconds:.0f}" for name, seconds in planned.items())
    return f"Expected: {sum(planned.values()) / 60:.0f} minutes. In seconds: {each}"


def _peers(wanted: Sequence[str]) -> list[str]:
    """The peers that can be run: those of the extra, and those asked for that are installed."""
    peers = [module for module, package in _PEERS.items() if find_spec(package)]
    for name in wanted:
        module, package = _OPTIONAL[name]
        if not find_spec(package):
            needed = f"'{package.replace('_', '-')}' 'openai[aiohttp]'"
            sys.exit(f"{name} is not installed: {sys.executable} -m pip install {needed}")
        peers.append(module)
    return peers


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=ALL, metavar="NAME", help=f"only these: {', '.join(ALL)}")
    parser.add_argument("--list", action="store_true", help="tell how long each scenario takes, and run nothing")
    parser.add_argument("--peers", nargs="+", choices=_OPTIONAL, default=[], metavar="PEER", help="litellm")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each client runs (default 3)")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the rows, once; nothing is written")
    parser.add_argument("--full", action="store_true", help="growth up to 1,000,000 rows")
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
