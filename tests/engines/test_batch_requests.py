"""What is submitted is what OpenAI's own SDK would send: its types of requests judge every line, and every batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest
import requests
from openai.types import (
    BatchCreateParams,
    CompletionCreateParams,
    EmbeddingCreateParams,
    FilePurpose,
    ModerationCreateParams,
)
from openai.types.chat import ChatCompletionContentPartParam
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter, ValidationError
from typing_extensions import get_type_hints

from connector import sandbox
from tests.engines.test_batch import KEY, Submitted, enriched, statuses
from tests.patience import PATIENCE

SCHEMA: Final = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["n"],
}
TOOL: Final = {
    "type": "function",
    "function": {"name": "look_up", "description": "Looks up", "parameters": SCHEMA},
}
PIXEL: Final = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
)
USER: Final = {"role": "user", "content": "{{ text }}"}
PARTS: Final = [{"type": "text", "text": "{{ text }}"}, {"type": "image_url", "image_url": {"url": PIXEL}}]


def chat(**more: Any) -> dict[str, Any]:
    return {"model": sandbox.MODEL, "messages": [{"role": "system", "content": "Be brief."}, USER], **more}


CASES: Final = {
    "a prompt": {},
    "a system prompt": {"system_prompt": "Be brief."},
    "a structured reply": {"output_schema": SCHEMA},
    "sampling": {"prompt": None, "request_format": chat(temperature=0.2, top_p=0.9, seed=7, stop=["x"], max_tokens=50)},
    "tools": {"prompt": None, "request_format": chat(tools=[TOOL], tool_choice="auto", parallel_tool_calls=False)},
    "an image": {"prompt": None, "request_format": chat(messages=[{"role": "user", "content": PARTS}])},
    "a tier": {"prompt": None, "request_format": chat(service_tier="flex")},
    "responses": {"endpoint": "responses"},
    "a structured response": {"endpoint": "responses", "output_schema": SCHEMA},
    "embeddings": {"endpoint": "embeddings"},
    "completions": {"endpoint": "completions"},
    "moderations": {"endpoint": "moderations"},
}
TYPES: Final = {
    "/v1/chat/completions": CompletionCreateParamsNonStreaming,
    "/v1/responses": ResponseCreateParamsNonStreaming,
    "/v1/embeddings": EmbeddingCreateParams,
    "/v1/completions": CompletionCreateParams,
    "/v1/moderations": ModerationCreateParams,
}


def read(value: Any) -> None:
    """Reads a value to its end: what is typed as an iterable is judged only then."""
    if isinstance(value, dict):
        for each in value.values():
            read(each)
    elif isinstance(value, Iterator | list | tuple):
        for each in value:
            read(each)


def is_sent_by_the_sdk(params: Any, request: dict[str, Any]) -> bool:
    """Judges a request by a type of the SDK: each field by its type, and there is no other."""
    read(TypeAdapter(params).validate_python(request))
    members = getattr(params, "__args__", (params,))  # of a union
    return request.keys() <= {name for member in members for name in get_type_hints(member)}


def taken_apart(body: dict[str, Any]) -> list[Any]:
    """Takes the parts out of messages: pydantic cannot judge iterables within iterables."""
    parts: list[Any] = []
    for message in body.get("messages", ()):
        if isinstance(message["content"], list):
            parts += message["content"]
            message["content"] = "parts"
    return parts


@pytest.mark.parametrize("options", CASES.values(), ids=CASES.keys())
def test_each_line_and_batch_is_one_that_the_sdk_could_send(options: dict[str, Any]) -> None:
    with sandbox.running() as url:
        rows = enriched(url, [{"id": row, "text": f"Row {row}"} for row in range(3)], **options)
        assert statuses(rows).keys() <= {"success", "invalid_output"}
        batches = Submitted(url).batches()
        assert batches
        for batch in batches:
            created = {name: batch[name] for name in ("input_file_id", "endpoint", "completion_window", "metadata")}
            assert is_sent_by_the_sdk(BatchCreateParams, created)
            name = batch["input_file_id"]
            file = requests.get(f"{url}/files/{name}", headers=KEY, timeout=PATIENCE).json()
            assert TypeAdapter(FilePurpose).validate_python(file["purpose"]) == "batch"
            for raw in requests.get(f"{url}/files/{name}/content", headers=KEY, timeout=PATIENCE).text.splitlines():
                line = json.loads(raw)
                assert line.keys() == {"custom_id", "method", "url", "body"}
                assert (line["method"], line["url"]) == ("POST", batch["endpoint"])
                for part in taken_apart(line["body"]):
                    TypeAdapter(ChatCompletionContentPartParam).validate_python(part)
                assert is_sent_by_the_sdk(TYPES[line["url"]], line["body"])


@pytest.mark.parametrize(
    "body", [chat(messages=[{"role": "user"}]), chat(messages=[{"role": "nobody", "content": "x"}]), {"messages": []}]
)
def test_the_types_of_the_sdk_refuse_what_is_none(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        is_sent_by_the_sdk(CompletionCreateParamsNonStreaming, body)
    assert not is_sent_by_the_sdk(CompletionCreateParamsNonStreaming, chat(nonsense=1))
