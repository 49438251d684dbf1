"""The sample configs: each loads, and makes columns out of the sample table."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

import pytest

from connector import Config
from connector.run.plan import Plan

SAMPLES: Final = Path(__file__).parent.parent / "sample_configs"
CONFIGS: Final = [path for path in sorted(SAMPLES.iterdir()) if path.suffix in (".json", ".yaml")]
KINDS: Final = {"completions", "embeddings", "images", "realtime", "responses"}
"""Those whose sample has their name; the other samples are for chat completions."""


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_sample_makes_columns_out_of_the_sample_table(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:8000/v1")
    monkeypatch.setenv("OPENAI_MODEL", "m")
    with (SAMPLES / "reviews.csv").open(encoding="utf-8", newline="") as table:
        names = next(csv.reader(table))
    config = Config.load(path)
    assert Plan(config, {name: {"type": "string"} for name in names}).columns
    assert config.kind == (path.stem if path.stem in KINDS else "chat")


def test_every_kind_that_is_no_chat_has_a_sample() -> None:
    assert {path.stem for path in CONFIGS} >= KINDS
