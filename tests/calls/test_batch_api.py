"""Files and batches, whatever a server says of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from typing import Any

import pytest
import responses

from connector.base.clock import Clock
from connector.base.errors import ReplyError
from connector.base.masking import Masker
from connector.calls.batch_api import HttpBatchAPI
from connector.http.transport import Settings, Transport
from tests.endpoint import Action, Endpoint
from tests.faults import LAST_CHUNK, chunk, head

KEY = "0123456789abcdef" * 2
URL = "http://endpoint.test/v1"


@pytest.fixture
def api() -> Iterator[HttpBatchAPI]:
    found = HttpBatchAPI(Transport(Settings()), URL, Masker([KEY]), 10, Clock())
    yield found
    found.close()


@pytest.mark.parametrize("time", ["9" * 400, "9" * 5000, "1e999", "-1" + "0" * 18, "1" + "0" * 18, '"now"', "null"])
def test_a_time_that_none_is_made_at_is_unknown(api: HttpBatchAPI, time: str) -> None:
    with responses.RequestsMock() as mock:
        mock.get(f"{URL}/batches/b", body=f'{{"id": "b", "status": "completed", "created_at": {time}}}')
        assert api.retrieve("b").created == 0.0


@pytest.mark.parametrize("name", ["id", "output_file_id", "status", "endpoint"])
def test_half_of_a_character_is_replaced_in_all_that_is_kept(api: HttpBatchAPI, name: str) -> None:
    body: dict[str, Any] = {"id": "b", "status": "completed", "metadata": {"\ud800": "\udfff"}, name: "x\ud800"}
    with responses.RequestsMock() as mock:
        mock.get(f"{URL}/batches/b", body=json.dumps(body))
        assert "x\ufffd" in str(api.retrieve("b")).replace("\\ufffd", "\ufffd")


@pytest.mark.parametrize("before", [0, 480, 500, 2**16 - 10, 2**20 - 10])
def test_what_is_not_json_is_reported_without_the_key_or_half_of_it(api: HttpBatchAPI, before: int) -> None:
    with responses.RequestsMock() as mock:
        mock.get(f"{URL}/batches/b", body=" " * before + KEY)
        with pytest.raises(ReplyError) as caught:
            api.retrieve("b")
    assert "0123" not in caught.value.message


@pytest.mark.parametrize("length", ["5", "9" * 5_000, "x"])
def test_the_length_of_a_file_that_comes_in_chunks_says_nothing(length: str) -> None:
    answer = [head(200, {"Transfer-Encoding": "chunked", "Content-Length": length}), chunk(b"{}\n"), LAST_CHUNK]
    file = BytesIO()
    with (
        Endpoint(lambda _: Action("file", answer)) as endpoint,
        closing(HttpBatchAPI(Transport(Settings()), endpoint.base_url, Masker(), 10, Clock())) as api,
    ):
        api.download("f", file, "b", 1)
    assert file.getvalue() == b"{}\n"


def test_an_answer_that_would_take_far_more_memory_than_it_has_bytes_is_refused() -> None:
    transport = Transport(Settings(max_response_bytes=200_000))
    with closing(HttpBatchAPI(transport, URL, Masker(), 10, Clock())) as api, responses.RequestsMock() as mock:
        mock.get(f"{URL}/batches", json={"data": [{}] * 40_000})
        with pytest.raises(ReplyError, match="too many values"):
            list(api.listed())
