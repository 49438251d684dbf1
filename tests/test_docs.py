"""Pages say what is so: generated ones are up to date, and what a page names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from spec import generate
from spec.generate import ROOT
from tests import faults_page, pages, terminal
from tests.conftest import SLOW
from tests.faults import FAULTS
from tests.test_layers import ROOT as PACKAGE

SVG: Final = "{http://www.w3.org/2000/svg}"
DOCS: Final = ROOT / "docs"
PAGES: Final = [ROOT / "README.md", *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md")), *DOCS.glob("*.md")]
FILES: Final = {path: text for path, text in pages.files().items() if path not in generate.files()}


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def names_in(path: Path) -> set[str]:
    """What a module defines: its functions, classes and names, and a class's own as `Class.name`."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        inner = node.body if isinstance(node, ast.ClassDef) else ()
        own = _defined(node)
        found |= own | {f"{name}.{each}" for name in own for part in inner for each in _defined(part)}
    return found


def _defined(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def test_what_make_fast_leaves_out_is_there() -> None:
    assert [name for name in SLOW if not (ROOT / "tests" / name).exists()] == []


def test_the_picture_of_the_terminal_shows_the_commands_and_what_they_said() -> None:
    lines = ["".join(text.itertext()) for text in ET.parse(terminal.PICTURE).getroot().iter(f"{SVG}text")]
    assert [line for line in lines if line.startswith("$ ")] == [f"$ {command}" for command in terminal.COMMANDS]
    assert sum("300 success" in line for line in lines) == 2


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_generated_file_is_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == FILES[path], "run `make spec`"


def test_every_fault_is_on_the_page_of_faults_once() -> None:
    page = faults_page.page()
    assert [name for name, fault in FAULTS.items() if page.count(f"| {fault.about} |") != 1] == []


def test_every_promise_has_tests_and_every_test_that_is_named_exists() -> None:
    promised = re.findall(r"- \*\*(.+?)\.\*\*", (DOCS / "promises.md").read_text(encoding="utf-8").replace("\n  ", " "))
    rows = re.findall(r"^\| (.+?) \| (`.+`) \|$", (DOCS / "proofs.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert promised
    assert [promise for promise, _ in rows] == promised
    for promise, tests in rows:
        named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", tests)
        assert named, promise
        missing = [name for module, name in named if f"def {name}(" not in (ROOT / "tests" / module).read_text()]
        assert not missing, promise


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        name, _, fragment = target.partition("#")
        path = (page.parent / name) if name else page
        assert path.exists(), target
        if fragment:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert fragment in {anchor(heading) for heading in headings}, target


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_name_that_a_page_gives_with_its_module_is_defined_there(page: Path) -> None:
    for module, name in re.findall(r"`([\w/]+\.py)::([\w.]+)`", page.read_text(encoding="utf-8")):
        paths = [path for path in (PACKAGE / module, ROOT / module, ROOT / "tests" / module) if path.is_file()]
        assert paths, module
        assert name in names_in(paths[0]), f"{module}::{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_file_of_the_package_that_a_page_names_is_there(page: Path) -> None:
    text = re.sub(r"^```python\n# new: .*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    named = re.findall(r"`((?:connector|tests|spec|docs|sample_configs)/[\w./-]+)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_index_names_every_page() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in DOCS.glob("*.md") if page.name != "README.md" and f"({page.name}" not in index] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150
