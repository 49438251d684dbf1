"""The path of a record on docs/architecture.md is the one that a record takes: each function, in its order."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Final

import connector
from connector import Connector
from spec.generate import ROOT
from tests.endpoint import Endpoint

PACKAGE: Final = Path(connector.__file__).parent
PAGE: Final = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TABLE: Final = PAGE.partition("\n## The path of a record\n")[2].partition("\n## ")[0]
STEPS: Final = [
    (step.strip(), re.findall(r"`([\w/]+\.py::[\w.]+)`", where))
    for step, where in re.findall(r"^\| ([\w ]*?) ?\| (`.+?) \|", TABLE, re.MULTILINE)
]
STAGES: Final = [name for step, names in STEPS if step not in ("", "in", "out") for name in names]
"""The generators, which all begin at once and pass the record on."""

FUNCTIONS: Final = [name for step, names in STEPS if not step for name in names]
"""What each stage calls, in its order."""


def followed(endpoint: Endpoint) -> list[str]:
    """The functions of the package that one record runs through, each where it is first entered."""
    entered: dict[str, None] = {}

    def enter(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(PACKAGE):
                entered.setdefault(f"{path.relative_to(PACKAGE).as_posix()}::{frame.f_code.co_qualname}")

    rows = Connector({"url": endpoint.base_url, "prompt": "{{ review }}", "model": "m"})
    threading.setprofile(enter)
    sys.setprofile(enter)
    try:
        list(rows.enrich([{"review": "Arrived late."}]))
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return list(entered)


def test_a_record_goes_the_way_that_the_page_shows(endpoint: Endpoint) -> None:
    way = followed(endpoint)
    assert len(STAGES) == 4
    assert [name for name in (*STAGES, *FUNCTIONS) if name not in way] == []
    assert sorted(FUNCTIONS, key=way.index) == FUNCTIONS
