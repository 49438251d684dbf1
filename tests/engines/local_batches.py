"""Batches without a server: each line of a file is answered by a function, when its answers are fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import orjson

from connector import endpoints
from connector.base.errors import ConnectorError, NotFoundError, ReplyError
from connector.base.masking import Masker
from connector.base.records import Reply
from connector.calls.batch_api import Batch
from connector.calls.batch_needs import Needs, Terms
from connector.engines import Control, Engine, load
from connector.ledger import Ledger
from connector.ledger.sqlite import SqliteLedger

Send = Callable[[bytes], Reply]
TERMS = Terms("/v1/chat/completions", max_requests=200, poll_seconds=0.001, quiet=0.0)


class LocalBatches:
    """See `connector.calls.batch_api.BatchAPI`. A batch goes on by one state each time that it is asked for."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.files: dict[str, list[bytes]] = {}
        self.batches: dict[str, Batch] = {}

    def upload(self, file: BinaryIO, filename: str) -> str:
        """See `BatchAPI.upload`."""
        file.seek(0)
        self.files[filename] = file.readlines()
        return filename

    def create(self, file: str, endpoint: str, window: str, metadata: Mapping[str, str]) -> Batch:
        """See `BatchAPI.create`."""
        del window
        name = f"batch_{len(self.batches)}"
        self.batches[name] = Batch(name, "validating", file, metadata=metadata, endpoint=endpoint)
        return self.batches[name]

    def retrieve(self, batch: str) -> Batch:
        """See `BatchAPI.retrieve`."""
        found = self.batches[batch]
        following = {"validating": "in_progress", "cancelling": "cancelled"}
        state = following.get(found.state, "completed")
        self.batches[batch] = found._replace(state=state, output_file=f"{batch}_output")
        return self.batches[batch]

    def cancel(self, batch: str) -> Batch:
        """See `BatchAPI.cancel`."""
        self.batches[batch] = self.batches[batch]._replace(state="cancelling")
        return self.batches[batch]

    def listed(self) -> Iterator[Batch]:
        """See `BatchAPI.listed`."""
        yield from reversed(self.batches.values())

    def download(self, file: str, into: BinaryIO, batch: str, requests: int) -> None:
        """See `BatchAPI.download`."""
        found = self.batches[file.removesuffix("_output")]
        assert (batch, requests) == (found.id, len(self.files[found.input_file]))
        into.writelines(map(self._answered, self.files[found.input_file]))

    def _answered(self, raw: bytes) -> bytes:
        line = orjson.loads(raw)
        told: dict[str, Any] = {"custom_id": line["custom_id"], "response": None, "error": None}
        try:
            reply = self._send(orjson.dumps(line["body"]))
        except ReplyError:
            told["response"] = {"status_code": 200, "body": []}
        except ConnectorError as error:
            status = 404 if isinstance(error, NotFoundError) else error.http_status
            if status is None:
                told["error"] = {"code": "failed", "message": error.message}
            else:
                told["response"] = {"status_code": status, "body": {"error": {"message": error.message}}}
        else:
            told["response"] = {"status_code": reply.status, "body": reply.body}
        return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)


class LocalEngine:
    """The engine of batches over `LocalBatches`, as any engine: all of its terms but the calls are given."""

    WAITING = 500_000

    def __init__(self, ledger: Ledger | None = None, terms: Terms = TERMS) -> None:
        self.ledger = ledger or SqliteLedger(None)
        self.terms = terms

    def run(self, items: Iterator[Any], send: Send, control: Control) -> Any:
        """See `connector.engines.Engine.run`."""
        engine: Engine = load(
            "batch",
            Needs(LocalBatches(send), self.ledger, "http://x/v1", endpoints.load("chat"), Masker([]), self.terms),
        )
        return engine.run(items, send, control)
