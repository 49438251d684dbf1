"""What every ledger does, by the contract of `connector.ledger.Ledger`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from pkgutil import iter_modules
from typing import Final

import pytest

from connector import ledger as ledgers
from connector.base.records import Reply
from connector.ledger import Ledger, Location, Url
from tests.buckets import KINDS, bucket
from tests.databases import base

NAMES: Final = [module.name for module in iter_modules(ledgers.__path__) if not module.name.startswith("_")]
PLACES: Final[dict[str, Callable[[Path], Location]]] = {
    "sqlite": lambda directory: directory / "run.ledger",
    "sqlite, in memory": lambda _directory: None,
    "directory": lambda directory: ledgers.location_of(f"{directory}/shared/"),
    **{f"directory, {kind}": lambda _directory, kind=kind: Url(bucket(kind)) for kind in KINDS},  # type: ignore[misc]
    "postgres": lambda directory: Url(base("postgresql", directory).url),
}
"""A location for each member, by what it is called here: its name, and what else sets it apart."""


@pytest.fixture(params=PLACES)
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    return PLACES[request.param](tmp_path)


def reply(text: str, status: int = 200) -> Reply:
    body = {"text": text} if status < 300 else {"error": {"message": text}}
    return Reply(status, body, {"x-request-id": text}, 12, 3)


def filled(location: Location, number: int = 10) -> Ledger:
    ledger = ledgers.opened(location)
    ledger.put([(key(index), reply(str(index), 400 if index == 0 else 200)) for index in range(number)])
    return ledger


def key(number: int) -> bytes:
    return number.to_bytes(2) * 8


def test_every_member_is_held_to_the_contract() -> None:
    assert {name.partition(",")[0] for name in PLACES} == set(NAMES)


def test_what_was_put_is_got_and_marked_as_cached(location: Location) -> None:
    with filled(location) as ledger:
        found = ledger.get([key(3), key(99), key(0)]).known
        assert found == {
            key(3): reply("3")._replace(cached=True),
            key(0): reply("0", 400)._replace(cached=True),
        }
        assert ledger.get([]).known == {}


def test_the_last_reply_to_a_key_counts(location: Location) -> None:
    with filled(location) as ledger:
        ledger.put([(key(3), reply("new"))])
        ledger.put([(key(4), reply("old")), (key(4), reply("new"))])
        assert [each.body for each in ledger.get([key(3), key(4)]).known.values()] == [{"text": "new"}] * 2
        assert ledger.stats().entries == 10


@pytest.mark.parametrize("content", [b"", b"\0\0\x80?" * 1_536], ids=["empty", "whole"])
def test_a_packed_vector_comes_back_packed_beside_all_else_of_its_reply(location: Location, content: bytes) -> None:
    data = [{"object": "embedding", "index": 0, "embedding": content}]
    vector = Reply(200, {"model": "m", "data": data, "usage": {"prompt_tokens": 3}}, {"x-request-id": "r"}, 12, 3)
    with ledgers.opened(location) as ledger:
        ledger.put([(key(0), vector), (key(1), reply("1"))])
        expected = {key(0): vector._replace(cached=True), key(1): reply("1")._replace(cached=True)}
        assert ledger.get([key(0), key(1)]).known == expected
        assert {entry.key: entry.reply for entry in ledger.entries()} == expected


def test_entries_come_in_the_order_of_their_storing(location: Location) -> None:
    with filled(location) as ledger:
        entries = list(ledger.entries())
        assert [entry.key for entry in entries] == list(map(key, range(10)))
        stats = ledger.stats()
        assert (stats.entries, stats.statuses) == (10, {200: 9, 400: 1})
        assert stats.oldest == entries[0].stored_at
        assert stats.newest == entries[-1].stored_at


def test_prune_deletes_refusals_or_what_is_older_and_counts_them(location: Location) -> None:
    with filled(location) as ledger:
        newest = ledger.stats().newest or 0
        assert ledger.prune(before=newest - 3600) == 0
        assert ledger.prune(keys=[key(0), key(77)]) == 1
        assert ledger.get([key(0)]).known == {}
        assert ledger.prune(before=newest + 1) == 9
        assert list(ledger.entries()) == []


def test_whether_there_are_replies_is_reported_whatever_refusals_there_are(location: Location) -> None:
    with ledgers.opened(location) as ledger:
        assert not ledger.has_replies()
        ledger.put([(key(0), reply("0", 400)), (key(1), reply("1", 503))])
        assert not ledger.has_replies()
        ledger.put([(key(2), reply("2"))])
        assert ledger.has_replies()


def test_to_prove_that_replies_can_be_stored_leaves_nothing_behind(location: Location) -> None:
    with ledgers.opened(location) as ledger:
        ledger.prove()
        assert (list(ledger.entries()), ledger.jobs()) == ([], [])


def test_housekeeping_loses_nothing(location: Location) -> None:
    with filled(location, 2_000) as ledger:
        ledger.rest()
        assert len(ledger.get(list(map(key, range(2_000)))).known) == 2_000


def test_what_was_put_is_there_for_the_next_run(location: Location) -> None:
    filled(location).close()
    with ledgers.opened(location) as ledger:
        assert ledger.get([key(3)]).known == ({} if location is None else {key(3): reply("3")._replace(cached=True)})


def test_large_replies_are_looked_up_a_few_at_a_time(location: Location) -> None:
    large, keys = "x" * (ledgers.AT_ONCE * 2 // 5), [key(number) for number in range(12)]
    replies = {each: reply(large if number % 2 else "") for number, each in enumerate(keys[:10])}
    with ledgers.opened(location) as ledger:
        ledger.put(replies.items())
    with ledgers.opened(location) if location is not None else filled(None, 0) as ledger:
        if location is None:
            ledger.put(replies.items())
        for look_up in (ledger.get, ledger.claim):
            asked, found = keys, dict[bytes, Reply]()
            while asked:
                some = look_up(asked)
                assert 0 < sum(each.body["text"] == large for each in some.known.values()) <= 3
                assert some.known.keys() | some.left <= {*asked}
                assert not some.known.keys() & (some.left | some.held)
                found |= some.known
                asked = [each for each in asked if each in some.left]
            assert {each: known.body for each, known in found.items()} == {
                each: known.body for each, known in replies.items()
            }
        assert dict(ledgers.replies_of(ledger, [*keys, *keys])) == found
        assert not ledger.claim(keys[10:]).held


def test_a_claim_tells_what_is_known_and_leaves_the_rest_to_this_run(location: Location) -> None:
    with filled(location) as ledger:
        found = ledger.claim([key(3), key(99), key(98), key(3)])
        assert (set(found.known), found.held) == ({key(3)}, frozenset())
        ledger.release([key(98)])
        ledger.put([(key(99), reply("new"))])
        assert set(ledger.claim([key(99), key(98), key(97)]).known) == {key(99)}
        assert not ledger.claim([key(97)]).held, "what a run has claimed itself is its own"
        ledger.rest()


def test_a_run_that_may_not_wait_for_another_one_is_reported(tmp_path: Path) -> None:
    class BusyError(Exception):
        pass

    def refuse(_: str) -> None:
        raise BusyError

    location = tmp_path / "run.ledger"
    with filled(location), pytest.raises(BusyError):
        ledgers.opened(location, waiting=refuse)
    ledgers.opened(location, waiting=refuse).close()


def test_jobs_are_kept_replaced_and_forgotten_and_are_there_for_the_next_run(location: Location) -> None:
    with filled(location) as ledger:
        ledger.keep_job("a", b"1")
        ledger.keep_job("b", bytes(range(256)))
        ledger.keep_job("c", b"3")
        ledger.keep_job("a", b"4")
        ledger.forget_job("c")
        ledger.forget_job("nothing")
        assert ledger.jobs() == ["a", "b"]
        assert [ledger.job(name) for name in "abc"] == [b"4", bytes(range(256)), None]
        assert ledger.prune(keys=[key(0)]) == 1
        assert ledger.stats().entries == 9
    if location is not None:
        with ledgers.opened(location) as ledger:
            assert [(name, ledger.job(name)) for name in ledger.jobs()] == [("a", b"4"), ("b", bytes(range(256)))]
