"""`Config`: everything a user can say, in one frozen model whose JSON Schema is the connector's spec.

The spec (`connection.json`, generated from this model) validates a config first, so a platform and we refuse the same
things. JSON-valued options are text in it, since platforms draw a text box for them; objects are as welcome.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from jsonschema import Draft7Validator
from pydantic import ConfigDict, ValidationError, model_validator

from connector import endpoints
from connector.configfile import as_text, from_environment, read
from connector.errors import ConfigError
from connector.options.request import RequestOptions
from connector.options.run import RunOptions
from connector.options.table import TableOptions
from connector.problems import of_schema, of_validation, unknown
from connector.spec import spec

_LOG = logging.getLogger(__name__)


class Config(RunOptions, TableOptions, RequestOptions):
    """A whole configuration, checked. Make one from keywords, `Config.load(dict_or_path)`, or a platform's JSON.

    Raises:
        ConfigError: Something is wrong; `problems` lists all of it, each with its path.
    """

    model_config = ConfigDict(frozen=True, title="OpenAI-compatible endpoint", extra="ignore")

    @classmethod
    def load(cls, source: Mapping[str, Any] | str | Path | None = None, /, **overrides: Any) -> Self:
        """A config from a dict or the path of a JSON or YAML file, with keyword arguments on top.

        Raises:
            ConfigError: The file cannot be read, or the config is wrong.
        """
        data = dict(source) if isinstance(source, Mapping) else read(Path(source)) if source is not None else {}
        return cls(**{**data, **overrides})

    @model_validator(mode="wrap")
    @classmethod
    def _checked(cls, data: Any, handler: Callable[[Any], Self]) -> Self:
        if not isinstance(data, Mapping):
            raise ConfigError("the config is not an object of options")
        given = from_environment({name: value for name, value in data.items() if value not in (None, "")})
        for warning in unknown(given, cls.model_fields):
            _LOG.warning("%s", warning)
        problems = of_schema(Draft7Validator(spec()).iter_errors(as_text(given)))
        wrong = {problem.path.partition(".")[0].partition("[")[0] for problem in problems}
        try:
            config = handler({name: value for name, value in given.items() if name not in wrong})
        except ValidationError as error:
            raise ConfigError([*problems, *of_validation(error)]) from None
        if problems:
            raise ConfigError(problems)
        return config

    @property
    def kind(self) -> str:
        """The endpoint kind: as configured, else as the URL's path says, else chat."""
        return self._address.kind

    @property
    def endpoint_url(self) -> str:
        """The full URL that requests go to."""
        return self._address.url

    @property
    def base_url(self) -> str:
        """The URL that all endpoints of the server share, as `https://api.openai.com/v1`."""
        return self._address.base_url

    @property
    def _address(self) -> endpoints.Address:
        return endpoints.address_of(self.url, self.endpoint)

    @property
    def secrets(self) -> list[str]:
        """Every secret that it holds, to be kept out of what is shown and stored."""
        key = [self.api_key.get_secret_value()] if self.api_key else []
        return [*key, *(value.get_secret_value() for value in self.headers.values())]
