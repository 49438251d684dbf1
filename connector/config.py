"""`Config`: everything a user can say, in one frozen model whose JSON Schema is the connector's spec.

The spec (`connection.json`, generated from this model) validates a config first, so a platform and we refuse the same
things. JSON-valued options are text in it, since platforms draw a text box for them; objects are as welcome.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

from jsonschema import Draft7Validator
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from connector import endpoints
from connector.configfile import as_text, from_environment, read
from connector.cost import Prices
from connector.errors import ConfigError
from connector.options import SECRET, Headers, Http, Input, JsonTemplate, OutputSchema, Streams, TextTemplate, Url
from connector.problems import of_schema, of_validation, unknown
from connector.spec import spec

_LOG = logging.getLogger(__name__)
DEFAULT_URL: Final = "https://api.openai.com/v1/chat/completions"


class Config(BaseModel):
    """A whole configuration, checked. Make one from keywords, `Config.load(dict_or_path)`, or a platform's JSON.

    Raises:
        ConfigError: Something is wrong; `problems` lists all of it, each with its path.
    """

    model_config = ConfigDict(frozen=True, title="OpenAI-compatible endpoint", extra="ignore")

    url: Url = Field(
        default=DEFAULT_URL,
        title="Endpoint URL",
        description="The URL of the endpoint, or its base URL (…/v1). Absent: OPENAI_BASE_URL.",
        examples=["https://api.openai.com/v1/chat/completions", "http://localhost:8000/v1"],
    )
    api_key: SecretStr | None = Field(
        default=None,
        title="API key",
        description="Sent as a bearer token. ${NAME} refers to the environment. Absent: OPENAI_API_KEY, or no key.",
        json_schema_extra=SECRET,
    )
    is_stream: bool = Field(
        default=False,
        title="Enable streaming",
        description="Ask for the reply as a stream of events. The output columns are the same.",
    )
    config: Http = Field(default=Http.model_construct(), title="HTTP", description="How calls are made.")
    request_format: JsonTemplate = Field(
        default=None,
        title="Request format",
        description="The request body as JSON. Its texts are templates: {{ column }} is the row's value.",
        examples=['{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Classify: {{ review }}"}]}'],
        json_schema_extra={"x-request-format": True},
    )
    response_format: JsonTemplate = Field(
        default=None,
        title="Response format",
        description="The output columns as JSON: each key a column, each value an expression over the reply (`content` "
        "is its text, `parsed` its structured form). Without expressions it is a sample reply, whose keys become "
        "columns.",
        examples=['{"label": "{{ content }}", "tokens": "{{ usage.total_tokens }}"}'],
        json_schema_extra={"x-response-format": True},
    )
    model: str | None = Field(
        default=None,
        title="Model",
        description="The model, for a request made from a prompt. Absent: OPENAI_MODEL.",
        examples=["gpt-4o-mini"],
    )
    system_prompt: TextTemplate = Field(
        default=None,
        title="System prompt",
        description="With Prompt, in place of a request format: what the model is told first. A template.",
        json_schema_extra={"multiline": True},
    )
    prompt: TextTemplate = Field(
        default=None,
        title="Prompt",
        description="In place of a request format: what the model is asked for each row. A template.",
        examples=["Classify this review: {{ review }}"],
        json_schema_extra={"multiline": True},
    )
    output_schema: OutputSchema | None = Field(
        default=None,
        title="Output schema",
        description="A JSON Schema (an object) for a structured reply. Its properties become typed columns.",
        examples=['{"type": "object", "properties": {"label": {"type": "string", "enum": ["good", "bad"]}}}'],
    )
    endpoint: Literal["chat"] | None = Field(
        default=None,
        title="Endpoint kind",
        description="What the endpoint does, where its URL does not say so.",
        json_schema_extra={"enum": list(endpoints.KINDS)},
    )
    input: Input = Field(default=None, title="Input", description="Where `read` finds the records.")
    streams: Streams | None = Field(
        default=None,
        title="Streams",
        description="In flight: the streams to enrich, as a list of names and globs, or as an object of them, each "
        "with options of its own. Others pass through. Absent: all streams.",
        examples=['["reviews", "support_*"]', '{"reviews": {"prompt": "Classify: {{ text }}"}}'],
    )
    primary_key: str | None = Field(
        default=None,
        title="Primary key",
        description="The input column that identifies a row. Several: separate them by commas.",
        examples=["id"],
    )
    cursor_field: str | None = Field(
        default=None,
        title="Cursor field",
        description="The input column that grows with new rows, for incremental reads.",
        examples=["updated_at"],
    )
    metadata: Literal["full", "status", "none"] = Field(
        default="full",
        title="Provenance",
        description="How much of the `_llm` group each row gets: all of it, status and error alone, or none.",
    )
    on_error: Literal["record", "skip", "fail"] = Field(
        default="record",
        title="On a failed row",
        description="Keep the row with its status and null columns, leave it out, or keep it and fail at the end.",
    )
    concurrency: int = Field(default=8, ge=1, le=4096, title="Concurrency", description="Calls in flight at the most.")
    max_requests_per_minute: int | None = Field(
        default=None, ge=1, title="Requests per minute", description="Calls a minute at the most, spread evenly."
    )
    max_tokens_per_minute: int | None = Field(
        default=None,
        ge=1,
        title="Tokens per minute",
        description="Tokens a minute at the most, request and reply together.",
    )
    max_retries: int = Field(
        default=4, ge=0, le=100, title="Retries", description="Further attempts after a failed call."
    )
    max_retry_wait: float = Field(
        default=120, gt=0, title="Longest wait", description="Seconds; a row that is asked to wait longer fails."
    )
    max_row_seconds: float = Field(
        default=600, gt=0, title="Longest row", description="Seconds that a row may take in all, retries included."
    )
    max_cost_usd: float | None = Field(
        default=None,
        gt=0,
        title="Budget in USD",
        description="The run stops, resumable, once its calls have cost this much.",
    )
    max_total_tokens: int | None = Field(
        default=None,
        ge=1,
        title="Budget in tokens",
        description="The run stops, resumable, once it has used this many tokens.",
    )
    prices: Prices | None = Field(
        default=None, title="Prices", description="USD per 1M tokens, for endpoints that do not tell what a call cost."
    )
    headers: Headers = Field(
        default_factory=dict,
        title="Headers",
        description="Further HTTP headers, as a JSON object. Values may refer to the environment: ${NAME}.",
        examples=['{"HTTP-Referer": "https://example.com"}'],
        json_schema_extra=SECRET,
    )
    proxy: str | None = Field(
        default=None,
        title="Proxy",
        description="The URL of an HTTP proxy. Proxies of the environment are not used.",
        examples=["http://proxy.example.com:3128"],
        json_schema_extra=SECRET,
    )
    ca_bundle: str | None = Field(
        default=None,
        title="CA bundle",
        description="The path of a PEM file with certificates to trust in place of the usual.",
    )
    max_response_bytes: int = Field(
        default=16 * 2**20, ge=1024, title="Largest reply", description="Bytes of a decoded reply at the most."
    )
    cache: str | None = Field(
        default=None,
        title="Ledger",
        description="The path of the ledger, which keeps every reply so that none is paid for twice; `none` keeps it "
        "in memory. Absent: a file beside the output, or in the user's cache directory.",
    )

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
