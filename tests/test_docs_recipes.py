"""The recipes of docs/recipes.md, each run as it stands: its files, its commands, and what comes out of them.

A block with the name of a file is written before the first command of its section, and compared after it. A stand-in
gives the answers that a model might give; verdicts and embeddings are the sandbox's.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
import pytest

from connector import sandbox
from spec.generate import ROOT
from tests.endpoint import Action, Call, Endpoint, good
from tests.faults import said
from tests.images import png
from tests.shell import shell

PAGE: Final = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
SECTIONS: Final = dict(part.split("\n", 1) for part in PAGE.split("\n## ")[1:])
RUNS: Final = ("sh", "python")
KEY: Final = "sk-canary"


class Block(NamedTuple):
    """A fenced block: its language, the file that it is or shows (none for what is run or printed), and its text."""

    language: str
    file: str
    text: str


class Rule(NamedTuple):
    """What the stand-in answers to a request that holds these words, made to this model; JSON where it is no text."""

    words: str
    answer: Any
    model: str | None = None


def encoded(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


PICTURES: Final = {"photos/pan.png": png(), "photos/kettle.png": png(padding=1)}
ANSWERS: Final[dict[str, tuple[Rule, ...]]] = {
    "Classify": (
        Rule("fee twice", {"team": "billing", "urgent": False}),
        Rule("parcel", {"team": "delivery", "urgent": True}),
        Rule("app closes", {"team": "technical", "urgent": False}),
    ),
    "Extract typed fields": (
        Rule("R-17", {"invoice": "R-17", "amount": 1250.5, "currency": "EUR", "due": "2026-03-31"}),
        Rule("Thanks", {"invoice": None, "amount": None, "currency": None, "due": None}),
    ),
    "Translate": (Rule("Guten Morgen", "Good morning"), Rule("Merci beaucoup", "Thank you very much")),
    "Describe images": (
        Rule(encoded(PICTURES["photos/pan.png"]), "A black pan on a wooden table."),
        Rule(encoded(PICTURES["photos/kettle.png"]), "A steel kettle with a red handle."),
    ),
    "Tag products": (
        Rule("pan", {"tags": ["kitchen", "metal", "induction"]}),
        Rule("kettle", {"tags": ["kitchen", "metal", "sound"]}),
    ),
    "Chain two prompts": (
        Rule("words: I waited", "Late and cracked pan"),
        Rule("words: The kettle", "Quick, pretty kettle"),
        Rule("word. Late and", "bad"),
        Rule("word. Quick", "good"),
    ),
    "Re-run failed rows with a stronger model": (
        Rule("900 EUR", {"rent": 900}, "small"),
        Rule("clause 4", {"rent": "see clause 4"}, "small"),
        Rule("clause 4", {"rent": 850}, "strong"),
    ),
    "Judge answers with a second model": (
        Rule("shop: 30 days for returns, shipping within the EU. How long", "30 days.", "small"),
        Rule("shop: 30 days for returns, shipping within the EU. Do you", "Yes, we do.", "small"),
        Rule("Answer: 30 days.", {"grade": 5, "why": "right and complete"}, "strong"),
        Rule("Answer: Yes, we do.", {"grade": 1, "why": "Norway is not in the EU"}, "strong"),
    ),
}
BY_THE_SANDBOX: Final = ("Moderate", "Deduplicate with embeddings", "Semantic search in DuckDB")


def blocks(section: str) -> list[Block]:
    found = re.findall(r"^```(\w+)(?: (\S+))?\n(.*?)^```", SECTIONS[section], re.DOTALL | re.MULTILINE)
    return [Block(*each) for each in found]


def answered(section: str) -> Endpoint:
    """The stand-in for a recipe. A request that no rule is about fails the test, as a script's error does."""

    def script(call: Call) -> Action | None:
        asked, model = json.dumps(call.body, ensure_ascii=False), call.body["model"]
        (rule,) = (each for each in ANSWERS[section] if each.words in asked and each.model in (None, model))
        text = rule.answer if isinstance(rule.answer, str) else json.dumps(rule.answer)
        assert isinstance(rule.answer, str) == ("response_format" not in call.body)
        return Action("rule", said(content=text)(good(call), {}))

    return Endpoint(script)


@contextmanager
def served(section: str) -> Iterator[tuple[str, Endpoint | None]]:
    """The base URL of what answers a recipe, and the stand-in, if it is that."""
    if section in BY_THE_SANDBOX:
        with sandbox.running(api_key=KEY) as url:
            yield url, None
    else:
        with answered(section) as endpoint:
            yield endpoint.base_url, endpoint


def rows_of(path: Path, columns: list[str]) -> list[list[str]]:
    """Some columns of an output as the texts of a CSV file; `a.b` is the field `b` of the column `a`."""
    names = ", ".join(".".join(f'"{part}"' for part in column.split(".")) for column in columns)
    rows = duckdb.execute(f"SELECT {names} FROM '{path}'").fetchall()
    return [["" if value is None else str(value).removesuffix(".0") for value in row] for row in rows]


def shown(block: Block) -> tuple[list[str], list[list[str]]]:
    head, *rows = csv.reader(io.StringIO(block.text))
    return head, [[value.replace("true", "True").replace("false", "False") for value in row] for row in rows]


def follow(section: str, folder: Path, environment: dict[str, str]) -> None:
    """Does what a recipe says, and holds what comes out to what it shows."""
    has_run, said_last = False, ""
    for block in blocks(section):
        if block.language in RUNS:
            program = ["bash", "-euc"] if block.language == "sh" else [sys.executable, "-c"]
            done = subprocess.run(
                [*program, block.text], cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            assert KEY not in done.stdout + done.stderr
            has_run, said_last = True, done.stdout
        elif not block.file:
            assert block.text == said_last
        elif has_run:
            columns, rows = shown(block)
            assert rows_of(folder / block.file, columns) == rows
        else:
            (folder / block.file).write_text(block.text, encoding="utf-8")


def test_the_recipes_are_those_that_are_announced() -> None:
    assert len(SECTIONS) == 11
    assert {*ANSWERS, *BY_THE_SANDBOX} == set(SECTIONS)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_recipe_is_complete_and_short(section: str) -> None:
    languages = [block.language for block in blocks(section)]
    assert "sh" in languages
    assert languages[-1] in ("csv", "text")
    assert all(len(block.text.splitlines()) < 15 for block in blocks(section))


@pytest.mark.parametrize("section", SECTIONS)
def test_a_recipe_gives_what_it_shows_and_pays_for_nothing_twice(section: str, tmp_path: Path) -> None:
    with served(section) as (url, endpoint):
        surroundings = shell(tmp_path, url, KEY, "small" if endpoint else sandbox.MODEL)
        for name, picture in PICTURES.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(picture)
        follow(section, tmp_path, surroundings)
        calls = len(endpoint.journal.calls) if endpoint else None
        follow(section, tmp_path, surroundings)
        assert endpoint is None or len(endpoint.journal.calls) == calls
