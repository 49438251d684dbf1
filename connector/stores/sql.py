"""SQL databases, through SQLAlchemy 2: reads a query or a table, and writes rows into a table.

The rows of a query are all read at once and wait in a private file: an endpoint takes hours for them, and no server
keeps a cursor or a transaction open that long. Output rows wait, too, and enter their table in one transaction.

What `sink` does with existing rows depends on the mode of its `Target`: `append` adds to them, `overwrite` replaces all
of them, `append_dedup` (an upsert) those with the same `primary_key`. Without a target it appends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic.json_schema import SkipJsonSchema

from connector.base.errors import ConfigError
from connector.base.records import Schema, remaining
from connector.base.regex import regex
from connector.base.streams import Target
from connector.stores import Source
from connector.stores.databases.connection import opened
from connector.stores.databases.loading import in_place
from connector.stores.databases.loading.in_place import Updater
from connector.stores.databases.loading.table import Appender
from connector.stores.databases.reading.query import Asked, Query
from connector.stores.staging.kept import kept
from connector.stores.staging.private_directory import private_directory
from connector.stores.staging.spool import Spool

_READS: Final = regex(
    r"(\s|\(|--[^\n]*\n|/\*[^*]*\*+(?:[^/*][^*]*\*+)*/)*(select|with|values|table)\b", re.IGNORECASE | re.DOTALL
)
_FROM: Final = regex(r"\bfrom\s+[`\"\[]?(?:\w+[`\"\]]?\.[`\"\[]?)*(\w+)", re.IGNORECASE)


class Options(BaseModel):
    """A table of a database, or a query."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="SQL database", hide_input_in_errors=True)

    LEARNS_COLUMNS: ClassVar[bool] = True
    """A sink learns its columns from the rows: they need not be known beforehand."""

    type: Literal["sql"] = Field(default="sql", title="Type")
    url: SecretStr = Field(
        title="Database URL",
        description="The database as a URL; its driver is an extra: `postgresql`, `mariadb`, `duckdb`. "
        "`${NAME}` is read from the environment.",
        examples=["postgresql://user:${DB_PASSWORD}@host/database", "sqlite:///reviews.db"],
        json_schema_extra={"airbyte_secret": True, "multiwoven_secret": True, "writeOnly": True},
    )
    query: str = Field(
        default="", title="Query", description="The SELECT whose rows are read. Or name a table instead."
    )
    table: str = Field(
        default="",
        title="Table",
        description="The table to read, or to append rows to: its name, or schema.name.",
    )
    name: str = Field(
        default="", title="Stream name", description="The name of the stream. Default: the name of the table."
    )
    keep_llm_as: SkipJsonSchema[str] = ""  # the config has it for every input

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.query) == bool(self.table):
            raise ValueError("give either a query or a table")
        if self.query and not _READS.match(self.query):
            raise ValueError("the query has to be a SELECT")
        return self


@contextmanager
def source(options: Options, *, limit: int | None = None, cursor_field: str | None = None) -> Iterator[Source]:
    """Opens a query for reading, see `Store.source`; it is not run until its rows are read."""
    with opened(options.url) as database, private_directory() as directory:
        database.require_file()
        found = _FROM.search(options.query)
        name = options.name or options.table or (found[1] if found else "query")
        query = Query(Asked(options.query, options.table, name), database, directory, limit, cursor_field)
        yield kept(query, options.keep_llm_as)


def updating(options: Options, added: Mapping[str, Schema], source: Source) -> AbstractContextManager[Updater]:
    """Opens a table to fill the columns `added` of its rows, which are those of `source`.

    Raises:
        ConfigError: It has no usable primary key, or this user may not change it.
    """
    return in_place.updating(options.url, options.table, added, source.primary_key)


@contextmanager
def sink(
    options: Options, added: Mapping[str, Schema], *, source: Source | None = None, target: Target | None = None
) -> Iterator[Appender]:
    """Opens a table for writing, see `Store.sink`. It is created, or its columns widened, as the values need it.

    Raises:
        ConfigError: A query is given, or a commit would fail for a reason that shows without rows: a missing right,
            schema or key.
    """
    if not options.table:
        raise ConfigError("output.query: a query cannot be written to: name the `table` that the rows go into")
    given = source.columns if source else target.columns if target else {}
    with (
        opened(options.url) as database,
        private_directory() as directory,
        Spool(Path(directory) / "rows.jsonl") as spool,
    ):
        columns = {**remaining(given, added), **added}
        key = source.primary_key if source else ()
        appender = Appender(database, options.table, spool, columns, target, key, added)
        if target is None or not target.is_open:
            appender.rehearse()
        yield appender
        appender.end()
