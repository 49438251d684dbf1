"""The studio as a person has it: its program, and a real Chromium.

`python -m tests.studio.browser` takes the pictures of the docs.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.patience import PATIENCE

ROOT: Final = Path(__file__).parents[2]
SIZE: Final = {"width": 1280, "height": 860}
SCHEMA: Final = {
    "type": "object",
    "properties": {"mood": {"type": "string", "enum": ["positive", "negative", "mixed"]}},
    "required": ["mood"],
    "additionalProperties": False,
}
_ADDRESS: Final = re.compile(r"http://127\.0\.0\.1:\d+/\?token=\S+")


def browser() -> str | None:
    """Where Chromium is; `None` where there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def studio(folder: Path, *words: object, **environment: str) -> Iterator[str]:
    """Runs the program in a folder, and gives its address; what it prints is in `stderr.txt` there."""
    log = folder / "stderr.txt"
    command = [sys.executable, "-m", "connector", "studio", *map(str, words), "--no-browser"]
    known = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment}
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, cwd=folder, stderr=errors, stdout=subprocess.PIPE, env=known) as process,
    ):
        try:
            yield _address(process, log)
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    while process.poll() is None:
        if (found := _ADDRESS.search(log.read_text())) is not None:
            return found[0]
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError(log.read_text())


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - where it is not installed, no test comes here

    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        yield opened
        opened.close()


def step(page: Any, name: str) -> None:
    """Goes to one of the steps."""
    page.get_by_role("tab", name=re.compile(name)).click()


def pictures(target: Path, opened: Any) -> None:
    """Takes the pictures of the README from the real page: two prompts, one of which is better."""
    from tests.commands.test_evaluate import saying  # noqa: PLC0415 - it needs the extra
    from tests.endpoint import Endpoint  # noqa: PLC0415

    moods = {"1": "negative", "2": "negative", "3": "mixed", "4": "positive", "5": "positive"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (ROOT / "sample_configs" / "reviews.csv").open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["review"].isascii()]
        with (folder / "reviews.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "product", "review", "right_mood"])
            writer.writerows([row["id"], row["product"], row["review"], moods[row["rating"]]] for row in rows)
        truth = {row["review"]: moods[row["rating"]] for row in rows}

        def answer(call: Any) -> dict[str, str]:
            number = len(call.prompt)
            right = next(mood for review, mood in truth.items() if review in call.prompt)
            errs = number % (12 if "Judge" in call.prompt else 5) == 0
            return {"mood": "mixed" if errs and right != "mixed" else right}

        with Endpoint(script=saying(answer)) as endpoint:
            given = {"url": endpoint.url, "output_schema": SCHEMA}
            first = {
                **given,
                "model": "large-2",
                "prompt": "Mood of: {{ review }}",
                "prices": {"input": 2.5, "output": 10},
            }
            prompt = "Judge this review of {{ product }} by its last sentence, too.\n\n{{ review }}"
            second = {**given, "model": "small-2", "prompt": prompt, "prices": {"input": 0.4, "output": 1.6}}
            for title, config in (("short", first), ("careful", second)):
                (folder / f"{title}.json").write_text(json.dumps(config))
            words = ["reviews.csv", "-c", "short.json", "-c", "careful.json", "--truth", "right_mood"]
            environment = {"XDG_CACHE_HOME": str(folder / "cache")}
            with studio(folder, *words, **environment) as address:
                page = opened.new_page(viewport=SIZE, color_scheme="light")
                page.goto(address)
                page.get_by_role("button", name="Variant B careful").click()
                step(page, "Prompt")
                page.get_by_label("The request of this row").wait_for()
                page.mouse.move(0, 0)
                page.screenshot(path=target / "studio-prompt.png", animations="disabled")
                step(page, "Try")
                page.get_by_label("Rows to try").fill("200")
                page.get_by_text("200 rows:").first.wait_for()
                page.get_by_role("button", name="Try all variants").click()
                page.get_by_text("B, after").wait_for()
                step(page, "Compare")
                page.get_by_text("B is better than A").wait_for()
                page.mouse.move(0, 0)
                page.screenshot(path=target / "studio-compare.png", animations="disabled")


if __name__ == "__main__":
    with chromium() as started:
        pictures(ROOT / "docs", started)
