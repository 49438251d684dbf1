"""Every line that Airbyte's dialect writes is a message by the official models of the protocol, whatever goes wrong."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from airbyte_protocol.models import (  # type: ignore[import-untyped]  # it has no py.typed
    AirbyteMessage,
    AirbyteStateMessage,
    ConfiguredAirbyteCatalog,
)

from connector.base.errors import (
    BudgetError,
    ConfigError,
    ConnectorError,
    LedgerUnavailableError,
    OutageError,
    RateLimitError,
    StorageError,
)
from connector.base.records import IDLE
from connector.base.streams import Selection
from connector.protocols import Arguments, MessageWriter, airbyte
from connector.protocols._airbyte_catalog import states
from tests.endpoint import Action, Call, Endpoint, act
from tests.protocols.test_airbyte import Project, run

HEADER = "id,text,at\n"


@pytest.fixture
def project(tmp_path: Path, endpoint: Endpoint) -> Project:
    return Project(tmp_path, endpoint)


def official(ended: tuple[int, list[dict[str, Any]], str]) -> list[AirbyteMessage]:
    """The messages as the official models read them; each has the part that its type announces, and no unknown one."""
    messages = [AirbyteMessage.model_validate(message) for message in ended[1]]
    assert messages
    for message in messages:
        part = message.type.value
        part = {"CONNECTION_STATUS": "connectionStatus"}.get(part, part.lower())
        assert message.model_fields_set == {"type", part}
        assert getattr(message, part) is not None
    return messages


def values(messages: list[AirbyteMessage]) -> list[str]:
    """The statuses of the stream, and the kind of failure at the end."""
    told = []
    for trace in (message.trace for message in messages if message.trace):
        if trace.stream_status:
            told.append(trace.stream_status.status.value)
        elif trace.error and trace.error.failure_type:
            told.append(trace.error.failure_type.value)
    return told


def test_spec_check_and_discover_are_official_messages(project: Project) -> None:
    (spec,) = official(run("spec"))
    (good,) = official(project.verb("check"))
    (bad,) = official(project.verb("check", prompt="{{ nowhere }}"))
    (discovered,) = official(project.verb("discover"))
    assert spec.spec
    assert spec.spec.supportsIncremental
    statuses = [each.connectionStatus.status.value for each in (good, bad) if each.connectionStatus]
    assert statuses == ["SUCCEEDED", "FAILED"]
    assert discovered.catalog
    assert [stream.name for stream in discovered.catalog.streams] == ["reviews", "models"]


def test_a_catalogue_that_the_models_write_is_read(project: Project) -> None:
    (discovered,) = official(project.verb("discover"))
    assert discovered.catalog
    stream, _ = discovered.catalog.model_dump(mode="json")["streams"]
    asked = {"stream": stream, "sync_mode": "incremental", "destination_sync_mode": "append_dedup"}
    catalog = ConfiguredAirbyteCatalog.model_validate({"streams": [asked]}).model_dump(mode="json")
    messages = official(project.verb("read", "--catalog", project.file("catalog", catalog)))
    assert sum(message.record is not None for message in messages) == 25


def test_a_good_read_ends_with_a_state_that_counts_and_the_models_hand_it_back(project: Project) -> None:
    messages = official(project.read("incremental"))
    states = [message.state for message in messages if message.state]
    assert values(messages) == ["STARTED", "RUNNING", "COMPLETE"]
    assert messages[-3].state
    assert sum(state.sourceStats.recordCount or 0 for state in states if state.sourceStats) == 25
    saved = states[-1].model_dump(mode="json", by_alias=True, exclude_none=True)
    assert AirbyteStateMessage.model_validate(saved) == states[-1]
    again = official(project.read("incremental", [saved]))
    assert values(again) == ["STARTED", "RUNNING", "COMPLETE"]
    assert [message.type.value for message in again] == ["TRACE", "TRACE", "STATE", "TRACE"]


def test_failing_rows_are_records_with_what_was_nulled(project: Project) -> None:
    project.table.write_text(f"{HEADER}1,fine,2024-01-01\n2,[[fault:400]],2024-01-02\n")
    messages = official(project.read())
    records = [message.record for message in messages if message.record]
    changes = {record.data["id"]: record.meta and record.meta.changes for record in records}
    assert changes[1] is None
    assert [change.reason.value for change in changes[2] or []] == ["SOURCE_RETRIEVAL_ERROR"]
    assert values(messages) == ["STARTED", "RUNNING", "COMPLETE"]


def test_a_bad_key_is_the_user_s_to_mend_and_its_messages_are_two(project: Project) -> None:
    project.table.write_text(f"{HEADER}1,[[fault:401]],2024-01-01\n")
    messages = official(project.read())
    assert values(messages)[-2:] == ["INCOMPLETE", "config_error"]
    trace = messages[-1].trace
    assert trace
    assert trace.error
    assert "set api_key" in trace.error.message
    assert trace.error.internal_message != trace.error.message


def test_an_unknown_stream_and_a_broken_config_are_official_messages(project: Project) -> None:
    unknown = official(project.verb("read", "--catalog", project.catalog(name="nowhere")))
    assert values(unknown) == ["STARTED", "INCOMPLETE", "config_error"]
    broken = project.path / "broken.json"
    broken.write_text("{")
    for verb in ("discover", "read"):
        assert values(official(run(verb, "--config", broken, "--catalog", broken))) == ["config_error"]
    (refused,) = official(run("check", "--config", broken))
    assert refused.connectionStatus


@pytest.mark.parametrize("catalog", [None, [], {}, {"streams": [1]}, {"streams": [{"stream": "reviews"}]}])
def test_a_catalogue_of_another_kind_is_the_user_s_to_mend(project: Project, catalog: Any) -> None:
    assert values(official(project.verb("read", "--catalog", project.file("catalog", catalog)))) == ["config_error"]


def test_a_catalogue_may_begin_with_a_byte_order_mark(project: Project) -> None:
    catalog = project.catalog()
    catalog.write_text("\ufeff" + catalog.read_text(), encoding="utf-8")
    assert values(official(project.verb("read", "--catalog", catalog)))[-1] == "COMPLETE"


STREAM = {"stream_descriptor": {"name": "reviews"}, "stream_state": {"at": 3}}


@pytest.mark.parametrize(
    "state",
    [
        {"reviews": {"at": 3}},
        [{"type": "STREAM", "stream": STREAM}],
        [{"type": "STREAM", "stream": STREAM, "global": None, "data": None}],
        {"type": "STREAM", "stream": STREAM},
        {"type": "STATE", "state": {"type": "STREAM", "stream": STREAM}},
        [{"type": "STATE", "state": {"type": "STREAM", "stream": STREAM}}],
        [{"type": "GLOBAL", "global": {"shared_state": {}, "stream_states": [STREAM]}}],
        [{"type": "LEGACY", "data": {"reviews": {"at": 3}}}],
        [{"data": {"reviews": {"at": 3}}}],
    ],
)
def test_every_form_of_state_is_read(state: Any) -> None:
    assert states(state) == {"reviews": {"at": 3}}


@pytest.mark.parametrize(
    "state", [None, [], {}, [{"type": "STREAM", "stream": None}], [{"type": "LEGACY", "data": {}}]]
)
def test_nothing_is_an_empty_state(state: Any) -> None:
    assert states(state) == {}


@pytest.mark.parametrize("state", [3, "reviews", [1], [{"type": "STREAM", "stream": {}, "data": 3}], [{"stream": [1]}]])
def test_a_state_of_another_kind_is_refused(state: Any) -> None:
    with pytest.raises(ConfigError, match="the state is not a list"):
        states(state)


class Failing:
    """A platform whose read ends with an error after nothing."""

    def __init__(self, error: ConnectorError) -> None:
        self.error = error
        self.summary = ""

    def read(self, *_: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind", "limited"),
    [
        (RateLimitError("slow down", http_status=429, wait=30.0), "transient_error", True),
        (OutageError("all fail", http_status=429), "transient_error", True),
        (OutageError("all fail", http_status=503), "transient_error", False),
        (OutageError("all fail"), "transient_error", False),
        (LedgerUnavailableError("the ledger has not answered"), "transient_error", False),
        (OutageError("all are refused", http_status=400), "config_error", False),
        (BudgetError("spent"), "config_error", False),
        (StorageError("full"), "system_error", False),
    ],
)
def test_a_failure_says_whose_it_is_and_whether_a_rate_limit_ended_the_stream(
    project: Project, error: ConnectorError, kind: str, limited: bool
) -> None:
    lines: list[bytes] = []
    arguments = Arguments("read", str(project.file("config", {})), str(project.catalog()))
    platform: Any = Failing(error)
    assert airbyte.serve(arguments, platform, MessageWriter(lines.append, lambda: None)) == 1
    messages = [AirbyteMessage.model_validate_json(line) for line in lines]
    assert values(messages) == ["STARTED", "INCOMPLETE", kind]
    status = messages[-2].trace
    assert status
    assert status.stream_status
    reasons = status.stream_status.reasons or []
    assert [reason.type.value for reason in reasons] == ["RATE_LIMITED"] * limited
    resets = [reason.rate_limited.quota_reset for reason in reasons if reason.rate_limited]
    assert len(resets) == isinstance(error, RateLimitError)


def test_an_endpoint_that_limits_for_hours_ends_the_stream_as_rate_limited(tmp_path: Path) -> None:
    def limited(call: Call) -> Action | None:
        return act(call, "429-seconds", {"retry-after": "7200"}) if call.method == "POST" else None

    began = time.time()
    with Endpoint(limited) as endpoint:
        messages = official(Project(tmp_path, endpoint).read())
    ended = time.time()
    assert values(messages)[-2:] == ["INCOMPLETE", "transient_error"]
    told = [message.trace.stream_status for message in messages if message.trace and message.trace.stream_status]
    for status in told[-2:]:
        (reason,) = status.reasons or []
        assert reason.type.value == "RATE_LIMITED"
        assert reason.rate_limited
        assert began + 7200 - 1 < (reason.rate_limited.quota_reset or 0) / 1000 < ended + 7200 + 1


def test_a_stream_that_waits_for_the_endpoint_says_so_while_it_runs(project: Project) -> None:
    project.table.write_text(f"{HEADER}1,[[fault:429-seconds;times=1]],2024-01-01\n2,fine,2024-01-02\n")
    messages = official(project.read())
    told = [message.trace.stream_status for message in messages if message.trace and message.trace.stream_status]
    assert [(status.status.value, bool(status.reasons)) for status in told].count(("RUNNING", True)) == 1
    assert told[-1].status.value == "COMPLETE"
    assert not told[-1].reasons


def test_a_consumer_that_goes_away_ends_the_stream_without_another_word() -> None:
    class Endless:
        def read(self, *_: Any) -> Any:
            while True:
                yield IDLE

    platform: Any = Endless()
    reading: Any = airbyte._read_stream(platform, {}, Selection("reviews"), {})  # noqa: SLF001 - the generator alone
    next(reading)
    next(reading)
    reading.close()
