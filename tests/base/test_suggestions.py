"""What was meant by a word that is not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from connector.base.suggestions import did_you_mean, file_meant, nearest, there_are


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("reviw", ["product", "review"], "review"),
        ("REVIEW", ["product", "review"], "review"),
        ("Review", ["Review", "review"], "Review"),
        ("xyz", ["product", "review"], None),
        ("review", [], None),
    ],
)
def test_the_nearest_word_is_found_whatever_its_case(word: str, known: list[str], meant: str | None) -> None:
    assert nearest(word, known) == meant
    assert did_you_mean(word, known) == (f'did you mean "{meant}"?' if meant else "")


def test_what_there_is_is_listed_however_much_it_is() -> None:
    assert there_are("reviw", ["product", "review"]) == 'there are: product, review; did you mean "review"?'
    assert there_are("x", []) == "there are: none"
    many = [f"column_{number}" for number in range(300)]
    assert there_are("colunm_299", many).endswith('column_99 and 200 more; did you mean "column_299"?')


def test_a_missing_file_is_reported_with_the_one_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reviews.csv").touch()
    (tmp_path / "reviews.dir").mkdir()
    monkeypatch.chdir(tmp_path)
    assert file_meant("reviwes.csv") == 'did you mean "reviews.csv"?'
    assert file_meant(str(tmp_path / "Reviews.CSV")) == f'did you mean "{tmp_path}/reviews.csv"?'
    assert file_meant("xyz") == file_meant("nowhere/reviews.csv") == file_meant("a\0") == ""
