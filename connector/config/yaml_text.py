"""Parses configs in YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from yaml.parser import ParserError
from yaml.scanner import ScannerError

from connector.base.errors import ConfigError


def parsed(text: str, path: Path) -> Any:
    """Parses the YAML of the config file `path`. Raises `ConfigError` naming the line where it is broken."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        # Other errors quote values, one of which may be the key; those of scanner and parser only punctuation.
        told = getattr(error, "problem", None) if isinstance(error, ScannerError | ParserError) else None
        line = f", line {where.line + 1}" if where else ""
        what = told or "an invalid tag or alias"
        raise ConfigError(f"the config {path}{line} is neither JSON nor YAML: {what}") from None
