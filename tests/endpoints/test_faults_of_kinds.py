"""What other kinds than chat make of bad bodies and streams, over a real socket: the table's rows that name the kind.

What befalls connections and statuses is the same for all kinds, and `tests.replies.test_every_fault` plays it for chat.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from connector import Config, Connector, Status
from connector.base.clock import Clock
from connector.base.errors import ConnectorError, CutError, ServerError
from connector.base.stop import Stop
from connector.run import passthrough
from tests.endpoint import PATHS, Endpoint, answer_to
from tests.faults import FAULTS, KINDS, Fault

KINDS_OF_TEXT = ("completions", "responses")
PATH = {kind: path for path, kind in PATHS.items()}
CASES = [
    pytest.param(kind, fault, streamed, id=f"{kind}-{name}-{'streamed' if streamed else 'whole'}")
    for kind in KINDS_OF_TEXT
    for name, fault in FAULTS.items()
    for streamed in (False, True)
    if kind in fault.kinds != KINDS and (fault.streamed if streamed else fault.whole) is not None
]


@pytest.fixture(scope="module")
def shared() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        yield endpoint


def enriched(endpoint: Endpoint, kind: str, prompt: str, *, streamed: bool, **more: Any) -> dict[str, Any]:
    config = {
        "url": endpoint.origin + PATH[kind],
        "api_key": "sk-test",
        "model": "m",
        "prompt": "{{ text }}",
        "is_stream": streamed,
        **more,
    }
    (row,) = Connector(config, clock=Clock(random=lambda: 0.0)).enrich([{"text": prompt}])
    return row


@pytest.mark.parametrize(("kind", "fault", "streamed"), CASES)
def test_a_fault_that_passes_has_the_outcome_that_the_table_says(
    shared: Endpoint, kind: str, fault: Fault, streamed: bool
) -> None:
    prompt = f"{kind} [[fault:{fault.name};times=1]] {streamed}"
    row = enriched(shared, kind, prompt, streamed=streamed)
    expected = Status.SUCCESS if fault.retried else fault.streamed if streamed else fault.whole
    calls = [call for call in shared.journal.calls if call.prompt == prompt]
    assert (row["_llm"]["status"], len(calls)) == (expected, 2 if fault.retried else 1), row["_llm"]
    assert row["content"] == (answer_to(prompt) if expected is Status.SUCCESS else None)
    assert (row["_llm"]["error"] is None) == (expected is Status.SUCCESS)


@pytest.mark.parametrize(
    ("kind", "fault", "words"),
    [
        ("completions", "sse-error", "The server is overloaded"),
        ("responses", "sse-error", "The server is overloaded"),
        ("responses", "response-error", "The server is overloaded"),
        ("responses", "response-failed", "The model failed"),
    ],
)
def test_an_error_in_a_stream_is_reported_in_its_own_words(shared: Endpoint, kind: str, fault: str, words: str) -> None:
    row = enriched(shared, kind, f"[[fault:{fault}]] told", streamed=True, max_retries=0)
    assert words in row["_llm"]["error"]["message"]


# --- Handed on as they are, for platforms that render requests themselves --------------------------------------------


def asked(endpoint: Endpoint, kind: str, prompt: str) -> Iterator[dict[str, Any]]:
    config = Config.model_validate({"url": endpoint.origin + PATH[kind], "api_key": "sk-test", "max_retries": 0})
    payload = {"model": "m", "stream": True, "prompt" if kind == "completions" else "input": prompt}
    return passthrough.stream(config, payload, clock=Clock(), stop=Stop())


@pytest.mark.parametrize("kind", ["completions", "responses"])
@pytest.mark.parametrize("fault", ["", "[[fault:sse-no-done]]"])
def test_the_events_of_a_stream_are_passed_on_to_its_end(shared: Endpoint, kind: str, fault: str) -> None:
    events = list(asked(shared, kind, f"direct {fault}"))
    texts = [event.get("delta") or event.get("choices", [{}])[0].get("text") or "" for event in events]
    assert "".join(texts) == answer_to(f"direct {fault}")


@pytest.mark.parametrize(
    ("kind", "fault", "expected"),
    [
        ("completions", "sse-cut", CutError),
        ("completions", "sse-error", ServerError),
        *(
            (kind, f"sse-error-{name}", ServerError)
            for kind in KINDS_OF_TEXT
            for name in ("line", "text", "event", "code")
        ),
        *((kind, "sse-unknown", ServerError) for kind in KINDS_OF_TEXT),
        *((kind, "broken-off", CutError) for kind in KINDS_OF_TEXT),
        ("responses", "sse-cut", CutError),
        ("responses", "sse-error", ServerError),
        ("responses", "response-error", ServerError),
        ("responses", "response-failed", ServerError),
    ],
)
def test_a_failing_stream_raises_after_what_arrived(
    shared: Endpoint, kind: str, fault: str, expected: type[ConnectorError]
) -> None:
    with pytest.raises(expected):
        list(asked(shared, kind, f"[[fault:{fault}]]"))
