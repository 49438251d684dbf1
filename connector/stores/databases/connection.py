"""Connections to databases: by URL, through the drivers of our extras, with errors that say what to do and no secret.

What a URL leaves out comes from where the database's own programs take it: PostgreSQL's environment variables,
`~/.pgpass` and services; MariaDB's `~/.my.cnf` and `MYSQL_PWD`.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, quote, unquote

import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError

from connector.base.environment import expanded
from connector.base.errors import ConfigError, ConnectorError, DatabaseUnavailableError
from connector.base.masking import Masker, looks_secret
from connector.base.regex import regex

T = TypeVar("T")

_DRIVERS: Final = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}
"""The driver for a URL that names none. One that names its driver, such as `postgresql+psycopg2`, gets that driver."""

EXTRAS: Final = {
    "postgresql": "postgresql",
    "mysql": "mariadb",
    "mariadb": "mariadb",
    "duckdb": "duckdb",
    **{name: name for name in ("snowflake", "bigquery", "databricks", "redshift")},
}
"""The extra that installs the driver of a database."""

_DATABASE_URL: Final = regex(
    r"(?P<name>\w[\w+.-]*)://(?P<place>[^/?#]*)(?P<path>/[^?]*)?(?:\?(?P<query>.*))?", re.DOTALL
)
_LOGIN: Final = regex(r"[^/]*://[^/?#]*@")
_IPV6: Final = regex(r"\[([0-9A-Fa-f:.%]+)\](?::(\d+))?")
_FILES: Final = ("sqlite", "duckdb")
_LAST_PORT: Final = 65_535
logging.getLogger("psycopg").addHandler(logging.NullHandler())  # failures are raised, and reported once
WAITS: Final = (0.5, 2.0)
"""Seconds before the second and the third attempt."""
RESTART: Final = (8.0, 20.0)
"""Seconds before two further attempts, where the database has answered before: it may be restarting."""
_CONNECT: Final = 10  # seconds
_FORM: Final = "write it as postgresql://user:password@host:5432/database, mysql://…, sqlite:///file or duckdb:///file"

_TRANSIENT: Final = regex(
    r"connection (?:refused|reset|timed out|timeout)|closed the connection|connection (?:is|was) (?:lost|closed)"
    r"|timeout expired|network is unreachable|no route to host|is (?:starting up|shutting down)|in recovery mode"
    r"|(?:yet|not) accepting connections"
    r"|too many (?:clients|connections)|remaining connection slots|database (?:table )?is locked|could not set lock"
    r"|terminating connection|write-write conflict|conflict on (?:update|tuple)|broken pipe|eof detected|timed out",
    re.IGNORECASE,
)
_LOCKED: Final = regex(r"lock (?:wait )?timeout|is locked|could not set lock", re.IGNORECASE)
_LOCK: Final = "is locked", "end the transaction of the other program, or wait for its end"
_SILENCE: Final = "does not answer as it should", "is it running, and are host and port right?"
_PERMANENT: Final = regex(r"could not translate host name|name or service not known|no such file", re.IGNORECASE)
_STATES: Final = ("08", "53", "57P", "40001", "40P01", "55P03")
"""Prefixes of transient SQLSTATEs (PostgreSQL, appendix A): connections, resources, shutdown, conflicts, locks."""
_MARIADB: Final = frozenset({1040, 1053, 1158, 1159, 1160, 1161, 1203, 1205, 1213, 1927, 2002, 2003, 2006, 2013, 2055})
"""Numbers of MariaDB's transient errors: connections, shutdown, network, lock waits, deadlocks."""


class Database:
    """A database that a URL names. A connection is made only when it is asked for.

    Attributes:
        kind: `postgresql`, `mariadb` (also for MySQL), `sqlite`, `duckdb`, or what SQLAlchemy calls it.
        engine: SQLAlchemy's engine, without a pool.
        place: The database as messages name it: without the user, the password and the options.
    """

    def __init__(self, url: SecretStr) -> None:
        text = with_variables(url.get_secret_value())
        self._mask = Masker(_secrets(text))
        try:
            parts = parsed(text)
            self.engine = _engine(parts)
        except SQLAlchemyError as error:
            raise ConfigError(f"url: {self._mask(str(error))}: {_FORM}") from None
        except ConfigError:
            raise
        except Exception as error:  # noqa: BLE001 - a driver's own, such as BigQuery's without credentials
            raise ConfigError(f"url: the driver refuses it: {self._mask(str(error))}") from None
        name = self.engine.dialect.name
        self.kind = "mariadb" if name == "mysql" else name
        name = parts.database or ""
        self.file = Path(name) if self.kind in _FILES and name and not name.startswith((":memory:", "file:")) else None
        port = f":{parts.port}" if parts.port else ""
        server = f"{parts.host or 'on this machine'}{port}/{parts.database or ''}"
        self.place = f"{self.kind} {self.file or server}"

    @contextmanager
    def connect(self, otherwise: type[ConnectorError] = ConfigError) -> Iterator[sa.Connection]:
        """Opens a connection. Errors until it is closed are raised as `errors` raises them."""
        with self.errors(otherwise):
            try:
                connection = self.engine.connect()
            except (TypeError, ValueError) as error:
                why = "a text has characters that it cannot send" if isinstance(error, UnicodeError) else str(error)
                raise ConfigError(f"url: the driver refuses what the URL says: {self._mask(why)}") from None
            with connection:
                try:
                    yield connection
                except Exception as error:
                    if _is_transient(getattr(error, "orig", None) or error):
                        connection.invalidate()  # else SQLAlchemy would report a rollback that fails
                    raise

    @contextmanager
    def errors(self, otherwise: type[ConnectorError] = ConfigError) -> Iterator[None]:
        """Raises errors of SQLAlchemy and the driver as our own, with the database's message, without its secrets.

        Raises:
            DatabaseUnavailableError: It does not answer, or is too busy: an attempt later may succeed.
            ConnectorError: Anything else, as the class `otherwise`.
        """
        driver: Any = getattr(self.engine.dialect.loaded_dbapi, "Error", SQLAlchemyError)
        try:
            yield
        except (SQLAlchemyError, driver) as error:
            said: Any = getattr(error, "orig", None) or error
            text = self._mask(_text_of(said))
            if _is_transient(said) or (isinstance(error, DBAPIError) and error.connection_invalidated):
                what, advice = _LOCK if _LOCKED.search(text) else _SILENCE
                raise DatabaseUnavailableError(f"{self.place} {what}: {text}: {advice}") from None
            raise otherwise(f"the database says: {text}") from None

    def require_file(self) -> None:
        """Refuses a file that does not exist, which SQLite and DuckDB would create.

        Raises:
            ConfigError: It does not exist.
        """
        if self.file is not None and not self.file.is_file():
            raise ConfigError(f"url: there is no database {self.file}: name an existing one")


@contextmanager
def opened(url: SecretStr) -> Iterator[Database]:
    """Opens the database that a URL names; no connection is made yet.

    `${NAME}` in it is replaced by an environment variable, whose value needs no percent-encoding before the `@`.

    Raises:
        ConfigError: It is not the URL of a database, a variable is not set, or the driver is not installed.
    """
    database = Database(url)
    try:
        yield database
    finally:
        database.engine.dispose()


def persistent(act: Callable[[], T], wait: Callable[[float], None] = time.sleep, *, more: Sequence[float] = ()) -> T:
    """Returns what `act` returns. If the database does not answer, retries after `WAITS`, then after `more` seconds.

    `act` must start from scratch each time, and leave nothing behind when it fails.

    Raises:
        DatabaseUnavailableError: The last attempt failed, too.
    """
    for seconds in (*WAITS, *more):
        try:
            return act()
        except DatabaseUnavailableError:
            wait(seconds)
    return act()


def with_variables(text: str) -> str:
    """Returns the URL with its variables replaced: percent-encoded in user and password, elsewhere as they are.

    Raises:
        ConfigError: A variable is not set.
    """
    login = found[0] if (found := _LOGIN.match(text)) else ""
    return expanded(login, lambda value: quote(value, safe="")) + expanded(text[len(login) :])


def parsed(text: str) -> sa.URL:
    """Returns the parts of a URL. The last `@` ends the password, so an `@` inside it needs no percent-encoding.

    Raises:
        ConfigError: It is not the URL of a database. The message quotes nothing of it.
    """
    found = _DATABASE_URL.fullmatch(text)
    if found is None:
        raise ConfigError(f"url: this is not the URL of a database: {_FORM}")
    name = found["name"].lower()
    login, _, host = found["place"].rpartition("@")
    user, _, password = login.partition(":")
    address = _IPV6.fullmatch(host)
    host, port = address.groups() if address else host.rpartition(":")[::2] if ":" in host else (host, None)
    path, query = (found["path"] or "")[1:], found["query"] or ""
    is_cut = "@" in path or "@" in query.partition("=")[0]  # a password whose / or ? has ended it
    is_odd = is_cut or (":" in host and not address) or (port and not (port.isdigit() and int(port) <= _LAST_PORT))
    if is_odd and not name.startswith(_FILES):
        raise ConfigError(
            "url: it is unclear where its password ends, or what its host is: in the user name, the password and the "
            "name of the database write @ as %40, / as %2F, ? as %3F, or use ${NAME}"
        )
    return sa.URL.create(
        _DRIVERS.get(name, name),
        unquote(user) or None,
        unquote(password) or None,
        unquote(host) or None,
        int(port) if port else None,
        (path if name.startswith(_FILES) else unquote(path)) or None,
        dict(parse_qsl(query, keep_blank_values=True)),
    )


def _secrets(text: str) -> Iterator[str]:
    """Yields the secrets in a URL: what stands between the user and the last `@`, and options that look secret."""
    _, _, rest = text.partition("://")
    login, has_login, place = rest.rpartition("@")
    if has_login:
        _, _, password = login.partition(":")
        yield from (password, unquote(password), *re.split(r"[@/?#]", password))
    for name, value in parse_qsl(place.partition("?")[2]):
        if looks_secret(name, value):
            yield value


def _engine(url: sa.URL) -> sa.Engine:
    backend, _, driver = url.drivername.partition("+")
    more: dict[str, Any] = {}
    if driver == "psycopg" and "connect_timeout" not in url.query and "PGCONNECT_TIMEOUT" not in os.environ:
        more["connect_timeout"] = _CONNECT
    if driver == "psycopg" and "client_encoding" not in url.query:
        more["client_encoding"] = "utf8"  # whatever PGCLIENTENCODING or a setting of user or database says
    if driver == "pymysql":
        settings = Path.home() / ".my.cnf"
        if settings.is_file():
            more["read_default_file"] = str(settings)
        password = url.password or os.environ.get("MYSQL_PWD")
        if password is not None:  # as bytes: PyMySQL encodes a str as Latin-1
            more["password"] = password.encode()
    try:
        only = {"use_native_hstore": False} if driver == "psycopg" else {}  # else an hstore is read as a dict
        return sa.create_engine(url, poolclass=sa.NullPool, hide_parameters=True, connect_args=more, **only)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        is_ours = not driver or _DRIVERS.get(backend, url.drivername) == url.drivername
        if is_ours and backend in EXTRAS:
            install = f"pip install 'openai-compatible-connector[{EXTRAS[backend]}]'"
        elif isinstance(error, ModuleNotFoundError):
            install = f"pip install {error.name}"
        else:
            install = "install the package that SQLAlchemy lists for it under External Dialects, or write another URL"
        raise ConfigError(f"url: the driver of {url.drivername} is not installed: {install}") from None


def _text_of(error: BaseException) -> str:
    """Returns the message of a driver's error. PyMySQL puts a number before it."""
    match error.args:
        case (int(), str(text)):
            return text
    return str(error).strip() or type(error).__name__


def _is_transient(error: Any) -> bool:
    """Returns whether a driver's error is transient, not about what was asked for."""
    number = error.args[0] if error.args else None
    if type(number) is int and number in _MARIADB:  # whatever its SQLSTATE, which only some versions of PyMySQL give
        return not _PERMANENT.search(str(error))
    state = getattr(error, "sqlstate", None)
    if isinstance(state, str):
        return state.startswith(_STATES)
    if type(number) is int:
        return number == 0 and not any(error.args[1:])
    return not _PERMANENT.search(str(error)) and bool(_TRANSIENT.search(str(error)))
