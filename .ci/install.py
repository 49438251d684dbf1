"""Installs this project with pip, and says what it is at: `make demo` takes a minute the first time, in silence."""

from __future__ import annotations

import re
import subprocess
import sys

_NAMED = re.compile(r"Collecting ([\w.-]+)|Installing collected")
_WIDTH = 70  # of a line with names


def main(what: list[str]) -> int:
    """Runs pip, names each library as it is collected, and returns pip's exit code. All else is told if it fails."""
    print(f"Installing {' '.join(each for each in what if each[0] != '-')} into {sys.prefix} (once):", flush=True)
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar=off", *what]
    column, said = 0, ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        for line in pip.stdout or ():
            said += line
            found = _NAMED.match(line)
            if found is None:
                continue
            name = found[1] or "… installing them"
            if column + len(name) > _WIDTH:
                column = 0
                print()
            column += len(name) + 1
            print(f" {name}", end="", flush=True)
    print(flush=True)
    if pip.returncode:
        print(said, file=sys.stderr)
    return pip.returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
