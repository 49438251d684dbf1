"""`Config`: all options, in one frozen model whose JSON Schema is the connector's spec.

The spec (`connection.json`, generated from this model) validates a config first, so that platforms and we refuse the
same things. JSON-valued options are text in it, since platforms show a text box for them; objects are accepted, too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import ConfigDict, SecretStr, ValidationError, model_validator

from connector import endpoints
from connector.base import schemas
from connector.base.errors import ConfigError, Problem
from connector.base.masking import looks_secret, secrets_of_header
from connector.base.records import JSON
from connector.base.regex import regex
from connector.config.batch_providers import provider_of
from connector.config.config_file import read
from connector.config.fitting import surely_fits
from connector.config.given import as_text, from_environment, undecodable
from connector.config.options.request import RequestOptions
from connector.config.options.run import RunOptions
from connector.config.options.table import TableOptions
from connector.config.problems import known, of_validation, unknown
from connector.config.spec import spec
from connector.http.preparing import credentials_of
from connector.ledger import Url, location_of

_LOG = logging.getLogger(__name__)
_TOO_DEEP: Final = "the config is nested too deeply: write it with fewer levels"
_DEPLOYMENT: Final = regex(r"/deployments/[^/]+$")

_ROUTING: Final = frozenset({"x-portkey-provider", "x-portkey-config", "x-portkey-custom-host"})


class Config(RunOptions, TableOptions, RequestOptions):
    """A whole, validated configuration: from keywords, `Config.load(dict_or_path)`, or a platform's JSON.

    Raises:
        ConfigError: Something is wrong; `problems` lists all of it, each with its path.
    """

    model_config = ConfigDict(
        defer_build=False,
        frozen=True,
        title="OpenAI-compatible endpoint",
        extra="ignore",
        json_schema_extra={"description": "Turns the replies of an OpenAI-compatible endpoint into columns."},
    )

    @classmethod
    def load(cls, source: Mapping[str, Any] | str | Path | None = None, /, **overrides: Any) -> Self:
        """Loads a config from a dict or the path of a JSON or YAML file, with keyword arguments on top.

        Raises:
            ConfigError: The file cannot be read, or the config is wrong.
        """
        return cls(**{**_read(source), **overrides})

    @classmethod
    def from_platform(cls, source: Mapping[str, Any] | str | Path, /) -> Self:
        """Loads a config that a platform has made. Unknown fields may be its own: they are ignored with a warning.

        Raises:
            ConfigError: As `load` does.
        """
        data = _read(source)
        _require_texts(data)
        for problem in unknown(data, cls):
            _LOG.warning("%s", problem)
        return cls(**known(data, cls))

    @model_validator(mode="wrap")
    @classmethod
    def _checked(cls, data: Any, handler: Callable[[Any], Self]) -> Self:
        if not isinstance(data, Mapping):
            raise ConfigError("the config is not an object of options")
        _require_texts(data)
        given = from_environment({name: value for name, value in data.items() if value not in (None, "")})
        given |= {"output_schema": schemas.of_given(given["output_schema"])} if "output_schema" in given else {}
        if given.get("api_key_command") and given.get("api_key"):
            raise ConfigError([Problem("api_key_command", "makes the key, and api_key is set as well: remove one")])
        try:
            problems = [*unknown(given, cls), *_unfit(as_text(given))]
        except RecursionError:
            raise ConfigError(_TOO_DEEP) from None
        wrong = {problem.path.partition(".")[0].partition("[")[0] for problem in problems}
        try:
            config = handler({name: value for name, value in given.items() if name not in wrong})
        except ValidationError as error:
            raise ConfigError([*problems, *of_validation(error)]) from None
        problems += _against_batches(config)
        if problems:
            raise ConfigError(problems)
        return config

    @property
    def kind(self) -> str:
        """The endpoint kind: as configured, else by the URL's path, else chat."""
        return self._address.kind

    @property
    def endpoint_url(self) -> str:
        """The full URL that requests go to, without the secret parameters of `query`, which are added when sending."""
        plain = {name: value for name, value in self.query.items() if not isinstance(value, SecretStr)}
        return _with_query(self._address.url, plain)

    @property
    def identity(self) -> str:
        """What identifies the endpoint in the ledger: its URL, or the name that the config gives it and its kind."""
        return self.endpoint_url if self.endpoint_id is None else f"{self.endpoint_id}\n{self.kind}"

    @property
    def server_url(self) -> str:
        """The base URL of the server's models, files and batches; on Azure, all deployments share these."""
        return _with_query(_DEPLOYMENT.sub("", self.base_url), dict(parse_qsl(urlsplit(self.url).query)))

    @property
    def models_url(self) -> str:
        """Where the server lists its models."""
        return self.at("/models")

    def at(self, path: str) -> str:
        """Returns the URL of something that the server has besides endpoints, such as `/files`."""
        parts = urlsplit(self.server_url)
        return parts._replace(path=parts.path + path).geturl()

    @property
    def image_folder(self) -> Path | None:
        """The folder whose images rows may name: as configured, else that of the input's files, else none."""
        if self.image_root is not None:
            return Path(self.image_root)
        return getattr(self.input, "folder", None)

    @property
    def is_full_url(self) -> bool:
        """Whether `url` is the full URL of an endpoint, not a base URL that has to be completed."""
        return self._address.url == self.url

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of `query`, including the secret ones."""
        return {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value
            for name, value in self.query.items()
        }

    @property
    def base_url(self) -> str:
        """The URL that all endpoints of the server share, such as `https://api.openai.com/v1`."""
        return self._address.base_url

    @property
    def _address(self) -> endpoints.Address:
        return endpoints.address_of(self.url, self.endpoint)

    @property
    def routing(self) -> str:
        """The headers by which Portkey chooses who answers: with others, the same URL and body are another request."""
        chosen = sorted((name.lower(), value.get_secret_value()) for name, value in self.headers.items())
        return "".join(f"\n{name}: {value}" for name, value in chosen if name in _ROUTING)

    @property
    def key(self) -> str | Callable[[], str]:
        """The key as text, empty if none is given; or the function that returns it."""
        key = self.api_key
        return key.get_secret_value() if isinstance(key, SecretStr) else key or ""

    @property
    def makes_key(self) -> bool:
        """Whether the key comes from a program or a function, so that it is not known yet."""
        return bool(self.api_key_command) or callable(self.api_key)

    @property
    def secrets(self) -> list[str]:
        """Every secret in the config, to be masked in what is shown and stored."""
        hidden = [self.api_key, *self.query.values()]
        return [
            *(each.get_secret_value() for each in hidden if isinstance(each, SecretStr)),
            *(
                text
                for name, value in self.headers.items()
                for text in secrets_of_header(name, value.get_secret_value())
            ),
            *(value for name, value in parse_qsl(urlsplit(self.url).query) if looks_secret(name, value)),
            *_credentials(self.proxy),
            *_of_ledger(self.cache),
        ]


def _unfit(given: dict[str, JSON]) -> list[Problem]:
    """Returns what does not fit the spec. The library that finds out is large, so it is imported only if need be."""
    schema = spec()
    if surely_fits(given, schema):
        return []
    found: list[Problem] = import_module("connector.config.spec_problems").problems_of(given, schema)
    return found


def _against_batches(config: Config) -> list[Problem]:
    """Returns what cannot be done in batches."""
    if config.batch is None:
        return []
    host = urlsplit(config.endpoint_url).hostname or ""
    advice, kind = provider_of(host).advice, config.kind
    reasons = {
        f"{host} cannot be used: {advice}": advice,
        f"requests of the kind {kind} cannot be batched": not endpoints.load(kind).IN_BATCHES,
        "replies of a batch are whole: set is_stream to false": config.is_stream,
        "rows in a batch do not share requests: remove rows_per_call": (config.rows_per_call or 1) > 1,
    }
    return [Problem("batch", reason) for reason, holds in reasons.items() if holds]


def _credentials(proxy: str | None) -> Iterator[str]:
    """Yields the credentials for a proxy: as they are sent, and the password alone."""
    user, password = credentials_of(proxy or "") or ("", "")
    if password:
        yield from (f"{user}:{password}", password)


def _of_ledger(cache: str | None) -> Iterator[str]:
    """Yields the secrets in the URL of a ledger."""
    place = None if cache is None else location_of(cache)
    if isinstance(place, Url):
        yield from place.secrets()


def _read(source: Mapping[str, Any] | str | Path | None) -> dict[str, Any]:
    return dict(source) if isinstance(source, Mapping) else {} if source is None else read(Path(source))


def _require_texts(data: Mapping[str, Any]) -> None:
    """Raises `ConfigError` for text that can neither be sent nor shown."""
    try:
        odd = next(undecodable(data), None)
    except RecursionError:
        raise ConfigError(_TOO_DEEP) from None
    if odd is not None:
        raise ConfigError([Problem(odd, "holds half of a surrogate pair, which is not text: remove it")])


def _with_query(url: str, parameters: Mapping[str, str]) -> str:
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    missing = urlencode({name: value for name, value in parameters.items() if name not in given})
    return parts._replace(query="&".join(filter(None, (parts.query, missing)))).geturl()
