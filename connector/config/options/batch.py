"""The option `batch`: whether and how requests go through the Batch API."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from connector.base.regex import regex
from connector.config.options import JSON_TEXT, parsed_json
from connector.config.problems import unknown

_WINDOW: Final = regex(r"[1-9][0-9]{0,3}[hd]")


def _is_window(value: str) -> str:
    if not _WINDOW.fullmatch(value):
        raise ValueError('is not a completion window: write hours or days, such as "24h" or "7d"')
    return value


class BatchOptions(BaseModel):
    """How requests are gathered into batches, and how a run waits for them."""

    model_config = ConfigDict(frozen=True, title="Batch", extra="forbid", defer_build=True)

    completion_window: Annotated[str, AfterValidator(_is_window)] = Field(
        default="24h",
        description="The time within which the endpoint has to answer: one of the windows that it offers.",
    )
    max_batch_requests: int | None = Field(
        default=None, ge=1, description="The maximum number of requests in a batch. Default: the provider's limit."
    )
    max_batch_bytes: int | None = Field(
        default=None,
        ge=1_000,
        description="The maximum size of a batch's file in bytes. Default: the provider's limit.",
    )
    poll_seconds: float = Field(default=30, gt=0, description="Seconds between two looks at a batch's state.")
    fallback: Literal["live", "none"] = Field(
        default="none",
        description="What happens to requests that need another try because their batch expired or their reply does "
        "not fit: `none` puts them into the next batch, `live` calls at once, at the full price.",
    )
    max_wait: float | None = Field(
        default=None, gt=0, description="Seconds after which a batch is cancelled; what is finished by then is kept."
    )


def _batch_of(value: Any) -> BatchOptions | None:
    if value is None or isinstance(value, BatchOptions):
        return value
    if isinstance(value, bool):
        return BatchOptions() if value else None
    if not isinstance(value, dict):
        raise ValueError("is neither true, false nor an object of options")  # noqa: TRY004 - as pydantic wants it
    if problems := unknown(value, BatchOptions, "batch."):
        raise PydanticCustomError("options", "{problems}", {"problems": problems})
    return BatchOptions.model_validate(value)


BatchOption = Annotated[Any, BeforeValidator(parsed_json), AfterValidator(_batch_of), WithJsonSchema(JSON_TEXT)]
