"""Which file is the ledger of a run, and which other ledgers may have replies to its requests."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from connector.config.config import Config
from connector.run.ledger_memory import Earlier
from connector.run.runtime import IN_MEMORY, ledger_path

_PREVIEWS: Final = "\npreview"
_MOST: Final = 10  # ledgers of other outputs that are looked into
_OTHER: Final = "the ledger of another output of this name"


class RunLedger(NamedTuple):
    """A run's config with the ledger that its command line names, the ledger's path, and the earlier ledgers."""

    config: Config
    path: Path | None
    earlier: tuple[Earlier, ...]


def run_ledger(config: Config, named: str | None, output: Path | None) -> RunLedger:
    """Finds the ledger of a run.

    Args:
        config: The config, without the command line's ledger.
        named: The ledger that the command line names.
        output: The file that the run writes; `None` for standard output.
    """
    chosen = config.model_copy(update={"cache": named}) if named else config
    path = ledger_path(chosen, output)
    if chosen.cache == IN_MEMORY:
        return RunLedger(chosen, path, ())
    previews = preview_ledger(config)
    earlier = [Earlier(previews)] if previews not in (None, path) and previews.is_file() else []
    if chosen.cache is None and output is not None and path is not None:
        earlier += _beside(output, path)
    return RunLedger(chosen, path, tuple(earlier))


def preview_ledger(config: Config) -> Path | None:
    """Returns where the replies are that previews have paid for, until a run wants them."""
    return ledger_path(config, purpose=_PREVIEWS)


def _beside(output: Path, own: Path) -> list[Earlier]:
    """Returns the ledgers of other outputs in the same folder, those of the same name in another format first."""
    found: list[tuple[bool, float, Path]] = []
    with suppress(OSError):
        others = (path for path in output.parent.glob("*.ledger") if path.name != own.name and path.is_file())
        found = [(_stem(path) != _stem(output), -path.stat().st_mtime, path) for path in others]
    return [Earlier(path, "" if is_other else _OTHER) for is_other, _, path in sorted(found)[:_MOST]]


def _stem(path: Path) -> str:
    return path.name.partition(".")[0]
