"""A shell in which the program is installed and an endpoint is set, for what users paste."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from spec.generate import ROOT


def shell(folder: Path, url: str, key: str, model: str) -> dict[str, str]:
    """Puts the program into a folder and returns the environment in which it is found and calls this endpoint."""
    program = folder / "bin" / "openai-compatible"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m connector "$@"\n')
    program.chmod(0o700)
    return {
        **os.environ,
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OPENAI_BASE_URL": url,
        "OPENAI_API_KEY": key,
        "OPENAI_MODEL": model,
    }
