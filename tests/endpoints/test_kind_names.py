"""No module outside of `endpoints` names a kind or its path, so that a new kind is one new file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import connector
from connector import endpoints
from connector.endpoints import DEFAULT_KIND, KINDS, load

ROOT: Final = Path(connector.__file__).parent
MODULES: Final = {
    str(path.relative_to(ROOT)): path for path in sorted(ROOT.rglob("*.py")) if path.parent != ROOT / "endpoints"
}
OTHER_MEANINGS: Final = {
    "config/importing.py": {"chat", "responses"},  # values of `wire_api` in the configs of coding tools
    "config/options/request.py": {"images"},  # an example of a directory's name
    "replies/inline_errors.py": {"embeddings", "images"},  # keys by which a reply shows that it answers
    "run/outcomes.py": {"images"},  # a name that values have in templates, not the kind
}
"""Texts that happen to be a kind's name, by the module that holds them."""


def texts(path: Path) -> Iterator[str]:
    """Yields every string constant of a module except its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in statements:
            yield node.value


def named(path: Path) -> set[str]:
    """Returns the texts of a module that are a kind's name or contain a kind's path."""
    paths = [load(kind).PATH for kind in KINDS]
    return {text for text in texts(path) if text in KINDS or any(each in text for each in paths)}


@pytest.mark.parametrize("module", MODULES)
def test_no_module_outside_of_endpoints_names_a_kind(module: str) -> None:
    assert named(MODULES[module]) == OTHER_MEANINGS.get(module, set())


@pytest.mark.parametrize("module", MODULES)
def test_no_module_outside_of_endpoints_imports_a_kind(module: str) -> None:
    imports = [
        node
        for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("connector.endpoints")
    ]
    assert {node.module for node in imports} <= {"connector.endpoints"}
    assert not {alias.name for node in imports for alias in node.names} & set(KINDS)


def test_a_name_is_found_wherever_it_stands(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('"""chat"""\nKINDS = ("chat", "chats")\nURL = f"{1}/v1/chat/completions?x"\n')
    assert named(module) == {"chat", "/v1/chat/completions?x"}


def test_the_default_kind_is_named_once() -> None:
    found = [text for text in texts(Path(endpoints.__file__)) if text in KINDS]
    assert found == [DEFAULT_KIND]
