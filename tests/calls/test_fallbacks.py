"""What an endpoint wants to be asked for otherwise: found out, made, and remembered for a week."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from connector.base.clock import Clock
from connector.base.decoding import loads
from connector.base.errors import ServerError
from connector.base.records import Reply
from connector.base.values import dumps
from connector.calls.fallbacks import Fallbacks, path_of
from connector.endpoints.chat import FALLBACKS

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"label": {"type": "string"}}}
ASKED: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "Classify."}],
    "max_tokens": 5,
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": SCHEMA}},
}


def fallbacks(path: Path | None = None, now: float = 1e9) -> Fallbacks:
    return Fallbacks(FALLBACKS, path, Clock(time=lambda: now))


def refused(message: str) -> Reply:
    return Reply(400, {"error": {"message": message, "type": "x", "code": None}}, {})


def conceded(
    refusal: str, body: dict[str, Any] = ASKED, made: tuple[str, ...] = ()
) -> tuple[str, dict[str, Any]] | None:
    found = fallbacks().next(dumps(body), made, refused(refusal))
    return None if found is None else (found[0], loads(found[1]))


@pytest.mark.parametrize(
    ("refusal", "name"),
    [
        (
            "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.",
            "max_completion_tokens",
        ),
        ("Invalid schema for response_format 'a': 'additionalProperties' is required to be false.", "loose_schema"),
        ("Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.", "json_object"),
        ("body.response_format.type: Input should be 'text' or 'json_object'", "json_object"),
        ("This response_format type is unavailable now", "json_object"),
    ],
)
def test_a_refusal_calls_for_a_fallback(refusal: str, name: str) -> None:
    found = conceded(refusal)
    assert found is not None
    assert found[0] == name


@pytest.mark.parametrize(
    "refusal",
    [
        "",
        "context length exceeded",
        "unsupported temperature",
        "'max_tokens' or 'max_completion_tokens' is too large: 100000.",
        "max_tokens is too large: 100000. This model supports at most 16384 completion tokens.",
        "`max_tokens` must be less than or equal to `8192`",
    ],
)
def test_other_refusals_call_for_no_fallback(refusal: str) -> None:
    assert conceded(refusal) is None


def test_the_other_name_of_the_cap_keeps_its_value() -> None:
    found = conceded("use max_completion_tokens")
    assert found is not None
    assert "max_tokens" not in found[1]
    assert found[1]["max_completion_tokens"] == 5
    newer = {name: value for name, value in ASKED.items() if name != "max_tokens"} | {"max_completion_tokens": 5}
    back = conceded("Unrecognized request argument supplied: max_completion_tokens", newer)
    assert back is not None
    assert back[0] == "max_tokens"
    assert back[1]["max_tokens"] == 5


@pytest.mark.parametrize("rest", [b"18446744073709551617", b"1e400", b"-0.0", b"[" * 200 + b"]" * 200])
def test_the_rest_of_a_request_stays_as_it_is_however_deep_or_long(rest: bytes) -> None:
    body = dumps(ASKED)[:-1] + b',"x":' + rest + b"}"
    found = fallbacks().next(body, (), refused("'max_tokens' is not supported. Use 'max_completion_tokens' instead."))
    assert found is not None
    assert b'"max_completion_tokens":5' in found[1]
    assert found[1].endswith(b',"x":' + rest + b"}")


def test_where_the_schema_is_refused_it_goes_into_the_prompt_once() -> None:
    first = conceded("response_format is not supported")
    assert first is not None
    name, body = first
    assert name == "json_object"
    assert body["response_format"] == {"type": "json_object"}
    second = conceded("response_format is not supported", body, (name,))
    assert second is not None
    name, body = second
    assert name == "prompt"
    assert "response_format" not in body
    assert body["messages"][-1]["content"].count(dumps(SCHEMA).decode()) == 1
    assert conceded("response_format is not supported", body, ("json_object", "prompt")) is None


@pytest.mark.parametrize(
    "messages",
    [[], [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], [{"role": "assistant", "content": None}]],
)
def test_the_schema_is_put_into_any_conversation(messages: list[Any]) -> None:
    found = conceded("json_schema", {**ASKED, "messages": messages}, ("loose_schema",))
    assert found is not None
    assert "JSON Schema" in json.dumps(found[1]["messages"][-1])
    assert len(found[1]["messages"]) >= len(messages)


def test_a_fallback_that_changes_nothing_is_not_used() -> None:
    assert conceded("max_completion_tokens, response_format", {"model": "m", "messages": []}) is None


def test_a_fallback_that_worked_is_applied_at_once_from_then_on_by_model() -> None:
    known = fallbacks()
    body = dumps(ASKED)
    assert known.fitted(body) is body
    known.learn(body, ["max_completion_tokens"])
    assert loads(known.fitted(body))["max_completion_tokens"] == 5
    other = dumps({**ASKED, "model": "another"})
    assert known.fitted(other) == other


def test_a_fallback_is_made_at_once_and_dropped_where_it_does_not_help(tmp_path: Path) -> None:
    known = fallbacks(tmp_path / "known.json")
    known.expect(dumps(ASKED), "max_completion_tokens")
    assert "max_completion_tokens" in loads(known.fitted(dumps(ASKED)))
    assert not (tmp_path / "known.json").exists()
    known.drop(dumps(ASKED), ["max_completion_tokens"])
    assert known.fitted(dumps(ASKED)) == dumps(ASKED)


def test_a_refusal_is_noticed_before_the_next_call_begins() -> None:
    known = fallbacks()
    known.noticed(dumps(ASKED), refused("use max_completion_tokens"))
    assert "max_completion_tokens" in loads(known.fitted(dumps(ASKED)))
    known.noticed(dumps(ASKED), refused("the prompt is too long"))
    assert list(loads(known.fitted(dumps(ASKED)))) == list(loads(known.fitted(dumps(ASKED))))


def test_a_request_that_needs_nothing_stays_byte_for_byte() -> None:
    known = fallbacks()
    known.learn(dumps(ASKED), ["max_completion_tokens"])
    body = b'{"model": "m",  "messages": []}'
    assert known.fitted(body) is body


def test_the_next_run_uses_a_fallback_for_a_week(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "known.json"
    fallbacks(path).learn(dumps(ASKED), ["max_completion_tokens"])
    fallbacks(path).learn(dumps({**ASKED, "model": "n"}), ["json_object"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "max_completion_tokens" in loads(fallbacks(path).fitted(dumps(ASKED)))
    assert fallbacks(path, 1e9 + 8 * 86_400).fitted(dumps(ASKED)) == dumps(ASKED)


HUGE = b'{"m": {"at": 1%b, "names": []}}' % (b"0" * 400)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"m": 1}', b'{"m": {"at": "x", "names": []}}', HUGE, b"[" * 100_000]
)
def test_a_damaged_file_of_fallbacks_is_ignored(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "known.json"
    path.write_bytes(content)
    known = fallbacks(path)
    assert known.fitted(dumps(ASKED)) == dumps(ASKED)
    known.learn(dumps(ASKED), ["max_completion_tokens"])
    assert "max_completion_tokens" in loads(fallbacks(path).fitted(dumps(ASKED)))


def test_a_file_of_fallbacks_that_cannot_be_written_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    known = fallbacks(tmp_path / "file" / "known.json")
    known.learn(dumps(ASKED), ["max_completion_tokens"])
    assert "max_completion_tokens" in loads(known.fitted(dumps(ASKED)))


def test_each_endpoint_has_its_own_file_of_fallbacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert path_of("http://a/v1") != path_of("http://b/v1")
    assert path_of("http://a/v1").is_relative_to(tmp_path)


def test_a_refused_sample_of_the_model_calls_for_no_fallback() -> None:
    message = "Generated JSON does not match the expected schema."
    refusal = Reply(400, {"error": {"message": message, "type": "x", "code": "json_validate_failed"}}, {})
    assert fallbacks().next(dumps(ASKED), (), refusal) is None


def test_a_bare_failure_asks_for_what_it_may_mean_and_one_with_another_status_for_nothing() -> None:
    found = fallbacks().next(dumps(ASKED), (), ServerError("the endpoint failed (HTTP 500)", http_status=500))
    assert found is not None
    assert found[0] == "json_object"
    streamed = dumps({"model": "m", "messages": [], "stream": True, "stream_options": {}})
    found = fallbacks().next(streamed, (), ServerError("the endpoint failed (HTTP 500)", http_status=500))
    assert found is not None
    assert (found[0], list(loads(found[1]))) == ("whole", ["model", "messages"])
    for status in (502, 503, 504, 529):
        assert fallbacks().next(dumps(ASKED), (), ServerError("json_schema", http_status=status)) is None


def test_each_fallback_is_logged_once_for_a_model(caplog: pytest.LogCaptureFixture) -> None:
    known = fallbacks()
    for _ in range(3):
        known.next(dumps(ASKED), (), refused("use max_completion_tokens"))
    known.learn(dumps(ASKED), ["max_completion_tokens"])
    known.fitted(dumps(ASKED))
    (message,) = caplog.messages
    assert '"max_completion_tokens"' in message
    assert "use max_completion_tokens" in message


def test_a_remembered_fallback_is_logged_too(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    fallbacks(tmp_path / "known.json").learn(dumps(ASKED), ["max_completion_tokens"])
    for known in [fallbacks(tmp_path / "known.json")] * 2:
        known.fitted(dumps(ASKED))
    assert len(caplog.messages) == 1
