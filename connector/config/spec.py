"""The connector's spec, as generated: the JSON Schema of the config. Light: platforms ask for it at every turn."""

from __future__ import annotations

import json
from pathlib import Path

from connector.base.records import Schema


def spec() -> Schema:
    """The JSON Schema (draft-07) that platforms draw their form from, and that a config is validated against."""
    schema: Schema = json.loads((Path(__file__).parent / "connection.json").read_text(encoding="utf-8"))
    return schema
