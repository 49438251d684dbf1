"""Calls and their pace: client, caller, what is in flight, rate limits, retries, circuit breaker, and fallbacks.

Spreading calls over workers belongs in `engines`, turning a reply into a row's outcome in `run`.
"""
