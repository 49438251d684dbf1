"""A ledger in a folder or bucket: each run adds files of its own, reads all, and loses none to merging or damage."""

from __future__ import annotations

import socket
import stat
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from connector import ledger as ledgers
from connector.base.errors import ConfigError, LedgerUnavailableError, StorageError
from connector.base.records import Reply
from connector.ledger import Url, keys_of
from connector.ledger._directory_files import SUFFIX, Files
from connector.ledger._directory_system import System
from connector.ledger._patience import Patience
from connector.ledger.directory import DirectoryLedger
from tests.buckets import bucket

PLACES: dict[str, Callable[[Path], Url]] = {
    "folder": lambda path: Url(f"file://{path}/ledger"),
    "bucket": lambda _: Url(bucket()),
}
AZURE: Final = "connector.ledger._directory_system.pafs.AzureFileSystem"


@pytest.fixture(params=PLACES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Url:
    return PLACES[request.param](tmp_path)


def key(number: int) -> bytes:
    return keys_of("http://localhost/v1")(b"%d" % number)


def reply(number: int) -> Reply:
    return Reply(200, {"n": number}, {}, number, 1, cached=True)


def stored(ledger: DirectoryLedger, numbers: range, by: int = 1) -> None:
    for start in numbers[::by]:
        ledger.put([(key(number), reply(number)) for number in range(start, start + by)])


def files(url: Url) -> list[str]:
    return sorted(each.name for each in Path(url.path).iterdir() if each.suffix == ".parquet")


def test_runs_find_what_others_have_stored_before_they_began_and_now_and_then(url: Url) -> None:
    now = 0.0
    with DirectoryLedger(url, monotonic=lambda: now) as one, DirectoryLedger(url) as other:
        stored(other, range(5))
        assert one.claim([key(3)]).known == {}
        now = 30.0
        assert one.claim([key(3)]).known == {key(3): reply(3)}
        with DirectoryLedger(url) as late:
            assert len(late.get(list(map(key, range(5)))).known) == 5


def test_small_files_are_merged_and_runs_that_know_the_old_ones_find_the_replies_in_the_new_one(url: Url) -> None:
    writer, reader = DirectoryLedger(url), None
    stored(writer, range(20))
    reader = DirectoryLedger(url)
    stored(writer, range(20, 100))
    writer.close()
    with DirectoryLedger(url) as late:
        assert [entry.key for entry in late.entries()] == list(map(key, range(100)))
        if url.scheme == "file":
            assert len(files(url)) < 10
    assert reader.get([key(3), key(77)]).known == {key(3): reply(3), key(77): reply(77)}
    reader.close()


def test_the_newest_reply_counts_whatever_order_files_are_found_and_merged_in(
    url: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connector.ledger.directory._MERGE", 3)
    times = count()
    one, other = (DirectoryLedger(url, now=lambda: next(times)) for _ in range(2))
    one.put([(key(1), reply(1)), (key(2), reply(1))])
    other.put([(key(1), reply(2)), (key(3), reply(2))])
    reader = DirectoryLedger(url)
    one.put([(key(2), reply(3))])
    other.put([(key(2), reply(4))])
    one.put([(key(3), reply(5))])
    newest = {key(1): reply(2), key(2): reply(4), key(3): reply(5)}
    assert one.get([*newest]).known == newest, "it has merged its files"
    one.close()
    other.close()
    with DirectoryLedger(url) as late:
        assert late.get([*newest]).known == newest
        late.prune()
        assert late.get([*newest]).known == newest
    assert reader.get([*newest]).known == newest, "its files are gone, so it has looked for others"
    reader.close()


def test_a_file_that_is_found_late_takes_the_place_of_no_newer_reply(url: Url) -> None:
    now = 0.0
    slow = DirectoryLedger(url, now=lambda: 1.0)
    with DirectoryLedger(url, now=lambda: 2.0) as quick:
        quick.put([(key(1), reply(2))])
    with DirectoryLedger(url, monotonic=lambda: now) as reader:
        slow.put([(key(1), reply(1)), (key(2), reply(1))])
        slow.close()
        now = 30.0
        assert reader.claim([key(1), key(2)]).known == {key(1): reply(2), key(2): reply(1)}


@pytest.mark.parametrize("name", ["000000009999999-000000000000-000001.parquet", "copy.parquet"])
def test_what_is_stored_later_wins_over_a_clock_that_is_ahead_and_a_file_with_another_name(
    tmp_path: Path, name: str
) -> None:
    url = Url(f"file://{tmp_path}")
    with DirectoryLedger(url, now=lambda: 0.0) as ledger:
        stored(ledger, range(1))
    (path,) = tmp_path.glob("*.parquet")
    path.rename(tmp_path / name)
    with DirectoryLedger(url, now=lambda: 5.0) as ledger:
        assert ledger.get([key(0)]).known == {key(0): reply(0)}
        ledger.put([(key(0), reply(7))])
    with DirectoryLedger(url) as ledger:
        assert ledger.get([key(0)]).known == {key(0): reply(7)}


def test_prune_merges_what_all_runs_have_written(url: Url) -> None:
    for start in range(0, 50, 10):
        with DirectoryLedger(url) as ledger:
            stored(ledger, range(start, start + 10), by=10)
    with DirectoryLedger(url) as reader, DirectoryLedger(url) as ledger:
        assert ledger.prune(keys=[key(7)]) == 1
        assert [entry.key for entry in ledger.entries()] == [key(number) for number in range(50) if number != 7]
        assert len(reader.get(list(map(key, range(50)))).known) == 49
        assert url.scheme != "file" or len(files(url)) == 1


def test_prune_leaves_alone_what_another_run_writes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = Url(f"file://{tmp_path}/ledger")
    names = Files.names
    with DirectoryLedger(url) as writer, DirectoryLedger(url) as ledger:
        stored(ledger, range(10))

        def then_written(self: Files, suffix: str = SUFFIX) -> dict[str, int]:
            found = names(self, suffix)
            monkeypatch.setattr(Files, "names", names)
            stored(writer, range(10, 12))
            return found

        monkeypatch.setattr(Files, "names", then_written)
        ledger.prune()
    with DirectoryLedger(url) as ledger:
        assert len(ledger.get(list(map(key, range(12)))).known) == 12


def test_a_job_that_another_run_forgets_while_it_is_read_is_none(url: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Files.names
    with DirectoryLedger(url) as ledger:
        ledger.keep_job("one", b"1")
        monkeypatch.setattr(Files, "names", lambda self, suffix=SUFFIX: {**names(self, suffix), "gone.job": 9})
        assert (ledger.jobs(), ledger.job("one")) == (["one"], b"1")


@settings(max_examples=20, deadline=None, phases=[Phase.generate])
@given(st.lists(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), max_size=5) | st.none(), max_size=15))
def test_it_holds_what_a_dict_would_however_often_files_are_merged(
    tmp_path_factory: pytest.TempPathFactory, steps: list[list[tuple[int, int]] | None]
) -> None:
    """A step stores replies, or closes the ledger and opens it again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("connector.ledger.directory._MERGE", 3)
        patch.setattr("connector.ledger.directory._RECENT", 4)
        patch.setattr("connector.ledger._directory_files._GROUP", 2)
        url = Url(f"file://{tmp_path_factory.mktemp('ledger')}")
        ledger, expected = DirectoryLedger(url), {}
        for step in steps:
            if step is None:
                ledger.close()
                ledger = DirectoryLedger(url)
            for number, value in step or ():
                ledger.put([(key(number), reply(value))])
                expected[key(number)] = reply(value)
            assert ledger.get([key(number) for number in range(31)]).known == expected
        ledger.close()


def test_what_another_run_merges_while_it_is_looked_for_is_found_and_no_damage(
    url: Url, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = Files.names
    writer = DirectoryLedger(url)
    stored(writer, range(4))

    def then_merged(self: Files, suffix: str = SUFFIX) -> dict[str, int]:
        found = names(self, suffix)
        monkeypatch.setattr(Files, "names", names)
        writer.close()
        return found

    monkeypatch.setattr(Files, "names", then_merged)
    with DirectoryLedger(url) as ledger:
        assert len(ledger.get(list(map(key, range(4)))).known) == 4
    assert "damaged" not in caplog.text


def test_what_is_damaged_is_paid_for_again_and_reported_and_the_rest_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = Url(f"file://{tmp_path}")
    with DirectoryLedger(url) as ledger:
        stored(ledger, range(2), by=1)
        first = files(url)[0]
    (tmp_path / "000000000000-damaged.parquet").write_bytes(b"PAR1 and no more")
    with DirectoryLedger(url) as ledger:
        assert len(ledger.get([key(0), key(1)]).known) == 2
    assert caplog.text.count("000000000000-damaged.parquet is damaged") == 1
    assert first not in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.drop_columns(["stored_at"]),
        lambda table: table.select(table.column_names[::-1]),
        lambda table: table.append_column("more", table["status"]),
        lambda table: table.set_column(0, "key", pa.array(["x"] * len(table))),
        lambda table: table.set_column(0, "key", pa.array([None] * len(table), pa.binary(16))),
        lambda table: table.set_column(1, table.schema.field("status"), pa.array([-1] * len(table), pa.int32())),
        lambda table: table.set_column(2, table.schema.field("body"), pa.array([b"{"] * len(table))),
        lambda table: table.replace_schema_metadata({"openai_compatible_ledger": "x"}),
    ],
)
def test_a_file_that_no_run_has_written_is_damage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Callable[[pa.Table], pa.Table]
) -> None:
    url = Url(f"file://{tmp_path}")
    with DirectoryLedger(url) as ledger:
        stored(ledger, range(2), by=2)
    (path,) = tmp_path.glob("*.parquet")
    pq.write_table(change(pq.read_table(path)), path)
    with DirectoryLedger(url) as ledger:
        assert not ledger.get([key(0), key(1)]).known
        assert not list(ledger.entries())
    assert caplog.text.count(f"{path.name} is damaged") == 1


@pytest.mark.parametrize("whole", [0, 2**22], ids=["by parts", "at once"])
def test_whatever_byte_of_a_file_is_damaged_the_rest_of_the_ledger_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: int
) -> None:
    """For some of them, pyarrow raises what it raises for a disk that fails."""
    url = Url(f"file://{tmp_path}")
    with DirectoryLedger(url) as ledger:
        stored(ledger, range(1), by=1)
    (path,) = tmp_path.glob("*.parquet")
    with DirectoryLedger(url) as ledger:
        stored(ledger, range(1, 2), by=1)
    content = path.read_bytes()
    monkeypatch.setattr("connector.ledger._directory_files._WHOLE", whole)
    for place in range(0, len(content), 23):
        path.write_bytes(content[:place] + b"\xff" + content[place + 1 :])
        with DirectoryLedger(url) as ledger:
            known = ledger.get([key(0), key(1)]).known
            assert key(1) in known
            assert known.get(key(0), reply(0)) == reply(0)  # never another one
            assert [entry for entry in ledger.entries() if entry.key == key(1)]


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    table = pa.table({"key": [key(1)]}).replace_schema_metadata({"openai_compatible_ledger": "99"})
    pq.write_table(table, tmp_path / "000000000000000-newer.parquet")
    url = Url(f"file://{tmp_path}")
    with pytest.raises(StorageError, match=r"newer version .*\(format 99; this one knows \d\): use that version"):
        DirectoryLedger(url)


def test_a_file_is_for_its_owner_alone_whole_and_a_table_that_others_read(tmp_path: Path) -> None:
    with DirectoryLedger(Url(f"file://{tmp_path}/deep/ledger")) as ledger:
        stored(ledger, range(3), by=3)
        (file,) = (tmp_path / "deep" / "ledger").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert duckdb.execute(f"SELECT count(*), min(latency_ms) FROM '{file}'").fetchone() == (3, 0)


def test_what_cannot_be_stored_stops_the_run_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    with DirectoryLedger(Url(f"file://{folder}")) as ledger:
        folder.rmdir()
        folder.touch()
        with pytest.raises(StorageError, match=r"cannot be written .* then run the same command again"):
            ledger.put([(key(1), reply(1))])


def test_a_bucket_that_is_not_there_is_reported_before_any_call_without_the_secret() -> None:
    url = Url(bucket().replace("s3://key:secret@bucket-", "s3://key:secret@nowhere-"))
    assert str(url).startswith("s3://nowhere-")
    assert set(url.secrets()) >= {"secret"}
    with DirectoryLedger(url) as ledger, pytest.raises(StorageError, match="check that the bucket exists") as told:
        ledger.claim([key(1)])
    assert "secret" not in told.value.message + told.value.detail
    with pytest.raises(ConfigError, match="write it as s3://"):
        DirectoryLedger(Url("s3://bucket/folder?nonsense=1"))


def test_a_run_whose_replies_are_all_known_needs_no_more_than_to_read(
    url: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Files) -> None:
        raise AssertionError

    with DirectoryLedger(url) as ledger:
        stored(ledger, range(3))
    monkeypatch.setattr(Files, "prove", refused)
    with DirectoryLedger(url) as ledger:
        assert len(ledger.claim([key(1), key(2), key(1)]).known) == 2
        with pytest.raises(AssertionError):
            ledger.claim([key(1), key(9)])


def raised(result: Any) -> Any:
    if isinstance(result, Exception):
        raise result
    return result


def test_a_bucket_that_has_never_answered_is_given_up_within_seconds_and_one_that_has_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    told: list[str] = []
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds + 4
        waited.append(seconds)

    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    place = f"scheme=http&endpoint_override=127.0.0.1%3A{port}&retry_limit_seconds=1"
    url = Url(f"gs://anonymous@bucket/folder?{place}")
    files = Files(url, Patience(url, told.append, now=lambda: now, sleep=sleep))
    with pytest.raises(LedgerUnavailableError, match=r"cannot be read .* then run the same command again"):
        files.names()
    assert (len(told), now) == (3, sum(waited) + 12)
    told.clear()
    results = [[], *[OSError("down")] * 30, []]
    monkeypatch.setattr(files, "_files", SimpleNamespace(get_file_info=lambda _: raised(results.pop(0))))
    assert (files.names(), files.names()) == ({}, {})
    assert (len(told), now > 180) == (30, True)
    told.clear()
    results = [OSError("down")] * 90
    for _ in range(3):
        with pytest.raises(StorageError, match="down"):
            files.names()
    assert len(told) < 60, "what is asked while the run ends does not wait as long again"


@pytest.mark.parametrize(
    ("said", "is_final"),
    [
        ("AWS Error ACCESS_DENIED during HeadBucket operation: No response body", True),
        ("AWS Error SIGNATURE_DOES_NOT_MATCH during ListObjectsV2 operation", True),
        ("AWS Error INVALID_ACCESS_KEY_ID during ListObjectsV2 operation", True),
        ("AWS Error UNKNOWN (HTTP status 403) during PutObject operation", True),
        ("Status(PERMISSION_DENIED: … metadata={http_status_code=403})", True),
        ("Azure Error: [AuthorizationFailure] 403 Server failed to authenticate the request", True),
        ("Azure Error: [ContainerNotFound] 404 The specified container does not exist", True),
        ("AWS Error SLOW_DOWN (HTTP status 503) during PutObject operation (Request ID: 18ECA403B4010)", False),
        ("AWS Error NETWORK_CONNECTION: Failed to connect to 10.0.0.1:403 after 403 ms", False),
    ],
)
def test_what_no_further_try_would_mend_is_known_by_what_servers_say(said: str, is_final: bool) -> None:
    system = System(Url("s3://key:secret@bucket/folder?scheme=http&endpoint_override=127.0.0.1%3A9&region=us-east-1"))
    assert system.is_final(OSError(said)) is is_final
    assert system.is_final(FileNotFoundError())


@pytest.mark.parametrize(
    "url",
    [
        "abfs://account:a2V5@container/deep/folder/?enable_tls=false&blob_storage_authority=127.0.0.1%3A9",
        "abfss://container:a2V5@account.dfs.azure.test/deep/folder?enable_tls=false&blob_storage_authority=127.0.0.1%3A9",
    ],
)
def test_the_key_of_an_azure_account_is_heeded_where_the_url_has_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(AZURE, lambda account, **options: opened.append((account, options)))
    assert System(Url(url)).folder == "container/deep/folder"
    schemes = {"blob_storage_scheme": "http", "dfs_storage_scheme": "http"}
    assert opened == [("account", {"account_key": "a2V5", "blob_storage_authority": "127.0.0.1:9", **schemes})]


@pytest.mark.parametrize("text", ["s3://", "s3:///folder", "S3://?region=x", "gs://anonymous@", "abfs://a:k@/folder"])
def test_a_url_without_a_bucket_is_refused_as_it_is_written(text: str) -> None:
    with pytest.raises(ValueError, match=r"names no bucket: write (s3|gs|abfs)://bucket/folder/"):
        ledgers.location_of(text)
    with pytest.raises(ValueError, match="needs an absolute path"):
        ledgers.location_of("file://folder/")


@pytest.mark.parametrize("text", ["{}/", "{}"])
def test_a_folder_is_a_shared_ledger_and_a_path_is_a_file(tmp_path: Path, text: str) -> None:
    assert ledgers.location_of(text.format(tmp_path)) == Url(f"file://{tmp_path}")
    assert ledgers.location_of(f"{tmp_path}/run.ledger") == tmp_path / "run.ledger"
    for name in ("50 %41", "a?b"):
        location = ledgers.location_of(f"{tmp_path}/{name}/")
        assert isinstance(location, Url)
        assert location.folder == tmp_path / name
    with pytest.raises(ValueError, match="a ledger cannot be kept at http://"):
        ledgers.location_of("http://localhost/")
