"""Completion at Tab, in the shells themselves: bash and zsh on a terminal, fish by the question that its Tab asks."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.patience import PATIENCE

ARGUMENTS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config"],
}
HOSTILE = "odd$(id)`id`;id'x.csv"
"""The name of a file that somebody else has made: completed, it is one word, and nothing of it is run."""

SAYS_WORDS = "openai-compatible() { printf '<%s>' \"$@\"; printf 'E%s\\n' ND; }"
PREPARED = {
    "bash": f"bind 'set enable-bracketed-paste off'; eval \"$(cat completion)\"; {SAYS_WORDS}",
    "zsh": f'autoload -U compinit; compinit -u -D; unset zle_bracketed_paste; eval "$(cat completion)"; {SAYS_WORDS}',
}


@pytest.fixture(scope="module", params=["bash", "zsh", "fish"])
def completed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], str]]:
    """What a line becomes with Tab at its end, as the arguments that the program then gets: `<enrich><--output>`."""
    shell, folder = request.param, tmp_path_factory.mktemp("shell")
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = subprocess.run(
        [sys.executable, "-m", "connector", "completion", shell], capture_output=True, text=True, check=True
    ).stdout
    (folder / "completion").write_text(script)
    (folder / "my reviews.csv").touch()
    (folder / "config.json").touch()
    (folder / HOSTILE).touch()
    if shell == "fish":
        yield lambda line: _asked(line, folder)
        return
    process, terminal = pty.fork()
    if process == 0:  # pragma: no cover - the shell's process
        os.chdir(folder)
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb", "PS1": "READY> "}
        os.execvpe(ARGUMENTS[shell][0], ARGUMENTS[shell], environment)
    try:
        termios.tcsetwinsize(terminal, (50, 200))
        _until(terminal, "READY> ")
        _typed(terminal, f"{PREPARED[shell]}; PS1='PREP''ARED> '\n", "PREPARED> ")

        def complete(line: str) -> str:
            said = _typed(terminal, f"openai-compatible {line}\t\n", "END")
            return said[said.rindex("\n<") + 1 : said.rindex("END")]

        yield complete
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(terminal)


def _asked(line: str, folder: Path) -> str:
    """What fish offers for a line: the words before, and the one offer there is."""
    question = f"source completion; complete -C 'openai-compatible {line}'"
    done = subprocess.run([*ARGUMENTS["fish"], "-c", question], capture_output=True, text=True, check=True, cwd=folder)
    (offer,) = done.stdout.splitlines()
    words = [*line.split(" ")[:-1], offer.partition("\t")[0].replace("\\", "")]
    return "".join(f"<{word}>" for word in words)


def _typed(terminal: int, text: str, expected: str) -> str:
    os.write(terminal, text.encode())
    return _until(terminal, expected)


def _until(terminal: int, expected: str) -> str:
    said = ""
    while expected not in said:
        ready, _, _ = select.select([terminal], [], [], PATIENCE)
        assert ready, f"waited for {expected!r} and got {said!r}"
        said += os.read(terminal, 4096).decode(errors="replace").replace("\r", "")
    return said


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("enr", "<enrich>"),
        ("ledger pr", "<ledger><prune>"),
        ("enrich --retry-f", "<enrich><--retry-failed>"),
        ("enrich --input-format parq", "<enrich><--input-format><parquet>"),
        ("--protocol sing", "<--protocol><singer>"),
        ("enrich my", "<enrich><my reviews.csv>"),
        ("enrich --config conf", "<enrich><--config><config.json>"),
        ("enrich a.csv --prompt x conf", "<enrich><a.csv><--prompt><x><config.json>"),
        ("completion fi", "<completion><fish>"),
        ("enrich odd", f"<enrich><{HOSTILE}>"),
    ],
)
def test_tab_completes_commands_options_choices_and_files(
    completed: Callable[[str], str], line: str, expected: str
) -> None:
    assert completed(line) == expected


def test_the_library_that_writes_it_is_loaded_for_nothing_else() -> None:
    script = "import sys; from connector import cli\ntry: cli.run(['--help'])\nexcept SystemExit: pass\n"
    script += "assert 'shtab' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
