"""How long a test waits for what must come."""

from __future__ import annotations

from typing import Final

PATIENCE: Final = 600.0
"""Seconds after which what a test waits for is taken never to come: more than the busiest machine needs."""
