"""Singer's target: rows on stdin become enriched rows of the output; states come out on stdout once they hold.

Rows of a stream with key properties take the place of those with the same key; others are appended.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from connector.base.errors import ConfigError
from connector.base.records import Idle, Message, Record
from connector.base.schemas import portable
from connector.base.streams import Target
from connector.base.terminal import hanging, write, write_lines
from connector.protocols import Arguments, ConnectorAPI, MessageWriter
from connector.protocols._batch_files import BatchFiles
from connector.protocols._record_lines import dumps, split_object
from connector.protocols._row_store import Inbox, Outbox, opened
from connector.protocols._singer_plugins import config_of


def store(arguments: Arguments, connector: ConnectorAPI, output: MessageWriter) -> int:
    """Enriches and stores what comes on stdin; prints the value of each state that holds, a line each."""
    config = config_of(arguments, connector)
    transform = connector.transform(config)

    def put(line: bytes | Idle) -> None:
        if isinstance(line, Idle):
            output.flush()
        else:
            output.write(line + b"\n")

    def declare(target: Target) -> Target:
        target = opened(target, transform)
        destination.add(target)
        return target

    with connector.destination(config, []) as destination:
        outbox = Outbox(_Inbox(declare), destination)
        try:
            for line in outbox.stored(transform):
                put(line)
            destination.commit(unfinished=())
        except Exception as error:
            if (second := outbox.rescued(error)) is not None:
                write(sys.stderr, f"{hanging(second.message)}\n")
            raise
        finally:
            for line in outbox.covered():
                put(line)
            if transform.summary:
                write(sys.stderr, f"{transform.summary}\n")
            write_lines(sys.stderr, [outbox.summary()])
    return 0


class _Inbox(Inbox):
    """Reads Singer's messages; `declare` takes a stream and returns it with the columns that its rows gain."""

    def __init__(self, declare: Callable[[Target], Target]) -> None:
        super().__init__()
        self._declare = declare

    def read(self, message: dict[str, Any], line: bytes) -> Iterator[Record | Message]:
        """See `Inbox.read`."""
        match message:
            case {"type": "SCHEMA", "stream": str(stream), "schema": dict(schema)}:
                self.targets[stream] = self._declare(_target(stream, schema, message.get("key_properties")))
            case {"type": "RECORD", "stream": str(stream), "record": dict(row)}:
                yield self._row(stream, row, len(line))
            case {"type": "BATCH", "stream": str(stream)}:
                yield from self._rows(stream, BatchFiles(message))
            case {"type": "STATE", "value": dict(value)}:
                text = dumps(value)
                yield self.state(len(text), lambda _: text)
            case {"type": "SCHEMA" | "RECORD" | "BATCH" | "STATE" as kind}:
                raise ConfigError(
                    f"the {kind} is not a valid Singer message: a part of it is missing or is not an object"
                )

    def _row(self, stream: str, row: dict[str, Any], size: int) -> Record | Message:
        return self.row(stream, row, size, "whose SCHEMA has come: send the SCHEMA first")

    def _rows(self, stream: str, found: BatchFiles) -> Iterator[Record | Message]:
        for path in found.paths:
            for number, line in enumerate(found.lines(path), 1):
                try:
                    yield self._row(stream, split_object(line).row, len(line))
                except ConfigError as error:
                    raise ConfigError(f"{path}, line {number}: {error.message}") from None


def _target(stream: str, schema: dict[str, Any], keys: Any) -> Target:
    properties = schema.get("properties") or {}
    if not isinstance(properties, dict):
        raise ConfigError(f'the schema of stream "{stream}" has properties that are not an object')
    columns = {name: portable(each, schema) for name, each in properties.items()}
    key = tuple(keys) if isinstance(keys, list) else ()
    if not all(isinstance(name, str) for name in key):
        raise ConfigError(f'the key_properties of stream "{stream}" are not names of columns')
    return Target(stream, "append_dedup" if key else "append", columns, primary_key=key)
