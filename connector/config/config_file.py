"""Reads a config from a JSON or YAML file. Imports little, since the forms of platforms are made with it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from connector.base.decoding import loads
from connector.base.errors import ConfigError
from connector.base.suggestions import file_meant


def read(path: Path) -> dict[str, Any]:
    """Reads a config file. Raises `ConfigError` naming the file, and the line where it is broken."""
    try:
        data = _parsed(path.read_text(encoding="utf-8-sig"), path)
    except OSError as error:
        meant = file_meant(str(path)) if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(
            f"the config {path} cannot be read: {error.strerror or error}{meant and f': {meant}'}"
        ) from None
    except RecursionError:
        raise ConfigError(f"the config {path} is nested too deeply") from None
    except UnicodeDecodeError:
        raise ConfigError(f"the config {path} is neither JSON nor YAML: not UTF-8") from None
    if not isinstance(data, dict):
        raise ConfigError(f"the config {path} is not an object of options")
    if odd := [name for name in data if not isinstance(name, str)]:
        raise ConfigError(f"the config {path}: {odd[0]!r} is not the name of an option")
    return data


def _parsed(text: str, path: Path) -> Any:
    """Parses JSON, else YAML. JSON comes first, since YAML reads tabs, `1e-05` and escaped emoji differently."""
    try:
        return loads(text)
    except ValueError:
        return import_module("connector.config.yaml_text").parsed(text, path)  # 7 ms, which most configs do not need
