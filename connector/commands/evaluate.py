r"""Compare configs on the same rows: accuracy, cost, latency, and whether a difference may be chance.

Example:
    openai-compatible evaluate reviews.csv --truth label \
      --config a.json --config b.json
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from connector import check, stores
from connector.base.errors import ConfigError
from connector.base.stop import Stop
from connector.base.terminal import is_terminal, write, write_lines
from connector.commands import ExitCode, _databases
from connector.commands._options import add_config, add_input, check_output, input_from
from connector.commands._types import count, file_path, new_file_path, percent
from connector.config.config import Config
from connector.parser import Parser
from connector.report.recorder import is_page, require_apart, save
from connector.run.progress import Progress
from connector.signals import interruptible

_MOST: Final = 26
_EXTRA: Final = 'run pip install "openai-compatible-connector[evaluate]"'


def arguments(parser: Parser) -> None:
    """See `connector.commands.Command`."""
    parser.usage = "%(prog)s INPUT... -c A [options]"
    add_input(parser)
    compared, result = parser.group("comparison"), parser.group("result")
    add_config(compared, action="append", help="a config, as JSON or YAML; repeated, each is a variant: A, B, …")
    compared.add_argument(
        "--truth",
        action="append",
        default=[],
        metavar="COLUMN",
        help="the input column with the right answers to the output column of the same name; ANSWER=COLUMN if the "
        "names differ; dots reach into objects (address.city); can be repeated",
    )
    compared.add_argument("--sample", type=count, metavar="N", help="compare only N rows, chosen at random")
    compared.add_argument("--seed", type=count, default=0, metavar="N", help="the seed of that choice (default: 0)")
    compared.add_argument(
        "--judge", metavar="FILE", type=file_path, help="a config whose model says which answer is better"
    )
    result.add_argument(
        "--report",
        type=new_file_path,
        metavar="PATH",
        help="write all figures to this file: a page (.html) or JSON (.json)",
    )
    result.add_argument("--json", action="store_true", help="print the figures as JSON, not as a table")
    result.add_argument(
        "--min-accuracy", type=percent, metavar="P", help="exit with code 1 if the last config's accuracy is below P %%"
    )
    result.add_argument(
        "--not-worse",
        action="store_true",
        help="exit with code 1 if the last config is worse than the first, and chance does not explain it",
    )
    result.add_argument(
        "--max-loss",
        type=percent,
        metavar="POINTS",
        help="exit with code 1 unless the last config's accuracy is at most POINTS below the first's, at 95 %% "
        "confidence",
    )
    result.add_argument("-q", "--quiet", action="store_true", help="print no progress")


def run(arguments: argparse.Namespace) -> ExitCode:
    """See `connector.commands.Command`."""
    paths = [arguments.config] if isinstance(arguments.config, str) else list(arguments.config or ())
    _check(arguments, len(paths))
    as_page = bool(arguments.report) and is_page(arguments.report)
    comparing = _loaded()
    configs = [(Path(path).stem, _config(path)) for path in paths]
    judge = None if arguments.judge is None else _config(arguments.judge)
    given, stop = input_from(arguments, configs[0][1]), Stop()
    with (
        stores.load(given.type).source(given, limit=arguments.limit) as source,
        interruptible(stop),
        Progress(live=is_terminal(sys.stderr), quiet=arguments.quiet) as progress,
    ):
        if arguments.report:
            require_apart(arguments.report, source, *paths, *filter(None, [arguments.judge]))
        found = comparing.compare(
            source,
            [(title, _with_images(config, given)) for title, config in configs],
            truths=arguments.truth,
            rows=arguments.sample,
            seed=arguments.seed,
            judge=judge,
            name=", ".join(map(_databases.without_login, arguments.inputs)),
            watch=lambda results, runtime: progress.watched(results, runtime, None),
            stop=stop,
        )
    as_json = json.dumps(found.to_dict(), indent=2, ensure_ascii=False, default=str) + "\n"
    if arguments.report:
        save(arguments.report, comparing.page(found) if as_page else as_json)
    if arguments.json:
        write(sys.stdout, as_json)
    else:
        write_lines(sys.stdout, comparing.lines(found))
    unmet = list(
        comparing.unmet(
            found,
            min_accuracy=arguments.min_accuracy,
            not_worse=arguments.not_worse,
            max_loss=arguments.max_loss,
        )
    )
    write_lines(sys.stderr, (f"not met: {each}" for each in unmet))
    if arguments.report and not arguments.quiet:
        write_lines(sys.stderr, [f"report written to {arguments.report}"])
    return ExitCode.FAILED_ROWS if unmet else ExitCode.DONE


def _check(arguments: argparse.Namespace, configs: int) -> None:
    """Refuses options that do not go together."""
    if not 1 <= configs <= _MOST:
        raise ConfigError(f"name 1 to {_MOST} configs: --config A.json --config B.json")
    asks = arguments.not_worse or arguments.max_loss is not None
    if not arguments.truth and (asks or arguments.min_accuracy is not None):
        raise ConfigError(
            "--min-accuracy, --not-worse and --max-loss need a truth: name its column with --truth COLUMN"
        )
    if configs == 1 and (arguments.judge or asks):
        raise ConfigError("one config alone has nothing to be compared with: name another with --config")
    check_output("--report", arguments.report)


def _loaded() -> Any:
    """Returns the module that compares, which needs the extra."""
    try:
        return import_module("connector.evaluate.comparing")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("numpy", "scipy", "rapidfuzz"):
            raise
        raise ConfigError(f"evaluate needs {error.name}: {_EXTRA}", detail=str(error)) from error


def _config(path: str) -> Config:
    try:
        return Config.load(path)
    except ConfigError as error:
        raise ConfigError(f"{path}: {check.invalid_config(error).message}") from None


def _with_images(config: Config, given: Any) -> Config:
    """Returns a config whose rows may name images beside the input."""
    folder = config.image_root or getattr(given, "folder", None)
    return config.model_copy(update={"image_root": folder and str(folder)})
