"""The connector's spec: the generated JSON Schema of the config. Imports little, since platforms ask for it often."""

from __future__ import annotations

import json
from pathlib import Path

from connector.base.records import Schema


def spec() -> Schema:
    """Returns the JSON Schema (draft-07) of a config, from which platforms build their form."""
    schema: Schema = json.loads((Path(__file__).parent / "connection.json").read_text(encoding="utf-8"))
    return schema
