"""`make demo`: the first run shows what the program does, the second one that nothing is paid for twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.patience import PATIENCE

ROOT = Path(__file__).parent.parent


def demo(folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "sample_configs" / "demo.py")]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_twice_the_second_makes_no_call_and_says_so(tmp_path: Path) -> None:
    first = demo(tmp_path)
    assert "295 calls" in first
    assert "run this again, and it makes no call" in first
    assert "\n0 calls, 300 rows answered without a new call" in demo(tmp_path)


def test_installing_says_what_it_is_at_and_how_it_ended(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / ".ci" / "install.py"), "--no-index", "--target", str(tmp_path)]
    done = subprocess.run([*command, "no-such-library"], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode != 0
    assert done.stdout.startswith("Installing ")
    assert "no-such-library" in done.stderr
