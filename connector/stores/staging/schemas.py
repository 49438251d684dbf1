"""The JSON Schemas of the column types of databases and of typed files."""

from __future__ import annotations

from typing import Final

from connector.base.records import Schema


def string(**more: str) -> Schema:
    """Returns the schema of a nullable text with the keywords `more`."""
    return {"type": ["null", "string"], **more}


BOOLEAN: Final[Schema] = {"type": ["null", "boolean"]}
INTEGER: Final[Schema] = {"type": ["null", "integer"]}
NUMBER: Final[Schema] = {"type": ["null", "number"]}
TEXT: Final = string()
BASE64: Final = string(contentEncoding="base64")
DATE: Final = string(format="date")
TIME: Final = string(format="time", airbyte_type="time_without_timezone")
TIME_TZ: Final = string(format="time", airbyte_type="time_with_timezone")
TIMESTAMP: Final = string(format="date-time", airbyte_type="timestamp_without_timezone")
TIMESTAMP_TZ: Final = string(format="date-time", airbyte_type="timestamp_with_timezone")
