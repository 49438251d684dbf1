"""The page of endpoint kinds: its configs are ones that work."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

import connector
from connector import Config
from connector.run.plan import Plan

PAGE: Final = (Path(connector.__file__).parent.parent / "docs" / "endpoints.md").read_text(encoding="utf-8")
BLOCKS: Final = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_an_example_is_a_config_or_a_request_that_compiles(block: dict[str, Any]) -> None:
    is_request = not block.keys() & Config.model_fields.keys() or "messages" in block or "input" in block
    chosen = {"request_format": block} if is_request else block
    assert Plan(Config.load({"url": "http://localhost/v1/embeddings", "endpoint": None, **chosen})).columns
