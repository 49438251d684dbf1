"""Fixtures for all tests: a loopback endpoint, and an environment in which no key of the developer's own is used."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings

from tests.endpoint import Endpoint

HERE: Final = Path(__file__).parent
SLOW: Final = (
    *("bench", "commands", "protocols", "servers", "calls/test_breaker.py", "calls/test_limits.py"),
    *("check/test_broken.py", "endpoints/test_conformance.py", "endpoints/test_kinds_by_command.py"),
    *("endpoints/test_realtime.py", "http/test_transport.py", "ledger/test_sqlite.py"),
    *(
        "replies/test_every_fault.py",
        "run/test_destination.py",
        "run/test_pipeline.py",
        "run/test_reading.py",
        "stores/test_csv.py",
    ),
    *("stores/test_cursor.py", "stores/test_formats.py", "stores/test_json_lines.py", "stores/test_memory.py"),
    *("stores/test_output.py", "stores/test_parquet.py", "stores/test_shapes.py", "tables/test_arrow.py"),
    *("tables/test_into.py", "tables/test_spark.py", "report", "stores/databases/writers", "studio"),
    *("templates/test_images.py", "test_check.py", "test_cli.py", "test_connector.py", "test_crash.py"),
    *(
        "test_demo.py",
        "test_docs_python.py",
        "test_docs_recipes.py",
        "test_endpoint.py",
        "test_keys.py",
        "test_memory_of_replies.py",
        "test_recipes.py",
        "test_secrets.py",
        "test_shared_ledgers.py",
    ),
    *("templates/test_environment.py", "endpoints/test_every_shape.py", "run/test_resolution.py", "test_cli_fuzz.py"),
    *("stores/test_sql.py", "stores/test_postgresql.py", "stores/databases", "test_patterns.py", "test_wheel.py"),
)
"""Tests that take seconds (other processes, real faults, big tables): `make fast` leaves them out."""

LONGEST: Final = (
    *("test_docs_python.py", "protocols/test_pyairbyte.py", "protocols/test_meltano.py", "test_ledgers.py"),
    *("stores/databases/writers/test_model.py", "tables/test_spark.py", "studio/test_page.py", "test_secrets.py"),
)
"""Files that take a minute or more. They come first, or one process would be at them after the others have ended."""

# No test watches a clock, nor how much is drawn at once, which a busy machine or another seed decides.
settings.register_profile(
    "all", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.register_profile("fast", settings.get_profile("all"), max_examples=10)  # `make fast`: an answer soon
settings.load_profile("all")


def is_slow(path: Path) -> bool:
    return path.relative_to(HERE).as_posix().startswith(SLOW)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Reading the slow tests takes longer than many of the others run: they are not even read where none is wanted."""
    return True if config.getoption("markexpr") == "not slow" and is_slow(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_slow(item.path):
            item.add_marker("slow")
    items.sort(key=lambda item: not item.path.relative_to(HERE).as_posix().startswith(LONGEST))


@pytest.fixture(autouse=True)
def _no_settings_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "OPENAI_ORG_ID", "OPENAI_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def _no_servers_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A diagnosis looks at the usual ports of this machine, where servers of a developer's own may listen."""
    for name in ("_LOCAL_PORTS", "_WEB"):
        monkeypatch.setattr(f"connector.check._reach.{name}", ())


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        yield endpoint


@pytest.fixture(params=("postgresql", "mariadb", "sqlite", "duckdb"))
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """An empty database of each kind: `tests.databases.Base`."""
    return import_module("tests.databases").base(request.param, tmp_path)  # SQLAlchemy takes a while
