"""A config that is being edited, through fields or as JSON; neither shows a secret."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from connector.base import numbers
from connector.base.environment import REFERENCE
from connector.base.errors import ConfigError, Problem, TemplateError
from connector.base.excerpts import without_files
from connector.base.masking import Masker, looks_secret, passwords_in
from connector.base.records import JSON, Record, Schema
from connector.check import invalid_config
from connector.config.config import Config
from connector.run.plan import Plan
from connector.templates.verbatim import constant

TYPES: Final = ("text", "one of", "whole number", "number", "yes or no", "list of texts")
"""The column types that fields can set; any other type is edited as JSON."""

_SCHEMAS: Final[Mapping[str, Schema]] = {
    "text": {"type": "string"},
    "whole number": {"type": "integer"},
    "number": {"type": "number"},
    "yes or no": {"type": "boolean"},
    "list of texts": {"type": "array", "items": {"type": "string"}},
}
_HIDDEN: Final = "hidden by the studio: {}"
_SECRET: Final = ("api_key", "api_key_command", "headers", "query")
_OF_MCP: Final = ("authorization", "headers")  # the credentials of a remote tool
_TEMPLATES: Final = ("prompt", "system_prompt", "request_format", "response_format", "output_schema", "where")
_APART: Final = "_answer"
_WORDS: Final = ("and", "else", "false", "if", "in", "is", "none", "not", "or", "range", "self", "true")  # of Jinja2
_PARAMETERS: Final = ("temperature", "max_tokens")


class OutputColumn(NamedTuple):
    """A column that the model fills: its name, a type of `TYPES`, and for `one of` the allowed values."""

    name: str
    type: str
    values: tuple[str, ...] = ()


class Rendered(NamedTuple):
    """The request of a row as JSON text, or what is wrong and where."""

    text: str
    problems: Sequence[Problem]


class Draft:
    """A config that is being edited.

    Args:
        options: The options, as in a config file.
        name: A letter.
        title: Its name for people.
        folder: The folder of images, unless the options set it.

    Attributes:
        broken: A text that was entered but is not JSON, with what is wrong; empty if all is well.
    """

    def __init__(
        self, options: Mapping[str, Any], name: str = "A", title: str = "", *, folder: Path | None = None
    ) -> None:
        self.name = name
        self.title = title
        self._folder = folder
        self._options: dict[str, Any] = {}
        self._secrets: dict[str, str] = {}
        self.broken: Problem | None = None
        self._made: tuple[str, Collection[str], Plan | ConfigError] | None = None
        self._take(dict(options))

    @property
    def options(self) -> dict[str, Any]:
        """The options including secrets, to run and to save."""
        whole: dict[str, Any] = _replaced(self._options, self._secrets)
        return whole

    @property
    def secrets(self) -> list[str]:
        """The texts that are hidden, even if the config is invalid."""
        return list(self._secrets.values())

    @property
    def text(self) -> str:
        """The options as JSON, with each secret hidden."""
        return json.dumps(self._options, indent=2, ensure_ascii=False)

    def put_text(self, text: str) -> None:
        """Sets the options from JSON text. A text that is not JSON changes only `broken`."""
        try:
            given = json.loads(text or "{}")
        except ValueError as error:
            self.broken = Problem("json", f"is not JSON: {error}")
            return
        if not isinstance(given, dict):
            self.broken = Problem("json", "is not an object of options")
            return
        self._take(given)

    def get(self, name: str) -> Any:
        """Returns an option; a secret is hidden."""
        return self._options.get(name)

    def put(self, name: str, value: JSON) -> None:
        """Sets an option; null or an empty text removes it."""
        given = dict(self._options)
        if value in (None, ""):
            given.pop(name, None)
        else:
            given[name] = value
        if name in ("prompt", "system_prompt") and value:
            given.pop("request_format", None)
        self._take(given)

    def _take(self, given: dict[str, Any]) -> None:
        """Sets the options, and hides secrets that are not references to the environment."""
        self.broken, self._made = None, None
        self._options = {
            name: value if name in _TEMPLATES else self._veiled(value, all_=name in _SECRET)
            for name, value in given.items()
        }

    def _veiled(self, value: Any, *, all_: bool = False) -> Any:
        """Returns a value with texts hidden: `all_` of them, or those that hold a key or a password."""
        if isinstance(value, dict):
            secret = _OF_MCP if value.get("type") == "mcp" else ()
            return {name: self._veiled(each, all_=all_ or name in secret) for name, each in value.items()}
        if isinstance(value, list):
            return [self._veiled(each, all_=all_) for each in value]
        if not isinstance(value, str) or not (all_ or _holds_secret(value)):
            return value
        return self._hidden(value)

    def _hidden(self, value: str) -> str:
        if not value or value in self._secrets or REFERENCE.fullmatch(value):
            return value
        known = next((mark for mark, secret in self._secrets.items() if secret == value), None)
        mark = known or _HIDDEN.format(len(self._secrets) + 1)
        self._secrets[mark] = value
        return mark

    @property
    def columns(self) -> list[OutputColumn] | None:
        """The columns that the model fills; `None` if fields cannot show them, only JSON can."""
        schema, shown = self._options.get("output_schema"), self._options.get("response_format")
        if schema is None:
            return [] if shown is None else None
        properties = schema.get("properties") if isinstance(schema, dict) else None
        if not isinstance(properties, dict) or shown not in (None, self._named_apart(properties, shown)):
            return None
        found = [_column(name, each) for name, each in properties.items()]
        return None if any(each is None for each in found) else [each for each in found if each is not None]

    def put_columns(self, columns: Sequence[OutputColumn]) -> None:
        """Sets the columns that the model fills."""
        properties = {each.name: _schema(each) for each in columns if each.name}
        schema = {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
        self.put("response_format", None)
        self.put("output_schema", schema if properties else None)

    def name_apart(self, taken: Collection[str]) -> bool:
        """Renames the answer columns whose names are `taken` by the input, without a change of requests and replies.

        Returns whether that is possible.
        """
        schema = self._options.get("output_schema")
        properties = schema.get("properties") if isinstance(schema, dict) else None
        if not isinstance(properties, dict) or self._options.get("response_format") is not None:
            return False
        names = {name: f"{name}{_APART}" if name in taken else name for name in properties}
        self.put("response_format", {own: _parsed(name) for name, own in names.items()})
        return True

    @staticmethod
    def _named_apart(properties: Mapping[str, Any], shown: JSON) -> JSON:
        """Returns the response format that `name_apart` writes if the columns have these shown names."""
        taken = shown if isinstance(shown, dict) else {}
        return {f"{name}{_APART}" if f"{name}{_APART}" in taken else name: _parsed(name) for name in properties}

    def parameter(self, name: str) -> Any:
        """Returns `temperature` or `max_tokens` of the chosen model."""
        models = self._options.get("models")
        entry = models[0] if isinstance(models, list) and len(models) == 1 else None
        return entry.get(name) if isinstance(entry, dict) else None

    def put_model(self, model: str | None, **parameters: float | None) -> None:
        """Sets the model and its parameters, which are in the config's list of models."""
        kept = {name: parameters.get(name, self.parameter(name)) for name in _PARAMETERS}
        chosen = {name: value for name, value in kept.items() if value is not None}
        self.put("model", model)
        models = self._options.get("models")
        if isinstance(models, list) and len(models) > 1:
            return
        before = models[0] if isinstance(models, list) and models and isinstance(models[0], dict) else {}
        rest = {name: value for name, value in before.items() if name not in (*_PARAMETERS, "name", "id")}
        is_wanted = bool(model) and bool(chosen or rest)
        self.put("models", [{"name": model, "id": model, **rest, **chosen}] if is_wanted else None)

    def config(self) -> Config:
        """Returns the checked config.

        Raises:
            ConfigError: It is wrong.
        """
        if self.broken is not None:
            raise ConfigError([self.broken])
        config = Config.load(self.options)
        folder = config.image_root or self._folder
        return config.model_copy(update={"image_root": folder and str(folder)})

    def plan(self, columns: Collection[str]) -> Plan:
        """Returns the plan for rows with these columns, cached until something changes.

        Raises:
            ConfigError: The config is wrong, or does not fit the rows.
        """
        state = self.text if self.broken is None else ""
        if self._made is None or self._made[:2] != (state, columns):
            try:
                made: Plan | ConfigError = Plan(self.config(), columns)
            except ConfigError as error:
                made = error
            self._made = (state, columns, made)
        if isinstance(self._made[2], ConfigError):
            raise self._made[2]
        return self._made[2]

    def problems(self, columns: Collection[str]) -> list[Problem]:
        """Returns what is wrong with the config for rows with these columns, each with its place and what to change."""
        try:
            self.plan(columns)
        except ConfigError as error:
            return error.problems or [Problem("", invalid_config(error).message)]
        return []

    def rendered(self, record: Record, columns: Collection[str]) -> Rendered:
        """Returns the request of a row as text, with files summarized, since it is sent to the browser at each edit."""
        try:
            plan = self.plan(columns)
            body = numbers.loads(plan.requests.call(record).body)
        except ConfigError as error:
            return Rendered("", error.problems or [Problem("", error.message)])
        except TemplateError as error:
            return Rendered("", [Problem(*_placed(error.message))])
        mask = Masker([*plan.config.secrets, *self.secrets])
        return Rendered(mask(json.dumps(without_files(body), indent=2, ensure_ascii=False)), [])

    def copy(self, name: str) -> Draft:
        """Returns a variant that starts as a copy of this one."""
        return Draft(self.options, name, folder=self._folder)


def placed(name: str) -> str:
    """Returns the expression that inserts a column into a template: by `record` if the name has another meaning."""
    is_plain = name.isidentifier() and name.lower() not in _WORDS
    return f"{{{{ {name if is_plain else f'record[{constant(name)}]'} }}}}"


def _parsed(name: str) -> str:
    return f"{{{{ parsed[{constant(name)}] }}}}"


def _holds_secret(text: str) -> bool:
    """Returns whether a text looks like a key, or is a URL with a password or a key in it."""
    url = urlsplit(text) if "://" in text else None
    has_key = url is not None and any(looks_secret(name, value) for name, value in parse_qsl(url.query))
    return has_key or any(passwords_in([text])) or Masker()(text) != text


def _placed(message: str) -> tuple[str, str]:
    """Splits the message of a template error into the option and the rest."""
    where, is_told, rest = message.partition(": ")
    return (where, rest) if is_told and where.isidentifier() else ("", message)


def _replaced(value: Any, texts: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return texts.get(value, value)
    if isinstance(value, dict):
        return {name: _replaced(each, texts) for name, each in value.items()}
    return [_replaced(each, texts) for each in value] if isinstance(value, list) else value


def _column(name: str, schema: Any) -> OutputColumn | None:
    """Returns a column as fields show it; `None` if they cannot."""
    if not isinstance(schema, dict):
        return None
    if set(schema) == {"type", "enum"} and schema["type"] == "string" and _are_texts(schema["enum"]):
        return OutputColumn(name, "one of", tuple(schema["enum"]))
    return next((OutputColumn(name, word) for word, each in _SCHEMAS.items() if each == schema), None)


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(each, str) for each in values)


def _schema(column: OutputColumn) -> Schema:
    if column.type == "one of":
        return {"type": "string", "enum": list(dict.fromkeys(column.values)) or [""]}
    return dict(_SCHEMAS[column.type])


def numbered(drafts: Sequence[Draft]) -> Iterator[str]:
    """Yields the letters that no draft has yet."""
    taken = {each.name for each in drafts}
    return (letter for letter in "ABCD" if letter not in taken)
