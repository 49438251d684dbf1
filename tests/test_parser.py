"""The parser: its help fits a terminal and shows what works, and a slip gets an answer that helps."""

from __future__ import annotations

import argparse
import shlex

import pytest

from connector import cli, commands
from connector.parser import Parser

ACTIONS = {"ledger": ("stats", "prune", "export"), "config": ("import",)}
ALL = (
    "",
    *commands.COMMANDS,
    *(f"{name} {action}" for name, actions in ACTIONS.items() for action in actions),
    *("spec", "discover", "read", "write"),
)


def told(line: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.run(shlex.split(line))
    assert ended.value.code == code
    out, err = capsys.readouterr()
    assert bool(out) is not bool(err)
    return out or err


def recorded(name: str, monkeypatch: pytest.MonkeyPatch) -> list[argparse.Namespace]:
    """The arguments with which a command is run from now on: it does nothing else."""
    ran: list[argparse.Namespace] = []

    def run(parsed: argparse.Namespace) -> commands.ExitCode:
        ran.append(parsed)
        return commands.ExitCode.DONE

    monkeypatch.setattr(commands.load(name), "run", run)
    return ran


@pytest.mark.parametrize("command", ALL)
@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_help_of_every_command_fits_the_terminal(
    command: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown, _, example = told(f"{command} --help", capsys).partition("\nexample:\n")
    assert max(map(len, shown.splitlines())) <= min(columns, 100)
    assert max(map(len, example.splitlines()), default=0) <= 80


def test_the_help_begins_with_what_people_need_and_ends_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    shown = told("--help", capsys)
    order = ["  enrich ", "  preview ", "  check ", "  sandbox ", "for platforms:", "other options:", "example:"]
    assert sorted(order, key=shown.index) == order
    assert "spec, check, discover, read, write" in shown.partition("for platforms:")[2]


@pytest.mark.parametrize("name", ["", *commands.COMMANDS])
def test_every_command_has_an_example_that_its_own_parser_takes(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    example = told(f"{name} --help", capsys).partition("\nexample:\n")[2].replace("\\\n", " ")
    line = example.partition(" > ")[0].strip().removeprefix('eval "$(').removesuffix(')"')
    program, *words = shlex.split(line)
    assert program == "openai-compatible"
    ran = recorded(words[0], monkeypatch)
    assert cli.run(words) == 0
    assert ran[0].verb == (name or "enrich")


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_no_option_of_a_command_goes_without_a_word(name: str) -> None:
    parser = Parser(name)
    commands.load(name).arguments(parser)
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list of them
        assert action.help or action.nargs == argparse.PARSER, action


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("enrcih a.csv", 'there is no command "enrcih": did you mean "enrich"?'),
        ("prewiev a.csv", 'did you mean "preview"?'),
        ("xyzzy", 'there is no command "xyzzy": choose one of enrich, preview, '),
        ("reviews.csv enrich", "the command comes first, such as enrich, and files follow it"),
        ("enrcih a.csv --table models -o b.csv", 'there is no command "enrcih": did you mean "enrich"?'),
        ("chekc --config report", 'there is no command "chekc": did you mean "check"?'),
        ("--config report chekc", 'there is no command "chekc": did you mean "check"?'),
        ("ledger stat x", 'there is no command "stat": did you mean "stats"?'),
        ("ledger", "ledger: name what to do: stats, prune, export\n"),
        ("batch", "batch: name what to do: list, show, cancel, forget, fetch\n"),
        ("enrich a.csv --ouput b.csv", "there is no option --ouput: did you mean --output?"),
        ("enrich a.csv --promt=x -o b.csv", "there is no option --promt: did you mean --prompt?"),
        ("enrich a.csv --workers 3", "there is no option --workers: did you mean --concurrency?"),
        ("enrich a.csv --base-url http://h/v1", "did you mean --url?"),
        ("enrich a.csv --max-cost-usd 5", "no option --max-cost-usd: write max_cost_usd into the file of --config"),
        ("evaluate a.csv --prompt x", "there is no option --prompt: write prompt into the file of --config"),
        ("sandbox --max-cost-usd 5", "there is no option --max-cost-usd\n"),
        ("-V", "there is no option -V: did you mean --version?"),
        ("enrich a.csv -x", "there is no option -x\n"),
        ("enrich a.csv -o b.csv --api-key sk-canary-5f0c7d21e9", "set OPENAI_API_KEY, or give --api-key-command"),
        ("--protocl singer spec", "did you mean --protocol?"),
        ("--protocol sinqer spec", '"sinqer" is not one of airbyte, multiwoven, singer: did you mean "singer"?'),
        ("models --format josn", 'did you mean "json"?'),
        ("models gpt-6", 'unexpected argument "gpt-6"'),
        ("enrich a.csv", "the following arguments are required: -o/--output"),
        ("", "name a command, or give --config FILE for a Singer mapper"),
    ],
)
def test_a_slip_is_reported_with_what_was_meant(line: str, answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = told(line, capsys, code=2)
    assert answer in said
    assert "canary" not in said
    assert said.splitlines()[-1].endswith("--help")


@pytest.mark.parametrize(
    ("line", "same"),
    [("help", "--help"), ("help enrich", "enrich --help"), ("version", "--version"), ("--help enrich", "--help")],
)
def test_help_and_version_are_words_as_well(line: str, same: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(line, capsys) == told(same, capsys)


@pytest.mark.parametrize("prompt", ["- list it", "-1", "-.5"])
def test_a_value_that_begins_with_a_dash_is_not_an_option(prompt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = recorded("preview", monkeypatch)
    assert cli.run(["preview", "a.csv", "--prompt", prompt]) == 0
    assert ran[0].prompt == prompt


@pytest.mark.parametrize("line", ["--protocol singer {}", "{} --protocol singer"])
@pytest.mark.parametrize("verb", ["spec", "check", "read", "write"])
def test_a_protocol_may_stand_before_a_verb_or_behind_it(
    line: str, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(shlex.split(line.format(verb))) == 2
    told = f'the protocol singer has no verb "{verb}": leave it out, or give one of --about, --test, --discover in its'
    assert told in capsys.readouterr().err


def test_a_config_before_the_command_counts_as_one_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = recorded("preview", monkeypatch)
    for words in (["--config", "c.json", "preview", "a.csv"], ["preview", "a.csv", "--config", "c.json"]):
        assert cli.run(words) == 0
    assert [parsed.config for parsed in ran] == ["c.json", "c.json"]
