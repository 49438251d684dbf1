"""A sandbox of the OpenAI API on loopback: the real wire format, made-up text. It is no model, and says so.

Routes: `/v1/models`, `/v1/models/{id}`; whole and streamed `/v1/chat/completions`, `/v1/completions`, `/v1/responses`.
Equal requests get equal replies, but for when they were made and `x-request-id`. `values` fills a JSON Schema from a
text; `replies` (chat), `completions` and `responses` put that into OpenAI's shapes, `server` puts those on the wire.

It is a server for trying things out: nothing that a run needs belongs here.
"""

from __future__ import annotations

from connector.sandbox.asked import KEY, MODEL
from connector.sandbox.server import running, serve

__all__ = ["KEY", "MODEL", "running", "serve"]
