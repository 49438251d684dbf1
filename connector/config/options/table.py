"""Where records come from, and what their rows gain: the options of the tables on both sides."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from connector.config.options import InputOption, OutputOption, StreamsOption


class TableOptions(BaseModel):
    """The options of the tables on both sides."""

    input: InputOption = Field(default=None, title="Input", description="Where `read` finds the records.")
    output: OutputOption = Field(
        default=None,
        title="Output",
        description="Where `write` puts the rows of the streams that it is sent; `{stream}` in the name of the file or "
        "table is the stream's name.",
    )
    streams: StreamsOption | None = Field(
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
