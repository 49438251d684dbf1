"""`enrich` from and to databases: all four, mixed with files; what is wrong is told before anything is paid for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from connector.base.records import Record
from connector.cli import main
from connector.commands import ExitCode
from connector.stores import sql
from connector.stores.databases.loading import in_place
from tests import databases
from tests.databases import Base
from tests.endpoint import Endpoint, answer_to

PROMPT = "Classify: {{ review }}"
UUID = "6f1f2b44-0f4e-4b7e-9df8-2d3c4e5f6a7b"


def run(endpoint: Endpoint, *arguments: str) -> int:
    given = ["enrich", *arguments, "--url", endpoint.base_url, "--model", "m", "--prompt", PROMPT, "--column", "label"]
    try:
        return main([*given, "-q"])
    except SystemExit as end:
        return int(end.code or 0)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def filled(base: Base) -> Base:
    base.run("CREATE TABLE reviews (id BIGINT PRIMARY KEY, review VARCHAR(99))")
    base.run("INSERT INTO reviews VALUES (?, ?)", (1, "fine"), (2, "late"), (3, "good"))
    return base


def labels(base: Base, table: str = "reviews_enriched") -> dict[int, str]:
    return dict(base.run(f"SELECT id, label FROM {table}"))


def test_a_table_is_enriched_into_another_and_again(
    base: Base, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(base)
    monkeypatch.setenv("SHOP", base.url)
    given = ("${SHOP}", "--table", "reviews", "-o", base.url, "--table-out", "reviews_enriched", "--mode", "upsert")
    assert run(endpoint, *given) == ExitCode.DONE, capsys.readouterr().err
    assert set(labels(base)) == {1, 2, 3}
    base.run("UPDATE reviews SET review = 'bad' WHERE id = 2")
    base.run("INSERT INTO reviews VALUES (4, 'new')")
    calls = len(endpoint.journal.calls)
    assert run(endpoint, *given) == ExitCode.DONE
    assert len(endpoint.journal.calls) == calls + 2  # the others' replies are known
    assert set(labels(base)) == {1, 2, 3, 4}
    assert base.run("SELECT review FROM reviews_enriched WHERE id = 2") == [("bad",)]


def test_databases_and_files_mix(base: Base, endpoint: Endpoint, tmp_path: Path) -> None:
    filled(base)
    query = "SELECT id, review FROM reviews WHERE id > 1"
    assert run(endpoint, base.url, "--query", query, "-o", "out.jsonl") == ExitCode.DONE
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert sorted(row["id"] for row in rows) == [2, 3]
    (tmp_path / "in.csv").write_text("id,review\n7,x\n8,y\n")
    assert run(endpoint, "in.csv", "-o", base.url, "--table-out", "from_file") == ExitCode.DONE
    assert set(labels(base, "from_file")) == {7, 8}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("sqlite:///in.db", "-o", "o.csv"), "give --table or --query"),
        (("sqlite:///in.db", "--table", "t", "--query", "SELECT 1", "-o", "o.csv"), "give --table or --query"),
        (("sqlite:///in.db", "--query", "DROP TABLE t", "-o", "o.csv"), "has to be a SELECT"),
        (("sqlite:///in.db", "in.csv", "--table", "t", "-o", "o.csv"), "a database stands alone"),
        (("sqlite:///no.db", "--table", "t", "-o", "o.csv"), "there is no database no.db"),
        (("sqlite:///in.db", "--table", "nowhere", "-o", "o.csv"), "no such table"),
        (("in.csv", "-o", "sqlite:///out.db"), "give --table-out"),
        (("in.csv", "-o", "sqlite:///out.db", "--table-out", "t", "--mode", "upsert"), "--primary-key"),
        (("in.csv", "--table", "t", "-o", "o.csv"), "are for databases"),
        (("in.csv", "-o", "postgresql://u:pa55word@127.0.0.1:1/d", "--table-out", "t"), "does not answer"),
        (("postgresql://u:pa55word@127.0.0.1:1/d", "--table", "t", "-o", "o.csv"), "does not answer"),
    ],
)
def test_what_is_wrong_is_reported_before_anything_is_paid_for(
    endpoint: Endpoint, tmp_path: Path, given: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(Base("sqlite", "sqlite:///in.db"))
    (tmp_path / "in.csv").write_text("id,review\n7,x\n")
    assert run(endpoint, *given) not in (ExitCode.DONE, ExitCode.UNFORESEEN)
    err = capsys.readouterr().err
    assert said in err
    assert "pa55word" not in err
    assert not endpoint.journal.calls


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_missing_right_is_reported_before_anything_is_paid_for(
    kind: str, endpoint: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = filled(databases.base(kind, tmp_path))
    user = f"user_{next(databases.NUMBERS)}"
    base.run(f"CREATE USER {user}" + ("@'127.0.0.1'" if kind == "mariadb" else ""))
    if kind == "mariadb":
        name = base.url.rpartition("/")[2]
        base.run("CREATE TABLE other (id INT)")
        base.run(f"GRANT SELECT ON {name}.other TO {user}@'127.0.0.1'")
    url = base.url.replace("//postgres@", f"//{user}@").replace("//root@", f"//{user}@")
    assert run(endpoint, url, "--table", "reviews", "-o", "o.csv") == ExitCode.USAGE
    err = capsys.readouterr().err
    assert "denied" in err
    assert not endpoint.journal.calls


def test_the_answer_is_that_of_the_row(base: Base, endpoint: Endpoint) -> None:
    filled(base)
    given = (base.url, "--table", "reviews", "-o", base.url, "--table-out", "reviews_enriched")
    assert run(endpoint, *given) == ExitCode.DONE
    assert set(labels(base).values()) <= {answer_to(f"Classify: {text}") for text in ("fine", "late", "good")}


def test_a_table_gains_columns_in_place_for_the_rows_that_lack_them_or_have_changed(
    base: Base, endpoint: Endpoint, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    filled(base)
    given = (base.url, "--into", "reviews")
    assert run(endpoint, *given) == ExitCode.DONE, capsys.readouterr().err
    assert set(labels(base, "reviews")) == {1, 2, 3}
    assert None not in labels(base, "reviews").values()
    assert len(endpoint.journal.calls) == 3
    for ledger in tmp_path.glob("*.ledger"):
        ledger.unlink()  # what is known is in the table
    assert run(endpoint, *given) == ExitCode.DONE
    assert len(endpoint.journal.calls) == 3
    base.run("UPDATE reviews SET review = 'bad' WHERE id = 2")
    base.run("UPDATE reviews SET label = 'by hand' WHERE id = 3")
    base.run("INSERT INTO reviews (id, review) VALUES (4, 'new')")
    assert run(endpoint, *given) == ExitCode.DONE
    assert len(endpoint.journal.calls) == 5
    assert labels(base, "reviews")[3] == "by hand"
    assert None not in labels(base, "reviews").values()
    assert base.run("SELECT COUNT(*) FROM reviews") == [(4,)]


def test_rows_that_where_does_not_want_keep_what_they_have_in_place(base: Base, endpoint: Endpoint) -> None:
    filled(base)
    given = (base.url, "--into", "reviews")
    assert run(endpoint, *given) == ExitCode.DONE
    before = labels(base, "reviews")
    base.run("UPDATE reviews SET review = 'bad'")
    assert run(endpoint, *given, "--where", "{{ id == 2 }}") == ExitCode.DONE
    after = labels(base, "reviews")
    assert (after[1], after[3]) == (before[1], before[3])
    assert after[2] != before[2]


@pytest.mark.parametrize("metadata", ["status", "none"])
def test_without_the_hash_of_a_request_rows_that_have_their_answer_are_not_due(
    base: Base, endpoint: Endpoint, metadata: str, tmp_path: Path
) -> None:
    filled(base)
    Path("c.json").write_text(json.dumps({"metadata": metadata}))
    given = (base.url, "--into", "reviews", "--config", "c.json")
    assert run(endpoint, *given) == ExitCode.DONE
    for ledger in tmp_path.glob("*.ledger"):
        ledger.unlink()  # what is known is in the table
    base.run("INSERT INTO reviews (id, review) VALUES (4, 'new')")
    assert run(endpoint, *given) == ExitCode.DONE
    assert len(endpoint.journal.calls) == 4
    assert None not in labels(base, "reviews").values()


KEYS = {
    "postgresql": {
        "DATE": "10000-01-01",
        "REAL": "0.1",
        "TIMESTAMPTZ": "infinity",
        "NUMERIC": "1.10",
        "UUID": UUID,
        "BOOLEAN": "true",
        "BYTEA": "\\x00ff",
        "INET": "10.0.0.1",
        "mood": "so so",
        "TIMETZ": "10:00+02",
        "INTERVAL": "-1 mon -2 days -3.5 seconds",
    },
    "mariadb": {
        "BOOLEAN": "1",
        "BINARY(3)": "\\0a\\'",
        "ENUM('b', 'so so')": "so so",
        "VARBINARY(90)": "x" * 70,
        "TIMESTAMP(3)": "2024-01-01 10:00:00.5",
        "DATETIME": "2024-01-01 10:00",
        "VARCHAR(9)": "a ",
    },
    "sqlite": {"TEXT": "a ", "REAL": "0.1", "": "1"},
    "duckdb": {
        "DATE": "10000-01-01",
        "UUID": UUID,
        "HUGEINT": f"{2**100}",
        "DECIMAL(30, 5)": "1.10",
        "FLOAT": "0.1",
        "BOOLEAN": "true",
        "BLOB": "\\x00\\xFF",
        "ENUM('b', 'so so')": "so so",
    },
}


@pytest.mark.parametrize(("kind", "type_"), [(kind, type_) for kind, types in KEYS.items() for type_ in types])
def test_rows_are_found_in_place_by_keys_of_any_type_with_an_order(kind: str, type_: str, tmp_path: Path) -> None:
    base = databases.base(kind, tmp_path)
    if type_ == "mood":
        base.run("CREATE TYPE mood AS ENUM ('so so', 'good')")
    base.run(f"CREATE TABLE reviews (id {type_}, part BIGINT, PRIMARY KEY (id, part))")
    base.run(f"INSERT INTO reviews VALUES ('{KEYS[kind][type_]}', 1), ('{KEYS[kind][type_]}', 2)")
    with (
        sql.source(sql.Options(url=base.secret, table="reviews")) as source,
        in_place.updating(base.secret, "reviews", {"label": {"type": "string"}}, source.primary_key) as sink,
    ):
        for record in source.read():
            if isinstance(record, Record):
                sink.write(record, {"label": f"of {record.data['part']}"})
        sink.commit()
    assert base.run("SELECT label FROM reviews ORDER BY part") == [("of 1",), ("of 2",)]


def test_a_row_whose_key_is_null_costs_nothing_in_place_and_is_reported(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    base = Base("sqlite", "sqlite:///in.db")
    base.run("CREATE TABLE reviews (id TEXT PRIMARY KEY, review TEXT)")
    base.run("INSERT INTO reviews VALUES ('a', 'good'), (NULL, 'bad'), (NULL, 'so so')")
    assert run(endpoint, base.url, "--into", "reviews") == ExitCode.DONE
    assert len(endpoint.journal.calls) == 1
    assert "2 rows cannot be filled, because the primary key is null" in caplog.text


def test_a_row_that_changes_during_a_run_keeps_the_change(base: Base) -> None:
    filled(base)
    base.run("ALTER TABLE reviews ADD COLUMN stars BIGINT")
    with in_place.updating(base.secret, "reviews", {"label": {"type": "string"}}, ["id"]) as sink:
        sink.write(Record(0, {"id": 1, "review": "old", "stars": None}), {"label": "x"})
        base.run("UPDATE reviews SET stars = 5")
        sink.write(Record(1, {"id": 2}), None)
        sink.commit()
    assert base.run("SELECT id, stars, label FROM reviews ORDER BY id") == [(1, 5, "x"), (2, 5, None), (3, 5, None)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("in.csv", "--into", "reviews"), "is not a database"),
        (("sqlite:///in.db", "--into", "reviews", "-o", "o.csv"), "leave out"),
        (("sqlite:///in.db", "--into", "reviews", "--mode", "upsert"), "leave out --mode"),
        (("in.csv", "-o", "o.csv", "--mode", "upsert"), "--mode: only for an --output that is a database"),
        (("sqlite:///in.db", "--into", "nowhere"), "no such table"),
        (("sqlite:///in.db", "--into", "keyless"), "has no primary key"),
        (("sqlite:///in.db", "--table", "reviews"), "required: -o/--output"),
    ],
)
def test_what_cannot_be_done_in_place_is_reported_first(
    endpoint: Endpoint, given: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base = filled(Base("sqlite", "sqlite:///in.db"))
    base.run("CREATE TABLE keyless (id BIGINT, review TEXT)")
    assert run(endpoint, *given) == ExitCode.USAGE
    assert said in capsys.readouterr().err
    assert not endpoint.journal.calls
