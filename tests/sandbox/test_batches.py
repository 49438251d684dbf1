"""The sandbox's files and batches, by clients that others wrote: the official SDK, and a library for batches."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import openai
import pytest
import requests

from connector import sandbox
from connector.base.errors import ConfigError
from connector.sandbox.batches import FAULTS
from tests.patience import PATIENCE

ENDED: Final = ("completed", "failed", "expired", "cancelled")
PATH: Final = "/v1/chat/completions"


def lines(number: int) -> list[dict[str, Any]]:
    return [
        {
            "custom_id": f"row-{row}",
            "method": "POST",
            "url": PATH,
            "body": {"model": sandbox.MODEL, "messages": [{"role": "user", "content": f"Row {row}"}]},
        }
        for row in range(number)
    ]


def jsonl(some: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in some)


@contextmanager
def client(*faults: str) -> Iterator[Any]:
    with sandbox.running(faults=faults) as url, openai.OpenAI(base_url=url, api_key=sandbox.KEY, max_retries=0) as api:
        yield api


def created(api: Any, some: list[dict[str, Any]], **more: Any) -> Any:
    file = api.files.create(file=("rows.jsonl", jsonl(some)), purpose="batch")
    return api.batches.create(input_file_id=file.id, endpoint=PATH, completion_window="24h", **more)


def ended(api: Any, batch: Any) -> Any:
    while batch.status.lower() not in ENDED:
        batch = api.batches.retrieve(batch.id)
    return batch


def answers(api: Any, name: str | None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in api.files.content(name).content.splitlines()] if name else []


def test_a_batch_goes_from_upload_to_answers() -> None:
    with client() as api:
        batch = created(api, lines(5), metadata={"part": "1"})
        assert (batch.status, batch.metadata) == ("validating", {"part": "1"})
        batch = ended(api, batch)
        assert (batch.status, batch.error_file_id, batch.model) == ("completed", None, sandbox.MODEL)
        assert batch.request_counts.model_dump() == {"total": 5, "completed": 5, "failed": 0}
        found = answers(api, batch.output_file_id)
        assert {line["custom_id"] for line in found} == {f"row-{row}" for row in range(5)}
        texts = [line["response"]["body"]["choices"][0]["message"]["content"] for line in found]
        assert texts == [f"Sandbox reply to: Row {row}" for row in range(5)]
        assert batch.usage.total_tokens == sum(line["response"]["body"]["usage"]["total_tokens"] for line in found)


def test_files_are_listed_page_by_page_read_and_deleted() -> None:
    with client() as api:
        names = [api.files.create(file=io.BytesIO(b"x" * size), purpose="batch").id for size in (0, 1, 200_000)]
        assert [file.id for file in api.files.list(limit=2, purpose="batch")] == names[::-1]
        assert [file.id for file in api.files.list(limit=2, order="asc")] == names
        assert list(api.files.list(purpose="vision")) == []
        assert api.files.retrieve(names[2]).bytes == 200_000
        assert api.files.content(names[2]).content == b"x" * 200_000
        assert api.files.delete(names[2]).deleted
        with pytest.raises(openai.NotFoundError, match="No such File object"):
            api.files.content(names[2])


@pytest.mark.parametrize("size", [0, 1, 65_530, 65_536, 131_072])
def test_a_file_comes_out_as_it_went_in_wherever_its_boundary_falls(size: int) -> None:
    content = (b"\r\n--boundary\r\n" * size)[:size]
    with client() as api:
        assert api.files.content(api.files.create(file=io.BytesIO(content), purpose="batch").id).content == content


def test_a_download_goes_on_where_it_broke_off() -> None:
    with client("cut_download:1") as api:
        name = api.files.create(file=io.BytesIO(bytes(range(250)) * 1000), purpose="batch").id
        url, headers = f"{api.base_url}files/{name}/content", {"Authorization": f"Bearer {sandbox.KEY}"}
        with pytest.raises(requests.RequestException):
            requests.get(url, headers=headers, timeout=PATIENCE)
        rest = requests.get(url, headers={**headers, "Range": "bytes=125000-"}, timeout=PATIENCE)
        assert (rest.status_code, rest.headers["Content-Range"]) == (206, "bytes 125000-249999/250000")
        assert rest.content == bytes(range(250)) * 500


def test_batches_are_listed_the_newest_first() -> None:
    with client() as api:
        made = [created(api, lines(1)).id for _ in range(5)]
        assert [batch.id for batch in api.batches.list(limit=2)] == made[::-1]


def test_cancelling_keeps_what_is_answered() -> None:
    with client() as api:
        batch = created(api, lines(4))
        assert api.batches.retrieve(batch.id).status == "in_progress"
        batch = api.batches.cancel(batch.id)
        assert batch.status == "cancelling"
        batch = ended(api, batch)
        assert batch.status == "cancelled"
        assert len(answers(api, batch.output_file_id)) == 2
        assert {line["error"]["code"] for line in answers(api, batch.error_file_id)} == {"batch_cancelled"}
        with pytest.raises(openai.ConflictError):
            api.batches.cancel(batch.id)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda some: some + some[:1], "invalid_request"),
        (lambda some: [{**some[0], "url": "/v1/embeddings"}], "invalid_request"),
        (lambda some: [some[0], {**some[1], "body": {**some[1]["body"], "model": "other"}}], "mismatched_model"),
        (lambda _: [], "empty_file"),
    ],
)
def test_a_wrong_file_fails_and_says_where(spoil: Callable[[Any], Any], code: str) -> None:
    with client() as api:
        batch = ended(api, created(api, spoil(lines(2))))
        assert (batch.status, batch.errors.data[0].code, batch.output_file_id) == ("failed", code, None)


def found_with(*faults: str) -> tuple[Any, list[dict[str, Any]], list[dict[str, Any]]]:
    with client(*faults) as api:
        batch = ended(api, created(api, lines(12)))
        return batch, answers(api, batch.output_file_id), answers(api, batch.error_file_id)


def test_faults_of_lines_are_those_that_were_asked_for() -> None:
    batch, good, bad = found_with("expired")
    assert (batch.status, len(good), len(bad), bad[0]["error"]["code"]) == ("expired", 6, 6, "batch_expired")
    batch, good, bad = found_with("partial:2")
    assert (batch.status, len(good), [line["response"]["status_code"] for line in bad]) == ("completed", 10, [500, 500])
    batch, good, bad = found_with("all_failed")
    assert (batch.status, batch.output_file_id, len(bad)) == ("completed", None, 12)
    assert len(found_with("missing_lines")[1]) == 9
    assert len(found_with("doubled_lines")[1]) == 16
    assert found_with("unknown_lines")[1][-1]["custom_id"] == "nobody-asked"
    _, good, bad = found_with("text_bodies", "refused:1")
    assert isinstance(good[0]["response"]["body"], str)
    assert isinstance(bad[0]["response"]["body"], str)
    assert found_with("empty_error_id")[0].error_file_id == ""
    assert found_with("empty_error_file")[0].error_file_id
    assert found_with("upper_case")[0].status == "COMPLETED"
    assert found_with("failed")[0].errors.data[0].line == 2
    assert found_with("token_limit")[0].errors.data[0].code == "token_limit_exceeded"
    assert found_with("slow")[0].status == "completed"
    assert found_with("wrong_counts")[0].request_counts.completed == 13


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("create_429", openai.RateLimitError),
        ("create_500", openai.InternalServerError),
        ("lost_create", openai.APIConnectionError),
        ("lost_upload", openai.APIConnectionError),
        ("poll_500", openai.InternalServerError),
    ],
)
def test_faults_of_calls_happen_as_often_as_was_asked_for(fault: str, error: type[Exception]) -> None:
    with client(f"{fault}:1") as api:
        with pytest.raises(error):
            ended(api, created(api, lines(1)))
        assert len(list(api.batches.list())) == (fault in ("lost_create", "poll_500"))
        assert len(list(api.files.list())) == 1
        assert ended(api, created(api, lines(1))).status == "completed"


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ConfigError, match="no such fault"), sandbox.running(faults=["odd"]):
        pass
    assert all(FAULTS.values())


# Of other libraries for batches, gpt-batch-api and batchata need Python 3.12, so they are not tried here.
def test_langbatch_runs_against_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    langbatch = pytest.importorskip("langbatch.openai", reason="langbatch pins an older openai: pip install --no-deps")
    source = tmp_path / "rows.jsonl"
    source.write_bytes(jsonl(lines(6)))
    with client("partial:1") as api:
        batch = langbatch.OpenAIChatCompletionBatch(str(source), client=api)
        batch.start()
        while batch.get_status() not in ENDED:
            pass
        good, bad = batch.get_results()
        assert {each["custom_id"] for each in good} == {"row-0", "row-1", "row-3", "row-4", "row-5"}
        assert [each["custom_id"] for each in bad] == ["row-2"]
