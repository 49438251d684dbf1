"""A config, compiled: how a row becomes a request, and how a reply becomes the row's outcome."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson
from jsonschema import Draft7Validator

from connector import endpoints
from connector.base import schemas
from connector.base.decoding import is_too_deep, loads
from connector.base.errors import ConfigError, ConnectorError, Problem, ReplyError, TemplateError
from connector.base.records import ANY, GROUP, JSON, Answer, Outcome, Record, Reply, Schema, Status
from connector.base.values import dumps, unsendable
from connector.config.config import Config
from connector.config.shorthands import chosen_model, constants_of, names_of, prices_of, shorthand_of
from connector.ledger.sqlite import keys_of
from connector.replies.refusals import is_filtered, refusal
from connector.run.image_files import kept
from connector.run.provenance import column, failure, group, known
from connector.templates import inference
from connector.templates.template import Template

_OK: Final = range(200, 300)
_CONTENT_SHOWN: Final = 10_000


class Plan:
    """What a config does to each row, ready to run. Thread-safe: nothing in it changes.

    Args:
        config: The checked config.
        columns: The input's columns with their schemas; `None` where they are not known beforehand.

    Raises:
        ConfigError: No request is described, a template needs a column that there is not, or names clash.
    """

    def __init__(self, config: Config, columns: Iterable[str] | None = None) -> None:
        self.config = config
        self.url = config.endpoint_url
        self.endpoint = endpoints.load(config.kind)
        self._key_of = keys_of(self.url + config.routing)
        self._prices = prices_of(config)
        self._request = Template(self._request_format(), "request_format", constants=constants_of(config))
        self._schema = config.output_schema
        self._validator = Draft7Validator(self._schema) if self._schema else None
        self._response = Template(self._response_format(), "response_format", lenient=True)
        self._is_sample = not self._response.leaves
        self._values = self.endpoint.value_types(self._request.structure)
        self._reads_parsed = self._schema is not None or "parsed" in self._response.names
        self._reads_values = not self._response.names.isdisjoint(self._values.keys() - {"content"})
        self._image_dir = Path(config.image_dir) if config.image_dir and "images" in self._values else None
        self.packing = self.endpoint.packing(config.batch_size, config.rows_per_call, self._schema)
        self.columns = self._columns()
        if columns is not None:
            self._fit(list(columns))

    @property
    def added(self) -> dict[str, Schema]:
        """Every column that a row gains, with its schema: the mapped ones, then the provenance."""
        return {**self.columns, **column(self.config.metadata)}

    def request(self, row: Mapping[str, Any]) -> bytes:
        """Renders the request body for a row.

        Raises:
            TemplateError: The row cannot be rendered.
        """
        body = self._request.render(row)
        if not isinstance(body, dict):
            raise TemplateError("request_format: the rendered request is not a JSON object")
        if self._schema is not None:
            body = self.endpoint.structured(body, self._schema)
        if self.config.is_stream:
            body = self.endpoint.streamed(body)
        try:
            return dumps(body)
        except TypeError as error:
            raise TemplateError(unsendable(body, "request_format", error)) from None

    @property
    def model(self) -> str | None:
        """The model that every request names; `None` where it differs by row, or is left to the endpoint."""
        structure = self._request.structure
        model = structure.get("model") if isinstance(structure, dict) else self.config.model
        if isinstance(model, str) and "{" not in model:
            return model
        chosen = chosen_model(self.config)
        return chosen.id if chosen else None

    def key(self, body: bytes) -> bytes:
        """The ledger's key of a rendered body."""
        return self._key_of(body)

    @property
    def asks_again(self) -> bool:
        """Whether a reply that does not fit may be asked for once more, in another way."""
        return self._schema is not None and self.config.max_repairs > 0

    def raised(self, body: bytes) -> bytes | None:
        """The request with a higher token limit, for a reply that was cut; `None` where it sets none."""
        raised = self.endpoint.raised(loads(body))
        return None if raised is None else dumps(raised)

    def repaired(self, body: bytes, outcome: Outcome) -> bytes | None:
        """The request again, showing the model its reply and what is wrong with it; `None` where there is no text."""
        wrong = outcome.provenance["error"]
        content = wrong["content"]
        repaired = self.endpoint.repaired(loads(body), content, wrong["message"]) if content else None
        return None if repaired is None else dumps(repaired)

    def outcome(self, record: Record, reply: Reply, key: bytes, *, cached: bool = False) -> Outcome:
        """Maps a final reply to the row's outcome. `cached`: this row did not pay for it."""
        if reply.status not in _OK:
            status, was_known = Status.FILTERED if is_filtered(reply) else Status.ERROR, cached or reply.cached
            return self.failed(record, refusal(reply), status, key=key, attempts=reply.attempts, cached=was_known)
        answer = self.endpoint.answer(reply.body)
        status, problem, columns = answer.status, answer.problem, None
        if status is Status.SUCCESS:
            try:
                columns = self._mapped(reply.body, answer)
            except (TemplateError, ReplyError) as error:
                status, problem = Status.INVALID_OUTPUT, error.message
        wrong = None if problem is None else failure("ReplyError", problem, reply.status, answer.content)
        told = known(
            status,
            wrong,
            key=key,
            attempts=reply.attempts,
            answer=answer,
            reply=reply,
            prices=self._prices,
            cached=cached,
        )
        return self._outcome(record, status, columns, told)

    def failed(
        self,
        record: Record,
        error: ConnectorError,
        status: Status = Status.ERROR,
        *,
        key: bytes = b"",
        attempts: int = 0,
        cached: bool = False,
    ) -> Outcome:
        """The outcome of a row that got no answer."""
        wrong = failure(type(error).__name__, error.message, error.http_status)
        told = known(status, wrong, key=key, attempts=attempts, cached=cached)
        return self._outcome(record, status, None, told)

    def _outcome(
        self, record: Record, status: Status, columns: dict[str, Any] | None, told: dict[str, JSON]
    ) -> Outcome:
        gained = dict.fromkeys(self.columns) if columns is None else columns
        return Outcome(record, status, gained, group(told, self.config.metadata), told)

    def _request_format(self) -> JSON:
        config = self.config
        if config.request_format is not None:
            return config.request_format
        if config.prompt is None:
            raise ConfigError([Problem("request_format", "is missing: describe the request, or give a prompt")])
        return self.endpoint.request_format(shorthand_of(config))

    def _response_format(self) -> JSON:
        if self.config.response_format is not None:
            return self.config.response_format
        if self._schema is None:
            return dict(self.endpoint.COLUMNS)
        return {name: f"{{{{ parsed[{json.dumps(name)}] }}}}" for name in self._schema.get("properties", {})}

    def _columns(self) -> dict[str, Schema]:
        """The mapped columns with their schemas, as far as the expressions tell."""
        if not isinstance(self._response.structure, dict) or not self._response.structure:
            raise ConfigError([Problem("response_format", "is not a JSON object whose keys are the output columns")])
        if self._is_sample:
            return {
                name: schemas.nullable(inference.of_value(value)) for name, value in self._response.structure.items()
            }
        reply = self.endpoint.REPLY
        parsed = schemas.plain(self._schema, self._schema) if self._schema else ANY
        names = {**reply, "properties": {**reply["properties"], **self._values, "parsed": parsed}}
        return {name: schemas.nullable(schema) for name, schema in self._response.columns(names).items()}

    def _fit(self, columns: list[str]) -> None:
        """Holds the templates against the input's columns, before anything is paid for."""
        given = ", ".join(columns) or "none"
        images = names_of(self.config.image_columns) if self.config.request_format is None else ()
        problems = [
            Problem(path, f'there is no column "{name}" in the input; there are: {given}')
            for name, path in {**self._request.required(), **dict.fromkeys(images, "image_columns")}.items()
            if name not in columns
        ]
        for name in self.added:
            if name in columns:
                side = "response_format" if name in self.columns else "metadata"
                problems.append(Problem(side, f'the column "{name}" is in the input already: give it another name'))
        if GROUP in self.columns:
            problems.append(Problem("response_format", f'"{GROUP}" is the name of the provenance group'))
        if problems:
            raise ConfigError(problems)

    def _mapped(self, body: dict[str, Any], answer: Answer) -> dict[str, Any]:
        if self._is_sample:
            return {name: body.get(name) for name in self.columns}
        context = {**body, "content": answer.content}
        if self._reads_values:
            context |= self.endpoint.values(body)
            if self._image_dir is not None:
                context["images"] = kept(context["images"], self._image_dir)
                context["image"] = context["images"][0]
        if self._reads_parsed:
            context["parsed"] = self._parsed(answer.content)
        columns: dict[str, Any] = self._response.render(context)
        return columns

    def _parsed(self, content: str | None) -> JSON:
        """The structured reply, checked against the schema.

        Raises:
            ReplyError: It is not JSON, or not what the schema says.
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
    """The JSON inside a Markdown code fence, which models put around it where no schema is enforced."""
    text = content.strip()
    if text.startswith("```") and text.endswith("```"):
        return text[3:-3].removeprefix("json").strip()
    return text
