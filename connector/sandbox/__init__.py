"""A sandbox of the OpenAI API on loopback: the real wire format with made-up text. It is not a model, and says so.

Routes: `/v1/models`, `/v1/models/{id}`, and the path of each endpoint kind that has a stand-in here. A stand-in is a
module with the names of `server.StandIn`, named after its kind: adding one touches no other file. Equal requests get
equal replies, except for the creation time and `x-request-id`. `files` and `batches` answer `/v1/files` and
`/v1/batches`, on request with the faults of real services. `values` fills a JSON Schema from a text, `validation`
checks requests, `server` sends the replies.

This server is for trying things out: what a run needs does not belong here.
"""

from __future__ import annotations

from connector.sandbox.server import running, serve
from connector.sandbox.validation import KEY, MODEL

__all__ = ["KEY", "MODEL", "running", "serve"]
