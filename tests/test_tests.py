"""The tests themselves: none measures time or sleeps, so that a busy machine fails none of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parent
BENCHMARKS: Final = TESTS / "bench"
"""The one folder that measures time: its programs are run on purpose, not by `make test`."""

CLOCKS: Final = {
    "time": "clock_gettime monotonic perf_counter process_time sleep thread_time time".split(),
    "timeit": "default_timer repeat timeit".split(),
    "asyncio": ["sleep"],
    "os": ["times"],
    "resource": ["getrusage"],
}
"""What reads a clock or sleeps, by its module; the functions that count nanoseconds are named `…_ns`."""

EXCEPTIONS: Final = {
    ("broken.py", "time.monotonic"): "times commands for a person's eyes; tests only use its table",
    ("buckets.py", "time.sleep"): "waits for a server to start; no test is about how long that takes",
    ("databases.py", "time.sleep"): "waits for a server to start; no test is about how long that takes",
    ("endpoint.py", "asyncio.sleep"): "plays the latency that a test gives to the endpoint",
    ("endpoint.py", "time.monotonic"): "notes when a call came, and admits calls by the minute, as endpoints do",
    ("faults.py", "time.time"): "writes a date into a header",
    ("check/test_capabilities.py", "time.time"): "dates a table, which a run then takes for fresh",
    ("protocols/test_airbyte_models.py", "time.time"): "compares dates, not how long anything takes",
    ("protocols/test_multiwoven.py", "time.time"): "compares dates, not how long anything takes",
    ("sandbox/test_sandbox.py", "time.time"): "compares dates, not how long anything takes",
    ("run/test_pipeline.py", "Event().wait"): "lets other threads run; what is counted are rows, by an injected clock",
    ("engines/test_conformance.py", "Event().wait"): "plays an endpoint that is busy with a call for a moment",
}
"""Where they are used nevertheless, and why that fails no test on a busy machine."""


def clocks(tree: ast.AST) -> Iterator[str]:
    """What a module uses that reads a clock or sleeps, as `module.function`."""
    modules: dict[str, str] = {}
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            name = f"{modules[node.value.id]}.{node.attr}"
        elif isinstance(node, ast.Attribute) and node.attr == "wait" and _is_new_event(node.value):
            name = "Event().wait"
        elif isinstance(node, ast.Name):
            name = names.get(node.id, "")
        else:
            continue
        module, _, function = name.rpartition(".")
        if name == "Event().wait" or function.removesuffix("_ns") in CLOCKS.get(module, ()):
            yield name


def _is_new_event(node: ast.expr) -> bool:
    """Whether this makes an event, which nobody else can set: waiting for it is sleeping."""
    return isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "Event"


def found_in(source: str) -> list[str]:
    return sorted(set(clocks(ast.parse(source))))


def test_no_test_measures_time_or_sleeps() -> None:
    found = {
        (path.relative_to(TESTS).as_posix(), name)
        for path in TESTS.rglob("*.py")
        if BENCHMARKS not in path.parents
        for name in found_in(path.read_text(encoding="utf-8"))
    }
    assert found == set(EXCEPTIONS)


def test_a_clock_is_found_however_it_is_imported() -> None:
    assert found_in("import time\ntime.sleep(1)") == ["time.sleep"]
    assert found_in("import time as t\nt.perf_counter_ns()") == ["time.perf_counter_ns"]
    assert found_in("from time import monotonic as now\nnow()") == ["time.monotonic"]
    assert found_in("from timeit import timeit\ntimeit(f)") == ["timeit.timeit"]
    assert found_in("import threading\nthreading.Event().wait(0.1)") == ["Event().wait"]
    assert found_in("import resource\nresource.getrusage(0)") == ["resource.getrusage"]
    assert found_in("import time\ntime.tzset()\nself.time()\nevent.wait(9)") == []


def test_no_test_replaces_a_function_of_the_module_time_for_all_threads() -> None:
    patched = re.compile(r'setattr\(\s*"[\w.]+\.time\.\w+"|setattr\(\s*time,')
    assert [path.name for path in TESTS.rglob("*.py") if patched.search(path.read_text(encoding="utf-8"))] == []
