"""Pages say what is so: those made from tables of the tests are up to date, and tests that a page names exist."""

from __future__ import annotations

import re
from pathlib import Path

from tests import faults_page

HERE = Path(__file__).parent


def test_the_page_of_faults_is_up_to_date() -> None:
    assert faults_page.PAGE.read_text(encoding="utf-8") == faults_page.page(), "run `python -m tests.faults_page`"


def test_every_test_that_the_page_of_promises_names_exists() -> None:
    page = (HERE.parent / "docs" / "promises.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)", page)
    assert named
    missing = [f"{module}::{name}" for module, name in named if f"def {name}(" not in (HERE / module).read_text()]
    assert not missing
