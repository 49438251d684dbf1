"""The outcome half of a plan: a reply, or an error, becomes the outcome of a row: judged, mapped, validated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
from jsonschema import Draft7Validator

from connector import endpoints
from connector.base import schemas
from connector.base.decoding import is_too_deep
from connector.base.errors import ConfigError, ConnectorError, Problem, ReplyError, TemplateError
from connector.base.records import ANY, JSON, Answer, Failure, Outcome, Provenance, Record, Reply, Schema, Status, is_ok
from connector.config.config import Config
from connector.config.shorthands import prices_of
from connector.replies.refusals import is_filtered, refusal
from connector.run.image_files import kept
from connector.run.provenance import column, failure, group, of_error, of_reply
from connector.templates import schema_inference
from connector.templates.template import Template


class Outcomes:
    """How the replies to a config's requests become columns. Thread-safe: nothing in it changes.

    Args:
        config: The checked config.
        request: The request format, parsed: what a reply holds may depend on it.

    Attributes:
        columns: The mapped columns with their schemas, as far as the expressions say.

    Raises:
        ConfigError: The response format is wrong.
    """

    def __init__(self, config: Config, request: JSON) -> None:
        self._endpoint = endpoints.load(config.kind)
        self._metadata = config.metadata
        self._prices = prices_of(config)
        self._schema = config.output_schema
        self._validator = Draft7Validator(self._schema) if self._schema else None
        self._response = Template(self._format(config), "response_format", lenient=True)
        self._is_sample = not self._response.strings
        self._values = self._endpoint.value_types(request)
        self._reads_parsed = self._schema is not None or "parsed" in self._response.names
        self._reads_values = not self._response.names.isdisjoint(self._values.keys() - {"content"})
        self._image_dir = Path(config.image_dir) if config.image_dir and "images" in self._values else None
        self.columns = self._columns()

    @property
    def added(self) -> dict[str, Schema]:
        """Every column that a row gains, with its schema: the mapped ones, then the provenance."""
        return {**self.columns, **column(self._metadata)}

    def of(
        self,
        record: Record,
        result: Reply | ConnectorError,
        key: bytes = b"",
        attempts: int = 0,
        *,
        cached: bool = False,
    ) -> Outcome:
        """Returns the outcome of a row: its columns where the reply is a success, what is wrong with it otherwise.

        Args:
            record: The row.
            result: Its final reply, or the error that it got instead.
            key: The ledger's key of its request; empty where none was made.
            attempts: Calls that were tried before `result` was an error; a reply has its own count.
            cached: Whether another row, or an earlier run, has paid for the reply.
        """
        if not isinstance(result, Reply):
            return self._failed(record, of_error(result, Status.ERROR, key, attempts, cached=cached))
        if not is_ok(result.status):
            status = Status.FILTERED if is_filtered(result) else Status.ERROR
            cached = cached or result.cached
            return self._failed(record, of_error(refusal(result), status, key, result.attempts, cached=cached))
        answer = self._endpoint.answer(result.body)
        status, problem, columns = answer.status, answer.problem, None
        if status is Status.SUCCESS:
            try:
                columns = self._mapped(result.body, answer)
            except (TemplateError, ReplyError) as error:
                status, problem = Status.INVALID_OUTPUT, error.message
        wrong: Failure | None = None
        if problem is not None:
            wrong = failure("ReplyError", problem, result.status, answer.content)
        provenance = of_reply(result, answer, status, wrong, key, self._prices, cached=cached)
        if columns is None:
            return self._failed(record, provenance)
        return Outcome(record, status, columns, group(provenance, self._metadata), provenance)

    def _failed(self, record: Record, provenance: Provenance) -> Outcome:
        columns = dict.fromkeys(self.columns)
        return Outcome(record, provenance.status, columns, group(provenance, self._metadata), provenance)

    def _format(self, config: Config) -> JSON:
        if config.response_format is not None:
            return config.response_format
        if self._schema is None:
            return dict(self._endpoint.COLUMNS)
        return {name: f"{{{{ parsed[{json.dumps(name)}] }}}}" for name in self._schema.get("properties", {})}

    def _columns(self) -> dict[str, Schema]:
        if not isinstance(self._response.structure, dict) or not self._response.structure:
            raise ConfigError([Problem("response_format", "is not a JSON object whose keys are the output columns")])
        if self._is_sample:
            return {
                name: schemas.nullable(schema_inference.schema_of_value(value))
                for name, value in self._response.structure.items()
            }
        reply = self._endpoint.REPLY
        parsed = schemas.portable(self._schema, self._schema) if self._schema else ANY
        names = {**reply, "properties": {**reply["properties"], **self._values, "parsed": parsed}}
        return {name: schemas.nullable(schema) for name, schema in self._response.columns(names).items()}

    def _mapped(self, body: dict[str, Any], answer: Answer) -> dict[str, Any]:
        if self._is_sample:
            return {name: body.get(name) for name in self.columns}
        context = {**body, "content": answer.content}
        if self._reads_values:
            context |= self._endpoint.values(body)
            if self._image_dir is not None:
                context["images"] = kept(context["images"], self._image_dir)
                context["image"] = context["images"][0]
        if self._reads_parsed:
            context["parsed"] = self._parsed(answer.content)
        columns: dict[str, Any] = self._response.render(context)
        return columns

    def _parsed(self, content: str | None) -> JSON:
        """Returns the structured reply, checked against the schema.

        Raises:
            ReplyError: It is not JSON, or does not fit the schema.
        """
        text = _unfenced(content or "")
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise ReplyError(f"the reply is not JSON: {error}") from None
        if is_too_deep(value, text):
            raise ReplyError("the reply is JSON that is nested too deeply")
        problem = next(self._validator.iter_errors(value), None) if self._validator else None
        if problem is not None:
            raise ReplyError(f"the reply does not fit output_schema: at {problem.json_path}, {problem.message}")
        return value


def _unfenced(content: str) -> str:
    """Returns the JSON inside a Markdown code fence, which models put around it where no schema is enforced."""
    text = content.strip()
    if text.startswith("```") and text.endswith("```"):
        return text[3:-3].removeprefix("json").strip()
    return text
