"""`Connector`: the four verbs of a platform (spec, check, discover, read), and `enrich` for Python."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

from connector import check, direct, stores
from connector.clock import Clock
from connector.config import Config
from connector.engines import Stop
from connector.errors import ConfigError, Problem, RecordError
from connector.ordering import in_order
from connector.pipeline import Result
from connector.plan import Plan
from connector.protocols import airbyte
from connector.records import JSON, Outcome, Record, Schema, Status
from connector.runtime import Runtime, ledger_path
from connector.spec import spec
from connector.stores import Source
from connector.streams import Diagnosis, Selection, Stream
from connector.transform import Transform

AnyConfig = Config | Mapping[str, Any] | str | Path


class Connector:
    """Turns records into requests to an OpenAI-compatible endpoint, and its replies into columns.

    Args:
        config: A `Config`, a dict, or the path of a JSON or YAML file. Each method takes another one instead.
        stop: Ask it to end whatever runs in good order.

    Raises:
        ConfigError: The config is wrong.
    """

    def __init__(
        self, config: AnyConfig | None = None, *, stop: Stop | None = None, clock: Clock | None = None
    ) -> None:
        self._config = None if config is None else _loaded(config)
        self._clock = clock or Clock()
        self.stop = stop or Stop()

    @staticmethod
    def spec() -> Schema:
        """The JSON Schema (draft-07) of the config, as platforms draw their form from."""
        return spec()

    def check(self, config: AnyConfig | None = None) -> Diagnosis:
        """Finds out whether the config works, by free calls where possible. What is wrong is told, never raised."""
        try:
            chosen = self._chosen(config)
            if chosen.input is None:
                return check.diagnose(Transform(chosen).plan, self._clock)
            with self._source(chosen, None) as source:
                return check.diagnose(Plan(chosen, source.columns or None), self._clock)
        except ConfigError as error:
            return check.refused(error)

    def discover(self, config: AnyConfig | None = None) -> list[Stream]:
        """The stream that `read` can give: one for the configured input, with the schema of every column it emits.

        Raises:
            ConfigError: The config is wrong, has no input, or its columns clash with the input's.
        """
        chosen = self._chosen(config)
        with self._source(chosen, None) as source:
            return [_stream(chosen, source, Plan(chosen, source.columns or None))]

    def read(
        self,
        config: AnyConfig | None = None,
        catalog: Iterable[Selection] | Mapping[str, JSON] | None = None,
        state: Mapping[str, JSON] | None = None,
    ) -> Generator[Result, None, None]:
        """Reads the configured input and yields an `Outcome` for each record, in the order in which they are finished.

        Between them comes a `Checkpoint` once everything before it has been yielded: its state continues from there.

        Args:
            catalog: The streams to read, as selections or as Airbyte's configured catalogue; `None` for all there are.
            state: The state to continue from, by stream name.

        Raises:
            ConfigError: The config, the catalogue or the state is wrong.
            FatalError: The run had to stop.
        """
        chosen = self._chosen(config)
        chosen_streams = airbyte.selections(catalog) if isinstance(catalog, Mapping) else catalog
        selection = None if chosen_streams is None else next(iter(chosen_streams), None)
        incremental = selection is not None and selection.is_incremental
        with self._source(chosen, chosen.cursor_field if incremental else None) as source:
            if selection is not None and selection.name != source.name:
                raise ConfigError(
                    [Problem("catalog", f'there is no stream "{selection.name}"; there is: {source.name}')]
                )
            resume = (state or {}).get(source.name)
            if not incremental and isinstance(resume, Mapping) and resume.get("rows") == source.rows:
                resume = None
            plan = Plan(chosen, source.columns or None)
            with self._runtime(plan, ledger_path(chosen)) as runtime:
                yield from _kept(runtime.run(source.read(resume)), chosen)

    def transform(self, config: AnyConfig | None = None) -> Transform:
        """What enriches the records of other programs in flight, stream by stream.

        Raises:
            ConfigError: The config is wrong.
        """
        return Transform(self._chosen(config), stop=self.stop, clock=self._clock)

    def enrich(self, rows: Iterable[Mapping[str, Any]]) -> Generator[dict[str, Any], None, None]:
        """Yields each row with its new columns, in input order. Lazy: rows are taken as they are needed.

        Closing the generator, or no longer using it, finishes the calls in flight and ends it.

        Raises:
            ConfigError: The config is wrong.
            FatalError: The run had to stop.
        """
        chosen = self._chosen(None)
        plan = Plan(chosen)
        path = ledger_path(chosen) if chosen.cache else None
        records = (Record(index, dict(row)) for index, row in enumerate(rows))
        with self._runtime(plan, path) as runtime:
            results = in_order(records, runtime.run)
            with closing(results):
                for outcome in _kept(results, chosen):
                    if isinstance(outcome, Outcome):
                        yield outcome.row

    def call(self, config: AnyConfig | None, payload: JSON) -> dict[str, Any]:
        """Sends `payload` as it is, for whoever renders requests elsewhere, and returns the reply's body.

        Raises:
            ConnectorError: The config is wrong, or there is no answer.
        """
        return direct.send(self._chosen(config), payload, clock=self._clock, stop=self.stop)

    def events(self, config: AnyConfig | None, payload: JSON) -> Generator[dict[str, Any], None, None]:
        """The same for a payload that asks for a stream: yields each event as it arrives. Raises as `call` does."""
        return direct.stream(self._chosen(config), payload, clock=self._clock, stop=self.stop)

    def _runtime(self, plan: Plan, path: Path | None) -> Runtime:
        return Runtime(plan, path, clock=self._clock, stop=self.stop)

    def _chosen(self, config: AnyConfig | None) -> Config:
        if config is not None:
            return _loaded(config)
        if self._config is None:
            raise ConfigError("there is no config")
        return self._config

    def _source(self, config: Config, cursor_field: str | None) -> AbstractContextManager[Source]:
        if config.input is None:
            raise ConfigError([Problem("input", "is missing: say where the records are")])
        return stores.load(config.input.type).source(config.input, cursor_field=cursor_field)


def _loaded(config: AnyConfig) -> Config:
    return config if isinstance(config, Config) else Config.load(config)


def _kept(results: Iterator[Result], config: Config) -> Iterator[Result]:
    """Leaves failed rows out where the config says so, or fails after the last one."""
    failed = 0
    for result in results:
        is_failed = isinstance(result, Outcome) and result.status is not Status.SUCCESS
        failed += is_failed
        if not (is_failed and config.on_error == "skip"):
            yield result
    if failed and config.on_error == "fail":
        raise RecordError(f"{failed:,} rows failed, and on_error is fail: each says why in its provenance")


def _stream(config: Config, source: Source, plan: Plan) -> Stream:
    columns = {**source.columns, **plan.added}
    schema: Schema = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": columns}
    keys = tuple(name.strip() for name in (config.primary_key or "").split(",") if name.strip())
    problems = [
        Problem(option, f'there is no column "{name}" in the input; there are: {", ".join(source.columns)}')
        for option, names in (("primary_key", keys), ("cursor_field", (config.cursor_field,)))
        for name in names
        if name and source.columns and name not in source.columns
    ]
    if problems:
        raise ConfigError(problems)
    return Stream(source.name, schema, keys, config.cursor_field)
