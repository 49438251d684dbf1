"""The request half of a plan: a row becomes a call with its body and key, which may share a call or be asked again."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from connector import endpoints
from connector.base.cost import FLEX_TIER
from connector.base.errors import ConfigError, Problem, TemplateError
from connector.base.numbers import loads
from connector.base.records import JSON, Outcome, Record, Status
from connector.base.values import dumps, json_problem
from connector.calls.call import Call
from connector.config.config import Config
from connector.config.shorthands import chosen_model, constants_of, shorthand_of
from connector.ledger import keys_of
from connector.run.where import Where
from connector.templates.plain import OF_CONFIG
from connector.templates.template import Template
from connector.templates.verbatim import constant, verbatim

_LOG: Final = logging.getLogger(__name__)
_LONG: Final = 2**24  # characters in all columns of a row that is made up to see whether one could fail

REPAIRED: Final = "repaired"
"""The revision of a request that shows the model its reply and what is wrong with it."""

STANDARD: Final = "standard"
"""The revision of a request that asks for the standard tier, as the cheaper one has no room."""

RAISED: Final = "raised"
"""The revision of a request that has a higher token limit."""


class Requests:
    """How the rows of a config become requests. Thread-safe: nothing in it changes.

    Args:
        config: The checked config.

    Attributes:
        key: Returns the ledger's key of a rendered body.
        packing: How requests share calls; `None` for one row per call.

    Raises:
        ConfigError: No request is described, or a template is wrong.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._endpoint = endpoints.load(config.kind)
        constants = constants_of(config)
        self._template = _template_of(config, constants)
        self._constants = self._template.names & constants.keys()
        self._where = None if config.where is None else Where(config.where, constants)
        self._schema = config.output_schema
        self._is_stream = config.is_stream
        self._leaves_flex = config.flex_fallback
        self._repairs = config.max_repairs if self._schema is not None else 0
        self.key = keys_of(config.identity + config.routing)
        in_batches = config.batch is not None  # whose lines are known by the row's key
        self.packing = (
            None if in_batches else self._endpoint.packing(config.batch_size, config.rows_per_call, self._schema)
        )

    @property
    def structure(self) -> JSON:
        """The request format, parsed, its strings still templates."""
        return self._template.structure

    @property
    def model(self) -> str | None:
        """The model that every request names; `None` where it differs by row, or is left to the endpoint."""
        model = self._config.model if self.structure is None else _named(self._template)
        if model is not None and "{" not in model:
            return model
        chosen = chosen_model(self._config)
        return chosen.id if chosen else None

    @property
    def picks_model(self) -> bool:
        """Whether the row decides which model is called."""
        named = _named(self._template)
        if named is None:
            return False
        return _of_config(named, dict.fromkeys(self._constants)) is None

    @property
    def is_constant(self) -> bool:
        """Whether every row makes the same request: no template reads anything of it."""
        return self._template.names <= self._constants and not self._template.reads_row

    def required(self) -> Mapping[str, str]:
        """Returns the columns that the templates need, each with the path of a template that needs it."""
        condition = {} if self._where is None else self._where.required()
        return {**condition, **self._template.required()}

    def columns_through(self, name: str) -> set[str]:
        """Returns the columns whose values go through the filter `name` on their way into the request."""
        return self._template.columns_through(name)

    def wants(self, record: Record) -> bool:
        """Returns whether a row is worth a call. One that cannot be read is not skipped: it fails.

        Raises:
            TemplateError: `where` cannot judge it.
        """
        return self._where is None or bool(record.problem) or self._where.holds(record.data)

    def call(self, record: Record) -> Call:
        """Renders the call that a row needs. Raises `TemplateError` as `body`, and for a row that cannot be read."""
        if record.problem:
            raise TemplateError(record.problem)
        body = self.body(record.data)
        return Call(self.key(body), body, [record])

    def suits(self, texts: Mapping[str, int]) -> bool:
        """Returns whether a request can certainly be made of every row with these texts; more is known of none.

        Args:
            texts: The columns that hold a text in every row, each with the most characters of one.
        """
        read = {name: most for name, most in texts.items() if name in self._template.names}
        if self._where is not None or sum(read.values()) > _LONG:
            return False
        longest = {name: "x" * most for name, most in read.items()}
        if not self._template.copies(longest):
            return False
        try:
            self.body(longest)
        except TemplateError:
            return False
        return True

    def body(self, row: Mapping[str, Any]) -> bytes:
        """Renders the request body for a row.

        Raises:
            TemplateError: The row cannot be rendered.
        """
        for name in self._constants:
            if name in row:
                warn_of_clash(name)
        body = self._template.render(row)
        if not isinstance(body, dict):
            raise TemplateError("request_format: the rendered request is not a JSON object")
        missing = self._endpoint.missing_text(body)
        if missing is not None:
            raise self._template.null_at(missing, row)
        if self._schema is not None:
            body = self._endpoint.structured(body, self._schema)
        if self._is_stream:
            body = self._endpoint.streamed(body)
        try:
            return dumps(body)
        except TypeError as error:
            raise TemplateError(json_problem(body, "request_format", error)) from None

    def at_the_standard_tier(self, body: bytes) -> bytes | None:
        """Returns a request that asks for `flex` as one that does not; `None` where the config does not want that."""
        request = loads(body) if self._leaves_flex else {}
        if not isinstance(request, dict) or request.get("service_tier") != FLEX_TIER:
            return None
        return dumps({name: value for name, value in request.items() if name != "service_tier"})

    @property
    def asks_again(self) -> bool:
        """Whether a reply that does not fit `output_schema` may be asked for again."""
        return self._repairs > 0

    def revised(self, body: bytes, outcome: Outcome, revisions: Sequence[str]) -> tuple[str, bytes] | None:
        """Returns how to ask again for a reply that was cut or does not fit its schema: the revision's name and body.

        Args:
            body: The request that got the reply.
            outcome: What the reply came to.
            revisions: The names of the revisions made so far.

        Returns `None` where asking again cannot help, or may not be done any more.
        """
        if outcome.status is Status.TRUNCATED and RAISED not in revisions:
            name, changed = RAISED, self._endpoint.raised(loads(body))
        elif outcome.status is Status.INVALID_OUTPUT and revisions.count(REPAIRED) < self._repairs:
            error = outcome.provenance.error
            if error is None or not error.content:
                return None
            name, changed = REPAIRED, self._endpoint.repaired(loads(body), error.content, error.message)
        else:
            return None
        return None if changed is None else (name, dumps(changed))


@cache
def warn_of_clash(name: str) -> None:
    """Once for each name in the life of the program."""
    _LOG.warning(
        'the input has a column "%s", but %s in request_format is the config\'s: write record["%s"] for the column',
        name,
        name,
        name,
    )


def _template_of(config: Config, constants: Mapping[str, Any]) -> Template:
    def template(source: JSON) -> Template:
        return Template(
            source,
            "request_format",
            constants=constants,
            image_root=config.image_folder,
            options=_options_of(config),
        )

    found = template(_format_of(config))
    if constants and config.request_format is not None:
        _check_entry(_named(found), constants)
    if config.request_format is None or config.model is None or "model" not in found.names - constants.keys():
        return found
    if found.structure is None:
        problem = "`model` could be the config's or a column: write record.model for the column, or the model itself"
        raise ConfigError([Problem("request_format", problem)])
    given = found.structure if isinstance(found.structure, dict) else {}
    bound = {name: _bound(given[name], config.model) for name in ("model", "models") if name in given}
    return template({**given, **bound}) if bound else found


def _bound(named: JSON, model: str) -> JSON:
    """Returns what names the model in a request format, or the models to try, with `model` as the config's."""
    if isinstance(named, list):
        return [_bound(each, model) for each in named]
    return _with_model(named, model) if isinstance(named, str) else named


def _named(template: Template) -> str | None:
    """Returns the string that names the model in a request format."""
    named = template.structure.get("model") if isinstance(template.structure, dict) else None
    return named if isinstance(named, str) else None


def _of_config(named: str, constants: Mapping[str, Any]) -> Template | None:
    """Returns the template of what names the model if it reads these constants alone; `None` if it reads a row."""
    template = Template({"model": named}, "request_format", constants=constants)
    return None if template.reads_row or not template.names <= constants.keys() else template


def _check_entry(named: str | None, constants: Mapping[str, Any]) -> None:
    """Refuses to send a whole entry of `models` as the model to call."""
    if named is None or "{" not in named:
        return
    template = _of_config(named, constants)
    if template is None:
        return
    try:
        found = template.render({})["model"]
    except TemplateError:  # which each row will say
        return
    if found in constants.values():
        problem = f"{named!r} is the whole entry of models: write {{{{ model.id }}}}"
        raise ConfigError([Problem("request_format.model", problem)])


def _with_model(named: str, model: str) -> JSON:
    """Returns a template of the model to call in which `model` is the config's: a column of that name never picks it.

    Everywhere else in a request format, `model` is the column, since it decides nothing there.
    """
    template = _of_config(named, {"model": model})
    if template is None:
        reads = Template([named], "request_format").names
        return f"{{% set model = {constant(model)} %}}{OF_CONFIG}{named}" if "model" in reads else named
    try:
        return verbatim(template.render({})["model"])
    except TemplateError:
        problem = f"{named!r} cannot be made of the config's model, which is a text: {model!r}"
        raise ConfigError([Problem("request_format.model", problem)]) from None


def check_model(config: Config, option: str) -> None:
    """Refuses an option for the model that would change nothing, as the request format names another.

    Raises:
        ConfigError: That is so.
    """
    if config.request_format is None or config.models:  # of which it picks one, with its prices
        return
    template = Template(config.request_format, "request_format")
    named = _named(template)
    reads = template.names if named is None else Template([named], "request_format").names
    if "model" not in reads and named != config.model:
        raise ConfigError([Problem(option, 'has no effect beside this request_format: write "{{ model }}" in it')])


def _format_of(config: Config) -> JSON:
    if config.request_format is not None:
        return config.request_format
    if config.prompt is None:
        raise ConfigError(
            [Problem("request_format", "is missing: give a prompt (--prompt), or a config that has one (--config)")]
        )
    return endpoints.load(config.kind).request_format(shorthand_of(config))


def _options_of(config: Config) -> dict[str, str]:
    """Returns the options that a request format made from a prompt has its texts from, by the text."""
    if config.request_format is not None:
        return {}
    return {text: name for name in ("system_prompt", "prompt") if (text := getattr(config, name)) is not None}
