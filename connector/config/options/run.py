"""The options of how calls are made: limits, retries, money, the network and the ledger."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from connector.base.cost import Prices
from connector.config.options import SECRET, AuthOption, FilePath, HeadersOption, LedgerPlace, ProxyUrl, QueryOption
from connector.config.options.batch import BatchOption
from connector.http.auth import SCHEMES


class RunOptions(BaseModel):
    """The options of a run: limits, retries, money, the network and the ledger."""

    model_config = ConfigDict(defer_build=True)  # only `Config`, which has all options, is built

    concurrency: int = Field(
        default=8, ge=1, le=4096, title="Concurrency", description="The maximum number of calls at a time."
    )
    batch: BatchOption = Field(
        default=None,
        title="Batch API",
        description="`true` sends the requests through the Batch API, for half the price and an answer within a day; "
        "an object says how: `completion_window`, `max_batch_requests`, `max_batch_bytes`, `poll_seconds`, `fallback` "
        "(`live` or `none`), `max_wait`.",
        examples=["true"],
    )
    flex_fallback: bool = Field(
        default=False,
        title="Flex fallback",
        description="A request for the service tier `flex` that finds no capacity three times goes to the standard "
        "tier, at the full price.",
    )
    max_requests_per_minute: int | None = Field(
        default=None,
        ge=1,
        title="Requests per minute",
        description="The maximum number of calls per minute, spread evenly.",
    )
    max_tokens_per_minute: int | None = Field(
        default=None,
        ge=1,
        title="Tokens per minute",
        description="The maximum number of tokens per minute, requests and replies together.",
    )
    max_retries: int = Field(
        default=4, ge=0, le=100, title="Retries", description="The maximum number of retries after a failed call."
    )
    max_retry_wait: float = Field(
        default=120,
        gt=0,
        title="Longest wait",
        description="In seconds. A row fails if the endpoint asks it to wait longer.",
    )
    max_row_seconds: float = Field(
        default=600, gt=0, title="Longest row", description="The maximum time for a row in seconds, retries included."
    )
    max_cost_usd: float | None = Field(
        default=None,
        gt=0,
        title="Budget in USD",
        description="The run stops once its calls have cost this much, and can be resumed.",
    )
    max_total_tokens: int | None = Field(
        default=None,
        ge=1,
        title="Budget in tokens",
        description="The run stops once it has used this many tokens, and can be resumed.",
    )
    prices: Prices | None = Field(
        default=None,
        title="Prices",
        description="USD per 1M tokens, for endpoints that do not report the cost of a call.",
    )
    max_template_error_percent: float = Field(
        default=1,
        ge=0,
        le=100,
        title="Most template errors",
        description="`enrich` stops before its first call if a template fails on more than this percentage of the "
        "rows. 100: it never stops.",
    )
    headers: HeadersOption = Field(
        default_factory=dict,
        title="Headers",
        description="Further HTTP headers, as a JSON object. Values may use variables of the environment: ${NAME}.",
        examples=['{"HTTP-Referer": "https://example.com"}'],
        json_schema_extra=SECRET,
    )
    auth: AuthOption = Field(
        default="bearer",
        title="Authentication",
        description=f"How the key is sent: {', '.join(f'`{name}`' for name in SCHEMES)}, or the name of a header that "
        "holds only the key, such as Azure's `api-key`.",
        examples=["api-key"],
    )
    query: QueryOption = Field(
        default_factory=dict,
        title="Query parameters",
        description="Parameters added to the URL of each call, as a JSON object.",
        examples=['{"api-version": "2024-10-21"}'],
    )
    organization: str | None = Field(
        default=None, title="Organization", description="Sent as OpenAI-Organization. Default: OPENAI_ORG_ID."
    )
    project: str | None = Field(
        default=None, title="Project", description="Sent as OpenAI-Project. Default: OPENAI_PROJECT."
    )
    proxy: ProxyUrl | None = Field(
        default=None,
        title="Proxy",
        description="The URL of an HTTP proxy. Proxy variables of the environment are ignored.",
        examples=["http://proxy.example.com:3128"],
        json_schema_extra=SECRET,
    )
    ca_bundle: FilePath | None = Field(
        default=None,
        title="CA bundle",
        description="The path of a PEM file with certificates to trust in place of the usual ones.",
    )
    client_certificate: FilePath | None = Field(
        default=None,
        title="Client certificate",
        description="The path of a PEM file with the certificate and key to present to a server that asks for them.",
    )
    max_response_bytes: int = Field(
        default=16 * 2**20,
        ge=1024,
        title="Largest reply",
        description="The maximum size of a reply in bytes, decompressed. Images, embeddings and streams may have four "
        "times as many.",
    )
    endpoint_id: str | None = Field(
        default=None,
        title="Endpoint in the ledger",
        description="The endpoint's name in the ledger, in place of its URL: replies are found again when the URL "
        "changes (a port, a tunnel, another gateway to the same models).",
        examples=["lab"],
    )
    cache: LedgerPlace | None = Field(
        default=None,
        title="Ledger",
        description="Where every reply is kept, so that none is paid for twice: the path of a file, for one run at a "
        "time, or, for any number at once, postgresql://user:password@host/database or a folder (s3://bucket/folder/, "
        "gs://…, abfs://…, /shared/folder/), where `${NAME}` refers to the environment. `none` keeps them in memory. "
        "Default: a file beside the output, or in the user's cache directory.",
        examples=["postgresql://user:${PGPASSWORD}@db.example.com/ledger"],
        json_schema_extra=SECRET,
    )
