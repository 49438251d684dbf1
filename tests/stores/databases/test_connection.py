"""Connections: URLs as people write them, drivers, errors that tell what to do, that pass or do not, and no secret."""

from __future__ import annotations

import sqlite3
import tomllib
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from connector.base.errors import ConfigError, ConnectorError, DatabaseUnavailableError, StorageError
from connector.protocols._airbyte_messages import failure
from connector.stores.databases import connection
from connector.stores.databases.connection import EXTRAS, Database, parsed, with_variables
from spec.generate import ROOT
from tests.databases import Base


def refused(url: str) -> ConnectorError:
    """The error of connecting to a database."""
    with pytest.raises(ConnectorError) as caught, connection.opened(SecretStr(url)) as database, database.connect():
        pass
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert caught.value.__cause__ is None
    return caught.value


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("postgresql://u:p@h:5/d", ("postgresql+psycopg", "u", "p", "h", 5, "d")),
        ("postgres://u:p@h/d", ("postgresql+psycopg", "u", "p", "h", None, "d")),
        ("postgresql+psycopg2://h/d", ("postgresql+psycopg2", None, None, "h", None, "d")),
        ("postgresql:///d", ("postgresql+psycopg", None, None, None, None, "d")),
        ("mysql://u:a@b@h:3306/d", ("mysql+pymysql", "u", "a@b", "h", 3306, "d")),
        ("MariaDB://u:a:b%40c%2F@[::1]:3/d", ("mysql+pymysql", "u", "a:b@c/", "::1", 3, "d")),
        ("sqlite:///a@b.db", ("sqlite", None, None, None, None, "a@b.db")),
        ("sqlite:////tmp/a%20b.db", ("sqlite", None, None, None, None, "/tmp/a%20b.db")),
        ("duckdb:///x.duckdb", ("duckdb", None, None, None, None, "x.duckdb")),
    ],
)
def test_a_url_is_read_as_people_write_it(url: str, parts: tuple[Any, ...]) -> None:
    found = parsed(url)
    assert (found.drivername, found.username, found.password, found.host, found.port, found.database) == parts


@pytest.mark.parametrize("password", ["p@ss/w:rd", "100%25", "a b", "ä€", "${X}", "'\"\\"])
def test_a_variable_in_front_of_the_host_needs_no_percent_signs(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", password)
    monkeypatch.setenv("DB_URL", "postgresql://u:secretly@h/d")
    monkeypatch.setenv("FOLDER", "/tmp/a@b")
    url = with_variables("postgresql://u:${DB_PASSWORD}@h/d")
    assert parsed(url).password == password
    assert parsed(with_variables("${DB_URL}")).host == "h"
    assert parsed(with_variables("sqlite:///${FOLDER}/x.db")).database == "/tmp/a@b/x.db"


def test_a_variable_that_is_not_set_is_named() -> None:
    assert "variable NO_SUCH_VARIABLE" in refused("postgresql://u:${NO_SUCH_VARIABLE}@h/d").message


@pytest.mark.parametrize(
    "url",
    [
        "no url with pa55word",
        "nosuchbase://user:pa55word@host/x",
        "mysql+nosuchdriver://user:pa55word@host/x",
        "postgresql://u:x@pa55word@127.0.0.1:1/d",
        "postgresql://u:x/pa55word@127.0.0.1:1/d",
        "postgresql://u:x?pa55word@127.0.0.1:1/d",
        "postgresql://u:x#pa55word@127.0.0.1:1/d",
        "postgresql://127.0.0.1:1/d?sslpassword=pa55word",
        "mysql://u:pa55word@127.0.0.1:1/d",
        "postgresql+pg8000://u:pa55word@h/d",
        "postgresql://u:1?pa55word@127.0.0.1:1/d",
        "postgresql://u:1/pa55word@127.0.0.1:1/d",
        "postgresql://u:1@a/pa55word@127.0.0.1:1/d",
    ],
)
def test_a_url_that_leads_nowhere_is_refused_without_its_password(url: str) -> None:
    error = refused(url)
    assert "pa55word" not in f"{error!r}{error.detail}"
    assert any(sign in error.message for sign in (":", "pip install"))


@given(st.text("xé€@/:?#%&=+ 1'\"\\[]{}$", min_size=5))
def test_no_part_of_a_password_is_in_any_error(password: str) -> None:
    marked = f"zq{password}@qz9"
    for url in (f"mysql://u:{marked}@127.0.0.1:1/d", f"postgresql://u:{marked}@127.0.0.1:1/d"):
        error = refused(url)
        assert not any(part in str(error) for part in ("zq", "qz9"))


def test_an_ordinary_word_is_not_masked_where_it_is_a_password() -> None:
    database = Database(SecretStr("postgresql://u:a@h/d?sslmode=require"))
    with pytest.raises(ConfigError) as caught, database.errors():
        raise psycopg.errors.UndefinedTable("require a table")
    assert caught.value.message == "the database says: require a table"


@pytest.mark.parametrize(
    ("url", "install"),
    [
        ("postgresql://h/d", "openai-compatible-connector[postgresql]"),
        ("mysql://h/d", "openai-compatible-connector[mariadb]"),
        ("duckdb:///d", "openai-compatible-connector[duckdb]"),
        ("postgresql+pg8000://h/d", "pip install pg8000"),
        ("nosuchbase://h/d", "External Dialects"),
    ],
)
def test_a_driver_that_is_missing_is_reported_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, url: str, install: str
) -> None:
    def create_engine(url: Any, **_: Any) -> None:
        raise ModuleNotFoundError(name=url.drivername.partition("+")[2])

    if "nosuch" not in url:
        monkeypatch.setattr("sqlalchemy.create_engine", create_engine)
    message = refused(url).message
    assert "is not installed" in message
    assert install in message


def test_every_extra_that_is_named_is_one() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS.values()) <= extras.keys()


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("connection failed: Connection refused"),
        psycopg.OperationalError("the connection is closed"),
        psycopg.errors.AdminShutdown("terminating connection due to administrator command"),
        psycopg.errors.TooManyConnections("sorry, too many clients already"),
        psycopg.errors.DeadlockDetected("deadlock detected"),
        pymysql.err.OperationalError(2013, "Lost connection to MySQL server during query"),
        pymysql.err.OperationalError(1213, "Deadlock found"),
        pymysql.err.InterfaceError(0, ""),
        sqlite3.OperationalError("database is locked"),
    ],
)
def test_what_passes_is_not_a_fault_of_the_config(error: Exception) -> None:
    for otherwise in (ConfigError, StorageError):
        with pytest.raises(DatabaseUnavailableError) as caught, _database_of(error).errors(otherwise):
            raise error
    trace: Any = failure(caught.value)
    assert trace["trace"]["error"]["failure_type"] == "transient_error"


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError('could not translate host name "x" to address: Name or service not known'),
        psycopg.OperationalError('FATAL:  password authentication failed for user "u"'),
        psycopg.errors.InsufficientPrivilege("permission denied for table t"),
        psycopg.errors.UndefinedTable("relation does not exist"),
        pymysql.err.OperationalError(2003, "Can't connect to 'x' ([Errno -2] Name or service not known)"),
        pymysql.err.OperationalError(1045, "Access denied"),
        pymysql.err.ProgrammingError(1146, "Table 'd.t' doesn't exist"),
        sqlite3.OperationalError("no such table: t"),
    ],
)
def test_what_does_not_pass_is_what_the_caller_says(error: Exception) -> None:
    for otherwise in (ConfigError, StorageError):
        with pytest.raises(otherwise, match="the database says: "), _database_of(error).errors(otherwise):
            raise error


def _database_of(error: Exception) -> Database:
    kinds = {"psycopg": "postgresql://h/d", "pymysql": "mysql://h/d", "sqlite3": "sqlite:///d"}
    return Database(SecretStr(kinds[type(error).__module__.partition(".")[0]]))


def test_a_database_that_does_not_answer_is_tried_three_times() -> None:
    waits: list[float] = []

    def act() -> str:
        if len(waits) < 2:
            raise DatabaseUnavailableError("later")
        return "done"

    assert connection.persistent(act, waits.append) == "done"
    assert waits == [0.5, 2.0]
    waits.clear()
    with pytest.raises(DatabaseUnavailableError):
        connection.persistent(lambda: connection.parsed("x") if len(waits) > 9 else _unavailable(), waits.append)
    assert len(waits) == 2


def _unavailable() -> None:
    raise DatabaseUnavailableError("never")


def test_each_kind_connects_by_its_plain_url(base: Base) -> None:
    with connection.opened(base.secret) as database, database.connect() as opened:
        assert database.kind == base.kind
        assert opened.exec_driver_sql("SELECT 1").scalar() == 1
    assert refused(base.url.rpartition("/")[0] + "/no/such/x").message


def test_each_kind_says_what_is_wrong_with_a_statement(base: Base) -> None:
    with (
        pytest.raises(ConfigError, match=r"the database says: .*nowhere"),
        connection.opened(base.secret) as database,
        database.connect() as opened,
    ):
        opened.exec_driver_sql("SELECT * FROM nowhere")


def test_a_file_that_is_not_there_is_not_made_for_reading(tmp_path: Path) -> None:
    for kind in ("sqlite", "duckdb"):
        path = tmp_path / f"x.{kind}"
        with (
            pytest.raises(ConfigError, match="there is no database"),
            connection.opened(SecretStr(f"{kind}:///{path}")) as database,
        ):
            database.require_file()
        assert not path.exists()


def test_what_a_url_leaves_out_comes_from_the_usual_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".my.cnf").write_text("[client]\nuser=from_file\n")
    monkeypatch.setenv("MYSQL_PWD", "from_variable")
    _, given = _arguments("mysql://h/d")
    assert given["read_default_file"] == str(tmp_path / ".my.cnf")
    assert given["password"] == b"from_variable"
    assert _arguments("mysql://u:€@h/d")[1]["password"] == "€".encode()
    assert _arguments("postgresql://h/d")[1]["connect_timeout"] == 10
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "3")
    assert "connect_timeout" not in _arguments("postgresql://h/d")[1]


def _arguments(url: str) -> tuple[Any, dict[str, Any]]:
    """What a driver's `connect` is called with."""
    called: list[Any] = []

    def connect(*args: Any, **more: Any) -> None:
        called.append((args, more))
        raise psycopg.OperationalError("stop") if "postgres" in url else pymysql.err.OperationalError(1045, "stop")

    database = Database(SecretStr(url))
    database.engine.dialect.connect = connect  # type: ignore[method-assign,assignment]
    with pytest.raises(ConfigError), database.connect():
        pass
    (found,) = called
    return found[0], dict(found[1])
