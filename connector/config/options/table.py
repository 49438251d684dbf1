"""The options of the input, the output, and what is added to rows."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from connector.base.records import OnBadInput
from connector.config.options import Condition, InputOption, Names, OutputOption, StreamsOption


class TableOptions(BaseModel):
    """The options of the input, the output, and what is added to rows."""

    model_config = ConfigDict(defer_build=True)  # only `Config`, which has all options, is built

    input: InputOption = Field(default=None, title="Input", description="Where `read` finds the records.")
    output: OutputOption = Field(
        default=None,
        title="Output",
        description="Where `write` puts the rows of the streams it receives; `{stream}` in the name of the file or "
        "table stands for the name of the stream.",
    )
    streams: StreamsOption | None = Field(
        default=None,
        title="Streams",
        description="For mappers and `write`: the streams to enrich, as a list of names and globs, or as an object "
        "with options for each. Other streams pass through. Default: all streams.",
        examples=['["reviews", "support_*"]', '{"reviews": {"prompt": "Classify: {{ text }}"}}'],
    )
    where: Condition = Field(
        default=None,
        title="Where",
        description="Only rows for which this template is true are sent; the others are `skipped`. These count as "
        "false: false, null, 0, anything empty, and the texts `false`, `no`, `0`, `null` and `none`.",
        examples=["{{ rating < 3 and review != '' }}"],
    )
    primary_key: Names | None = Field(
        default=None,
        title="Primary key",
        description="The input column that identifies a row. Several: separate them by commas, or write a JSON list.",
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
        description="How much of `_llm` each row gets: all of it, only status and error, or nothing.",
    )
    keep_llm_as: str = Field(
        default="",
        title="Keep earlier provenance as",
        description="If the input is the output of another run: the new name of its `_llm`, and the new beginning of "
        "`_llm_status` and so on. Default: the earlier `_llm` is replaced.",
        examples=["first_run"],
    )
    on_bad_input: OnBadInput = Field(
        default="fail",
        title="On bad input",
        description="What a broken line of a JSON input does: `fail` ends the run before the first call, `record` "
        "fails its row alone.",
    )
    on_error: Literal["record", "skip", "fail"] = Field(
        default="record",
        title="On a failed row",
        description="Keep the row with its status and null columns, leave it out, or keep it and fail at the end.",
    )
