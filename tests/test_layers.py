"""The shape of the house: imports go down, nothing is imported in secret, the public names are what they are."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import connector

ROOT = Path(connector.__file__).parent
LAYERS = (
    ["records errors version"],
    [
        "adapter breaker cachedir checkpoint clock connection cost deadline decoding environment faults filters http1",
        "imagefiles images inference jsontext leaf ledger ledger_file ledger_format limits lines masking",
        "metering network_errors plainform problems quota retry rowkeys schemas sse streams template transport turns",
        "usage values wire yamltext",
    ],
    ["client concessions endpoints engines protocols sandbox stores"],
    ["config configfile importing options plan provenance spec shorthand specification"],
    ["forms listing ordering pipeline report resolution runtime sharing"],
    ["check connector direct reading signals transform"],
    ["__init__ __main__ cli commands"],
)
LAYER = {room: number for number, rooms in enumerate(LAYERS) for room in " ".join(rooms).split()}
MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def room(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def imported_rooms(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "connector":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("connector."):
            names.add(node.module.split(".")[1])
    return names


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_every_room_has_its_floor(path: Path) -> None:
    assert room(path) in LAYER


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_no_import_goes_up(path: Path) -> None:
    own = LAYER[room(path)]
    above = {name for name in imported_rooms(ast.parse((ROOT / path).read_text())) if LAYER[name] > own}
    assert not above


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_nothing_of_the_package_is_imported_inside_a_function(path: Path) -> None:
    tree = ast.parse((ROOT / path).read_text())
    inside = [
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert not inside
    assert "TYPE_CHECKING" not in (ROOT / path).read_text()


def test_no_two_modules_import_each_other() -> None:
    graph = {
        str(path.with_suffix("")).replace("/", "."): {
            node.module.removeprefix("connector.")
            for node in ast.walk(ast.parse((ROOT / path).read_text()))
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("connector.")
        }
        for path in MODULES
    }
    knots = [(one, other) for one, others in graph.items() for other in others if one in graph.get(other, ())]
    assert not knots


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_module_holds_one_thing(path: Path) -> None:
    assert len((ROOT / path).read_text().splitlines()) <= 250


def test_the_public_names_are_spelt_out_once_for_python_and_once_for_type_checkers() -> None:
    stub = ast.parse((ROOT / "__init__.pyi").read_text())
    typed = sorted(alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names)
    names = vars(connector)["__all__"]
    assert typed == names
    assert all(getattr(connector, name) is not None for name in names)
