"""Airbyte's destination: RECORD messages on stdin become enriched rows of the output.

A STATE says how many rows have come since the state before it (`destinationStats`), and is otherwise unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from connector.base.errors import ConfigError, ConnectorError
from connector.base.records import JSON, Idle, Message, Record
from connector.base.streams import Target
from connector.protocols import ConnectorAPI, PlatformMessage, Transform
from connector.protocols._airbyte_catalog import targets
from connector.protocols._airbyte_messages import log
from connector.protocols._record_lines import SplitLine, dumps, split_exactly
from connector.protocols._row_store import Inbox, Outbox, RowCounts, opened


def write(connector: ConnectorAPI, config: JSON, catalog: JSON) -> Iterator[PlatformMessage | bytes | Idle]:
    """Enriches and stores the records on stdin; yields the covered states, and logs what has been stored.

    Raises:
        ConfigError: The config, the catalog or a message is wrong; a message is named by its line.
        FatalError: The endpoint or the output ended the run.
    """
    transform = connector.transform(config)
    wanted = [opened(target, transform) for target in targets(catalog)]
    inbox = _Inbox(wanted)
    with connector.destination(config, wanted) as destination:
        outbox = Outbox(inbox, destination)
        try:
            yield from outbox.stored(transform)
            destination.commit(unfinished=inbox.unfinished)
        except Exception as error:
            if (second := outbox.rescued(error)) is not None:
                yield log("ERROR", second.message)
            yield from outbox.covered()
            yield from _summary(outbox, transform)
            raise
        yield from outbox.covered()
        yield from _summary(outbox, transform)
    lost = [target.name for target in wanted if target.mode == "overwrite" and target.name in inbox.unfinished]
    if lost:
        raise ConnectorError(
            f"the source did not report that it has finished {', '.join(lost)} (STREAM_STATUS COMPLETE): the "
            "rows of the last run are kept; run the sync again"
        )


def _summary(outbox: Outbox, transform: Transform) -> Iterator[PlatformMessage]:
    if transform.summary:
        yield log("INFO", str(transform.summary))
    yield log("INFO", outbox.summary())


class _Inbox(Inbox):
    """Reads Airbyte's messages, and notes which streams are complete."""

    def __init__(self, wanted: Iterable[Target]) -> None:
        super().__init__(wanted)
        self.unfinished = set(self.targets)
        """The streams that the source has not called complete."""

    def read(self, message: dict[str, Any], line: bytes) -> Iterator[Record | Message]:
        """See `Inbox.read`."""
        match message["type"]:
            case "RECORD":
                match message.get("record"):
                    case {"stream": str(stream), "data": dict(row)}:
                        yield self.row(stream, row, len(line), "in the catalog")
                    case _:
                        raise ConfigError("the RECORD has no stream, or no data that is an object")
            case "STATE":
                if not isinstance(message.get("state"), dict):
                    raise ConfigError("the STATE has no state, or it is not an object")
                yield self.state(len(line), partial(_counted, split_exactly(line, ("state",))))
            case "TRACE":
                self._traced(message.get("trace"))

    def _traced(self, trace: Any) -> None:
        """Notes whether a stream is complete, as the source tells. A source that is killed tells nothing."""
        status = trace.get("stream_status") if isinstance(trace, dict) else None
        if isinstance(status, dict) and isinstance(status.get("stream_descriptor"), dict):
            name = status["stream_descriptor"].get("name")
            if not isinstance(name, str) or name not in self.targets:
                return
            if status.get("status") == "COMPLETE":
                self.unfinished.discard(name)
            else:
                self.unfinished.add(name)


def _counted(state: SplitLine, counts: RowCounts) -> bytes:
    """Returns the line of a STATE with the counts of its stream, or of all streams, which count from 0 on then."""
    if "destinationStats" in state.row:
        state = state.without(["destinationStats"])
    match state.row.get("stream"):
        case {"stream_descriptor": {"name": str(name)}}:
            names = [name]
        case _:
            names = [*counts.stored, *counts.rejected]
    stored, rejected = (sum(each.pop(name, 0) for name in names) for each in (counts.stored, counts.rejected))
    stats = {"recordCount": float(stored)} | ({"rejectedRecordCount": float(rejected)} if rejected else {})
    comma = b"," if state.row else b""
    return b'%b%b"destinationStats":%b%b' % (state.head, comma, dumps(stats), state.tail)
