"""Turns any OpenAI-compatible endpoint into columns of any data pipeline.

The public names and where they live. They are imported when they are first used (PEP 562), so that a platform's `spec`
does not wait for what only a run needs; `__init__.pyi` spells them out for type checkers.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "connector.config.config": ("Config",),
    "connector.connector": ("Connector",),
    "connector.base.errors": (
        "APIConnectionError",
        "APITimeoutError",
        "AuthenticationError",
        "BadRequestError",
        "BudgetError",
        "ConfigError",
        "ConnectorError",
        "CutError",
        "FatalError",
        "NotFoundError",
        "OutageError",
        "PermissionDeniedError",
        "QuotaError",
        "RateLimitError",
        "RecordError",
        "ReplyError",
        "RetryableError",
        "ServerError",
        "StorageError",
        "TemplateError",
    ),
    "connector.base.records": ("Checkpoint", "Outcome", "Record", "Status"),
    "connector.base.streams": ("Diagnosis", "Selection", "Stream"),
    "connector.base.version": ("__version__",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)  # noqa: PLE0605 - a sorted list of literals, spelt out above


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
