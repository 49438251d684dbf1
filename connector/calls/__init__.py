"""One call and its pace: the HTTP client, rate limits, retries, the circuit breaker, fallbacks for picky endpoints.

Spreading calls over workers belongs in `engines`, what a row makes of a reply in `run`.
"""
