"""The outcome half of a plan: a reply, or an error, becomes the outcome of a row: judged, mapped, validated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from connector import endpoints
from connector.base import numbers, schemas
from connector.base.cost import Pricing
from connector.base.decoding import DepthError
from connector.base.errors import ConfigError, ConnectorError, FatalError, Problem, ReplyError, TemplateError, our_fault
from connector.base.records import ANY, JSON, Answer, Failure, Outcome, Provenance, Record, Reply, Schema, Status, is_ok
from connector.base.vectors import opened
from connector.config.config import Config
from connector.replies.json_text import json_in
from connector.replies.refusals import is_filtered, refusal
from connector.run import reply_names
from connector.run.image_files import kept
from connector.run.provenance import column, failure, group, of_error, of_reply
from connector.templates import schema_inference
from connector.templates.plain import Path as NamePath
from connector.templates.template import Template
from connector.templates.verbatim import constant

_VALUE_SHOWN: Final = 60  # characters
_UNREAD: Final = Answer(None)


class Outcomes:
    """How the replies to a config's requests become columns. Thread-safe: nothing in it changes.

    Args:
        config: The checked config.
        request: The request format, parsed: what a reply holds may depend on it.
        pricing: What says what a reply cost, where the endpoint does not.

    Attributes:
        columns: The mapped columns with their schemas, as far as the expressions say.

    Raises:
        ConfigError: The response format is wrong.
    """

    def __init__(self, config: Config, request: JSON, pricing: Pricing | None = None) -> None:
        self._endpoint = endpoints.load(config.kind)
        self._metadata = config.metadata
        self._pricing = pricing
        self._schema = config.output_schema
        self._checker = schemas.checker_of(self._schema) if self._schema else None
        self._portable = schemas.portable(self._schema, self._schema) if self._schema else ANY
        self._has_integers = '"integer"' in json.dumps(self._portable, default=str)
        self._response = Template(self._format(config), "response_format", lenient=True, fixed_keys=True)
        self._is_sample = not self._response.strings
        given = self._endpoint.value_types(request)  # with the parameters of a tool, which may be no schema
        self._values = {name: schemas.portable(schema, schema) for name, schema in given.items()}
        self._reads_parsed = self._schema is not None or "parsed" in self._response.names
        self._wants_object = self._schema is None and self._response.reads_members_of("parsed")
        self._unmet = self._endpoint.expectation(request, self._response.names)
        self._reads_values = not self._response.names.isdisjoint(self._values.keys() - {"content"})
        others = self._response.names - {*self._values, "content", "parsed"}
        self._reads_reply = self._is_sample or self._response.reads_row or bool(others)
        self._image_dir = Path(config.image_dir) if config.image_dir and "images" in self._values else None
        self._names = self._schema_of_names()
        self.columns = self._columns()
        self._reads = self._own_reads(config)

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
            return self._unanswered(record, of_error(result, Status.ERROR, key, attempts, cached=cached))
        if not is_ok(result.status):
            status = Status.FILTERED if is_filtered(result) else Status.ERROR
            cached = cached or result.cached
            return self._unanswered(record, of_error(refusal(result), status, key, result.attempts, cached=cached))
        answer, columns = self._read(result.body)
        status, problem = answer.status, answer.problem
        wrong: Failure | None = None
        if problem is not None:
            wrong = failure("ReplyError", problem, result.status, answer.content)
        provenance = of_reply(result, answer, status, wrong, key, self._pricing, cached=cached)
        if columns is None:
            return self._unanswered(record, provenance)
        return Outcome(record, status, columns, group(provenance, self._metadata), provenance)

    def skipped(self, record: Record) -> Outcome:
        """Returns the outcome of a row that needs no call."""
        return self._unanswered(record, Provenance(Status.SKIPPED))

    def _unanswered(self, record: Record, provenance: Provenance) -> Outcome:
        columns = dict.fromkeys(self.columns)
        return Outcome(record, provenance.status, columns, group(provenance, self._metadata), provenance)

    def _format(self, config: Config) -> JSON:
        if config.response_format is not None:
            return config.response_format
        if self._schema is None:
            return dict(self._endpoint.COLUMNS)
        return {name: f"{{{{ parsed[{constant(name)}] }}}}" for name in self._schema.get("properties", {})}

    def _columns(self) -> dict[str, Schema]:
        if not isinstance(self._response.structure, dict) or not self._response.structure:
            raise ConfigError([Problem("response_format", "is not a JSON object whose keys are the output columns")])
        if self._is_sample:
            return {
                name: schemas.nullable(schema_inference.schema_of_value(value))
                for name, value in self._response.structure.items()
            }
        names = {**self._names, "properties": {**self._names["properties"], "parsed": self._portable}}
        return {name: schemas.nullable(schema) for name, schema in self._response.columns(names).items()}

    def _read(self, body: dict[str, Any]) -> tuple[Answer, dict[str, Any] | None]:
        """Returns what a reply says, and its columns if it is a success.

        Whatever goes wrong is this row's failure: the reply is in the ledger, so it would end every later run as well.
        """
        answer = _UNREAD
        try:
            answer = self._endpoint.answer(body)
            problem = self._unmet(body, answer) if self._unmet and answer.status is Status.SUCCESS else None
            if problem is not None:
                return answer._replace(status=Status.INVALID_OUTPUT, problem=problem), None
            return answer, self._mapped(body, answer) if answer.status is Status.SUCCESS else None
        except (TemplateError, ReplyError) as error:
            return answer._replace(status=Status.INVALID_OUTPUT, problem=error.message), None
        except FatalError:
            raise  # a file cannot be written
        except Exception as error:  # noqa: BLE001 - a fault of ours, in whatever reads the reply
            return answer._replace(status=Status.ERROR, problem=our_fault(error)), None

    def _schema_of_names(self) -> Schema:
        """Returns the schema of the object whose names the response format may read."""
        reply = self._endpoint.REPLY
        return {**reply, "properties": {**reply["properties"], **self._values, "parsed": self._schema or ANY}}

    def _own_reads(self, config: Config) -> dict[str, list[NamePath]]:
        """Returns what each expression of the user's own response format reads, by its place in it.

        Raises:
            ConfigError: A name is certainly wrong.
        """
        if config.response_format is None:
            return {}
        if problems := reply_names.misspelt(self._response, self._names):
            raise ConfigError(problems)
        return {string.path: string.reads() for string in self._response.strings}

    def lacking(self, reply: Reply, columns: Mapping[str, JSON] | None = None) -> dict[str, Problem]:
        """Returns what the response format reads and a reply lacks, by the place of the expression.

        Args:
            columns: Only those that are null here count; `None` for every expression.
        """
        if not self._reads:
            return {}
        answer = self._endpoint.answer(reply.body)
        is_answer = answer.status is Status.SUCCESS
        values = self._endpoint.values(reply.body) if self._reads_values and is_answer else {}
        context = {**opened(reply.body), **values, "content": answer.content}
        if self._reads_parsed:
            with suppress(ReplyError):
                context["parsed"] = self._parsed(answer.content)
        nulls = None if columns is None else {f"response_format.{name}" for name in columns if columns[name] is None}
        places = self._reads if nulls is None else self._reads.keys() & nulls
        return {
            place: Problem(place, reply_names.unguarded(found, path))
            for place in places
            for path in self._reads[place]
            if (found := reply_names.absent(path, context, self._names)) is not None
        }

    def _mapped(self, body: dict[str, Any], answer: Answer) -> dict[str, Any]:
        context = dict(opened(body)) if self._reads_reply else {}
        if self._is_sample:
            return {name: context.get(name) for name in self.columns}
        context["content"] = answer.content
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
        try:
            value = json_in(content or "")
        except DepthError:
            raise ReplyError("the reply is JSON that is nested too deeply") from None
        except ValueError as error:
            raise ReplyError(f"the reply is not JSON: {error}") from None
        if self._wants_object and not isinstance(value, dict):
            raise ReplyError(f"the reply is JSON, but not an object: {(content or '')[:_VALUE_SHOWN]}")
        problem = self._checker.problem(numbers.doubles(value), len(content or "")) if self._checker else None
        if problem is not None:
            raise ReplyError(f"the reply does not fit output_schema: {problem}")
        return schemas.conformed(value, self._portable) if self._has_integers else value
