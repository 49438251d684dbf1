"""Every generated file: those of `spec.generate`, and the pages that follow from the tests and from the tree.

`python -m tests.pages` writes them; with `--check` it only names those that are out of date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from spec import generate
from tests import faults_page, rooms_page
from tests.bench import pages as benchmarks


def files() -> dict[Path, str]:
    """Every generated file with the text that it should have."""
    return {
        **generate.files(),
        faults_page.PAGE: faults_page.page(),
        rooms_page.PAGE: rooms_page.page(),
        **benchmarks.files(),
    }


if __name__ == "__main__":
    sys.exit(generate.write(files(), sys.argv[1:]))
