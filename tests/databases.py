"""Real databases for tests: PostgreSQL and MariaDB as servers of this session alone, SQLite and DuckDB as files.

A server starts when a test first needs it and ends with the process. It has no passwords, keeps its files in memory
where the system allows, and runs as the unprivileged user that its package has made: neither server runs as root.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from connector.stores.databases import connection

KINDS: Final = ("postgresql", "mariadb", "sqlite", "duckdb")
POSTGRESQL: Final = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
MARIADB: Final = shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
NUMBERS: Final = count()
_SECONDS: Final = 60


class Base:
    """An empty database of its own. `url` names it; `run` executes what it is told there, and returns the rows."""

    def __init__(self, kind: str, url: str) -> None:
        self.kind = kind
        self.url = url

    @property
    def secret(self) -> SecretStr:
        return SecretStr(self.url)

    def script(self, *statements: str) -> None:
        """Runs statements one after the other, over one connection."""
        with connection.opened(self.secret) as database, database.engine.begin() as opened:
            for statement in statements:
                opened.execution_options(no_parameters=True).exec_driver_sql(statement)

    def fill(self, table: str, count: int) -> None:
        """Inserts the integers below `count`, at most 10,000, into a table of one column."""
        hundred = "WITH RECURSIVE s(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM s WHERE i < 99)"
        numbers = f"SELECT a.i * 100 + b.i FROM s a, s b WHERE a.i * 100 + b.i < {count}"
        self.run(f"INSERT INTO {table} {hundred} {numbers}")

    def run(self, statement: str, *rows: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Runs a statement as it is; with `rows` once for each, whose values are `?` in it."""
        with connection.opened(self.secret) as database:
            level = {"isolation_level": "AUTOCOMMIT"} if self.kind == "postgresql" else {}  # for CREATE DATABASE
            return self._run(database.engine.execution_options(**level), statement, rows)

    def _run(self, engine: sa.Engine, statement: str, rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        with engine.begin() as opened:
            if rows:
                mark = "?" if self.kind in ("sqlite", "duckdb") else "%s"
                opened.exec_driver_sql(statement.replace("?", mark), [tuple(row) for row in rows])
                return []
            result = opened.execution_options(no_parameters=True).exec_driver_sql(statement)
            return [tuple(row) for row in result] if result.returns_rows else []


def base(kind: str, folder: Path) -> Base:
    """Makes an empty database of a kind; a file is made in `folder`. Skips the test where there is no such server."""
    name = f"base_{next(NUMBERS)}"
    if kind in ("sqlite", "duckdb"):
        made = Base(kind, f"{kind}:///{folder / name}.{kind}")
        made.run("SELECT 1")
        return made
    server = {"postgresql": _postgresql, "mariadb": _mariadb}[kind]()
    server.run(f"CREATE DATABASE {name}")
    return Base(kind, server.url.rpartition("/")[0] + f"/{name}")


@contextmanager
def pooler(database: Base, mode: str, connections: int) -> Iterator[str]:
    """Starts PgBouncer before a PostgreSQL database, and yields its URL. Skips the test where it is not installed."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    port = _free_port()
    url = urlsplit(database.url)
    name = url.path.lstrip("/")
    folder = _folder(
        "postgres",
        settings=f"[databases]\n{name} = host=127.0.0.1 port={url.port} dbname={name} user={url.username}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\npool_mode = {mode}\n"
        f"default_pool_size = {connections}\nunix_socket_dir =\n",
    )
    process, log = _start("postgres", [program, f"{folder}/settings"], "pgbouncer")
    pooled = Base("postgresql", f"postgresql://{url.username}@127.0.0.1:{port}/{name}")
    try:
        _until(lambda: pooled.run("SELECT 1"), process, log)
        yield pooled.url
    finally:
        process.terminate()
        process.wait()
        _run("postgres", "rm", "-rf", folder)
        log.unlink()


@cache
def scratch() -> str:
    """A folder for files that tests share."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def _postgresql() -> Base:
    if POSTGRESQL is None:
        pytest.skip("the programs of PostgreSQL are not installed")
    folder, port = _folder("postgres"), _free_port()
    _run("postgres", str(POSTGRESQL / "initdb"), "-D", f"{folder}/data", "-A", "trust", "-U", "postgres", "-N")
    settings = {
        "port": port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": folder,
        "fsync": "off",
        "max_connections": 50,
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return _started(
        "postgresql", "postgres", [str(POSTGRESQL / "postgres"), "-D", f"{folder}/data", *options], folder, port
    )


@cache
def _mariadb() -> Base:
    if MARIADB is None:
        pytest.skip("mariadbd is not installed")
    folder, port = _folder("mysql"), _free_port()
    data = f"--datadir={folder}/data"
    _run("mysql", "mariadb-install-db", "--no-defaults", data, "--auth-root-authentication-method=normal")
    settings = [
        data,
        f"--port={port}",
        "--bind-address=127.0.0.1",
        f"--socket={folder}/socket",
        f"--pid-file={folder}/pid",
        "--innodb-flush-log-at-trx-commit=0",
        "--character-set-server=utf8mb4",
    ]
    return _started("mariadb", "root", [MARIADB, "--no-defaults", *settings], folder, port)


def _started(kind: str, user: str, command: list[str], folder: str, port: int) -> Base:
    """Starts a server and waits until it answers."""
    owner = {"postgresql": "postgres", "mariadb": "mysql"}[kind]
    process, log = _start(owner, command, kind)
    atexit.register(_end, process, owner, folder, log)
    database = {"postgresql": "postgres", "mariadb": "mysql"}[kind]
    server = Base(kind, f"{kind}://{user}@127.0.0.1:{port}/{database}")
    _until(lambda: server.run("SELECT 1"), process, log)
    return server


def _start(owner: str, command: list[str], name: str) -> tuple[subprocess.Popen[bytes], Path]:
    """Starts a program as the user `owner`, and tells where what it says is written."""
    log = Path(tempfile.mkstemp(suffix=f".{name}.log")[1])
    with log.open("wb") as file:
        return subprocess.Popen([*_as_user(owner), *command], stdout=file, stderr=file, cwd="/"), log


def _until(answers: Callable[[], object], process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(_SECONDS * 10):
        if process.poll() is not None:
            break
        try:
            answers()
        except sa.exc.SQLAlchemyError:
            time.sleep(0.1)  # the server, not the code under test, is waited for
        else:
            return
    pytest.fail(f"the server does not start: {log.read_text(errors='replace')[-2000:]}")


def _end(process: subprocess.Popen[bytes], owner: str, folder: str, log: Path) -> None:
    process.kill() if owner == "mysql" else process.send_signal(3)  # PostgreSQL's children end with SIGQUIT
    process.wait()
    _run(owner, "rm", "-rf", folder)
    log.unlink()


def _folder(owner: str, **files: str) -> str:
    """Makes a folder of files that the user `owner` owns, whether or not this process may look into it later."""
    folder = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    for name, text in files.items():
        Path(folder, name).write_text(text)
    if os.getuid() == 0:
        shutil.chown(folder, owner, owner)
    return folder


def _run(owner: str, *command: str) -> None:
    done = subprocess.run([*_as_user(owner), *command], capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        pytest.fail(f"{command[0]}: {done.stdout[-1000:]}{done.stderr[-1000:]}")


def _as_user(owner: str) -> list[str]:
    """What runs a command as `owner`, ended with this process. Whoever is not root is that user already, as it were."""
    if os.getuid() != 0:
        return ["setpriv", "--pdeathsig=KILL"]
    return ["setpriv", f"--reuid={owner}", f"--regid={owner}", "--clear-groups", "--pdeathsig=KILL"]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port
