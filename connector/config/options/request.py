"""The options of a request and its reply."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from connector import endpoints
from connector.config.options import (
    SECRET,
    ApiKey,
    Command,
    FilePath,
    Http,
    JsonArray,
    JsonTemplate,
    Models,
    Names,
    OutputSchema,
    TextTemplate,
    ToolChoice,
    Url,
)

DEFAULT_URL: Final = f"https://api.openai.com/v1{endpoints.load(endpoints.DEFAULT_KIND).PATH}"


class RequestOptions(BaseModel):
    """The options of a request and its reply."""

    model_config = ConfigDict(defer_build=True)  # only `Config`, which has all options, is built

    url: Url = Field(
        default=DEFAULT_URL,
        title="Endpoint URL",
        description="The URL of the endpoint, or its base URL (…/v1). Default: OPENAI_BASE_URL.",
        examples=[DEFAULT_URL, "http://localhost:8000/v1"],
    )
    api_key: ApiKey | None = Field(
        default=None,
        repr=False,
        title="API key",
        description="Sent as a bearer token. ${NAME} is read from the environment. Default: OPENAI_API_KEY, or no key.",
        json_schema_extra=SECRET,
    )
    api_key_command: SkipJsonSchema[Command] = Field(
        default=(),
        repr=False,
        title="API key command",
        description="A program whose standard output is the key.",
    )
    api_key_seconds: SkipJsonSchema[float] = Field(
        default=300,
        ge=0,
        allow_inf_nan=False,
        title="API key age",
        description="How long a key from a program or a function is used, in seconds. 0: until the endpoint refuses "
        "it.",
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
        description="The request body as JSON. Its strings are templates: {{ column }} is the row's value.",
        examples=['{"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Classify: {{ review }}"}]}'],
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
        description="The model of a request made from a prompt: its id, or a name from Models. A request format names "
        "its own, which may be {{ model }}. Default, if there is no request format: OPENAI_MODEL.",
        examples=["gpt-6-luna"],
    )
    models: Models | None = Field(
        default=None,
        title="Models",
        description="The models to choose from, as gateways list them: a JSON array of objects with `name`, `id`, "
        "`kind`, `region`, `description`, `max_tokens`, `temperature`, `input_price` and `output_price` (USD per 1M "
        "tokens). A request format reads the fields of the chosen model, as in {{ model.id }}.",
        examples=['[{"name": "fast", "id": "vendor/fast-1", "max_tokens": 500, "input_price": 1, "output_price": 4}]'],
    )
    system_prompt: TextTemplate = Field(
        default=None,
        title="System prompt",
        description="The system message that goes with Prompt, in place of a request format. A template.",
        json_schema_extra={"multiline": True},
    )
    prompt: TextTemplate = Field(
        default=None,
        title="Prompt",
        description="The user message of each row, in place of a request format. A template.",
        examples=["Classify this review: {{ review }}"],
        json_schema_extra={"multiline": True},
    )
    output_schema: OutputSchema | None = Field(
        default=None,
        title="Output schema",
        description="A JSON Schema (an object) for a structured reply. Its properties become typed columns.",
        examples=['{"type": "object", "properties": {"label": {"type": "string", "enum": ["good", "bad"]}}}'],
    )
    max_repairs: int = Field(
        default=1,
        ge=0,
        le=3,
        title="Repairs",
        description="How often to ask again for a reply that does not fit the output schema, with the error shown to "
        "the model. A reply that was cut at the token limit is asked for again once, with four times the limit.",
    )
    tools: JsonArray | None = Field(
        default=None,
        title="Tools",
        description="Functions that the model may call in a request made from a prompt, as a JSON array. Their names "
        "and arguments become columns: {{ tool_name }}, {{ arguments.city }}.",
        examples=['[{"type": "function", "function": {"name": "route", "parameters": {"type": "object"}}}]'],
    )
    tool_choice: ToolChoice | None = Field(
        default=None,
        title="Tool choice",
        description="Whether the model must call a tool: `auto`, `required`, `none`, or a JSON object that names one.",
        examples=["required"],
    )
    image_columns: Names | None = Field(
        default=None,
        title="Image columns",
        description="Input columns with images to send with the prompt: a URL, a data URL, a local path or the bytes. "
        "Several: separate them by commas, or write a JSON list. In a request format, the filter `image` does the "
        "same.",
        examples=["photo"],
    )
    image_root: str | None = Field(
        default=None,
        title="Image folder",
        description="The folder that image files are read from: paths in rows begin there, and cannot lead out of it. "
        "Default: the folder of the input file. Without one (the input is not a file, or is files in several "
        "folders), rows cannot name files.",
        examples=["photos"],
    )
    image_detail: Literal["auto", "low", "high"] | None = Field(
        default=None, title="Image detail", description="How closely the model looks at the images."
    )
    image_dir: FilePath | None = Field(
        default=None,
        title="Image directory",
        description="The directory to write generated images to; their paths become a column.",
        examples=["images"],
    )
    batch_size: int | None = Field(
        default=None,
        ge=1,
        le=2048,
        title="Batch size",
        description="The maximum number of rows per call, for endpoints that take many inputs at once: embeddings "
        "(64 by default), moderations (32) and completions (1).",
    )
    rows_per_call: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        title="Rows per call",
        description="Chat completions only: how many rows to pack into one call. Saves the tokens of the prompt, but "
        "may cost accuracy. Default: one row per call.",
    )
    endpoint: str | None = Field(
        default=None,
        title="Endpoint kind",
        description="The kind of endpoint, if its URL does not show it.",
        json_schema_extra={"enum": list(endpoints.KINDS)},
    )
