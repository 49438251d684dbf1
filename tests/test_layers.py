"""The shape of the house: imports go down from floor to floor, none is hidden, and the public names are as told."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import connector

ROOT: Final = Path(connector.__file__).parent
FLOORS: Final = (
    "base",
    "http ledger stores templates",
    "replies",
    "endpoints",
    "calls config sandbox",
    "engines",
    "run",
    "check protocols report tables",
    "evaluate",
    "connector parser signals studio",
    "commands",
    "cli",
    "__init__ __main__",
)
"""The folders and the modules beside them, from the lowest floor up. Those on one floor do not know each other."""

FLOOR_OF: Final = {room: number for number, rooms in enumerate(FLOORS) for room in rooms.split()}
PATHS: Final = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
"""Every module, by its name below `connector`."""


def imported(module: str) -> Iterator[str]:
    """The modules of this package that a module imports. A name taken from a package is its module, if it is one."""
    for node in ast.walk(ast.parse(PATHS[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("connector."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "connector":
            package = (node.module or "").partition(".")[2]
            for alias in node.names:
                name = f"{package}.{alias.name}".lstrip(".")
                yield name if name in PATHS else package or "__init__"


GRAPH: Final = {module: sorted(set(imported(module)) - {module}) for module in PATHS}


def room_of(module: str) -> str:
    """The folder of a module, or the module itself where it lies beside the folders."""
    return module.partition(".")[0]


def parents(module: str) -> Iterator[str]:
    """The packages whose `__init__` runs before a module does."""
    while "." in module:
        module = module.rpartition(".")[0]
        yield module


def circle(graph: dict[str, list[str]]) -> list[str] | None:
    """A circle of any length, as the names on it; `None` where there is none."""
    done: set[str] = set()
    for start in graph:
        path: list[str] = []
        stack = [iter([start])]
        while stack:
            node = next(stack[-1], None)
            if node is None:
                stack.pop()
                if path:
                    done.add(path.pop())
            elif node in path:
                return [*path[path.index(node) :], node]
            elif node not in done:
                path.append(node)
                stack.append(iter(graph[node]))
    return None


@pytest.mark.parametrize("module", PATHS)
def test_every_module_has_its_floor(module: str) -> None:
    assert room_of(module) in FLOOR_OF


@pytest.mark.parametrize("module", PATHS)
def test_no_import_goes_up_or_stays_on_its_floor(module: str) -> None:
    own = FLOOR_OF[room_of(module)]
    others = {name for name in GRAPH[module] if room_of(name) != room_of(module)}
    assert not {name for name in others if FLOOR_OF[room_of(name)] >= own}


def test_no_imports_make_a_circle_of_any_length() -> None:
    # A module of a package imports it, too, but for the package that lists its members and loads them by name.
    graph = {
        module: [*names, *(name for each in names for name in parents(each) if name not in (module, *parents(module)))]
        for module, names in GRAPH.items()
    }
    assert circle(graph) is None


def test_a_circle_is_found_whatever_its_length() -> None:
    assert circle({"a": ["b"], "b": ["c", "d"], "c": [], "d": []}) is None
    assert circle({"a": ["b"], "b": ["c"], "c": ["d"], "d": ["b"]}) == ["b", "c", "d", "b"]


@pytest.mark.parametrize("module", PATHS)
def test_nothing_private_to_a_folder_is_imported_from_outside_of_it(module: str) -> None:
    private = {name for name in GRAPH[module] if any(part.startswith("_") for part in name.split(".")[1:])}
    assert not {name for name in private if name.rpartition(".")[0] not in (module, module.rpartition(".")[0])}


@pytest.mark.parametrize("module", PATHS)
def test_no_private_name_of_a_module_is_left_over(module: str) -> None:
    text = PATHS[module].read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        for name in _names(node):
            if name.startswith("_") and not name.startswith("__"):
                assert len(re.findall(rf"\b{name}\b", text)) > 1, f"nothing uses {name}"


def _names(node: ast.stmt) -> list[str]:
    """The names that a statement of a module gives."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]


@pytest.mark.parametrize("module", PATHS)
def test_nothing_of_the_package_is_imported_inside_a_function(module: str) -> None:
    text = PATHS[module].read_text(encoding="utf-8")
    inside = [
        node
        for function in ast.walk(ast.parse(text))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert not inside
    assert "TYPE_CHECKING" not in text


@pytest.mark.parametrize("folder", sorted({room_of(module) for module in PATHS if "." in module}))
def test_every_folder_says_what_belongs_in_it_and_what_does_not(folder: str) -> None:
    words = ast.get_docstring(ast.parse(PATHS[folder].read_text(encoding="utf-8"))) or ""
    assert words
    assert "belong" in words or " not " in words, "say what does not belong here, and where it does"


def test_the_public_names_are_spelt_out_once_for_python_and_once_for_type_checkers() -> None:
    stub = ast.parse((ROOT / "__init__.pyi").read_text(encoding="utf-8"))
    typed = sorted(alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names)
    names = vars(connector)["__all__"]
    assert typed == names
    assert all(getattr(connector, name) is not None for name in names)
