"""Images on their way into a request: what is one becomes a URL, and nothing else of the machine ever gets in."""

from __future__ import annotations

import base64
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector import Config, ConfigError, Connector
from connector.base.records import Record, Reply, Status
from connector.run.plan import Plan
from connector.templates.images import LARGEST, ImageError, media_type, url_of
from tests.endpoint import Endpoint, body_for
from tests.images import GIF, IMAGES, JPEG, PNG, WEBP, png, png_chunk, riff_chunk, webp
from tests.patience import PATIENCE

each_kind = pytest.mark.parametrize(("kind", "data"), IMAGES.items(), ids=[name[6:] for name in IMAGES])


def url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


# --- What is an image ------------------------------------------------------------------------------------------------


@each_kind
def test_an_image_is_sent_whatever_the_row_has_it_as(tmp_path: Path, kind: str, data: bytes) -> None:
    path = tmp_path / "a photo.of-no-kind"
    path.write_bytes(data)
    expected = url(kind, data)
    forms: list[Any] = [data, bytearray(data), memoryview(data), str(path), base64.b64encode(data).decode(), expected]
    assert [url_of(form, tmp_path) for form in forms] == [expected] * len(forms)
    assert url_of(path.name, tmp_path) == expected


@pytest.mark.parametrize("address", ["https://example.com/a.png?x=1#y", "http://h/a", "HTTPS://EXAMPLE.COM/A.SVG"])
def test_a_url_passes_as_it_is(address: str) -> None:
    assert url_of(address) == address
    assert url_of(f" {address}\n") == address


def test_the_media_type_is_what_the_bytes_say_and_not_what_is_claimed() -> None:
    assert url_of(url("image/png", IMAGES["image/jpeg"])) == url("image/jpeg", IMAGES["image/jpeg"])
    assert url_of(url("image/jpg;charset=x", PNG)) == url("image/png", PNG)


def test_a_path_may_look_like_base64(tmp_path: Path) -> None:
    (tmp_path / "R0lGOD.png").write_bytes(PNG)
    assert url_of("R0lGOD.png", tmp_path) == url("image/png", PNG)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "null"),
        (math.nan, "null"),
        (7, "int"),
        ({"url": "https://example.com/a.png"}, "dict"),
        ("", "not an image"),
        (b"", "not an image"),
        (b"%PDF-1.7", "PNG, JPEG, GIF or WebP"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "PNG, JPEG, GIF or WebP"),
        ("nowhere.png", "there is no such file"),
        ("a\0b.png", "not an image"),
        ("x" * 5000, "cannot be read"),
        ("data:image/png,abc", "not in base64"),
        ("data:image/png;base64", "not in base64"),
        ("data:image/png;base64,%%%", "cut"),
        ("data:image/png;base64,é", "cut"),
        ("data:text/html;base64,PGI+", "PNG, JPEG, GIF or WebP"),
        ("ftp://example.com/a.png", "there is no such file"),
    ],
)
def test_what_is_not_an_image_is_refused_with_a_reason(tmp_path: Path, value: Any, told: str) -> None:
    with pytest.raises(ImageError, match=told):
        url_of(value, tmp_path)


# --- In whole, and nothing else --------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", IMAGES.values(), ids=IMAGES)
def test_no_beginning_of_an_image_passes_for_one(data: bytes) -> None:
    for end in range(len(data)):
        with pytest.raises(ImageError):
            url_of(data[:end])
    with pytest.raises(ImageError, match="an incomplete image"):
        url_of(data[:12] + b"root:x:0:0:root:/root:/bin/bash\n" * 9)


@pytest.mark.parametrize("secret", [b"\0", b"sk-secret" * 99, PNG])
def test_what_stands_behind_an_image_is_never_sent(secret: bytes) -> None:
    for data in (PNG, GIF, WEBP):
        with pytest.raises(ImageError, match="other data after it"):
            url_of(data + secret)
    assert url_of(JPEG + secret) == url("image/jpeg", JPEG)  # as cameras write them


@pytest.mark.parametrize(
    "data",
    [
        PNG[:8] + png_chunk(b"IEND", b""),
        PNG[:8] + png_chunk(b"IHDR", bytes(13)) + png_chunk(b"IEND", b""),
        PNG[:8] + png_chunk(b"IDAT", b"x") + png_chunk(b"IEND", b""),
        PNG.replace(b"IDAT", b"IDAX"),
        PNG[:8] + b"\xff\xff\xff\xff" + PNG[12:],
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8" + b"\xff" * 99,
        JPEG.replace(b"\xff\xc0", b"\xff\xfe"),
        JPEG.replace(b"\xff\xda", b"\xff\xfe"),
        JPEG[:2] + b"\xff\xe0\0\0" + JPEG[2:],
        JPEG[:4] + b"secret" + JPEG[4:],
        GIF[:25] + b";",
        b"GIF89a" + bytes(64),
        webp(),
        webp(riff_chunk(b"EXIF", b"secret")),
        webp(riff_chunk(b"VP8 ", b"x")[:-1]),
        WEBP[:4] + b"\xff\xff\xff\xff" + WEBP[8:],
    ],
)
def test_what_only_looks_like_an_image_is_none(data: bytes) -> None:
    assert media_type(data)
    with pytest.raises(ImageError):
        url_of(data)


@given(data=st.binary(max_size=60), kind=st.sampled_from(list(IMAGES)), start=st.integers(0, 12))
def test_nothing_passes_that_is_not_an_image_in_whole(data: bytes, kind: str, start: int) -> None:
    forged = IMAGES[kind][:start] + data
    if not forged.startswith(IMAGES[kind]):
        with pytest.raises(ImageError):
            url_of(forged)


# --- Within one folder -----------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A folder of images beside one with a secret, and links of every sort between them."""
    (tmp_path / "photos" / "more").mkdir(parents=True)
    (tmp_path / "private").mkdir()
    for path in ("photos/a.png", "photos/more/b.png", "private/secret.png"):
        (tmp_path / path).write_bytes(PNG)
    photos = tmp_path / "photos"
    (photos / "link.png").symlink_to(tmp_path / "private" / "secret.png")
    (photos / "gone.png").symlink_to(tmp_path / "private" / "nothing.png")
    (photos / "folder").symlink_to(tmp_path / "private")
    (photos / "inner.png").symlink_to("more/b.png")
    (tmp_path / "alias").symlink_to(photos)
    return tmp_path


def test_files_within_the_folder_are_read(folders: Path) -> None:
    photos = folders / "photos"
    for root in (photos, folders / "alias", folders / "private" / ".." / "photos"):
        for path in ("a.png", "./more/b.png", "more/../a.png", "inner.png", str(photos / "a.png"), str(root / "a.png")):
            assert url_of(path, root) == url("image/png", PNG)


@pytest.mark.parametrize(
    "path",
    [
        "../private/secret.png",
        "../private/nothing.png",
        "more/../../private/secret.png",
        "link.png",
        "gone.png",
        "folder/secret.png",
        "folder/nothing.png",
        "folder/../private/secret.png",
        "{folders}/private/secret.png",
        "{folders}/private/nothing.png",
        "{folders}/photos2/a.png",
        "/etc/passwd",
        "/etc/nothing",
        "/proc/self/environ",
        "/dev/zero",
        "..",
    ],
)
def test_nothing_outside_is_read_or_said_to_exist(folders: Path, path: str) -> None:
    (folders / "photos2").mkdir()
    named, root = path.format(folders=folders), folders / "photos"
    with pytest.raises(ImageError) as caught:
        url_of(named, root)
    assert str(caught.value) in (
        f"{named!r} is outside of {root}, where images are read from: move it there, or set image_root",
        f"{named!r} is not a URL, not an image in base64, and there is no such file in {root}",
    )
    if "folder/.." not in path:  # which names nothing within
        assert "outside" in str(caught.value)


def test_where_no_folder_is_named_no_file_is_read(folders: Path) -> None:
    for path in ("photos/a.png", str(folders / "photos" / "a.png"), "/etc/passwd", "nothing"):
        with pytest.raises(ImageError, match="image_root names no folder"):
            url_of(path)


def test_the_folder_is_that_of_the_input_unless_configured(tmp_path: Path) -> None:
    def folder(**options: Any) -> Path | None:
        return Config(url="http://localhost/v1", **options).image_folder

    assert folder() is None
    assert folder(input={"type": "stdio"}) is None
    for path, expected in (
        ("a/in.csv", "a"),
        ("in.csv", "."),
        ("a/*.csv", "a"),
        ("a/*/b/in.csv", "a"),
        ("/x/in.csv", "/x"),
    ):
        assert folder(input={"type": "files", "path": path}) == Path(expected)
        assert folder(input={"type": "files", "path": path}, image_root=str(tmp_path)) == tmp_path
        assert folder(input={"type": "files", "path": path, "more": (f"{expected}/b.csv",)}) == Path(expected)
        assert folder(input={"type": "files", "path": path, "more": (f"{expected}/c/b.csv",)}) is None


# --- Hostile values --------------------------------------------------------------------------------------------------


def test_a_secret_of_the_row_s_owner_stays_where_it_is(tmp_path: Path) -> None:
    secret = tmp_path / "key.png"
    secret.write_text("sk-secret")
    with pytest.raises(ImageError) as caught:
        url_of(str(secret), tmp_path)
    assert "sk-secret" not in str(caught.value)


def test_a_pipe_that_nobody_writes_to_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    with pytest.raises(ImageError, match="is not a file"):
        url_of(str(pipe), tmp_path)


def test_a_directory_is_not_an_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is not a file"):
        url_of(str(tmp_path), tmp_path)


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    loop = tmp_path / "loop.png"
    loop.symlink_to(loop)
    with pytest.raises(ImageError, match="cannot be read"):
        url_of(str(loop), tmp_path)


def test_a_huge_image_is_refused_before_it_is_read(tmp_path: Path) -> None:
    huge = tmp_path / "huge.png"
    with huge.open("wb") as file:
        file.write(PNG)
        file.truncate(1 << 40)
    with pytest.raises(ImageError, match="more than 20 MB"):
        url_of(str(huge), tmp_path)


@pytest.mark.parametrize(
    "form", [bytes, lambda data: base64.b64encode(data).decode(), lambda data: url("image/png", data)]
)
def test_so_are_bytes_and_texts(form: Any) -> None:
    padding = LARGEST - len(png(1)) + 1
    assert url_of(form(png(padding)))
    with pytest.raises(ImageError, match="more than 20 MB"):
        url_of(form(png(padding + 1)))


# --- In templates ----------------------------------------------------------------------------------------------------


def plan(**options: Any) -> Plan:
    return Plan(Config(url="http://localhost/v1/chat/completions", **options))


def test_a_row_s_error_names_where_and_why() -> None:
    chosen = plan(model="m", prompt="What is it?", image_columns="photo", image_root=".")
    for row, told in (
        ({"photo": None}, "the value is null"),
        ({"photo": "no.png"}, "no such file"),
        ({}, 'column "photo"'),
    ):
        with pytest.raises(Exception, match=told) as caught:
            chosen.requests.body(row)
        assert "request_format.messages[0].content[1].image_url.url" in str(caught.value)


def test_an_image_column_that_is_not_there_is_reported_before_any_row() -> None:
    config = Config(url="http://localhost/v1", model="m", prompt="x", image_columns="front, back")
    with pytest.raises(ConfigError, match='image_columns: there is no column "back"'):
        Plan(config, ["front"])
    assert Plan(config, ["front", "back"])


def test_many_large_images_of_one_row_are_too_much() -> None:
    chosen = plan(request_format={"all": "{% for i in range(50) %}{{ photo | image }}{% endfor %}"})
    with pytest.raises(Exception, match="larger than one row may make them"):
        chosen.requests.body({"photo": png(4 << 20)})


def test_four_large_images_of_one_row_are_not() -> None:
    parts = {name: f"{{{{ {name} | image }}}}" for name in "abcd"}
    photo = png(15 << 20)
    assert len(plan(request_format=parts).requests.body(dict.fromkeys("abcd", photo))) > 4 * len(photo)


def test_a_list_of_images_is_mapped() -> None:
    chosen = plan(request_format={"images": "{{ photos | map('image') | list }}"})
    assert chosen.requests.body({"photos": [PNG]}) == b'{"images":["' + url("image/png", PNG).encode() + b'"]}'


def test_no_reply_gets_to_name_a_file() -> None:
    """A model could else read any image of the machine into a column by naming it."""
    with pytest.raises(ConfigError, match='there is no filter "image"'):
        plan(prompt="x", response_format={"a": "{{ content | image }}"})
    sly = plan(prompt="x", response_format={"a": "{{ choices | map('image') | list }}"})
    outcome = sly.outcomes.of(Record(0, {}), Reply(200, body_for("chat", {}, "x"), {}), b"")
    assert outcome.status is Status.INVALID_OUTPUT
    assert outcome.provenance.error is not None
    assert 'there is no filter "image"' in outcome.provenance.error.message


# --- End to end ------------------------------------------------------------------------------------------------------


def parts_of(endpoint: Endpoint) -> list[Any]:
    return [call.body["messages"][-1]["content"] for call in endpoint.journal.calls]


def test_image_columns_go_with_the_prompt(tmp_path: Path, endpoint: Endpoint) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    options = {"url": endpoint.url, "model": "m", "prompt": "Say {{ text }}", "cache": "none", "concurrency": 1}
    connector = Connector(
        {**options, "image_columns": "front, Back side", "image_detail": "low", "image_root": str(tmp_path)}
    )
    rows = [
        {"text": "one", "front": "a.png", "Back side": "https://example.com/b.png"},
        {"text": "two", "front": "../etc/passwd", "Back side": "https://example.com/b.png"},
    ]
    good, bad = sorted(connector.enrich(rows), key=lambda row: row["text"])
    assert (good["_llm"]["status"], bad["_llm"]["status"]) == ("success", "error")
    assert parts_of(endpoint) == [
        [
            {"type": "text", "text": "Say one"},
            {"type": "image_url", "image_url": {"url": url("image/png", PNG), "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "https://example.com/b.png", "detail": "low"}},
        ]
    ]


def test_bytes_of_a_parquet_file_are_images_to_the_executable(tmp_path: Path, endpoint: Endpoint) -> None:
    source, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    duckdb.execute(f"COPY (SELECT 1 AS id, from_hex('{PNG.hex()}') AS photo) TO '{source}'")
    config = tmp_path / "c.json"
    config.write_text('{"image_columns": "photo"}')
    arguments = [
        "enrich",
        source,
        "-o",
        output,
        "-c",
        config,
        "--url",
        endpoint.url,
        "--model",
        "m",
        "--prompt",
        "What?",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "connector", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    ((_, part),) = parts_of(endpoint)
    assert part["image_url"]["url"] == url("image/png", PNG)
    assert duckdb.execute(f"SELECT photo FROM '{output}'").fetchall() == [(PNG,)]


def test_the_executable_reads_images_beside_its_input_and_none_elsewhere(tmp_path: Path, endpoint: Endpoint) -> None:
    for folder in ("data", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(PNG)
    (tmp_path / "data" / "in.csv").write_text("photo\na.png\n../other/a.png\n")
    command = [sys.executable, "-m", "connector", "enrich", "data/in.csv", "-o", "out.jsonl", "--url", endpoint.url]
    command += ["--model", "m", "-c", "c.json"]
    (tmp_path / "c.json").write_text('{"prompt": "What?", "image_columns": "photo", "max_template_error_percent": 100}')
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    inside, outside = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert inside["_llm"]["status"] == "success"
    assert "is outside of data" in outside["_llm"]["error"]["message"]
    assert len(parts_of(endpoint)) == 1
