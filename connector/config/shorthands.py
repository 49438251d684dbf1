"""What the shorthand options mean: the chosen model, its prices, and the parts of a request made from a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from connector.base.cost import Prices
from connector.base.errors import ConfigError, Problem
from connector.base.suggestions import closest
from connector.config.config import Config
from connector.config.options import Model
from connector.endpoints import Shorthand, load
from connector.templates.verbatim import verbatim


def chosen_model(config: Config) -> Model | None:
    """Returns the entry of `models` that `model` selects by name or id; `None` if the config lists no models.

    Raises:
        ConfigError: No entry has that name, or `model` is missing and there are several.
    """
    if not config.models:
        return None
    if config.model is None and len(config.models) == 1:
        return config.models[0]
    names = [model.name for model in config.models]
    for model in config.models:
        if config.model in (model.name, model.id):
            return model
    near = closest(config.model or "", names, 3) or names
    told = "is missing: pick one of models" if config.model is None else f"there is no {config.model!r} in models"
    raise ConfigError([Problem("model", f"{told}; there are: {', '.join(near)}")])


def prices_of(config: Config) -> Prices | None:
    """Returns the configured prices, else both of the chosen model; `None` if one is missing, as it would count 0."""
    model = chosen_model(config)
    if config.prices is not None or model is None or model.input_price is None:
        return config.prices
    if model.output_price is None and load(config.kind).HAS_OUTPUT_TOKENS:
        return None
    return Prices(input=model.input_price, output=model.output_price or 0)


def constants_of(config: Config) -> dict[str, Any]:
    """Returns what templates may refer to besides the row: `model`, the chosen entry of `models`."""
    model = chosen_model(config)
    return {} if model is None else {"model": model.model_dump()}


def shorthand_of(config: Config) -> Shorthand:
    """Returns the parts of a request made from a prompt."""
    model = chosen_model(config)
    return Shorthand(
        model=config.model if model is None else model.id,
        system_prompt=config.system_prompt,
        prompt=config.prompt,
        images=names_of(config.image_columns),
        detail=config.image_detail,
        files=config.image_dir is not None,
        tools=None if config.tools is None else [verbatim(tool) for tool in config.tools],
        tool_choice=verbatim(config.tool_choice),
        max_tokens=model.max_tokens if model else None,
        temperature=model.temperature if model else None,
    )


def names_of(option: str | Sequence[str] | None) -> tuple[str, ...]:
    """Returns the column names in an option: a list, or a text with commas between them."""
    if not isinstance(option, str):
        return tuple(option or ())
    return tuple(name.strip() for name in option.split(",") if name.strip())
