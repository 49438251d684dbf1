"""The dialects: how platforms say `spec`, `check`, `discover` and `read`. One module is one dialect, by its file name.

A dialect turns a platform's command into calls of the connector that it is handed, and what comes back into lines on
stdout. Whatever differs between platforms (names, casing, units of time, exit codes) is in its file alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, NamedTuple, Protocol, cast

from connector.records import JSON, Schema
from connector.streams import Diagnosis, Selection, Stream

DIALECTS = tuple(sorted(module.name for module in iter_modules(__path__)))
"""The names of all dialects."""


class Platform(Protocol):
    """The connector, as a dialect sees it."""

    def spec(self) -> Schema:
        """The JSON Schema of the config."""

    def check(self, config: Any = None) -> Diagnosis:
        """Whether the config works."""

    def discover(self, config: Any = None) -> list[Stream]:
        """The streams there are."""

    def read(
        self, config: Any = None, catalog: Iterable[Selection] | None = None, state: Mapping[str, JSON] | None = None
    ) -> Iterator[Any]:
        """Outcomes, checkpoints and pauses."""


class Arguments(NamedTuple):
    """What the platform passes on the command line: paths of JSON files."""

    verb: str
    config: str | None = None
    catalog: str | None = None
    state: str | None = None


class Output(NamedTuple):
    """Where messages go: `write` takes whole lines, `flush` makes them visible."""

    write: Callable[[bytes], object]
    flush: Callable[[], object]


class Dialect(Protocol):
    """What a dialect module consists of."""

    VERBS: tuple[str, ...]
    """The first arguments that it answers to."""

    def serve(self, arguments: Arguments, platform: Platform, output: Output) -> int:
        """Carries out one verb and returns the exit code that the platform expects."""


def load(name: str) -> Dialect:
    """Opens a dialect by its name."""
    return cast("Dialect", import_module(f"{__name__}.{name}"))
