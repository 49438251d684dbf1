"""A table through the executable at other endpoints than chat: whole and streamed, with a schema and without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.endpoint import PATHS, Action, Call, Endpoint, answer_to, body_for, good
from tests.faults import play, render, status
from tests.patience import PATIENCE

PATH: Final = {kind: path for path, kind in PATHS.items()}
SCHEMA: Final = {
    "type": "object",
    "properties": {"label": {"type": "string"}},
    "required": ["label"],
    "additionalProperties": False,
}
TEXTS: Final = ["late", "fine", "broken"]

each_way = pytest.mark.parametrize(
    ("kind", "is_stream"), [(kind, is_stream) for kind in ("completions", "responses") for is_stream in (False, True)]
)


def enriched(tmp_path: Path, url: str, **more: Any) -> list[dict[str, Any]]:
    """The rows that come out of the executable."""
    source, output, config = tmp_path / "in.csv", tmp_path / "out.jsonl", tmp_path / "config.json"
    source.write_text("text\n" + "\n".join(TEXTS) + "\n")
    config.write_text(
        json.dumps(
            {"url": url, "api_key": "sk-test", "model": "m", "system_prompt": "Say.", "prompt": "{{ text }}"} | more
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "connector", "enrich", str(source), "--config", str(config), "--output", str(output)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in output.read_text().splitlines()]


@each_way
def test_each_row_has_its_answer(tmp_path: Path, kind: str, is_stream: bool) -> None:
    with Endpoint() as endpoint:
        rows = enriched(tmp_path, endpoint.origin + PATH[kind], is_stream=is_stream)
        assert all(call.streamed == is_stream for call in endpoint.journal.calls)
    prompts = [f"Say.\n\n{text}" if kind == "completions" else text for text in TEXTS]
    assert [row["content"] for row in rows] == [answer_to(prompt) for prompt in prompts]
    assert all(row["_llm"]["output_tokens"] > 0 for row in rows)


@each_way
def test_a_schema_gives_typed_columns(tmp_path: Path, kind: str, is_stream: bool) -> None:
    with Endpoint() as endpoint:
        rows = enriched(tmp_path, endpoint.origin + PATH[kind], is_stream=is_stream, output_schema=SCHEMA)
        assert len(endpoint.journal.calls) == len(TEXTS)
    assert all(row["label"].startswith("echo:") for row in rows)


def reluctant(call: Call) -> Action:
    """Knows no schema, and says what it does not know; it answers by the schema that the prompt tells."""
    name = "text.format" if call.kind == "responses" else "response_format"
    if "response_format" in call.body or "text" in call.body:
        refusal = {"error": {"message": f"Unsupported parameter: '{name}'", "type": "invalid_request_error"}}
        return Action("refused", status(400, refusal)(good(call), {}))
    assert '"label"' in call.prompt
    form = {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}
    return Action("answer", play(render(good(call)._replace(body=body_for(call.kind, call.body | form, call.prompt)))))


@each_way
def test_a_refused_schema_is_put_into_the_prompt_and_that_is_stored(tmp_path: Path, kind: str, is_stream: bool) -> None:
    with Endpoint(script=reluctant) as endpoint:
        options = {"is_stream": is_stream, "output_schema": SCHEMA, "concurrency": 1}
        rows = enriched(tmp_path, endpoint.origin + PATH[kind], **options)
        actions = [call.action for call in endpoint.journal.calls]
        assert [row["_llm"]["status"] for row in rows] == ["success"] * 3
        assert all(row["label"].startswith("echo:") for row in rows)
        assert actions[-2:] == ["answer", "answer"]
        enriched(tmp_path, endpoint.origin + PATH[kind], **options, system_prompt="Tell.")
        assert [call.action for call in endpoint.journal.calls][len(actions) :] == ["answer"] * 3
