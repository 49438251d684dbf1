"""Requests that are sent as they are."""

from __future__ import annotations

import pytest
import responses

from connector.base import numbers
from connector.base.clock import Clock
from connector.base.stop import Stop
from connector.config.config import Config
from connector.run import passthrough

URL = "https://endpoint.test/v1/embeddings"


@pytest.mark.parametrize("vector", ['"AACAPwAAAEA="', '"_-8AAA"', '"[1.0, 2.0]"', "[0.10000000000000000555,1e400]"])
def test_the_reply_comes_back_as_it_is_with_vectors_as_text_and_all_digits(vector: str) -> None:
    reply = f'{{"object":"list","data":[{{"index":0,"embedding":{vector}}}],"usage":{{"total_tokens":3}}}}'
    config = Config.load({"url": URL, "model": "m", "prompt": "x"})
    with responses.RequestsMock() as mock:
        mock.post(URL, body=reply, content_type="application/json")
        found = passthrough.send(config, {"input": "x"}, clock=Clock(), stop=Stop())
    assert numbers.dumps(found).decode() == reply
