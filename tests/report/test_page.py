"""The page: accessible, without a script, and every text in it is only text. A real browser opens it."""

from __future__ import annotations

import itertools
import json
import re
import resource
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import pytest

from connector.base.records import Part
from connector.report import charts
from connector.report.figures import Figures, ValueCount
from connector.report.page import page
from connector.report.recorder import renderer, save
from tests.report.samples import HOSTILE, answered, config, failed, figures_of, usual

VOID: Final = frozenset({"br", "img", "input", "link", "meta"})


class Document(HTMLParser):
    """The elements of a page, and whether each is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def named(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name in names]


def hostile_figures() -> Figures:
    text = " ".join(HOSTILE)
    rows = [
        answered(n, {"text": each, each: each}, {"label": each, each: each}, model=each)
        for n, each in enumerate(HOSTILE * 3, 1)
    ]
    rows += [failed(90 + n, {"text": each}, f"oh no: {each}", each, model=each) for n, each in enumerate(HOSTILE)]
    given = config(system_prompt=f"{{# {HOSTILE[0]} #}} {HOSTILE[1]}", prompt="{{ text }} {# " + HOSTILE[0] + " #}")
    return figures_of(rows, given, source=HOSTILE[0], output=HOSTILE[1], stopped_by=text)


PAGES: dict[str, Figures] = {
    "usual": figures_of(usual(500)),
    "nothing": figures_of([]),
    "one row": figures_of(usual(1)),
    "all failed": figures_of(failed(n, {"text": "x"}, "no") for n in range(1, 4)),
    "all known before": figures_of(answered(n, {}, {"label": "good"}, cached=True) for n in range(1, 9)),
    "hostile": hostile_figures(),
}


@pytest.fixture(scope="module", params=PAGES)
def text(request: pytest.FixtureRequest) -> str:
    return page(PAGES[request.param])


def test_it_is_well_formed_and_accessible(text: str) -> None:
    document = Document(text)
    assert not document.open
    assert document.named("html") == [{"lang": "en"}]
    assert len(document.named("title")) == len(document.named("h1")) == len(document.named("main")) == 1
    assert len(document.named("header")) == len(document.named("nav")) == len(document.named("footer")) == 1
    levels = [int(name[1]) for name, _ in document.elements if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(document.named("table")) == len(document.named("caption"))
    assert all(attributes.get("scope") in ("col", "row") for attributes in document.named("th"))
    assert all(each.get("role") == "img" and each.get("aria-label") for each in document.named("svg"))
    ids = [attributes["id"] for _, attributes in document.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [(each["href"] or "").removeprefix("#") for each in document.named("a")]
    assert set(targets) <= set(ids)
    labelled = [each["aria-labelledby"] for _, each in document.elements if "aria-labelledby" in each]
    assert set(labelled) <= set(ids)


def test_it_runs_nothing_and_fetches_nothing(text: str) -> None:
    document = Document(text)
    assert not document.named("script", "iframe", "img", "object", "embed", "base", "form", "use", "image")
    assert [each for _, each in document.elements for name in each if name.startswith("on")] == []
    linked = [each[name] for _, each in document.elements for name in ("src", "href", "xlink:href") if each.get(name)]
    assert all(str(each).startswith(("#", "data:")) for each in linked)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = [each["content"] for each in document.named("meta") if each.get("http-equiv")]
    assert policy
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def test_what_is_hostile_is_only_text() -> None:
    text = page(PAGES["hostile"])
    said = "".join(Document(text).texts)
    for part in ("</script><script>window.hacked = 1</script>", "<svg onload=", "{{ 7 * 7 }}", "&amp; &lt;"):
        assert part in said
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)
    assert "\\u202e" in said


@pytest.mark.parametrize("name", ["id", "clip-path", "role", "aria-label"])
def test_a_value_that_looks_like_an_attribute_swallows_no_part_of_its_chart(name: str) -> None:
    names = [f'a {name}="', f'b {name}="x" c', "d"]
    drawn = charts.values([ValueCount(each, 2) for each in names], 0, "how often each value comes")
    assert drawn is not None
    found = Document(drawn)
    assert not found.open
    assert [each for each in found.texts if not each.isdigit()] == names
    assert not [each for each in found.named("g", "path", "text", "clippath") if {name, "id"} & each.keys()]


@pytest.mark.parametrize("name", ["r.json", "r.html"])
def test_whatever_a_reply_holds_can_be_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    save(str(path), renderer(str(path))(PAGES["hostile"]))
    text = path.read_text(encoding="utf-8")
    assert "\\ud83d half a pair" in text
    if name == "r.json":
        assert "\ud83d half a pair" in json.loads(text)["run"]["stopped_by"]


def test_what_the_rows_do_not_tell_is_not_put_down_to_the_endpoint() -> None:
    said = " ".join(Document(page(figures_of([answered(1, {}, {}, attempts=0, model=None)]))).texts)
    assert "the model is not known" in said
    assert "does not count" not in said
    uncounted = answered(1, {}, {}, input_tokens=None, output_tokens=None)
    assert "the endpoint does not count them" in " ".join(Document(page(figures_of([uncounted]))).texts)
    assert "no model has answered" in " ".join(Document(page(PAGES["nothing"])).texts)


def test_a_run_that_asked_for_nothing_cost_nothing() -> None:
    said = " ".join(Document(page(PAGES["nothing"])).texts)
    assert "$0.00" in said
    assert "unknown" not in said.partition("What ran")[0]
    said = " ".join(Document(page(PAGES["one row"])).texts)
    assert "1 row asked for" in said
    assert "in 1 answered row." in said


def test_where_addresses_are_limited_it_has_no_charts_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 44, hard))
    try:
        text = page(PAGES["usual"])
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert 'role="img"' in page(PAGES["usual"])
    assert 'role="img"' not in text
    assert "the report has no charts" in caplog.text


def test_rows_of_several_files_are_named_by_their_file() -> None:
    parts = [Part("a.csv", 0, frozenset()), Part("b.csv", 3, frozenset())]
    text = page(figures_of([failed(5, {"text": "x"}, "oh no")], parts=parts))
    assert "b.csv row 2" in text
    assert "row 5" not in text


def test_it_says_what_people_ask_first() -> None:
    said = " ".join(Document(page(PAGES["usual"])).texts)
    for part in (
        "reviews.csv",
        "out.parquet",
        "small-1",
        "500",
        "90.0 % answered",
        "at $.label, … is no label",
        "json_object",
    ):
        assert part in said
    assert "No row failed." in " ".join(Document(page(PAGES["one row"])).texts)
    assert "There were no rows." in " ".join(Document(page(PAGES["nothing"])).texts)


def contrast(one: str, other: str) -> float:
    """The contrast of two colours (WCAG 2.2, 1.4.3)."""

    def luminance(colour: str) -> float:
        digits = colour.lstrip("#")
        digits = "".join(each * 2 for each in digits) if len(digits) == 3 else digits
        parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_colours_have_the_contrast_that_readers_need_in_both_themes_and_on_paper() -> None:
    themes = re.findall(r":root \{(.*?)\}", page(PAGES["nothing"]), re.DOTALL)
    assert len(themes) == 3
    for theme in themes:
        colours = dict(re.findall(r"--(\w+): (#\w+)", theme))
        for back in ("card", "page", "soft"):
            for name in ("ink", "muted", "link", "good"):
                assert contrast(colours[name], colours[back]) >= 4.5, (name, back)
        for name in ("bar", "second", "good", "bad", "cut", "filtered"):
            assert contrast(colours[name], colours["card"]) >= 3, name


def browser() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no Chromium on this machine")
    return found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    library = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with library.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [400, 1400])
def test_a_browser_shows_it_without_an_error_a_request_or_a_dialog(
    name: str, width: int, chromium: Any, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(PAGES[name]), encoding="utf-8")
    opened = chromium.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: said.append(dialog.message))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(path.as_uri())
    opened.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    found = opened.evaluate(
        """() => ({
            hacked: window.hacked,
            scripts: document.querySelectorAll("script, img, iframe").length,
            wide: document.documentElement.scrollWidth,
            charts: [...document.querySelectorAll("svg")].every(each => each.getBoundingClientRect().height > 20),
            bar: getComputedStyle(document.documentElement).getPropertyValue("--bar"),
        })"""
    )
    assert (said, asked) == ([], [path.as_uri()])
    assert (found.get("hacked"), found["scripts"], found["charts"]) == (None, 0, True)
    assert found["wide"] <= width  # what is wider scrolls within its own frame
    opened.close()


def test_on_a_telephone_a_row_that_stands_out_takes_a_few_lines(chromium: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(PAGES["usual"]), encoding="utf-8")
    opened = chromium.new_page(viewport={"width": 390, "height": 900})
    opened.goto(path.as_uri())
    heights = "[...document.querySelectorAll('#rows ~ .scroll tbody tr')].map(row => row.offsetHeight)"
    found = opened.evaluate(heights)
    opened.close()
    assert found
    assert max(found) < 100


def test_a_dark_theme_is_dark_and_paper_is_white(chromium: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(PAGES["usual"]), encoding="utf-8")
    backgrounds = {}
    for theme, media in (("light", "screen"), ("dark", "screen"), ("dark", "print")):
        opened = chromium.new_page(color_scheme=theme)
        opened.emulate_media(media=media, color_scheme=theme)
        opened.goto(path.as_uri())
        backgrounds[theme, media] = opened.evaluate("getComputedStyle(document.body).backgroundColor")
        bars = opened.evaluate("getComputedStyle(document.querySelector('svg path[fill]')).fill")
        assert bars.startswith("rgb(")
        opened.close()
    assert backgrounds["light", "screen"] == "rgb(246, 247, 249)"
    assert backgrounds["dark", "screen"] == "rgb(17, 21, 28)"
    assert backgrounds["dark", "print"] == "rgb(255, 255, 255)"
