"""A ledger in PostgreSQL is shared: no call is made twice, none that is gone holds others up, nothing is lost."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from connector import ledger as ledgers
from connector.base.errors import ConfigError, LedgerUnavailableError, StorageError
from connector.base.records import Reply, Status
from connector.config.config import Config
from connector.ledger import Found, Ledger, Url
from connector.ledger._postgres_database import SCHEMA, VERSION, Database
from connector.ledger._postgres_shared import DatabaseText, DatabaseTime
from connector.ledger.postgres import PostgresLedger
from connector.run.plan import Plan
from connector.run.runtime import Runtime
from tests.databases import Base, base, pooler
from tests.patience import PATIENCE
from tests.run.test_pipeline import answered, outcomes, records, refused
from tests.run.test_pipeline import run as pipeline_run

REPLY = Reply(200, {"text": "a"}, {}, 12, 1)
KEYS = [bytes([number]) * 16 for number in range(1, 100)]


@pytest.fixture
def database(tmp_path: Path) -> Base:
    return base("postgresql", tmp_path)


@pytest.fixture
def opened(database: Base) -> Iterator[Callable[[], PostgresLedger]]:
    """Opens the ledger of another run, each time, which begins in a thread of its own."""
    runs: list[PostgresLedger] = []

    def another() -> PostgresLedger:
        run = PostgresLedger(Url(database.url))
        runs.append(run)

        def begin() -> None:
            key = os.urandom(16)
            run.claim([key])
            run.release([key])
            run.rest()

        thread = threading.Thread(target=begin)
        thread.start()
        thread.join()
        return run

    yield another
    for run in runs:
        run.close()


def changed(database: Base, text: DatabaseText) -> None:
    with Database(Url(database.url)).connect() as db:
        for _ in range(20):
            text.change(db)


def expire(database: Base) -> None:
    """Makes every lease end, as time does; whoever is alive takes another one."""
    database.run(f"UPDATE {SCHEMA}.holder SET expires = clock_timestamp() - interval '1 second'")


def test_what_another_run_has_in_flight_is_held_until_its_reply_is_there(
    opened: Callable[[], PostgresLedger],
) -> None:
    one, other = opened(), opened()
    assert not one.claim(KEYS[:2]).held
    assert other.claim(KEYS[:3]).held == frozenset(KEYS[:2])
    one.put([(KEYS[0], REPLY)])
    found = other.claim(KEYS[:2])
    assert (set(found.known), set(found.held)) == ({KEYS[0]}, {KEYS[1]})
    one.release([KEYS[1]])
    one.rest()
    assert not other.claim(KEYS[1:2]).held
    assert one.claim(KEYS[1:3]).held == frozenset(KEYS[1:3])


def test_what_a_run_has_claimed_is_free_once_it_ends(opened: Callable[[], PostgresLedger]) -> None:
    one, other = opened(), opened()
    one.claim(KEYS)
    assert len(other.claim(KEYS).held) == len(KEYS)
    one.close()
    assert not other.claim(KEYS).held


def test_what_a_run_has_claimed_is_free_once_its_lease_ends(
    opened: Callable[[], PostgresLedger], database: Base
) -> None:
    gone = opened()
    gone.claim(KEYS)
    assert gone.lease is not None
    gone.lease.end()
    expire(database)
    assert not opened().claim(KEYS).held, "the first claim of a run frees what nobody holds any more"


def test_a_run_whose_lease_ended_meanwhile_takes_it_again_with_what_it_had_claimed(
    opened: Callable[[], PostgresLedger], database: Base
) -> None:
    one = opened()
    one.claim(KEYS[:2])
    database.run(f"DELETE FROM {SCHEMA}.holder")
    database.run(f"DELETE FROM {SCHEMA}.claim")
    assert one.lease is not None
    with Database(Url(database.url)).connect() as db:
        assert one.lease.renew(db)
        assert not one.lease.renew(db)
    one.lease.has_lapsed = True
    one.claim(KEYS[5:6])
    assert opened().claim(KEYS[:2]).held == frozenset(KEYS[:2])


def test_what_is_claimed_again_right_after_it_was_released_stays_claimed(opened: Callable[[], PostgresLedger]) -> None:
    one, other = opened(), opened()
    one.claim(KEYS[:2])
    one.release(KEYS[:2])
    assert not one.claim(KEYS[:1]).held
    assert other.claim(KEYS[:2]).held == frozenset(KEYS[:1])


def test_nothing_is_claimed_without_a_lease_that_others_can_see_end(
    opened: Callable[[], PostgresLedger], database: Base
) -> None:
    """A run that was halted for longer than its lease, and is gone before it has taken another one."""
    halted = opened()
    assert halted.lease is not None
    halted.lease.end()
    expire(database)
    other = opened()
    halted.claim(KEYS[:1])
    assert not other.claim(KEYS[:1]).held
    halted.lease.has_lapsed = True
    assert not halted.claim(KEYS[1:2]).held


def test_a_reply_that_comes_while_another_run_claims_is_found(
    opened: Callable[[], PostgresLedger], database: Base
) -> None:
    """The claim is made after the reply was looked for, and before it is looked for again."""
    one, other = opened(), opened()
    one.claim(KEYS[:1])
    one.put([(KEYS[0], REPLY)])
    database.run(f"INSERT INTO {SCHEMA}.claim SELECT key, {other.holder} FROM {SCHEMA}.reply")
    found = other.claim(KEYS[:1])
    assert (set(found.known), found.held) == ({KEYS[0]}, frozenset())
    other.rest()
    assert database.run(f"SELECT * FROM {SCHEMA}.claim") == []


def test_what_is_to_be_called_again_is_called_by_one_run_and_the_others_take_its_reply(database: Base) -> None:
    rows = records(["odd", "even", "odd", "first"])
    with PostgresLedger(Url(database.url)) as ledger:
        pipeline_run(rows, refused, ledger)
    begun, claimed, go_on, calls = threading.Event(), threading.Event(), threading.Event(), []

    class Second(PostgresLedger):
        def claim(self, keys: Sequence[bytes], *, renew: bool = False) -> Found:
            found = super().claim(keys, renew=renew)
            if renew:
                claimed.set()
            return found

    def answer(body: bytes) -> Reply:
        calls.append(body)
        begun.set()
        assert go_on.wait(PATIENCE)
        reply = refused(body) if b'"odd' in body else answered(body)
        return reply._replace(latency_ms=7)  # it is another one than that which is stored

    found: dict[int, list[Status]] = {}

    def again(number: int) -> None:
        with (Second if number else PostgresLedger)(Url(database.url)) as ledger:
            results = outcomes(pipeline_run(rows, answer, ledger, retry_failed=True))
            found[number] = [outcome.status for outcome in results]

    threads = [threading.Thread(target=again, args=(number,)) for number in range(2)]
    threads[0].start()
    assert begun.wait(PATIENCE)
    threads[1].start()
    assert claimed.wait(PATIENCE)
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(calls) == 3
    assert found[0] == found[1]
    assert sorted(found[0]) == [Status.ERROR, Status.ERROR, Status.SUCCESS, Status.SUCCESS]


def test_a_call_that_another_run_was_to_make_again_is_free_once_that_is_gone(
    opened: Callable[[], PostgresLedger],
) -> None:
    gone, left = opened(), opened()
    gone.put([(KEYS[0], REPLY)])
    assert not gone.claim(KEYS[:1], renew=True).held
    found = left.claim(KEYS[:1], renew=True)
    assert (set(found.known), set(found.held)) == ({KEYS[0]}, {KEYS[0]})
    assert set(gone.claim(KEYS[:1]).known) == {KEYS[0]}, "to look it up meanwhile gives nothing up"
    gone.rest()
    assert left.claim(KEYS[:1], renew=True).held
    gone.close()
    assert not left.claim(KEYS[:1], renew=True).held


def test_a_lost_connection_is_made_again_and_nothing_is_lost(database: Base) -> None:
    told: list[str] = []
    with PostgresLedger(Url(database.url), waiting=told.append, sleep=lambda _: None) as ledger:
        ledger.claim(KEYS)
        for number, each in enumerate(KEYS):
            if number % 10 == 0:
                database.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            ledger.put([(each, REPLY)])
        assert len(ledger.get(KEYS).known) == len(KEYS)
    assert told
    assert all("does not answer" in each for each in told)


def test_a_run_claims_again_what_a_server_that_broke_down_has_forgotten(
    opened: Callable[[], PostgresLedger], database: Base
) -> None:
    one = opened()
    one.claim(KEYS[:3])
    database.run(f"DELETE FROM {SCHEMA}.claim")
    database.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    one.put([(KEYS[0], REPLY)])
    assert opened().claim(KEYS[:3]).held == frozenset(KEYS[1:3])


def test_a_database_that_stays_away_ends_the_run_with_what_to_do(database: Base) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    ledger = PostgresLedger(Url(database.url), now=lambda: now, sleep=sleep)
    name = database.url.rpartition("/")[2]
    server = Base("postgresql", database.url.rpartition("/")[0] + "/postgres")
    server.run(f"DROP DATABASE {name} WITH (FORCE)")
    with pytest.raises(LedgerUnavailableError, match=r"has not answered for 300 s .*same command again"):
        ledger.put([(KEYS[0], REPLY)])
    assert 300 < now < 310
    with pytest.raises(StorageError):
        ledger.has_replies()
    assert now < 310, "what is asked while the run ends does not wait as long again"
    server.run(f"CREATE DATABASE {name}")
    with pytest.raises(StorageError, match="does not exist"):
        ledger.has_replies()
    ledger.close()


def test_a_run_that_only_waits_for_the_shared_pace_ends_too_where_the_database_stays_away(database: Base) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    with PostgresLedger(Url(database.url), now=lambda: now, sleep=sleep) as ledger:
        pace = ledger.time("requests")
        server = Base("postgresql", database.url.rpartition("/")[0] + "/postgres")
        server.run(f"DROP DATABASE {database.url.rpartition('/')[2]} WITH (FORCE)")
        pace.ask(1.0)

        def wait() -> None:
            while pace.is_asked:
                ledger.rest()

        with pytest.raises(StorageError, match=r"has not answered for 300 s .*same command again"):
            wait()


def test_a_run_that_cannot_begin_gives_its_lease_up(database: Base) -> None:
    def lost(ledger: Ledger) -> Ledger:
        ledger.claim(KEYS[:1])
        server = Base("postgresql", database.url.rpartition("/")[0] + "/postgres")
        server.run(f"DROP DATABASE {database.url.rpartition('/')[2]} WITH (FORCE)")
        return ledger

    def give_up(why: str) -> None:
        raise StorageError(why)

    plan = Plan(Config(url="http://localhost/v1", model="m", prompt="{{ text }}", max_total_tokens=5))
    with pytest.raises(StorageError, match="does not answer"):
        Runtime(plan, Url(database.url), waiting=give_up, remembering=lost)
    assert "ledger lease" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_pooler_may_lie_between(database: Base, mode: str) -> None:
    """Three connections serve two runs of two each; in transaction mode, no two transactions need share one."""
    with pooler(database, mode, connections=3 if mode == "transaction" else 8) as url:
        runs = [PostgresLedger(Url(url)) for _ in range(2)]
        times = [run.time("requests") for run in runs]
        for number, run in enumerate(runs * 10):
            keys = KEYS[4 * number : 4 * number + 4]
            run.text(f"text {number}", lambda text, _at, _is_leaving: text + "x")
            assert not run.claim(keys).held
            run.put((key, REPLY) for key in keys)
            assert set(run.get(keys).known) == set(keys)
        for each in times:
            each.ask(1.0)
            while each.is_asked:
                runs[0].rest()
        assert len(list(runs[0].entries())) == 80
        for run in runs:
            run.close()


def test_several_runs_may_make_the_tables_at_once(database: Base) -> None:
    threads = [threading.Thread(target=lambda: PostgresLedger(Url(database.url)).close()) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.run(f"SELECT version FROM {SCHEMA}.format") == [(VERSION,)]


@pytest.mark.parametrize(
    ("table", "change", "words"),
    [
        ("reply", "ALTER status DROP NOT NULL; UPDATE {} SET status = NULL", "cannot be decoded: delete the row"),
        ("format", "ALTER version TYPE text; UPDATE {} SET version = 'x'", "tables of the ledger .* have been changed"),
        ("format", "ALTER version DROP NOT NULL; UPDATE {} SET version = NULL", "have been changed"),
    ],
)
def test_values_that_no_ledger_of_ours_holds_are_reported_in_words(
    database: Base, table: str, change: str, words: str
) -> None:
    with PostgresLedger(Url(database.url)) as ledger:
        ledger.put([(KEYS[0], REPLY)])
    database.script(*f"ALTER TABLE {{0}} {change}".replace("{}", "{0}").format(f"{SCHEMA}.{table}").split(";"))
    with pytest.raises(StorageError, match=words), PostgresLedger(Url(database.url)) as ledger:
        ledger.get(KEYS[:1])


@pytest.mark.parametrize("body", [b"", b"[", b"null", b"\0", b"\xff", b'{"a":NaN}', b'{"a":' * 5_000])
def test_a_reply_that_cannot_be_decoded_is_reported_with_its_row(database: Base, body: bytes) -> None:
    with PostgresLedger(Url(database.url)) as ledger:
        ledger.put([(KEYS[0], REPLY)])
        database.run(f"UPDATE {SCHEMA}.reply SET body = '\\x{body.hex()}'")
        with pytest.raises(StorageError, match=rf"delete the row .* whose key is \\x{KEYS[0].hex()}"):
            ledger.get(KEYS[:1])


def test_a_ledger_of_a_newer_version_is_refused(database: Base) -> None:
    PostgresLedger(Url(database.url)).close()
    database.run(f"UPDATE {SCHEMA}.format SET version = {VERSION + 1}")
    with pytest.raises(StorageError, match=r"newer version .*\(format \d; this one knows \d\): use that version"):
        ledgers.opened(Url(database.url))


def test_no_message_holds_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "s3cret/wörd")
    url = Url("postgresql://user:${DB_PASSWORD}@127.0.0.1:1/ledger?connect_timeout=1")
    assert str(url) == "postgresql://127.0.0.1:1/ledger"
    assert "s3cret/wörd" in set(url.secrets())
    with pytest.raises(StorageError) as refused:
        PostgresLedger(url, now=iter(range(0, 1000, 20)).__next__, sleep=lambda _: None)
    assert "s3cret" not in refused.value.message + refused.value.detail
    with pytest.raises(ConfigError) as wrong:
        PostgresLedger(Url("postgresql://user:s3cret@host:port/x?nonsense=s3cret"))
    assert "s3cret" not in wrong.value.message


@pytest.mark.parametrize(
    "password",
    ["alpha-1?beta-22", "alpha-1@beta-22", "alpha-1/beta-22@gamma-3", "alpha-1%3Fbeta-22", "alpha-1:beta-22?gamma-3"],
)
def test_no_part_of_a_password_is_shown_whatever_is_in_it(password: str) -> None:
    url = Url(f"postgresql://ada:{password}@127.0.0.1:1/db?connect_timeout=1")
    heard: list[str] = []

    def give_up(why: str) -> None:
        heard.append(why)
        raise StorageError(why)

    with pytest.raises((StorageError, ConfigError)) as told:
        ledgers.opened(url, waiting=give_up)
    words = f"{url} {heard} {told.value.message} {told.value.detail}"
    assert str(url) == "postgresql://127.0.0.1:1/db"
    assert not [part for part in ("alpha-1", "beta-22", "gamma-3") if part in words]


def test_what_is_sent_is_on_disk_once_it_is_committed_and_no_other_user_of_the_connection_feels_it(
    database: Base,
) -> None:
    database.run("ALTER ROLE postgres SET synchronous_commit = off")
    ledger = Database(Url(database.url))
    try:
        with ledger.connect() as db:
            with ledger.sending(db):
                shown = db.execute("SHOW synchronous_commit").fetchone()
            assert shown == ("on",)
            assert db.execute("SHOW synchronous_commit").fetchone() == ("off",)
            assert db.execute("SHOW enable_seqscan").fetchone() == ("on",)
    finally:
        database.run("ALTER ROLE postgres RESET synchronous_commit")


def test_no_part_of_a_timeline_is_given_twice(opened: Callable[[], PostgresLedger], database: Base) -> None:
    with Database(Url(database.url)).connect() as db:
        times = [DatabaseTime("requests", lambda: None, lambda: 0.0) for _ in range(3)]
        assert not opened().get(KEYS).known
        for each in times * 4:
            each.ask(100.0)
            each.take(db)
            assert not each.is_asked
    pieces = sorted(piece for each in times for piece in each.given())
    assert len(pieces) == 12
    for (_, ended), (began, _) in itertools.pairwise(pieces):
        assert began > ended - 1, "as told by the database's clock, which goes on meanwhile"


def test_what_one_run_has_found_out_of_a_request_the_others_know(
    opened: Callable[[], PostgresLedger], database: Base
) -> None:
    opened()
    with Database(Url(database.url)).connect() as db:
        one, other = (DatabaseTime("tokens", lambda: None) for _ in range(2))
        one.known = 0.25
        for each in (one, other):
            each.ask(0.1)
            each.take(db)
    assert other.known == 0.25


def test_a_text_is_changed_by_one_run_after_the_other_and_by_one_that_ends_too(
    opened: Callable[[], PostgresLedger], database: Base
) -> None:
    ended: list[str] = []

    def change_of(name: str) -> Callable[[str, float, bool], str]:
        def change(text: str, at: float, is_leaving: bool) -> str:
            assert at > 1.7e9, "by the clock of the database"
            if is_leaving:
                ended.append(name)
            return text + name

        return change

    runs = {name: opened() for name in "abc"}
    texts = [run.text("learned", change_of(name)) for name, run in runs.items()]
    threads = [threading.Thread(target=changed, args=(database, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for run in runs.values():
        run.close()
    assert ended == ["a", "b", "c"]
    (text,) = database.run(f"SELECT text FROM {SCHEMA}.shared WHERE name = 'learned'")[0]
    assert all(text.count(name) >= 22 for name in "abc"), "none is lost; the thread of a run may have added some"


def test_a_run_that_hangs_while_it_changes_a_text_holds_up_no_other(
    opened: Callable[[], PostgresLedger], database: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connector.ledger._postgres_shared._STUCK", 0.3)
    hanging, other, begun, go_on = opened(), opened(), threading.Event(), threading.Event()

    def change(text: str, _at: float, _is_leaving: bool) -> str:
        begun.set()
        assert go_on.wait(PATIENCE)
        return text + "a"

    thread = threading.Thread(target=hanging.text, args=("learned", change))
    thread.start()
    assert begun.wait(PATIENCE)
    other.text("learned", lambda text, _at, _is_leaving: text + "b")
    go_on.set()
    thread.join()
    (text,) = database.run(f"SELECT text FROM {SCHEMA}.shared")[0]
    assert text.startswith("b")
    assert "a" in text, "it comes back and goes on from what the others know"


def test_a_ledger_of_an_older_version_gets_the_tables_that_it_lacks(database: Base) -> None:
    with PostgresLedger(Url(database.url)) as ledger:
        ledger.put([(KEYS[0], REPLY)])
    database.run(f"DROP TABLE {SCHEMA}.shared")
    database.run(f"UPDATE {SCHEMA}.format SET version = 1")
    with PostgresLedger(Url(database.url)) as ledger:
        assert ledger.get(KEYS[:1]).known
        ledger.text("learned", lambda text, _at, _is_leaving: text + "x")
    assert database.run(f"SELECT version FROM {SCHEMA}.format") == [(VERSION,)]


def test_what_the_runs_of_a_job_spend_is_added_up_and_each_reply_counts_once(
    opened: Callable[[], PostgresLedger], database: Base
) -> None:
    one, other, stranger = opened(), opened(), opened()
    mine, theirs, apart = one.spending("job"), other.spending("job"), stranger.spending("another")
    mine.add(KEYS[0], 0.5, 10)
    assert (mine.cost_usd, mine.tokens) == (0.5, 10), "also before the others are told"
    one.put([(KEYS[0], REPLY)])
    theirs.add(KEYS[0], 0.5, 10)
    theirs.add(KEYS[1], 0.25, 5)
    other.claim(KEYS[2:3])
    mine.add(KEYS[3], 1.0, 1)
    one.rest()
    assert (theirs.cost_usd, theirs.tokens) == (0.75, 15)
    assert (mine.cost_usd, mine.tokens) == (1.75, 16)
    assert apart.tokens == 0
    late = opened()
    assert late.spending("job").tokens == 16
    for run in (one, other, late):
        run.close()
    database.run(f"UPDATE {SCHEMA}.spent SET alive_at = clock_timestamp() - interval '1 hour'")
    assert opened().spending("job").tokens == 0, "no run of it was alive for long: it is another job"


def test_a_run_that_would_wait_for_another_one_of_its_thread_is_refused(database: Base) -> None:
    with PostgresLedger(Url(database.url)) as one, PostgresLedger(Url(database.url)) as other:
        one.claim(KEYS[:1])
        assert not other.claim(KEYS[1:2]).held
        with pytest.raises(ConfigError, match=r"another enrich\(\) in this thread"):
            other.claim(KEYS[:2])
