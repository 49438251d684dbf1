"""Every fault of the table, whole and streamed, over a real socket: the row's status, the calls, the run's end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from connector import Connector, FatalError, Status
from connector.base.clock import Clock
from tests.endpoint import Endpoint, answer_to
from tests.faults import FAULTS, Fault

CASES = [
    pytest.param(fault, streamed, id=f"{name}-{'streamed' if streamed else 'whole'}")
    for name, fault in FAULTS.items()
    for streamed in (False, True)
    if (fault.streamed if streamed else fault.whole) is not None and "chat" in fault.kinds
]


def run(endpoint: Endpoint, fault: Fault, *, streamed: bool, times: str) -> dict[str, Any]:
    connector = Connector(
        {
            "url": endpoint.url,
            "api_key": "sk-test",
            "model": "m",
            "prompt": "{{ text }}",
            "is_stream": streamed,
            "config": {"timeout": 0.5 if fault.deadline else 10},
            "max_response_bytes": 1_000_000,
        },
        clock=Clock(random=lambda: 0.0),
    )
    (row,) = connector.enrich([{"text": f"row 7 [[fault:{fault.name}{times}]] {streamed}"}])
    return row


@pytest.fixture(scope="module")
def shared() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        yield endpoint


@pytest.mark.parametrize(("fault", "streamed"), CASES)
def test_a_fault_that_passes_has_the_outcome_that_the_table_says(
    shared: Endpoint, fault: Fault, streamed: bool
) -> None:
    if fault.effect == "run":
        with pytest.raises(FatalError):
            run(shared, fault, streamed=streamed, times=";times=1")
        return
    row = run(shared, fault, streamed=streamed, times=";times=1")
    told, prompt = row["_llm"], row["text"]
    expected = Status.SUCCESS if fault.retried else fault.streamed if streamed else fault.whole
    calls = [call for call in shared.journal.calls if call.prompt == prompt and call.path.startswith("/v1")]
    assert (told["status"], len(calls)) == (expected, 2 if fault.retried else 1), told
    if expected is Status.SUCCESS:
        assert row["content"] == answer_to(prompt) + ("" if fault.retried else fault.tail)
    else:
        assert row["content"] is None
        assert told["error"]["message"]
