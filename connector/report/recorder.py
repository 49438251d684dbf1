"""Collects the figures of a run while it goes on, and writes them as a page or as JSON however it ends."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final, Self

from connector.base.errors import ConfigError, ConnectorError
from connector.base.records import Outcome, Result
from connector.report.collector import Collector, run_of
from connector.report.figures import Figures
from connector.run.plan import Plan
from connector.run.runtime import Runtime
from connector.stores import Source
from connector.stores.formats import is_read_by
from connector.stores.staging.publish import publish, writing

_LOG: Final = logging.getLogger(__name__)
_TIMING: Final = "this run"

Render = Callable[[Figures], str]
"""Turns figures into the text of a file."""


def is_page(path: str) -> bool:
    """Returns whether a report of this name is a page (`.html`) rather than figures only (`.json`).

    Raises:
        ConfigError: The name has another suffix, or its folder is missing.
    """
    suffix, folder = Path(path).suffix.lower(), Path(path).parent
    if suffix not in (".html", ".htm", ".json"):
        raise ConfigError(
            f"--report {json.dumps(path)}: end its name in .html for a page, or .json for the figures alone"
        )
    if not folder.is_dir():
        raise ConfigError(f"--report {json.dumps(path)}: there is no folder {folder}: make it, or name another one")
    return suffix != ".json"


def require_apart(path: str, source: Source, *others: str) -> None:
    """Refuses a report that would overwrite a file of the input or another output.

    Raises:
        ConfigError: It would.
    """
    if is_read_by(Path(path), source) or os.path.realpath(path) in map(os.path.realpath, others):
        raise ConfigError(f"--report {json.dumps(path)}: the same run reads or writes this file: name another one")


def renderer(path: str) -> Render:
    """Returns the function that renders a report of this name: `.html` is a page, `.json` figures only.

    Raises:
        ConfigError: The name has another suffix, its folder is missing, or the extra `report` is not installed.
    """
    if not is_page(path):
        return _as_json
    try:
        return _page_of(import_module("connector.report.page"))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "vl_convert":
            raise
        raise ConfigError(
            'a report as a page needs vl-convert-python: run pip install "openai-compatible-connector[report]", or end '
            "its name in .json",
            detail=str(error),
        ) from error


def _page_of(module: Any) -> Render:
    rendered: Render = module.page
    return rendered


def _as_json(figures: Figures) -> str:
    return json.dumps(figures.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def save(path: str, text: str) -> None:
    """Writes a report atomically, readable only by this user, since it quotes rows.

    Raises:
        StorageError: It cannot be written.
    """
    target = Path(path)
    with writing(target):
        # A lone surrogate from a reply has no encoding in UTF-8: it is written as \ud800, as in JSON.
        data = text.encode("utf-8", "backslashreplace")
        with NamedTemporaryFile("wb", dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            try:
                file.write(data)
                file.close()
                publish(Path(file.name), target)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise


class Recorder:
    """Collects the results of a run as they pass; a context manager that writes the report on exit.

    Args:
        path: Where to write it.
        render: The `renderer` of that path.
        source: The name of the input.
        output: The name of the output.
    """

    def __init__(self, path: str, render: Render, plan: Plan, runtime: Runtime, *, source: str, output: str) -> None:
        self._path = path
        self._render = render
        self._plan = plan
        self._runtime = runtime
        self._source = source
        self._output = output
        self._clock = runtime.control.clock
        self._began = self._clock.monotonic()
        self._started = self._clock.time()
        self._collector = Collector(runtime.summary, plan.columns, runtime.mask)

    def watched(self, results: Iterator[Result]) -> Iterator[Result]:
        """Passes on results, and collects their outcomes, which the runtime's summary must already have counted."""
        add, now, began = self._collector.add, self._clock.monotonic, self._began
        for result in results:
            if isinstance(result, Outcome):
                add(result, now() - began)
            yield result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        run = run_of(
            self._plan.config,
            self._runtime.mask,
            self._collector.models,
            source=self._source,
            output=self._output,
            started=self._started,
            ended=self._clock.time(),
            stopped_by=None if error is None else _reason(error),
        )
        figures = self._collector.figures(run, self._runtime.caller.fallbacks.made, _TIMING)
        try:
            save(self._path, self._render(figures))
        except ConnectorError as second:
            if error is None:
                raise
            _LOG.warning("%s", second.message)  # what ended the run matters more


def _reason(error: BaseException) -> str:
    return error.message if isinstance(error, ConnectorError) else str(error) or type(error).__name__
