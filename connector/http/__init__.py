"""Requests over sockets: HTTP/1.1, connection pools, TLS, deadlines, server-sent events, `Retry-After`.

What a reply means is decided in `replies`, not here: this folder knows HTTP, and nothing of models or rows.
"""
