"""Requests over sockets: HTTP/1.1, connection pools, TLS, deadlines, server-sent events, `Retry-After`.

This folder knows HTTP, not models or rows: what a reply means is decided in `replies`.
"""
