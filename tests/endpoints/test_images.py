"""Images that an endpoint makes: as URLs, as base64, as files; from a prompt, and from other images."""

from __future__ import annotations

import base64
import json
import stat
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector import BadRequestError, Connector, FatalError
from connector.base.errors import ReplyError
from connector.base.records import Answer, Status, Usage
from connector.base.values import dumps
from connector.endpoints import Shorthand, load
from connector.endpoints._images import answer, values
from connector.endpoints.image_edits import encode
from connector.run.image_files import kept
from tests.commands.test_enrich import lines, run
from tests.endpoint import Action, Call, Endpoint, Request, good, image_to
from tests.endpoints.streams import assembled
from tests.faults import status
from tests.images import JPEG, PNG

read: Final = partial(assembled, load("images"))

_UNKNOWN: Final = {"error": {"message": "Unknown parameter: 'response_format'.", "param": "response_format"}}


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


# --- Replies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "images"),
    [
        ([{"url": "https://h/a"}], ["https://h/a"]),
        ([{"b64_json": "AAAA"}, {"url": "https://h/b"}], ["AAAA", "https://h/b"]),
        ([{"b64_json": "AAAA", "url": "https://h/b"}], ["AAAA"]),
        ([{"b64_json": None, "url": "https://h/b", "revised_prompt": None}], ["https://h/b"]),
        ([None, {}, {"url": 7}, {"url": "https://h/c"}], ["https://h/c"]),
    ],
)
def test_images_are_base64_where_they_are_there_and_urls_elsewhere(data: Any, images: list[str]) -> None:
    body = {"created": 1, "data": data, "usage": {"input_tokens": 3, "output_tokens": 9}}
    assert answer(body) == Answer(None, None, None, Usage(3, 9), Status.SUCCESS)
    assert values(body) == {"image": images[0], "images": images, "revised_prompt": None}


@pytest.mark.parametrize("data", [None, [], [{}], [{"url": ""}], "image", [{"b64_json": 7}]])
def test_a_reply_without_an_image_is_not_a_success(data: Any) -> None:
    assert answer({"data": data})[4:6] == (Status.INVALID_OUTPUT, "the reply has no image")


def test_what_the_model_made_of_the_prompt_can_be_a_column() -> None:
    assert values({"data": [{"url": "u", "revised_prompt": "A nice dot"}]})["revised_prompt"] == "A nice dot"


def test_a_stream_is_the_images_that_were_completed() -> None:
    events = [
        {"type": "image_generation.partial_image", "b64_json": "AAAA", "partial_image_index": 0},
        {"type": "image_generation.completed", "b64_json": "BBBB", "created_at": 5, "usage": {"input_tokens": 1}},
        {"type": "image_generation.completed", "b64_json": "CCCC", "created_at": 5, "usage": {"input_tokens": 1}},
    ]
    body = {"created": 5, "usage": {"input_tokens": 1}, "data": [{"b64_json": "BBBB"}, {"b64_json": "CCCC"}]}
    assert read(events) == (body, True)
    assert read(events[:1]) == ({}, False)


@pytest.mark.parametrize("kind", ["images", "image_edits"])
def test_base64_is_asked_for_where_images_become_files_and_given_up_where_it_is_refused(kind: str) -> None:
    endpoint = load(kind)
    assert "response_format" not in endpoint.request_format(Shorthand("m", None, "a"))
    body = endpoint.request_format(Shorthand("m", None, "a", files=True))
    assert body["response_format"] == "b64_json"
    fallback = endpoint.FALLBACKS["usual_format"]
    assert fallback.matches("unknown parameter: 'response_format'.")
    assert fallback.apply(body) == {"model": "m", "prompt": "a"}
    assert fallback.apply({"model": "m", "prompt": "a"}) is None


# --- Files -----------------------------------------------------------------------------------------------------------


def test_images_become_private_files_by_what_is_in_them(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    paths = kept([text(PNG), f"data:image/png;base64,{text(JPEG)}", text(PNG)], folder)
    assert [Path(path).suffix for path in paths] == [".png", ".jpg", ".png"]
    assert paths[0] == paths[2]
    assert sorted(map(str, folder.iterdir())) == sorted(set(paths))
    assert [Path(path).read_bytes() for path in paths] == [PNG, JPEG, PNG]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())


def test_existing_images_are_left_alone_and_truncated_ones_are_replaced(tmp_path: Path) -> None:
    (path,) = kept([text(PNG)], tmp_path)
    assert kept([text(PNG + b"<script>")], tmp_path) == [path], "what is behind an image is no image"
    with pytest.raises(ReplyError, match="incomplete"):
        kept([text(PNG[:-5])], tmp_path)
    before = Path(path).stat()
    assert kept([text(PNG)], tmp_path) == [path]
    assert Path(path).stat().st_mtime_ns == before.st_mtime_ns
    Path(path).write_bytes(PNG[:9])
    assert kept([text(PNG)], tmp_path) == [path]
    assert Path(path).read_bytes() == PNG


def test_a_url_stays_a_url(tmp_path: Path) -> None:
    assert kept(["https://h/a.png"], tmp_path / "none") == ["https://h/a.png"]
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "image", ["no base64!", text(b"<html>"), "", text(b"#!/bin/sh"), "../etc/passwd", "é", "data:,日本"]
)
def test_only_images_are_written(tmp_path: Path, image: str) -> None:
    with pytest.raises(ReplyError, match="the reply"):
        kept([image], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_directory_that_cannot_be_written_ends_the_run_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FatalError, match="image_dir"):
        kept([text(PNG)], tmp_path / "file" / "images")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# --- The form --------------------------------------------------------------------------------------------------------


def sent(body: dict[str, Any]) -> Any:
    """The fields of a form, as a server reads them."""
    content_type, data = encode(dumps(body))
    return Request("POST", "/", {"content-type": content_type}, data, closes=False).parsed()


def test_an_edit_goes_as_a_form_with_its_images_as_files() -> None:
    body = {"model": "m", "prompt": 'A "dot"\r\n--x', "n": 2, "hd": True, "none": None, "extra": {"a": ["é"]}}
    image = f"data:image/png;base64,{text(PNG)}"
    assert sent({**body, "image": image}) == {
        "model": "m",
        "prompt": 'A "dot"\r\n--x',
        "n": "2",
        "hd": "true",
        "extra": '{"a":["é"]}',
        "image": {"filename": "image.png", "type": "image/png", "base64": text(PNG)},
    }


def test_several_images_are_a_list_and_a_mask_is_a_file() -> None:
    png, jpeg = f"data:image/png;base64,{text(PNG)}", f"data:image/jpeg;base64,{text(JPEG)}"
    fields = sent({"image": [png, jpeg], "mask": png})
    assert [each["filename"] for each in fields["image[]"]] == ["image.png", "image.jpg"]
    assert fields["mask"]["type"] == "image/png"
    assert sent({"image": [png]}).keys() == {"image"}


@given(name=st.text(min_size=1), value=st.text())
def test_no_name_and_no_text_can_break_the_form(name: str, value: str) -> None:
    content_type, data = encode(json.dumps({f"f{name}": value, "last": "x"}).encode("utf-8", "replace"))
    boundary = content_type.partition("boundary=")[2].encode()
    first, last, end = data.split(b"--" + boundary)[1:]
    assert first.count(b"\r\n\r\n") >= 1
    assert first.partition(b"\r\n\r\n")[0].count(b"\r\n") == 1
    assert last.endswith(b"\r\n\r\nx\r\n")
    assert end == b"--\r\n"


@pytest.mark.parametrize("image", ["https://h/a.png", "photo.png", None, 7, {"url": "x"}, "data:image/png,x"])
def test_an_edit_of_a_mere_url_is_refused_before_it_is_sent(image: Any) -> None:
    with pytest.raises(BadRequestError, match="image: "):
        encode(dumps({"prompt": "x", "image": image}))


# --- End to end ------------------------------------------------------------------------------------------------------


def config(endpoint: Endpoint, kind: str = "images", **more: Any) -> dict[str, Any]:
    url = endpoint.base_url + load(kind).PATH
    return {"url": url, "model": "m", "prompt": "{{ text }}", "cache": "none", "max_retries": 0, **more}


def one(chosen: dict[str, Any], **row: Any) -> dict[str, Any]:
    (found,) = Connector(chosen).enrich([{"text": "a dot", **row}])
    return dict(found)


def test_without_a_directory_the_column_is_what_the_endpoint_gives(endpoint: Endpoint) -> None:
    row = one(config(endpoint))
    assert row["image"] == text(image_to("a dot"))
    assert row["_llm"]["output_tokens"] == 7
    request = {"model": "m", "prompt": "{{ text }}", "response_format": "url", "n": 2, "size": "1x1", "quality": "low"}
    row = one(config(endpoint, request_format=request, response_format={"all": "{{ images }}"}))
    assert row["all"] == ["https://images.example/0", "https://images.example/1"]
    assert endpoint.journal.calls[-1].body == {**request, "prompt": "a dot"}


def test_a_table_of_prompts_becomes_a_directory_of_images(tmp_path: Path) -> None:
    source, output, folder = tmp_path / "in.csv", tmp_path / "out.jsonl", tmp_path / "images"
    source.write_text("id,text\n" + "".join(f"{number},row {number % 7}\n" for number in range(20)))
    settings = tmp_path / "c.json"
    with Endpoint() as endpoint:
        settings.write_text(json.dumps({**config(endpoint), "cache": None, "image_dir": str(folder)}))
        done = run("enrich", source, "-o", output, "-c", settings)
        assert done.returncode == 0, done.stderr
        rows = lines(output)
        assert [Path(row["image"]).read_bytes() for row in rows] == [image_to(f"row {each % 7}") for each in range(20)]
        assert len(list(folder.iterdir())) == 7
        for path in folder.iterdir():
            path.unlink()
        output.unlink()
        assert run("enrich", source, "-o", output, "-c", settings).returncode == 0
        assert len(endpoint.journal.calls) == 7
    assert [row["image"] for row in lines(output)] == [row["image"] for row in rows]
    assert len(list(folder.iterdir())) == 7


def test_all_images_of_a_row_can_be_a_column_of_paths(tmp_path: Path, endpoint: Endpoint) -> None:
    request = {"prompt": "{{ text }}", "n": 3}
    columns = {"first": "{{ image }}", "all": "{{ images }}"}
    row = one(config(endpoint, request_format=request, response_format=columns, image_dir=str(tmp_path / "made")))
    assert [Path(path).read_bytes() for path in row["all"]] == [image_to("a dot", number) for number in range(3)]
    assert row["first"] == row["all"][0]


def test_an_endpoint_that_knows_no_response_format_is_asked_without(tmp_path: Path) -> None:
    def script(call: Call) -> Action | None:
        return Action("refused", status(400, _UNKNOWN)(good(call), {})) if "response_format" in call.body else None

    with Endpoint(script) as endpoint:
        row = one(config(endpoint, image_dir=str(tmp_path / "made")))
        assert [call.action for call in endpoint.journal.calls] == ["refused", "answer"]
    assert Path(row["image"]).read_bytes() == image_to("a dot")


def test_a_full_disk_loses_nothing_that_is_paid_for(tmp_path: Path, endpoint: Endpoint) -> None:
    (tmp_path / "made").write_text("in the way")
    chosen = config(endpoint, cache=str(tmp_path / "ledger"), image_dir=str(tmp_path / "made"))
    with pytest.raises(FatalError, match="run the same command again"):
        one(chosen)
    (tmp_path / "made").unlink()
    assert Path(one(chosen)["image"]).read_bytes() == image_to("a dot")
    assert len(endpoint.journal.calls) == 1


def test_a_reply_larger_than_a_text_may_be_is_still_an_image(endpoint: Endpoint) -> None:
    request = {"prompt": "{{ text }}", "n": 10}
    row = one(config(endpoint, request_format=request, max_response_bytes=1024))
    assert row["_llm"]["status"] == "success"


@pytest.mark.parametrize("kind", ["images", "image_edits"])
def test_a_streamed_image_is_the_same(kind: str, endpoint: Endpoint) -> None:
    row = one(config(endpoint, kind, is_stream=True, image_columns="photo"), photo=PNG)
    assert row["image"] == text(image_to("a dot"))
    assert row["_llm"]["input_tokens"] == 2


def test_an_edit_of_a_row_s_image_makes_another(tmp_path: Path, endpoint: Endpoint) -> None:
    (tmp_path / "in.png").write_bytes(PNG)
    chosen = config(
        endpoint, "image_edits", image_columns="photo", image_dir=str(tmp_path / "made"), image_root=str(tmp_path)
    )
    row = one(chosen, photo="in.png")
    assert Path(row["image"]).read_bytes() == image_to("a dot")
    (call,) = endpoint.journal.calls
    assert call.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert call.body == {
        "model": "m",
        "prompt": "a dot",
        "response_format": "b64_json",
        "image": {"filename": "image.png", "type": "image/png", "base64": text(PNG)},
    }


def test_an_edit_of_a_url_fails_its_row_and_is_never_sent(endpoint: Endpoint) -> None:
    row = one(config(endpoint, "image_edits", image_columns="photo"), photo="https://example.com/a.png")
    assert row["_llm"]["status"] == "error"
    assert "the image itself" in row["_llm"]["error"]["message"]
    assert not endpoint.journal.calls


@pytest.mark.parametrize("kind", ["images", "image_edits"])
def test_the_smallest_request_is_one_that_works(kind: str, endpoint: Endpoint) -> None:
    request = load(kind).minimal({"model": "m"})
    assert one(config(endpoint, kind, request_format=request))["image"] == text(image_to("a dot"))
