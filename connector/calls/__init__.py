"""One call and its pace: client, caller, rate limits, retries, circuit breaker, and fallbacks for refused requests.

Spreading calls over workers belongs in `engines`, what a row makes of a reply in `run`.
"""
