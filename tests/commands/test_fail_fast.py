"""A set-up that cannot work: the run ends after its first calls, with the words that tell what to change."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import pytest

from connector import cli
from connector.calls import breaker
from connector.commands import ExitCode, enrich
from connector.run.runtime import Runtime
from tests.broken import ROWS, TABLE, Broken, arguments


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Runtime]:
    """What was opened for a run. The second for which a run without a connection goes on takes no time here."""
    opened: list[Runtime] = []

    class Watched(Runtime):
        def __enter__(self) -> Self:
            opened.append(self)
            super().__enter__()
            return self

    monkeypatch.setattr(enrich, "Runtime", Watched)
    monkeypatch.setattr(breaker, "_MOMENT", 0.0)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    return opened


@pytest.mark.parametrize("broken", TABLE, ids=[each.name for each in TABLE])
def test_it_says_what_to_change_after_its_first_calls(
    broken: Broken, tmp_path: Path, runs: list[Runtime], capsys: pytest.CaptureFixture[str]
) -> None:
    with broken.start(tmp_path) as options:
        code = cli.run(arguments(options, tmp_path))
    said = capsys.readouterr().err
    for words in broken.told:
        assert words in said, said
    assert code == (ExitCode.ENDPOINT if runs else ExitCode.USAGE)
    for run in runs:
        most = 2 * run.plan.config.concurrency if "no call could reach" in said else ROWS
        assert 0 < run.control.gauge.calls <= most, said
        assert not run.control.breaker.has_succeeded
    assert not said.startswith("0 rows"), "a count of nothing helps nobody"


def test_there_are_more_than_forty() -> None:
    assert len({each.name for each in TABLE}) == len(TABLE) > 40
