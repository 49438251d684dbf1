"""Legacy completions of the sandbox: each prompt is answered as a chat message.

Shapes are those of https://platform.openai.com/docs/api-reference (completions/object). As vLLM does, and
unlike OpenAI, the sandbox accepts a `response_format` and has no limit of 16 tokens for requests without one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, zip_longest
from typing import Any, Final

import orjson
from jsonschema import Draft202012Validator

from connector.sandbox.chat import reply as chat_reply
from connector.sandbox.validation import COUNT, FLAG, RESPONSE_FORMAT, STREAM_OPTIONS, TEXT, form
from connector.sandbox.values import TOKEN

REQUEST: Final = Draft202012Validator(
    form(
        "model",
        "prompt",
        model=TEXT,
        prompt={"type": ["string", "array"], "minItems": 1, "items": TEXT},
        n=COUNT | {"maximum": 128},
        max_tokens=COUNT,
        stream=FLAG,
        stream_options=STREAM_OPTIONS,
        response_format=RESPONSE_FORMAT,
    )
)


def reply(body: dict[str, Any]) -> dict[str, Any]:
    """Returns the whole reply to a checked request."""
    prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
    rest = {name: value for name, value in body.items() if name != "prompt"}
    wholes = [chat_reply({**rest, "messages": [{"role": "user", "content": prompt}]}) for prompt in prompts]
    choices = [
        {"text": choice["message"]["content"], "logprobs": None, "finish_reason": choice["finish_reason"]}
        for choice in chain.from_iterable(whole["choices"] for whole in wholes)
    ]
    usages = [whole["usage"] for whole in wholes]
    return {
        "id": wholes[0]["id"].replace("chatcmpl", "cmpl"),
        "object": "text_completion",
        "created": wholes[0]["created"],
        "model": wholes[0]["model"],
        "choices": [{"index": index, **choice} for index, choice in enumerate(choices)],
        "usage": {
            name: sum(usage[name] for usage in usages)
            for name in ("prompt_tokens", "completion_tokens", "total_tokens")
        },
    }


def _chunks(choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for token in TOKEN.findall(choice["text"]):
        yield choice | {"text": token, "finish_reason": None}
    yield choice | {"text": ""}


def stream(whole: dict[str, Any], *, usage: bool) -> Iterator[bytes]:
    """Yields the reply as server-sent events. Several choices take turns; the usage comes last, without choices."""
    head = {name: value for name, value in whole.items() if name != "usage"} | ({"usage": None} if usage else {})
    for choice in filter(None, chain.from_iterable(zip_longest(*map(_chunks, whole["choices"])))):
        yield b"data: %b\n\n" % orjson.dumps(head | {"choices": [choice]})
    if usage:
        yield b"data: %b\n\n" % orjson.dumps(head | {"choices": [], "usage": whole["usage"]})
    yield b"data: [DONE]\n\n"
