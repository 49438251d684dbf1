"""The sample configs: each loads, and makes columns out of the sample table."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

import pytest

from connector import Config, Connector
from connector.base.records import Outcome
from connector.cli import run
from connector.commands import ExitCode
from connector.run.plan import Plan
from tests.databases import Base
from tests.endpoint import Endpoint

SAMPLES: Final = Path(__file__).parent.parent / "sample_configs"
CONFIGS: Final = [path for path in sorted(SAMPLES.iterdir()) if path.suffix in (".json", ".yaml")]
KINDS: Final = {"completions", "embeddings", "images", "moderations", "realtime", "responses"}
"""Those whose sample has their name; the other samples are for chat completions."""


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_sample_makes_columns_out_of_the_sample_table(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:8000/v1")
    monkeypatch.setenv("OPENAI_MODEL", "m")
    monkeypatch.setenv("SHOP_DATABASE", "sqlite:///shop.db")
    with (SAMPLES / "reviews.csv").open(encoding="utf-8", newline="") as table:
        names = next(csv.reader(table))
    config = Config.load(path)
    assert Plan(config, {name: {"type": "string"} for name in names}).columns
    assert config.kind == (path.stem if path.stem in KINDS else "chat")


def test_the_sample_of_a_database_reads_one_table_and_writes_another(
    base: Base, endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"SHOP_DATABASE": base.url, "OPENAI_BASE_URL": endpoint.base_url, "OPENAI_MODEL": "m"}.items():
        monkeypatch.setenv(name, value)
    base.run("CREATE TABLE reviews (id BIGINT PRIMARY KEY, product VARCHAR(99), review VARCHAR(99), reviewed_at DATE)")
    base.run("INSERT INTO reviews VALUES (?, ?, ?, ?)", (1, "Kettle", "It leaks.", "2025-01-04"))
    sample = str(SAMPLES / "database.json")
    read = [item.record.data["id"] for item in Connector(sample).read() if isinstance(item, Outcome)]
    written = ["--output", "${SHOP_DATABASE}", "--table-out", "reviews_enriched", "--mode", "upsert", "--quiet"]
    assert run(["enrich", "${SHOP_DATABASE}", "--table", "reviews", "--config", sample, *written]) == ExitCode.DONE
    assert read == [1]
    assert base.run("SELECT id FROM reviews_enriched") == [(1,)]


def test_the_page_of_samples_tells_of_each_of_them() -> None:
    page = (SAMPLES / "README.md").read_text(encoding="utf-8")
    for path in SAMPLES.iterdir():
        assert path.name.startswith(("README.", "__")) or f"]({path.name}" in page, path.name


def test_every_kind_that_is_not_a_chat_has_a_sample() -> None:
    assert {path.stem for path in CONFIGS} >= KINDS
