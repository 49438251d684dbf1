"""Installs this project with pip, and says what it is at: `make demo` takes a minute the first time, in silence."""

from __future__ import annotations

import re
import subprocess
import sys

_NAME = re.compile(r"[\w.-]+")
_WIDTH = 70  # of a line with names


def main(what: list[str]) -> int:
    """Runs pip, names each library as it is collected, and returns pip's exit code."""
    print(f"Installing {' '.join(each for each in what if each[0] != '-')} into {sys.prefix} (once):", flush=True)
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar=off", *what]
    column = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as pip:
        for line in pip.stdout or ():
            word, _, rest = line.strip().partition(" ")
            if word not in ("Collecting", "Installing"):
                continue
            found = _NAME.match(rest) if word == "Collecting" else None
            name = found[0] if found else "… installing them"
            if column + len(name) > _WIDTH:
                column = 0
                print()
            column += len(name) + 1
            print(f" {name}", end="", flush=True)
    print(flush=True)
    return pip.returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
