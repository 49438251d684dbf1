"""What an endpoint can do is found out by asking, kept, and used by the runs that follow."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from connector import Config, Connector, sandbox
from connector.base.clock import Clock
from connector.check import capabilities
from connector.check.probe import Probe
from connector.run.plan import Plan
from tests.check.helpers import answer, offering, posted, refusing
from tests.endpoint import Call, Endpoint

SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}
WEEK = 7 * 86_400
SSE = "text/event-stream"


def found(endpoint: Endpoint, *, now: float = 0.0, fresh: bool = False, **options: Any) -> dict[str, str]:
    config = Config(**{"url": endpoint.base_url, "model": "m", "prompt": "{{ t }}", **options})
    probe = Probe(Plan(config), Clock(time=lambda: now))
    table = capabilities.found(probe, ["m", "text-embedding-3-small"], fresh=fresh)
    return {row.name: row.verdict for row in table.rows}


def said(content: str, **message: Any) -> Any:
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": "stop"}
    return answer(200, {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 5}})


def test_an_endpoint_that_can_do_everything(endpoint: Endpoint) -> None:
    table = found(endpoint)
    told = {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "greet", "arguments": "{}"}}]}
    assert {name for name, verdict in table.items() if verdict == "yes"} == {
        *("max_completion_tokens", "max_tokens", "streaming", "usage in streams", "json_schema", "json_object"),
        *("embeddings", "responses"),
    }
    with Endpoint(posted(lambda body: said("", **told) if "tools" in body else None)) as other:
        assert found(other)["tools"] == "yes"
    embedding = next(call for call in endpoint.journal.calls if call.kind == "embeddings")
    assert embedding.body["model"] == "text-embedding-3-small"


def test_an_endpoint_that_takes_everything_and_does_nothing() -> None:
    with Endpoint(posted(lambda _: said("Hello."))) as endpoint:
        table = found(endpoint)
    ignored = ("streaming", "usage in streams", "json_schema", "json_object", "tools", "vision", "logprobs")
    assert [table[name] for name in ignored] == ["ignored"] * len(ignored)


def refusal_of(*names: str) -> Any:
    def script(body: dict[str, Any]) -> Any:
        name = next((name for name in names if name in body), None)
        return refusing(400, f"Unsupported parameter: '{name}'") if name else None

    return posted(script)


@pytest.mark.parametrize(
    ("refused", "options", "sent"),
    [
        (["max_tokens"], {"models": [{"name": "m", "id": "m", "max_tokens": 9}]}, {"max_completion_tokens": 9}),
        (["stream_options"], {"is_stream": True}, {"stream": True}),
        (["response_format"], {"output_schema": SCHEMA}, {}),
    ],
)
def test_a_run_uses_the_fallbacks_in_the_table_at_once(
    refused: list[str], options: dict[str, Any], sent: dict[str, Any]
) -> None:
    with Endpoint(refusal_of(*refused)) as endpoint:
        table = found(endpoint, now=time.time(), **options)
        assert {"max_tokens": "max_tokens", "stream_options": "usage in streams", "response_format": "json_schema"}[
            refused[0]
        ] in [name for name, verdict in table.items() if verdict == "no"]
        before = len(endpoint.journal.calls)
        config = {"url": endpoint.base_url, "model": "m", "prompt": "{{ t }}", "max_repairs": 0, **options}
        list(Connector(config).enrich([{"t": "a"}]))
        (call,) = endpoint.journal.calls[before:]
        assert sent.items() <= call.body.items()
        assert not set(refused) & call.body.keys()


def test_a_schema_that_is_ignored_is_asked_for_as_a_json_object() -> None:
    def script(body: dict[str, Any]) -> Any:
        return said("Hello.") if (body.get("response_format") or {}).get("type") == "json_schema" else None

    with Endpoint(posted(script)) as endpoint:
        assert found(endpoint, now=time.time())["json_schema"] == "ignored"
        config = {"url": endpoint.base_url, "model": "m", "prompt": "{{ t }}", "output_schema": SCHEMA}
        list(Connector(config).enrich([{"t": "a"}]))
        assert endpoint.journal.calls[-1].body["response_format"] == {"type": "json_object"}


def test_the_table_is_kept_for_a_week_and_costs_nothing_again(endpoint: Endpoint) -> None:
    first = found(endpoint)
    calls = len(endpoint.journal.calls)
    assert found(endpoint, now=WEEK - 1) == first
    assert len(endpoint.journal.calls) == calls
    found(endpoint, now=WEEK + 1)
    assert len(endpoint.journal.calls) == 2 * calls
    found(endpoint, now=WEEK + 1, fresh=True)
    assert len(endpoint.journal.calls) == 3 * calls


def test_each_model_has_a_table_of_its_own(endpoint: Endpoint) -> None:
    found(endpoint)
    calls = len(endpoint.journal.calls)
    found(endpoint, model="other")
    found(endpoint)
    assert len(endpoint.journal.calls) == 2 * calls


def test_nothing_is_stored_if_storing_is_off(endpoint: Endpoint) -> None:
    found(endpoint, cache="none")
    calls = len(endpoint.journal.calls)
    found(endpoint, cache="none")
    assert len(endpoint.journal.calls) == 2 * calls


def test_all_questions_together_end_after_three_times_the_timeout_and_what_is_left_is_asked_again() -> None:
    """Together with `check` before them, which ends within the timeout, after four times."""
    passed = [0.0]

    def slow(_: Any) -> Any:
        passed[0] += 25
        return said("Hello.")

    with Endpoint(posted(slow)) as endpoint:
        config = Config(url=endpoint.base_url, model="m", prompt="x")
        for _ in range(2):
            probe = Probe(Plan(config), Clock(monotonic=lambda: passed[0]))
            passed[0] += 25  # for the list of models
            table = capabilities.found(probe, ["m"])
            verdicts = [row.verdict for row in table.rows]
            assert verdicts[0] == "yes"
            assert verdicts[-1] == "unknown"
            assert "no time is left" in table.rows[-1].detail
        assert len([call for call in endpoint.journal.calls if call.method == "POST"]) == 2 * 3


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", '{"m": 1}', '{"m": {"at": "x"}}', '{"m": {"at": 0, "rows": [[1]]}}'),
        *(f'{{"m": {{"at": 1{"0" * 400}, "rows": []}}}}', "[" * 100_000),
    ],
)
def test_a_damaged_file_is_ignored(endpoint: Endpoint, content: str) -> None:
    path = capabilities._path(endpoint.url)  # noqa: SLF001 - where it is, is nobody else's business
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    assert found(endpoint)["streaming"] == "yes"
    assert json.loads(path.read_text())["m"]["at"] == 0
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_endpoint_that_goes_away_meanwhile_is_not_called_unable() -> None:
    limited = answer(429, {"error": "slow down"})
    with Endpoint(posted(lambda _: limited)) as endpoint:
        table = found(endpoint)
    assert table["json_schema"] == table["streaming"] == "unknown"


def test_a_server_without_other_endpoints_lacks_them() -> None:
    def script(call: Call) -> Any:
        return answer(404, {"detail": "Not Found"}) if call.method == "POST" and call.kind != "chat" else None

    with Endpoint(offering(script)) as endpoint:
        table = found(endpoint)
    assert (table["embeddings"], table["responses"]) == ("no", "no")


def test_a_stream_that_nobody_asked_for_is_a_reply_all_the_same() -> None:
    response = {"object": "response", "status": "completed", "output": [{"type": "message", "content": []}]}

    def script(call: Call) -> Any:
        if call.kind != "responses":
            return None
        return answer(200, "data: " + json.dumps({"type": "response.completed", "response": response}) + "\n\n", SSE)

    with Endpoint(offering(script)) as endpoint:
        assert found(endpoint)["responses"] == "yes"


def test_no_key_is_in_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    words = posted(lambda body: refusing(400, "no tools for sk-canary-1234") if "tools" in body else None)
    with Endpoint(words) as endpoint:
        found(endpoint, api_key="sk-canary-1234")
    files = [path.read_text() for path in tmp_path.rglob("*.json")]
    assert files
    assert "canary" not in "".join(files)


def test_files_and_batches_are_found_for_free() -> None:
    with sandbox.running() as url:
        given = {"url": url, "api_key": sandbox.KEY, "model": sandbox.MODEL, "prompt": "{{ t }}", "cache": "none"}
        config = Config.load(given)
        table = capabilities.found(Probe(Plan(config), Clock()), [sandbox.MODEL])
    assert {row.name: row.verdict for row in table.rows if row.name in ("files", "batches")} == {
        "files": "yes",
        "batches": "yes",
    }
