"""`Connector`: the four verbs of a platform (spec, check, discover, read), and `enrich` for Python."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn, Self, TypeVar, overload

from connector import check, stores, tables
from connector import ledger as ledgers
from connector.base.clock import Clock
from connector.base.errors import ConfigError, DatabaseUnavailableError, Problem, StorageError
from connector.base.masking import Masker, bare_url
from connector.base.records import JSON, Outcome, Record, Result, Schema
from connector.base.stop import Stop
from connector.base.streams import NO_OUTPUT, Diagnosis, Estimate, Limited, Selection, Stream, Target
from connector.base.suggestions import there_are
from connector.config.config import Config
from connector.config.shorthands import names_of
from connector.config.spec import spec
from connector.protocols.airbyte import selections
from connector.run import ledger_guard, ledger_trial, model_list, passthrough, reading
from connector.run.destination import Destination
from connector.run.forecast import Forecast, forecast
from connector.run.on_error import FailedRows
from connector.run.ordering import in_order
from connector.run.plan import Plan
from connector.run.runtime import IN_MEMORY, Runtime, Session, ledger_path
from connector.run.summary import Summary
from connector.run.transform import Transform
from connector.stores import Source
from connector.tables import ArrowArray, ArrowStream, SparkFrame
from connector.tables.progress import Bar

_SHOWN: Final = 60  # characters of a value in the repr

Frame = TypeVar("Frame", bound=SparkFrame)
"""A data frame of Spark, of a classic session or of Spark Connect."""
AnyConfig = Config | Mapping[str, Any] | str | Path

_NOT_ON_A_PLATFORM: Final = (
    "would let everybody who can edit this connection run programs where it runs: set api_key instead"
)


class Connector:
    """Turns records into requests to an OpenAI-compatible endpoint, and its replies into columns.

    Args:
        config: A `Config`, a dict, or the path of a JSON or YAML file. Each method takes another one instead.
        stop: Ask it to end whatever runs in good order.
        is_shared: Whether configs come from a platform, where others may write them: those that name a program to run
            are refused.

    Attributes:
        summary: What the last `read` or `enrich` came to, as far as its rows were taken: statuses, causes of failures,
            tokens, cost. As text it is what the command prints.

    Raises:
        ConfigError: The config is wrong.
    """

    def __init__(
        self,
        config: AnyConfig | None = None,
        *,
        stop: Stop | None = None,
        clock: Clock | None = None,
        is_shared: bool = False,
    ) -> None:
        self._is_shared = is_shared
        self._config = None if config is None else self._loaded(config)
        self._clock = clock or Clock()
        self.stop = stop or Stop()
        self.summary = Summary(clock=self._clock)
        self._sessions: list[Session] | None = None  # while entered: those that no run uses now

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles its config, for other processes: as it is written, so that `${NAME}` is resolved where it is opened.

        What only a read needs, input and output, stays here.
        """
        config = self._config
        if config is not None:
            root = config.image_folder
            left = {"input": None, "output": None, "image_root": root and str(root), "cache": _anywhere(config.cache)}
            config = config.model_copy(update=left)
        return partial(Connector, is_shared=self._is_shared), (config,)

    def __enter__(self) -> Self:
        """Keeps connections open from one `enrich` to the next, up to the end of the block.

        So does what was learned of the endpoint's limits. It is worth it for many small tables, one after the other.
        """
        self._sessions = []
        return self

    def __exit__(self, *_: object) -> None:
        sessions, self._sessions = self._sessions or [], None
        for session in sessions:
            session.close()

    def __repr__(self) -> str:
        config = self._config
        if config is None:
            return "Connector()"
        mask = Masker(config.secrets)
        told = {
            "url": bare_url(config.endpoint_url),
            "model": config.model,
            "prompt": config.prompt,
            "columns": list(Plan(config).columns) if config.streams is None else None,
            "streams": list(config.streams or ()) or None,
            "cache": config.cache,
        }
        parts = (f"{name}={_short(mask(repr(value)))}" for name, value in told.items() if value is not None)
        return f"Connector({', '.join(parts)})"

    @staticmethod
    def spec() -> Schema:
        """The JSON Schema (draft-07) of the config, as platforms draw their form from."""
        return spec()

    def check(self, config: AnyConfig | None = None) -> Diagnosis:
        """Finds out whether the config works, by free calls where possible. What is wrong is returned, never raised."""
        try:
            chosen = self._chosen(config)
            if chosen.output is not None:
                with self.destination(chosen, [Target("stream")]):
                    pass
            if self._is_shared or chosen.cache:  # a person's run may have its ledger beside its output
                ledger_trial.tried(ledger_path(chosen))
            if chosen.input is None:
                return check.diagnose(Transform(chosen).plan, self._clock)
            row = self._first_row(chosen)
            with self._source(chosen, chosen.cursor_field) as source:
                plan = Plan(chosen, source.columns or None)
                return check.diagnose(plan, self._clock, columns=source.columns, row=row)
        except ConfigError as error:
            return check.invalid_config(error)
        except (DatabaseUnavailableError, StorageError) as error:
            return check.invalid_config(ConfigError(error.message))

    def discover(self, config: AnyConfig | None = None) -> list[Stream]:
        """The streams that `read` can give: one for the configured input, with the schema of every column it emits.

        Beside it, `models` lists what the endpoint offers; without an input it is the only one.

        Raises:
            ConfigError: The config is wrong, or its columns clash with the input's.
        """
        chosen = self._chosen(config)
        if chosen.input is None:
            return [model_list.STREAM]
        with self._source(chosen, chosen.cursor_field) as source:
            stream = _stream(chosen, source, Plan(chosen, source.columns or None))
        return [stream] if stream.name == model_list.STREAM.name else [stream, model_list.STREAM]

    def read(
        self,
        config: AnyConfig | None = None,
        catalog: Iterable[Selection] | Mapping[str, JSON] | None = None,
        state: Mapping[str, JSON] | None = None,
    ) -> Generator[Result | Estimate | Limited, None, None]:
        """Reads the configured input and yields an `Outcome` for each record, in the order in which they are finished.

        Between them comes a `Checkpoint` once everything before it has been yielded: its state continues from there.
        An `Estimate` comes first where the number of records is known, and a `Limited` when the endpoint makes it wait.

        Args:
            catalog: The streams to read, one after the other, as selections or as Airbyte's configured catalogue;
                `None` for that of the input.
            state: The state to continue from, by stream name.

        Raises:
            ConfigError: The config or the catalogue is wrong. A state that does not fit the input is not an error: all
                rows are read, and a warning says so.
            FatalError: The run had to stop.
        """
        chosen = self._chosen(config)
        chosen_streams = selections(catalog) if isinstance(catalog, Mapping) else catalog
        for selection in (None,) if chosen_streams is None else chosen_streams:
            with closing(self._read_stream(chosen, selection, state or {})) as results:
                yield from results

    def _read_stream(
        self, chosen: Config, selection: Selection | None, state: Mapping[str, JSON]
    ) -> Generator[Result | Estimate | Limited, None, None]:
        summary = self._new_summary()
        is_list = selection is not None and selection.name == model_list.STREAM.name
        if is_list and chosen.input is None:
            yield from model_list.records(chosen, self._clock)
            return
        # PyAirbyte asks for an incremental read of every stream, also of those that admit none.
        incremental = selection is not None and selection.is_incremental and chosen.cursor_field is not None
        # Full reads go by the cursor, too, so that an incremental one can go on behind them.
        with self._source(chosen, None if selection is None else chosen.cursor_field) as source:
            if selection is None:
                selection = Selection(source.name)
            elif is_list and selection.name != source.name:
                yield from model_list.records(chosen, self._clock)
                return
            elif selection.name != source.name:
                there = there_are(selection.name, (source.name, model_list.STREAM.name))
                raise ConfigError([Problem("catalog", f'there is no stream "{selection.name}"; {there}')])
            position = reading.resumed(state.get(source.name), is_incremental=incremental)
            opened = partial(self._runtime, Plan(chosen, source.columns or None), ledger_path(chosen), summary)
            asked = selection._replace(is_incremental=incremental)
            with closing(reading.read(source, position, asked, opened)) as results:
                yield from _kept(summary.watched(results), chosen)

    def transform(self, config: AnyConfig | None = None) -> Transform:
        """What enriches the records of other programs in flight, stream by stream.

        Raises:
            ConfigError: The config is wrong.
        """
        return Transform(self._chosen(config), stop=self.stop, clock=self._clock, explaining=check.explaining)

    def destination(self, config: AnyConfig | None, targets: Iterable[Target]) -> Destination:
        """The configured output, for rows of these streams; a context manager.

        Raises:
            ConfigError: The config is wrong, has no output, or one that cannot take them.
        """
        chosen = self._chosen(config)
        if chosen.output is None:
            raise ConfigError([NO_OUTPUT])
        return Destination(chosen.output, targets, self._clock)

    @overload
    def enrich(self, rows: Frame, *, into: None = None, progress: bool = False) -> Frame: ...

    @overload
    def enrich(
        self, rows: ArrowStream | Iterable[ArrowStream | ArrowArray], *, into: None = None, progress: bool = False
    ) -> Generator[Any, None, None]: ...

    @overload
    def enrich(
        self, rows: Iterable[Mapping[str, Any]], *, into: None = None, progress: bool = False
    ) -> Generator[dict[str, Any], None, None]: ...

    @overload
    def enrich(self, rows: ArrowStream | Iterable[Any], *, into: tables.Library, progress: bool = False) -> Any: ...

    def enrich(
        self,
        rows: SparkFrame | ArrowStream | Iterable[Any],
        *,
        into: tables.Library | None = None,
        progress: bool = False,
    ) -> Any:
        """Yields each row with its new columns, in input order. Lazy: rows are taken as they are needed.

        Closing the generator, or no longer using it, finishes the calls in flight and ends it.

        Of a data frame of Spark it returns a data frame, which makes the calls on the workers once an action asks for
        its rows.

        Args:
            rows: Dicts; or a table of Arrow, pandas, Polars or DuckDB, or an iterable of their record batches, for
                which `pyarrow.RecordBatch`es of at most 1,000 rows come out, with the types that `discover` tells.
            into: The library whose table to return instead, once all rows are done: `"pandas"`, `"polars"`,
                `"duckdb"`; `"arrow"` is a `pyarrow.RecordBatchReader`, still lazy; `"same"` is that of `rows`.
            progress: Whether to draw a bar, in a terminal or a notebook. It needs `tqdm`.

        Raises:
            ConfigError: The config is wrong, the rows do not fit it, or this thread uses its ledger already.
            FatalError: The run had to stop.
        """
        if tables.is_spark(rows):
            return self._enriched_on_workers(rows, into or ("progress" if progress else ""))
        tables.require_rows(rows)
        bar = Bar(tables.length(rows)) if progress else None
        results = self._enriched(rows, bar)
        return results if into is None else tables.into(into, results, rows)

    def _enriched(self, rows: Any, bar: Bar | None) -> Generator[Any, None, None]:
        chosen = self._chosen(None)
        path = ledger_path(chosen) if chosen.cache else None
        with closing(tables.open_table(rows, chosen.keep_llm_as)) as table:
            plan = Plan(chosen, table.columns)
            with (
                ledger_guard.used(path),
                self._runtime(plan, path, self._new_summary()) as runtime,
                bar or nullcontext(),
                closing(
                    in_order(table.records(), partial(_finished, runtime, table.fitting(plan.added), bar))
                ) as results,
            ):
                yield from table.enriched(_kept(results, chosen), plan.added)

    def _enriched_on_workers(self, frame: Any, wanted: str) -> Any:
        if wanted:
            raise ConfigError(f"{wanted}: a Spark data frame stays one, and Spark shows its own progress: leave it out")
        chosen = self._chosen(None)
        ledger = ledger_path(chosen) if chosen.cache else None
        return tables.load_spark().enriched(
            frame, self, lambda columns: Plan(chosen, columns).added, chosen.keep_llm_as, ledger
        )

    def forecast(self, rows: ArrowStream | Iterable[Any]) -> Forecast:
        """Finds out what `enrich` would do with these rows, without a call: its calls, what they cost, what would fail.

        As text it is what `enrich --dry-run` prints. An iterator is used up by it.

        Args:
            rows: As `enrich` takes them.

        Raises:
            ConfigError: The config is wrong, the rows do not fit it, or another run has the ledger.
            StorageError: The ledger cannot be read.
        """
        tables.require_rows(rows)
        chosen = self._chosen(None)
        path = ledger_path(chosen) if chosen.cache else None
        there = None if isinstance(path, Path) and not path.is_file() else path

        def refuse(_: str) -> NoReturn:
            raise ConfigError(f"{there}: another run is using this ledger: wait until it ends")

        with closing(tables.open_table(rows, chosen.keep_llm_as)) as table:
            plan = Plan(chosen, table.columns)
            with ledger_guard.used(there), ledgers.opened(there, waiting=refuse) as ledger:
                return forecast(_records(table), plan, ledger, self.stop)

    def call(self, config: AnyConfig | None, payload: JSON) -> dict[str, Any]:
        """Sends `payload` as it is, for callers that render requests themselves, and returns the reply's body.

        Raises:
            ConnectorError: The config is wrong, or there is no answer.
        """
        return passthrough.send(self._chosen(config), payload, clock=self._clock, stop=self.stop)

    def events(self, config: AnyConfig | None, payload: JSON) -> Generator[dict[str, Any], None, None]:
        """The same for a payload that asks for a stream: yields each event as it arrives. Raises as `call` does."""
        return passthrough.stream(self._chosen(config), payload, clock=self._clock, stop=self.stop)

    @contextmanager
    def _runtime(self, plan: Plan, path: ledgers.Location, summary: Summary) -> Iterator[Runtime]:
        """Opens a runtime. A run of it that ends before any success is explained."""
        with self._session(plan) as session:
            opened = Runtime(plan, path, session=session, clock=self._clock, stop=self.stop, summary=summary)
            with opened as runtime, check.explaining(runtime):
                yield runtime

    @contextmanager
    def _session(self, plan: Plan) -> Iterator[Session | None]:
        """Gives the session that the last run has left, if sessions are kept; one that an error ends is not."""
        kept = self._sessions
        if kept is None or plan.config is not self._config:
            yield None
            return
        session = kept.pop() if kept else Session(plan, self._clock)
        try:
            yield session
        except BaseException:
            session.close()
            raise
        if self._sessions is None:  # the block has ended meanwhile
            session.close()
        else:
            self._sessions.append(session)

    def _new_summary(self) -> Summary:
        self.summary = Summary(clock=self._clock)
        return self.summary

    def _chosen(self, config: AnyConfig | None) -> Config:
        if config is not None:
            return self._loaded(config)
        if self._config is None:
            raise ConfigError("there is no config")
        return self._config

    def _loaded(self, given: AnyConfig) -> Config:
        if isinstance(given, Config):
            config = given
        else:
            config = Config.from_platform(given) if self._is_shared else Config.load(given)
        if self._is_shared and config.api_key_command:
            raise ConfigError([Problem("api_key_command", _NOT_ON_A_PLATFORM)])
        return config

    def _first_row(self, config: Config) -> dict[str, Any] | None:
        """The first row of an input that can be read again; what comes on standard input is left for the run."""
        if config.input is None or config.input.type == "stdio":
            return None
        with self._source(config, None, limit=1) as source:
            return next((item.data for item in source.read() if isinstance(item, Record)), None)

    def _source(
        self, config: Config, cursor_field: str | None, *, limit: int | None = None
    ) -> AbstractContextManager[Source]:
        if config.input is None:
            raise ConfigError([Problem("input", "is missing: say where to read the records")])
        given = config.input
        general = {"on_bad_input": config.on_bad_input, "keep_llm_as": config.keep_llm_as}
        given = given.model_copy(update={name: general[name] for name in general if name in type(given).model_fields})
        return stores.load(given.type).source(given, limit=limit, cursor_field=cursor_field)


def _finished(
    runtime: Runtime, fit: Callable[[Outcome], Outcome], bar: Bar | None, items: Iterator[Any]
) -> Generator[Result, None, None]:
    """Runs items, and counts and draws the outcomes as they are finished, not as they are handed on in their order."""
    with closing(runtime.run(items)) as results:
        fitting = (fit(result) if isinstance(result, Outcome) else result for result in results)
        for result in runtime.summary.watched(fitting):
            if bar is not None and isinstance(result, Outcome):
                bar.add(result)
            yield result


def _anywhere(cache: str | None) -> str | None:
    """Returns where the ledger is, for processes with another working directory."""
    if not cache or cache == IN_MEMORY or "://" in cache:
        return cache
    location = ledgers.location_of(cache)
    return str(location.absolute()) if isinstance(location, Path) else location.revealed()


def _records(table: tables.OpenTable) -> Iterator[Record]:
    return (item for item in table.records() if isinstance(item, Record))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 2]}…{text[-1]}"


def _kept(results: Iterator[Result], config: Config) -> Iterator[Result]:
    """Leaves failed rows out where `on_error` says so, or fails after the last row."""
    failed = FailedRows()
    for result in results:
        if not isinstance(result, Outcome) or failed.keeps(result, config.on_error):
            yield result
    failed.check()


def _stream(config: Config, source: Source, plan: Plan) -> Stream:
    columns = {**source.columns, **plan.added}
    schema: Schema = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": columns}
    keys = names_of(config.primary_key)
    problems = [
        Problem(option, f'there is no column "{name}" in the input; {there_are(name, source.columns)}')
        for option, names in (("primary_key", keys), ("cursor_field", (config.cursor_field,)))
        for name in names
        if name and source.columns and name not in source.columns
    ]
    if problems:
        raise ConfigError(problems)
    return Stream(source.name, schema, keys, config.cursor_field)
