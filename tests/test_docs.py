"""Pages that are made from tables of the tests are as those tables say."""

from __future__ import annotations

from tests import faults_page


def test_the_page_of_faults_is_up_to_date() -> None:
    assert faults_page.PAGE.read_text(encoding="utf-8") == faults_page.page(), "run `python -m tests.faults_page`"
