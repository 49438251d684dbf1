"""Batches of the sandbox: files of requests that are answered later, on request with the faults of real services.

Shapes and states are those of https://platform.openai.com/docs/api-reference/batch. A batch advances by one step each
time it is polled, so nothing has to wait. Its lines are answered by the stand-ins for live requests.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson
from jsonschema import Draft202012Validator

from connector.base.errors import ConfigError
from connector.sandbox.files import Files, page
from connector.sandbox.validation import TEXT, APIError, form

FAULTS: Final[Mapping[str, str]] = {
    "slow": "each state lasts ten polls longer",
    "failed": "the file fails its validation at line 2",
    "expired": "it expires when half of the lines are answered",
    "cancelled": "it is cancelled when half of the lines are answered",
    "partial": "every third line fails with a 500",
    "refused": "every third line is refused with a 400",
    "all_failed": "every line fails with a 500, and there is no output file",
    "token_limit": "the token queue is full: the batch fails at once",
    "create_429": "the queue is full: creating a batch is answered with 429",
    "create_500": "creating a batch fails, and none is made",
    "lost_create": "the batch is made, but the answer is lost",
    "lost_upload": "the file is taken, but the answer is lost",
    "poll_500": "polling the state fails",
    "empty_error_id": "error_file_id is an empty text where there is no such file",
    "empty_error_file": "there is an error file, though it is empty",
    "missing_lines": "every fourth answer is missing",
    "doubled_lines": "every third answer comes twice",
    "unknown_lines": "there is an answer that belongs to no request",
    "broken_lines": "every fourth answer is not JSON",
    "text_bodies": "bodies are JSON as text, and lines of errors have no response",
    "upper_case": "states are in upper case, and in_progress is PROGRESS",
    "wrong_counts": "request_counts do not add up",
    "gone_files": "the files with the answers have expired",
    "cut_download": "a download breaks off in the middle",
    "no_range": "downloads always begin at the start",
    "no_metadata": "metadata is not kept",
}
"""What can go wrong, by the names that `--fault` takes."""

_SLOW: Final = 10
_MOST_LINES: Final = 50_000
_MOST_BYTES: Final = 200 * 2**20
_MOST_LISTED: Final = 100
_WINDOW: Final = 86_400
_THIRD, _FOURTH = 3, 4
REQUEST: Final = Draft202012Validator(
    form(
        "input_file_id",
        "endpoint",
        "completion_window",
        input_file_id=TEXT,
        endpoint=TEXT,
        completion_window=TEXT,
        metadata={
            "type": ["object", "null"],
            "maxProperties": 16,
            "additionalProperties": TEXT | {"maxLength": 512},
        },
    )
)
"""The schema of a request for a batch."""

Answer = Callable[[str, bytes], tuple[int, dict[str, Any]]]
"""Answers a request, given its path and body: returns the status and the body of the reply."""


class Faults:
    """What is to go wrong: names of `FAULTS`, for ever, or as `name:2` on the first two occasions.

    Raises:
        ConfigError: There is no such fault.
    """

    def __init__(self, faults: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        self._left: dict[str, int | None] = {}
        for fault in faults:
            name, counts, times = fault.partition(":")
            if name not in FAULTS or (counts and not times.isdecimal()):
                raise ConfigError(f"{fault}: there is no such fault: choose from {', '.join(FAULTS)}")
            self._left[name] = int(times) if counts else None

    def take(self, name: str) -> bool:
        """Returns whether something goes wrong on this occasion."""
        with self._lock:
            if name not in self._left:
                return False
            left = self._left[name]
            if left is not None:
                self._left[name] = max(0, left - 1)
            return left is None or left > 0


class LostError(Exception):
    """The request was carried out, but its answer is lost."""


class Batches:
    """The batches of one server. Thread-safe.

    Args:
        files: The files that hold requests and answers.
        answer: Answers a line.
        paths: The endpoints that batches can call.
    """

    def __init__(self, files: Files, answer: Answer, paths: Iterable[str], faults: Faults) -> None:
        self._files = files
        self._answer = answer
        self._paths = frozenset(paths)
        self._faults = faults
        self._lock = threading.RLock()
        self._batches: dict[str, _Batch] = {}

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Makes a batch of an uploaded file."""
        if body["endpoint"] not in self._paths:
            message = f"Invalid value: '{body['endpoint']}'. Supported values are: {sorted(self._paths)}."
            raise APIError(400, message, "endpoint", "invalid_value")
        if self._files.file(body["input_file_id"])["purpose"] != "batch":
            raise APIError(400, "The file must have the purpose 'batch'.", "input_file_id")
        if self._faults.take("create_429"):
            raise APIError(429, "Enqueued token limit reached for this model.", None, "token_limit_exceeded")
        if self._faults.take("create_500"):
            raise APIError(500, "The server had an error while processing your request.")
        batch = _Batch(body, self._faults)
        with self._lock:
            self._batches[batch.name] = batch
            if self._faults.take("lost_create"):
                raise LostError
            return batch.as_object()

    def retrieve(self, name: str) -> dict[str, Any]:
        """Advances a batch by one step and returns it."""
        if self._faults.take("poll_500"):
            raise APIError(500, "The server had an error while processing your request.")
        with self._lock:
            batch = self._found(name)
            if not batch.has_ended and batch.is_due():
                batch.step(self._files, self._answer)
            return batch.as_object()

    def cancel(self, name: str) -> dict[str, Any]:
        """Cancels a batch; the answers so far are kept."""
        with self._lock:
            batch = self._found(name)
            if batch.has_ended:
                raise APIError(409, f"Cannot cancel a batch with status '{batch.state}'.")
            batch.enter("cancelling")
            return batch.as_object()

    def listed(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Returns a page of the batches, newest first."""
        with self._lock:
            return page([batch.as_object() for batch in reversed(self._batches.values())], query, _MOST_LISTED)

    def _found(self, name: str) -> _Batch:
        if name not in self._batches:
            raise APIError(404, f"No batch found with id '{name}'.")
        return self._batches[name]


class _Batch:
    """One batch: its state, and what goes wrong with it."""

    def __init__(self, body: Mapping[str, Any], faults: Faults) -> None:
        self.name = f"batch_{uuid.uuid4().hex}"
        self.state = ""
        self._faults = faults
        self._body = body
        self._times: dict[str, int] = {}
        self._errors: list[dict[str, Any]] = []
        self._counts = {"total": 0, "completed": 0, "failed": 0}
        self._ids: dict[str, str | None] = {"output_file_id": None, "error_file_id": None}
        self._usage: Counter[str] = Counter()
        self._model: str | None = None
        self._polls = 0
        self._patience = _SLOW if faults.take("slow") else 0
        self._created = int(time.time())
        self.enter("validating")

    @property
    def has_ended(self) -> bool:
        return self.state in ("failed", "completed", "expired", "cancelled")

    def enter(self, state: str) -> None:
        self.state = state
        self._times[f"{state}_at"] = int(time.time())

    def is_due(self) -> bool:
        self._polls += 1
        return self._polls % (self._patience + 1) == 0

    def step(self, files: Files, answer: Answer) -> None:
        """Enters the next state; on entering the last one, its lines are answered."""
        source = files.path(self._body["input_file_id"])
        if self.state == "validating":
            self._errors = list(self._problems(source))
            self.enter("failed" if self._errors else "in_progress")
        elif self.state == "in_progress":
            ending = next((name for name in ("expired", "cancelled") if self._faults.take(name)), None)
            if ending is not None:
                self._answered(files, answer, source, ending)
                self.enter(ending)
            else:
                self.enter("finalizing")
        elif self.state == "cancelling":
            self._answered(files, answer, source, "cancelled")
            self.enter("cancelled")
        else:
            self._answered(files, answer, source, "completed")
            self.enter("completed")

    def as_object(self) -> dict[str, Any]:
        """Returns the batch as an object of the API."""
        has = self._faults
        state = (
            {"in_progress": "progress"}.get(self.state, self.state).upper() if has.take("upper_case") else self.state
        )
        counts = dict(self._counts)
        if has.take("wrong_counts"):
            counts = {"total": counts["total"], "completed": counts["total"] + 1, "failed": counts["failed"]}
        names = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
        return {
            "id": self.name,
            "object": "batch",
            "endpoint": self._body["endpoint"],
            "errors": {"object": "list", "data": self._errors} if self._errors else None,
            "input_file_id": self._body["input_file_id"],
            "completion_window": self._body["completion_window"],
            "status": state,
            **self._ids,
            "created_at": self._created,
            **{f"{name}_at": self._times.get(f"{name}_at") for name in names},
            "expires_at": self._created + _WINDOW,
            "request_counts": counts,
            "usage": self._usage_object() if self.has_ended else None,
            "model": self._model,
            "metadata": None if has.take("no_metadata") else self._body.get("metadata"),
        }

    def _usage_object(self) -> dict[str, Any]:
        sent, made = self._usage["prompt_tokens"], self._usage["completion_tokens"]
        return {
            "input_tokens": sent,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": made,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": sent + made,
        }

    def _problems(self, source: Path) -> Iterator[dict[str, Any]]:
        """Yields what is wrong with the file. It is checked as a whole before any line is answered."""
        if self._faults.take("token_limit"):
            yield _problem("token_limit_exceeded", "Enqueued token limit reached for sandbox-1.")
            return
        if source.stat().st_size > _MOST_BYTES:
            yield _problem("file_too_large", f"The file is larger than {_MOST_BYTES} bytes.")
            return
        seen: set[str] = set()
        models: set[str] = set()
        number = 0
        with source.open("rb") as lines:
            for number, raw in enumerate(lines, 1):
                if number > _MOST_LINES:
                    yield _problem("too_many_tasks", f"The file has more than {_MOST_LINES} lines.")
                    return
                if number == 2 and self._faults.take("failed"):  # noqa: PLR2004 - as the fault says
                    yield _problem("invalid_request", "The request of this line is invalid.", number)
                try:
                    line = orjson.loads(raw)
                except orjson.JSONDecodeError:
                    yield _problem("invalid_json_line", "This line is not parseable as valid JSON.", number)
                    continue
                if problem := self._problem_of(line, seen):
                    yield _problem("invalid_request", problem, number)
                    continue
                seen.add(line["custom_id"])
                models.add(str(line["body"].get("model")))
        if not number:
            yield _problem("empty_file", "The file is empty.")
        if len(models) > 1:
            yield _problem("mismatched_model", "The requests of a batch must name the same model.")
        self._model = next(iter(models), None)
        self._counts["total"] = number

    def _problem_of(self, line: Any, seen: set[str]) -> str:
        if not isinstance(line, dict) or not isinstance(line.get("body"), dict):
            return "The line has no 'body'."
        if not isinstance(line.get("custom_id"), str) or line["custom_id"] in seen:
            return "The custom_id is missing, or that of another line."
        if line.get("method") != "POST" or line.get("url") != self._body["endpoint"]:
            return "Method and URL of the line do not match the batch."
        return "Batches cannot stream." if line["body"].get("stream") else ""

    def _answered(self, files: Files, answer: Answer, source: Path, ending: str) -> None:
        """Writes the output and the error file."""
        good, bad = files.new_path(), files.new_path()
        all_fail = self._faults.take("all_failed")
        with source.open("rb") as lines, good.open("wb") as output, bad.open("wb") as errors:
            half = -(-self._counts["total"] // 2)
            for number, raw in enumerate(lines, 1):
                line = orjson.loads(raw)
                if ending != "completed" and number > half:
                    self._failed(errors, line, None, f"batch_{ending}")
                elif all_fail or (number % _THIRD == 0 and self._faults.take("partial")):
                    self._failed(errors, line, (500, APIError(500, "The server had an error.").body), "")
                elif number % _THIRD == 0 and self._faults.take("refused"):
                    refusal = APIError(400, "This request is refused.", None, "invalid_prompt")
                    self._failed(errors, line, (400, refusal.body), "")
                else:
                    status, body = answer(self._body["endpoint"], orjson.dumps(line["body"]))
                    if status == 200:  # noqa: PLR2004 - OK
                        self._succeeded(output, line, body, number)
                    else:
                        self._failed(errors, line, (status, body), "")
            if self._faults.take("unknown_lines"):
                self._write(output, {"custom_id": "nobody-asked"}, (200, {}), None)
        for field, path in (("output_file_id", good), ("error_file_id", bad)):
            is_kept = path.stat().st_size or (field == "error_file_id" and self._faults.take("empty_error_file"))
            if is_kept:
                name = f"file-{uuid.uuid4().hex}"
                files.add(name, path, f"{self.name}_{field.partition('_')[0]}.jsonl", "batch_output")
                self._ids[field] = name
            else:
                path.unlink()
                self._ids[field] = "" if field == "error_file_id" and self._faults.take("empty_error_id") else None

    def _succeeded(self, output: BinaryIO, line: dict[str, Any], body: dict[str, Any], number: int) -> None:
        self._counts["completed"] += 1
        self._usage.update({name: count for name, count in body.get("usage", {}).items() if isinstance(count, int)})
        if number % _FOURTH == 0 and self._faults.take("missing_lines"):
            return
        if number % _FOURTH == 0 and self._faults.take("broken_lines"):
            output.write(b'{"id": "batch_req_1", "custom_id": "' + line["custom_id"].encode() + b'", "resp\n')
            return
        for _ in range(1 + (number % _THIRD == 0 and self._faults.take("doubled_lines"))):
            self._write(output, line, (200, body), None)

    def _failed(self, errors: BinaryIO, line: dict[str, Any], reply: tuple[int, Any] | None, code: str) -> None:
        self._counts["failed"] += 1
        words = {
            "batch_expired": "This request could not be executed before the completion window expired.",
            "batch_cancelled": "This request was not executed, since the batch was cancelled.",
        }
        error = {"code": code, "message": words[code]} if code else None
        self._write(errors, line, reply, error)

    def _write(
        self, file: BinaryIO, line: Mapping[str, Any], reply: tuple[int, Any] | None, error: dict[str, Any] | None
    ) -> None:
        is_text = self._faults.take("text_bodies")
        told: dict[str, Any] = {"id": f"batch_req_{uuid.uuid4().hex}", "custom_id": line["custom_id"]}
        if reply is not None:
            status, body = reply
            content = orjson.dumps(body).decode() if is_text else body
            told["response"] = {"status_code": status, "request_id": f"req_{uuid.uuid4().hex}", "body": content}
        elif not is_text:
            told["response"] = None
        file.write(orjson.dumps({**told, "error": error}, option=orjson.OPT_APPEND_NEWLINE))


def _problem(code: str, message: str, line: int | None = None) -> dict[str, Any]:
    return {"code": code, "message": message, "param": None, "line": line}
