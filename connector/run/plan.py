"""A config, compiled: the request half that a record meets on its way in, the outcome half on its way out."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from connector import endpoints
from connector.base.cost import Pricing
from connector.base.errors import ConfigError, Problem
from connector.base.price_list import PriceList
from connector.base.records import GROUP, is_earlier
from connector.base.suggestions import there_are
from connector.config.config import Config
from connector.config.shorthands import names_of, prices_of
from connector.run.outcomes import Outcomes
from connector.run.requests import Requests

_LOG: Final = logging.getLogger(__name__)


class Plan:
    """What a config does to each row, ready to run. Thread-safe: nothing in it changes.

    Args:
        config: The checked config.
        columns: The names of the input's columns; `None` where they are not known beforehand.

    Attributes:
        requests: Row to request.
        pricing: What says what a reply cost, where the endpoint does not: the config's prices, else a list of prices.
        outcomes: Reply to outcome.
        columns: The mapped columns with their schemas.
        added: Every column that a row gains, with its schema: the mapped ones, then the provenance.

    Raises:
        ConfigError: No request is described, a template needs a column that the input lacks, or names clash.
    """

    def __init__(self, config: Config, columns: Iterable[str] | None = None) -> None:
        self.config = config
        self.url = config.endpoint_url
        self.endpoint = endpoints.load(config.kind)
        self.requests = Requests(config)
        self.pricing: Pricing = prices_of(config) or PriceList(self.url, self.requests.model)
        self.outcomes = Outcomes(config, self.requests.structure, self.pricing)
        self.columns = self.outcomes.columns
        self.added = self.outcomes.added
        if columns is not None:
            self._fit(list(columns))

    def _fit(self, columns: list[str]) -> None:
        """Checks the templates against the input's columns, before anything is paid for."""
        images = names_of(self.config.image_columns) if self.config.request_format is None else ()
        problems = [
            Problem(path, f'there is no column "{name}" in the input; {there_are(name, columns)}')
            for name, path in {**self.requests.required(), **dict.fromkeys(images, "image_columns")}.items()
            if name not in columns
        ]
        for name in self.added:
            if name in columns and name != GROUP:
                side = "response_format" if name in self.columns else "metadata"
                problems.append(Problem(side, f'the column "{name}" is in the input already: give it another name'))
        if GROUP in self.columns:
            problems.append(Problem("response_format", f'"{GROUP}" is the name of the provenance group'))
        if problems:
            raise ConfigError(problems)
        if columns and not images and self.requests.is_constant:
            text = str(self.requests.structure)
            name = next((name for name in columns if f"{{{name}}}" in text), columns[0])
            _LOG.warning(
                "every row gets the same reply, because the request has no column in it: write {{ %s }} to send one",
                name,
            )
        if GROUP in self.added and (earlier := [name for name in columns if is_earlier(name)]):
            names = ", ".join(earlier)
            _LOG.warning("%s: the provenance of an earlier run is replaced: set keep_llm_as to keep it", names)
