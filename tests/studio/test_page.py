"""The page in a real browser: what a person does with it, and what nobody else can."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

pytest.importorskip("nicegui", reason="the extra studio is not installed")
pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from connector import cli
from tests.commands.test_evaluate import SCHEMA, labels, saying
from tests.endpoint import Call, Endpoint
from tests.report.samples import HOSTILE
from tests.studio.browser import browser, chromium, pictures, step, studio

SECRET = "sk-" + "5" * 40

if browser() is None:
    pytest.skip("there is no Chromium on this machine", allow_module_level=True)


@pytest.fixture(scope="module")
def opened() -> Iterator[Any]:
    with chromium() as found:
        yield found


class Watched:
    """A page, with all that it said, asked for and was sent."""

    def __init__(self, opened: Any, address: str, width: int = 1024, height: int = 900) -> None:
        self.page = opened.new_page(viewport={"width": width, "height": height})
        self.page.set_default_timeout(120_000)  # of a busy machine
        self.said: list[str] = []
        self.asked: list[str] = []
        self.sent: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("websocket", self._socket)
        self.page.goto(address)
        self.page.get_by_role("heading", name="Studio").wait_for()
        self.origin = address.partition("/?")[0]

    def _socket(self, socket: Any) -> None:
        self.asked.append(socket.url)
        for event in ("framereceived", "framesent"):
            socket.on(event, lambda data: self.sent.append(data if isinstance(data, str) else data.decode("latin-1")))

    def is_clean(self) -> bool:
        hosts = {re.sub(r"^\w+(://[^/]+).*", r"\1", url) for url in self.asked if not url.startswith("data:")}
        assert self.said == []
        assert hosts == {self.origin.removeprefix("http")}
        return True

    def type(self, label: str, text: str) -> None:
        self.page.locator(f'input[aria-label="{label}"], textarea[aria-label="{label}"]').first.fill(text)

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).first.click()

    def sees(self, text: str) -> None:
        self.page.get_by_text(text).first.wait_for()


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    rows = [f'{n},"item {n} {"broken" if n % 3 == 0 else "fine"}",{"bad" if n % 3 == 0 else "good"}' for n in range(60)]
    (tmp_path / "reviews.csv").write_text("\n".join(["id,review,truth", *rows]) + "\n")
    return tmp_path


def test_from_a_table_to_the_better_of_two_models_and_a_whole_run(  # noqa: PLR0915 - one person's whole way
    opened: Any, reviews: Path
) -> None:
    with Endpoint(script=saying(labels)) as endpoint:
        (reviews / "c.json").write_text(
            json.dumps({"url": endpoint.url, "api_key": SECRET, "prices": {"input": 1, "output": 1}})
        )
        with studio(reviews, "reviews.csv", "--config", "c.json", OPENAI_API_KEY=SECRET) as address:
            it = Watched(opened, address)
            step(it.page, "Table")
            it.page.get_by_label("Right answers are in").click()
            it.page.get_by_role("option", name="truth").click()
            step(it.page, "Prompt")
            it.type("Model", "weak")
            it.type("Prompt for each row", "Judge {{ revew }}")
            it.sees('did you mean "review"?')
            it.type("Prompt for each row", "Judge {{ review }}")
            it.press("Add column")
            it.type("Allowed values", "good, bad")
            it.page.get_by_label("The request of this row").get_by_text("Judge item 0 broken").wait_for()
            it.press("Next row")
            it.page.get_by_label("The request of this row").get_by_text("Judge item 1 fine").wait_for()
            it.page.get_by_text("Config as JSON").click()
            text = it.page.locator('textarea[aria-label="Config as JSON"]').input_value()
            it.type("Config as JSON", text.replace("Judge {{", "Judge this: {{"))
            it.page.get_by_label("The request of this row").get_by_text("Judge this: item 1 fine").wait_for()
            assert (
                it.page.locator('textarea[aria-label="Prompt for each row"]').input_value()
                == "Judge this: {{ review }}"
            )
            assert not endpoint.journal.calls

            it.page.get_by_label("Prompt for each row").press("Control+Enter")
            it.sees("A, after")
            assert len(endpoint.journal.calls) == 20
            it.page.locator("tr.act").first.press("Enter")
            it.sees("chat.completion")
            it.press("Close")

            it.press("Add variant")
            it.type("Model", "strong")
            step(it.page, "Try")
            it.type("Rows to try", "60")
            it.sees("60 rows: 20 known already, 40 calls")
            it.press("Try all variants")
            it.sees("B, after")
            step(it.page, "Compare")
            it.sees("B is better than A by 33.3 points")
            assert len(endpoint.journal.calls) == 120

            step(it.page, "Run")
            it.type("Config file", "best.json")
            it.press("Save")
            it.sees("openai-compatible enrich reviews.csv --config best.json --output out.csv")
            it.press("What will it cost?")
            it.sees("B: 60 rows: 60 in the ledger")
            it.type("Report, a page at the end (optional)", "run.html")
            it.press("Run")
            it.sees("Written to out.csv")
            with it.page.context.expect_page() as report:
                it.page.get_by_role("link", name="Open the report").click()
            report.value.get_by_text("60 rows").first.wait_for()
            assert it.is_clean()
            whole = it.page.content() + "".join(it.sent) + (reviews / "stderr.txt").read_text()
            it.page.close()
        assert len(endpoint.journal.calls) == 120  # the run has what trying it has paid for
    assert SECRET[3:] not in whole
    assert json.loads((reviews / "best.json").read_text())["api_key"] == SECRET
    with (reviews / "out.csv").open() as file:
        assert all(row["label"] == row["truth"] for row in csv.DictReader(file))


def test_rows_are_labelled_with_a_click_and_a_run_that_is_stopped_or_ended_loses_no_reply(
    opened: Any, reviews: Path
) -> None:
    latency = [0.01]  # seconds, so that the run lasts until it is stopped

    def slowly(call: Call) -> Any:
        action = saying(labels)(call)
        return None if action is None else action._replace(steps=[*latency, *action.steps])

    with Endpoint(script=slowly) as endpoint:
        rows = "".join(f"{n},row {n}\n" for n in range(4_000))
        (reviews / "plain.csv").write_text("id,review\n" + rows)
        config = {"url": endpoint.url, "model": "weak", "prompt": "{{ review }}", "output_schema": SCHEMA}
        (reviews / "c.json").write_text(json.dumps(config | {"concurrency": 1, "cache": "all.ledger"}))
        with studio(reviews, "plain.csv", "--config", "c.json") as address:
            it = Watched(opened, address)
            step(it.page, "Try")
            it.press("Try A")
            it.sees("A, after")
            step(it.page, "Compare")
            it.page.get_by_role("button", name=re.compile(r"^Row \d+: bad$")).first.click()
            it.sees("0.0 % (0.0 to 79.3)")
            (line,) = (reviews / "plain.csv.labels.jsonl").read_text().splitlines()
            assert (json.loads(line)["column"], json.loads(line)["label"]) == ("label", "bad")
            step(it.page, "Run")
            it.press("Run")
            it.sees("in flight")
            it.press("Pause")
            it.press("Go on")
            it.press("Stop")
            it.sees("stopped: replies that were paid for are kept")
            paid = len(endpoint.journal.calls)
            it.press("Run")
            endpoint.journal.wait_for(calls=paid + 5)
            assert it.is_clean()
            it.page.close()
        # Here the program was ended amid the run.
        assert paid < len(endpoint.journal.calls) < 4_000
        assert not (reviews / "out.csv").exists()
        latency.clear()
        words = ["enrich", str(reviews / "plain.csv"), "--config", str(reviews / "c.json"), "--concurrency", "32"]
        words += ["--ledger", str(reviews / "all.ledger"), "--output", str(reviews / "out.csv"), "--quiet"]
        assert cli.run(words) == 0
        assert len(endpoint.journal.calls) == 4_000


def test_what_is_hostile_in_tables_replies_and_errors_is_only_text(opened: Any, tmp_path: Path) -> None:
    def answer(call: Call) -> Any:
        return {"label": HOSTILE[len(call.prompt) % 4]}

    rows = [{"review": text, HOSTILE[1]: text, "{{ 7 * 7 }}": HOSTILE[0], "gold": text} for text in HOSTILE]
    (tmp_path / "h.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Endpoint(script=saying(answer)) as endpoint:
        free = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}
        config = {"url": endpoint.url, "model": HOSTILE[1], "prompt": "{{ review }}", "output_schema": free}
        (tmp_path / "a.json").write_text(json.dumps(config))
        (tmp_path / "b.json").write_text(json.dumps(config | {"output_schema": SCHEMA}))  # whose answers are errors
        with studio(tmp_path, "h.jsonl", "-c", "a.json", "-c", "b.json", "--truth", "gold") as address:
            it = Watched(opened, address)
            it.page.get_by_role("cell", name=re.compile("svg onload")).first.wait_for()
            step(it.page, "Prompt")
            it.type("Prompt for each row", "{{ review }} " + HOSTILE[0])
            it.sees("hacked")
            step(it.page, "Try")
            it.press("Try all variants")
            it.sees("A, after")
            it.page.locator("tr.act").first.click()
            it.sees("chat.completion")
            it.press("Close")
            step(it.page, "Compare")
            it.sees("disagreements first")
            found = it.page.evaluate(
                "() => [window.hacked, document.querySelectorAll('iframe, img, svg[onload], b').length, document.title]"
            )
            assert found == [None, 0, "Studio"]
            assert it.is_clean()
            it.page.close()


def test_cells_and_replies_of_megabytes_and_thousands_of_columns_are_shown_by_their_beginning(
    opened: Any, tmp_path: Path
) -> None:
    long = HOSTILE[1] * 50_000  # 3 MB
    wide = {f"{HOSTILE[1]} {number}": HOSTILE[0] for number in range(2_000)}
    rows = [{"review": f"{number} {long}", **wide} for number in range(3)]
    (tmp_path / "h.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    free = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}
    with Endpoint(script=saying(lambda _: {"label": long})) as endpoint:
        config = {"url": endpoint.url, "model": "m", "prompt": "{{ review }}", "output_schema": free}
        (tmp_path / "a.json").write_text(json.dumps(config))
        with studio(tmp_path, "h.jsonl", "-c", "a.json") as address:
            it = Watched(opened, address)
            step(it.page, "Prompt")
            it.press("Next row")
            it.page.get_by_text("And 1,901 more columns.").first.wait_for(state="attached")
            step(it.page, "Try")
            it.press("Try A")
            it.sees("A, after")
            it.page.locator("tr.act").first.click()
            it.page.get_by_role("dialog").get_by_text(re.compile(r"… \([\d,]+ more characters\)")).first.wait_for()
            found = it.page.evaluate("() => [window.hacked, document.querySelectorAll('img').length]")
            assert found == [None, 0]
            assert len(it.page.content()) + sum(map(len, it.sent)) < 2_000_000
            assert it.is_clean()
            it.page.close()


def test_without_the_token_there_is_nothing(opened: Any, reviews: Path) -> None:
    with studio(reviews, "reviews.csv") as address:
        origin = address.partition("/?")[0]
        known = opened.new_context()
        page = known.new_page()
        page.goto(address)
        page.get_by_role("heading", name="Studio").wait_for()
        assert page.url == f"{origin}/"  # no token is left in the address
        stranger = opened.new_page()
        answer = stranger.goto(f"{origin}/")
        assert answer.status == 403
        assert "not open to you" in stranger.content()
        assert "reviews" not in stranger.content()
        for path in ("/report", "/_nicegui_ws/socket.io/?EIO=4&transport=polling", "/?token=guess"):
            with pytest.raises(HTTPError, match="403"):
                urlopen(f"{origin}{path}")
        cookie = "; ".join(f"{each['name']}={each['value']}" for each in known.cookies())
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
            with pytest.raises(HTTPError, match="403"):
                urlopen(Request(f"{origin}/", headers={"Cookie": cookie, **headers}))
        stranger.close()
        known.close()


def test_a_hundred_thousand_rows_come_page_by_page(opened: Any, tmp_path: Path) -> None:
    with (tmp_path / "big.csv").open("w") as file:
        file.write("id,text\n")
        file.writelines(f"{n},this is text number {n} of many\n" for n in range(100_000))
    with studio(tmp_path, "big.csv") as address:
        it = Watched(opened, address, 1440)
        step(it.page, "Table")
        it.sees("1-25 of 100000")
        before = len("".join(it.sent))
        it.page.get_by_label("Next page").click()
        it.page.get_by_role("button", name="Request of row 50", exact=True).wait_for()
        it.type("Search the table", "NUMBER 99999")
        it.sees("1 row found")
        assert it.page.locator("tbody tr").count() < 30
        assert len("".join(it.sent)) - before < 60_000  # bytes, whatever the size of the table
        it.page.get_by_role("cell", name="this is text number 99999 of many").click()
        it.sees("row 100,000")
        assert it.is_clean()
        it.page.close()


def test_everything_has_a_name_and_can_be_reached_by_keyboard(opened: Any, reviews: Path) -> None:
    config = {"url": "http://127.0.0.1:9/v1", "prompt": "{{ review }}", "output_schema": SCHEMA}
    (reviews / "c.json").write_text(json.dumps(config))
    with studio(reviews, "reviews.csv", "--config", "c.json") as address:
        it = Watched(opened, address)
        for name in ("Table", "Prompt", "Try", "Compare", "Run"):
            step(it.page, name)
            it.page.locator(".q-tab-panel").first.wait_for()
            nameless = it.page.evaluate(
                """() => [...document.querySelectorAll('button, input, textarea, select, a')].filter(each => {
                    const label = each.closest('label');
                    return each.offsetParent && !(each.getAttribute('aria-label') || each.textContent.trim()
                        || (label && label.textContent.trim()));
                }).map(each => each.outerHTML.slice(0, 200))"""
            )
            assert nameless == []
            assert it.page.evaluate("document.documentElement.scrollWidth <= 1024")
        step(it.page, "Table")
        it.page.get_by_role("button", name="Request of row 3", exact=True).focus()
        it.page.keyboard.press("Enter")
        it.sees("row 3")
        it.page.get_by_role("tab", name=re.compile("Table")).focus()
        it.page.keyboard.press("ArrowRight")
        it.page.keyboard.press("Enter")
        it.page.get_by_label("Prompt for each row").wait_for()
        reached = set()
        for _ in range(30):
            it.page.keyboard.press("Tab")
            reached.add(
                it.page.evaluate(
                    "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"
                )
            )
        assert {"Prompt for each row", "Name of the column", "Model", "Next row"} <= reached
        assert len(it.page.get_by_role("main").all()) == 1
        it.page.close()


def test_the_pictures_of_the_readme_are_taken_from_the_real_page(opened: Any, tmp_path: Path) -> None:
    pictures(tmp_path, opened)
    for name in ("studio-prompt.png", "studio-compare.png"):
        picture = (tmp_path / name).read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert 20_000 < len(picture) < 300_000
