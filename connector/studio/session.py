"""The studio without its page: a table, up to four variants, labels, trying, comparing, running."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from connector import check, stores
from connector import ledger as ledgers
from connector.base.clock import Clock
from connector.base.errors import ConfigError, Problem
from connector.base.excerpts import without_files
from connector.base.masking import Masker
from connector.base.records import IDLE, JSON, Outcome, Record
from connector.base.stop import Stop
from connector.base.values import is_null
from connector.base.vectors import opened
from connector.config.config import Config
from connector.evaluate.figures import Evaluation, Row, evaluation
from connector.evaluate.judge import PROMPT, Verdicts, judging, verdicts
from connector.evaluate.scales import Target, targets
from connector.evaluate.variants import Variant, answered, without
from connector.ledger import Ledger, Location
from connector.report.recorder import Recorder, is_page, renderer, require_apart, save
from connector.run.forecast import Forecast, forecast, refusal, unsendable
from connector.run.ledger_memory import Earlier, Remembering
from connector.run.model_list import models
from connector.run.on_error import FailedRows
from connector.run.plan import Plan
from connector.run.runtime import Runtime, ledger_path, preview_ledger, transport_of
from connector.run.sampling import sample
from connector.studio.draft import Draft, Rendered, numbered
from connector.studio.jobs import Job
from connector.studio.labels import Labels
from connector.studio.table import Table, shown

MOST_VARIANTS: Final = 4
LABELLED: Final = "your label"
"""The name of the truth if it consists of labels."""

_ENDPOINT: Final = ("url", "api_key", "api_key_command", "headers", "query", "auth", "prices")
_CHECKED: Final = 1_000  # rows that are rendered as the user types, to find those that fail
_START: Final[Mapping[str, Any]] = {"prompt": ""}


class Tried(NamedTuple):
    """The outcomes of a variant for the rows tried, and its options at that time."""

    variant: Variant
    text: str


class Session:
    """One person's work on one table.

    Args:
        given: The options of the input's store.
        inputs: The input, as named on the command line.
        drafts: The configs to start with, each with its title; an empty one if there are none.
        limit: How many rows of the input to use.
        labels: The file of labels.
    """

    def __init__(
        self,
        given: Any,
        inputs: Sequence[str],
        drafts: Sequence[tuple[str, Mapping[str, Any]]] = (),
        *,
        limit: int | None = None,
        labels: Path,
    ) -> None:
        self._given = given
        self.inputs = list(inputs)
        self._limit = limit
        with stores.load(given.type).source(given, limit=limit) as source:
            self.table = Table(source)
        begun = drafts or [("", _START)]
        self._folder: Path | None = getattr(given, "folder", None)
        self.drafts = [
            Draft(options, letter, title, folder=self._folder)
            for (title, options), letter in zip(begun, "ABCD", strict=False)
        ]
        self.labels = Labels(labels)
        self.truth: str | None = None
        self.sample: list[Record] = []
        self.tried: dict[str, Tried] = {}
        self.compared: Evaluation | None = None
        self.rows: list[Row] = []
        self.verdicts: Verdicts | None = None
        self.job: Job | None = None
        self.report_path: Path | None = None
        self.judge_model = ""
        self.judge_prompt = PROMPT

    # --- The table and the drafts -------------------------------------------------------------------------------------

    @property
    def columns(self) -> list[str]:
        """The columns that prompts may use: all except the truth."""
        return [name for name in self.table.names if name != self.truth]

    def seen(self, record: Record) -> Record:
        """Returns a row as prompts see it, without the truth."""
        return without(record, [] if self.truth is None else [self.truth])

    def draft(self, name: str) -> Draft:
        """Returns a variant by its letter."""
        return next(each for each in self.drafts if each.name == name)

    def add(self, like: Draft) -> Draft | None:
        """Adds a copy of a variant; returns `None` if there are four already."""
        letter = next(numbered(self.drafts), None)
        if letter is None:
            return None
        draft = like.copy(letter)
        self.drafts.append(draft)
        self.drafts.sort(key=lambda each: each.name)
        return draft

    def remove(self, draft: Draft) -> None:
        """Removes a variant, unless it is the last one."""
        if len(self.drafts) > 1:
            self.drafts.remove(draft)
            self.tried.pop(draft.name, None)
            self.compared = None

    def models(self, draft: Draft) -> list[str]:
        """Returns the names of the models that a variant's endpoint lists, which is free.

        Raises:
            ConnectorError: There is no list.
        """
        config = draft.config()
        mask = Masker(config.secrets)
        with closing(transport_of(config, mask)) as transport:
            return [each.id for each in models(transport, config.models_url, mask, Clock())]

    def rendered(self, draft: Draft, record: Record) -> Rendered:
        """Returns the request of a row, or what is wrong with it."""
        return draft.rendered(self.seen(record), self.columns)

    def problems(self, draft: Draft) -> list[Problem]:
        """Returns what is wrong with a config, and with the first rows of the table."""
        found = draft.problems(self.columns)
        if found:
            return found
        rows = [self.seen(each) for each in self.table.records[:_CHECKED]]
        count, causes = unsendable(rows, draft.plan(self.columns), Stop())
        return [
            Problem(
                "rows",
                f"{each.count:,} of the first {count:,} rows cannot be rendered: {each.reason}"
                + (f" → {each.change}" if each.change else ""),
            )
            for each in causes
        ]

    def mask(self, text: str) -> str:
        """Returns a text without the secrets of any variant."""
        for draft in self.drafts:
            secrets = draft.secrets
            with suppress(ConfigError):  # a valid config also has those of the environment
                secrets = [*secrets, *draft.config().secrets]
            text = Masker(secrets)(text)
        return text

    # --- Trying -------------------------------------------------------------------------------------------------------

    def choose(self, rows: int, *, seed: int = 0, with_truth: bool = False) -> list[Record]:
        """Chooses the rows to try, at random, and only rows with a truth if asked."""
        records = self.table.records
        if with_truth and self.truth is not None:
            records = [each for each in records if not is_null(each.data.get(self.truth))]
        chosen = sample(records, rows, seed)[0]
        if _places(chosen) != _places(self.sample):
            self.compared = self.verdicts = None
            self.rows = []
        self.sample = chosen
        return self.sample

    def estimate(self, drafts: Sequence[Draft]) -> list[tuple[Draft, Forecast | ConfigError]]:
        """Returns for each variant how many calls trying the chosen rows would make, and what they would cost."""
        rows = [self.seen(each) for each in self.sample]
        found: list[tuple[Draft, Forecast | ConfigError]] = []
        for draft in drafts:
            try:
                plan = draft.plan(self.columns)
                is_busy = self.job is not None and not self.job.is_over
                with _opened(None if is_busy else _known(plan.config)) as ledger:
                    found.append((draft, forecast(rows, plan, ledger, Stop())))
            except ConfigError as error:
                found.append((draft, error))
        return found

    def try_out(self, drafts: Sequence[Draft]) -> Job:
        """Runs these variants on the chosen rows; replies that are already in the ledger cost nothing.

        Raises:
            ConfigError: A config is wrong, no row is chosen, or something else runs.
        """
        self._require_idle()
        if not self.sample:
            raise ConfigError("no row is chosen: choose how many rows to try")
        rows, plans = [self.seen(each) for each in self.sample], [(each, each.plan(self.columns)) for each in drafts]

        def work(job: Job) -> None:
            for draft, plan in plans:
                variant = answered(draft.name, draft.title or draft.name, plan, rows, watch=job.watched, stop=job.stop)
                self.tried[draft.name] = Tried(variant, draft.text)

        self.compared = self.verdicts = None
        for draft in drafts:
            self.tried.pop(draft.name, None)
        self.job = Job("Trying", len(rows) * len(plans), work)
        return self.job

    def outcomes(self, draft: Draft) -> Mapping[int, Outcome]:
        """Returns the outcomes of a variant by the index of the row in the input."""
        tried = self.tried.get(draft.name)
        return {} if tried is None else {each.record.index: each for each in tried.variant.outcomes}

    def is_stale(self, draft: Draft) -> bool:
        """Returns whether a variant has changed since it was tried."""
        tried = self.tried.get(draft.name)
        return tried is not None and tried.text != draft.text

    def reply(self, draft: Draft, outcome: Outcome) -> str:
        """Returns the reply of an outcome as JSON, without secrets and files; empty if there is none."""
        key = outcome.provenance.prompt_hash
        if key is None:
            return ""
        with _opened(_known(draft.config())) as ledger:
            found = ledger.get([bytes.fromhex(key)]).known
        bodies = [without_files(opened(each.body)) for each in found.values()]
        return self.mask("\n".join(json.dumps(body, indent=2, ensure_ascii=False) for body in bodies))

    # --- Comparing ----------------------------------------------------------------------------------------------------

    def telling_columns(self) -> list[str]:
        """Returns the two columns of the input by which people recognize a row: those with the longest texts."""
        rows = self.sample[:20]
        lengths = {name: sum(len(shown(each.data.get(name))) for each in rows) for name in self.columns}
        longest = sorted(lengths, key=lambda name: -lengths[name])[:2]
        return [name for name in self.columns if name in longest]

    def label_column(self) -> str | None:
        """Returns the answer column to label and compare: the one that the truth names, or the first."""
        tried = next(iter(self.tried.values()), None)
        names = list(tried.variant.plan.columns) if tried else []
        return self.truth if self.truth in names else next(iter(names), None)

    def allowed(self) -> list[str]:
        """Returns the values that the labelled column may have, if its schema lists them."""
        tried, column = next(iter(self.tried.values()), None), self.label_column()
        if tried is None or column is None:
            return []
        return [str(each) for each in tried.variant.plan.columns[column].get("enum", ()) if each is not None]

    def label(self, record: Record, value: JSON) -> None:
        """Stores a person's label for a row."""
        column = self.label_column()
        if column is not None:
            self.labels.put(record, column, value)
            self.compare()

    def compare(self) -> Evaluation | None:
        """Compares the answers with the truth, or else the labels; `None` if the chosen rows were not tried."""
        variants = self._answers()
        if not variants:
            return None
        records, column = self.sample, self.label_column()
        wanted: list[Target] = []
        if self.truth is not None and column is not None:
            wanted = self._targets(f"{column}={self.truth}", variants, records)
        elif column is not None and any(self.labels.get(each, column) is not None for each in records):
            records = [Record(each.index, {**each.data, LABELLED: self.labels.get(each, column)}) for each in records]
            wanted = self._targets(f"{column}={LABELLED}", variants, records)
        names, said = {each.name for each in variants}, []
        if self.verdicts is not None and not wanted and {self.verdicts.first, self.verdicts.second} <= names:
            said = [self.verdicts]
        name = ", ".join(self.inputs)
        self.compared = evaluation(variants, records, wanted, source=name, sampled=True, seed=0, verdicts=said)
        self.rows = self.compared.rows
        if wanted and self.truth is None:  # rows without a label keep their places
            known = {row.number: row for row in self.compared.rows}
            plain = evaluation(variants, records, [], source=name).rows
            self.rows = [known.get(row.number, row) for row in plain]
        return self.compared

    def _answers(self) -> list[Variant]:
        """Returns the variants that were tried on the currently chosen rows."""
        chosen = _places(self.sample)
        tried = [self.tried[each.name].variant for each in self.drafts if each.name in self.tried]
        return [each for each in tried if _places(outcome.record for outcome in each.outcomes) == chosen]

    def _targets(self, named: str, variants: Sequence[Variant], records: Sequence[Record]) -> list[Target]:
        names = list(dict.fromkeys(name for each in records for name in each.data))
        return targets(named, variants[0].plan.columns, names, [each.data for each in records])

    def judge(self) -> Job:
        """Has a judge compare the first two variants that were tried on the chosen rows.

        Raises:
            ConfigError: There are not two such variants, the judge's config is wrong, or something else runs.
        """
        self._require_idle()
        variants = self._answers()
        if len(variants) < 2:  # noqa: PLR2004 - a pair
            raise ConfigError("a judge compares two variants on the same rows: add one, and try both")
        first = self.drafts[0].options
        kept: dict[str, Any] = {name: first[name] for name in _ENDPOINT if name in first}
        options = {**kept, "prompt": self.judge_prompt, "model": self.judge_model or first.get("model")}
        draft = Draft(options)
        plan = judging(draft.config())

        def work(job: Job) -> None:
            self.verdicts = verdicts(plan, variants[0], variants[1], watch=job.watched, stop=job.stop)
            self.compare()

        self.job = Job("Judging", None, work)
        return self.job

    # --- Saving and running -------------------------------------------------------------------------------------------

    def save(self, draft: Draft, path: str, *, replace: bool = False) -> str:
        """Saves a config, readable only by this user; every other interface accepts it. Returns the command to run it.

        Raises:
            ConfigError: The config is wrong, or the file exists and `replace` is false.
            StorageError: It cannot be written.
        """
        draft.config()
        if not path.endswith(".json"):
            raise ConfigError(f"{path or 'the name'}: end the name of the config in .json")
        if Path(path).exists() and not replace:
            raise ConfigError(f"{path} already exists: save again to replace it, or choose another name")
        save(path, json.dumps(draft.options, indent=2, ensure_ascii=False) + "\n")
        draft.title = Path(path).stem
        return self.command(path)

    def command(self, config: str, output: str = "out.csv", report: str = "") -> str:
        """Returns the command line equivalent of `run`."""
        words = ["openai-compatible", "enrich", *self.inputs, "--config", config or "config.json", "--output", output]
        return shlex.join([*words, *(["--report", report] if report else [])])

    def taken(self, draft: Draft) -> list[str]:
        """Returns the answer columns whose names the table already has, except that of the truth."""
        response = draft.get("response_format")
        names = list(response) if isinstance(response, dict) else [each.name for each in draft.columns or ()]
        return [name for name in names if name in self.columns]

    def clashing(self, draft: Draft) -> list[str]:
        """Returns the answer columns whose names the table already has, even the truth: a run needs other names."""
        try:
            columns = draft.plan(self.columns).columns
        except ConfigError:
            return []
        return [name for name in columns if name in self.table.names]

    def whole(self, draft: Draft) -> Job:
        """Estimates how many calls the whole table would make and what they would cost, from the rows in memory.

        Raises:
            ConfigError: The config is wrong, or something else runs.
        """
        self._require_idle()
        plan = Plan(draft.config(), self.table.names)

        def work(job: Job) -> None:
            with _opened(_known(plan.config)) as ledger:
                found = forecast(job.counted(self.table.records), plan, ledger, job.stop)
            job.summary = f"{draft.name}: {found}"

        self.job = Job("Estimating", len(self.table.records), work)
        return self.job

    def run(self, draft: Draft, output: str, *, max_cost_usd: float | None = None, report: str = "") -> Job:
        """Runs the whole table into a file, and reuses all replies that were paid for while trying.

        Raises:
            ConfigError: The config, the output or the report is wrong, or something else runs.
        """
        self._require_idle()
        options = draft.options | ({} if max_cost_usd is None else {"max_cost_usd": max_cost_usd})
        config = Draft(options, folder=self._folder).config()
        if not output:
            raise ConfigError("name the file to write")
        target = stores.load("files").Options(path=output)
        render = renderer(report) if report else None
        if report:
            is_page(report)

        def work(job: Job) -> None:
            with ExitStack() as stack:
                source = stack.enter_context(stores.load(self._given.type).source(self._given, limit=self._limit))
                if report:
                    require_apart(report, source, output)
                plan = Plan(config, source.columns or None)
                rows, causes = unsendable(source.read(), plan, job.stop)
                refused = refusal(rows, causes, config.max_template_error_percent)
                if refused is not None:
                    raise refused
                sink = stack.enter_context(stores.load("files").sink(target, plan.added, source=source))
                own = ledger_path(config, Path(output))
                earlier = _earlier(config, own)
                runtime = Runtime(
                    plan,
                    own,
                    stop=job.stop,
                    remembering=lambda ledger: Remembering(ledger, earlier, _opened, _silent),
                )
                recorder = None
                if render is not None:
                    name = ", ".join(self.inputs)
                    recorder = stack.enter_context(Recorder(report, render, plan, runtime, source=name, output=output))
                with runtime, check.explaining(runtime), closing(runtime.run(job.gated(source.read()))) as results:
                    passing = job.watched(results, runtime)
                    for result in recorder.watched(passing) if recorder else passing:
                        if isinstance(result, Outcome):
                            is_kept = failed.keeps(result, config.on_error)
                            sink.write(result.record, {**result.columns, **result.group} if is_kept else None)
                        elif result is IDLE:
                            sink.flush()
                sink.commit()
            self.report_path = Path(report) if report else None
            failed.check()

        self.report_path, failed = None, FailedRows()
        self.job = Job("Running", self.table.rows, work)
        return self.job

    def _require_idle(self) -> None:
        if self.job is not None and not self.job.is_over:
            raise ConfigError(f"{self.job.title.lower()} is still running: wait for its end, or stop it")


def _places(records: Iterable[Record]) -> list[int]:
    return [record.index for record in records]


def _known(config: Config) -> Location:
    """Returns the ledger of previews; `None` if there is none yet."""
    path = preview_ledger(config)
    return None if isinstance(path, Path) and not path.is_file() else path


def _earlier(config: Config, own: Location) -> list[Earlier]:
    """Returns the ledger of previews for a run to read from, unless that is the run's own."""
    path = _known(config)
    return [Earlier(path)] if isinstance(path, Path) and path != own else []


def _opened(location: Location) -> Ledger:
    return ledgers.opened(location, waiting=_refuse)


def _silent(_: str) -> None:
    """Says nothing: the run's figures show how many rows were cached."""


def _refuse(_: str) -> None:
    raise ConfigError("another run is using the ledger of previews: wait until it ends")
