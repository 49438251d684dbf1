"""Calls and their pace: client, caller, what is in flight, rate limits, retries, circuit breaker, and fallbacks.

Spreading calls over workers belongs in `engines`, what a row makes of a reply in `run`.
"""
