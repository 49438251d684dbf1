"""How providers of batches differ, by the host of their URL. One that is not listed is treated like OpenAI.

The page that each row is read from is named in `docs/batch.md`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

MB: Final = 1_000_000


class Provider(NamedTuple):
    """What a provider admits.

    Attributes:
        name: Its name.
        max_requests: Requests in a batch.
        max_bytes: Bytes of its file.
        prefix: What precedes the path of an endpoint kind in the lines of a file.
        windows: The completion windows that it knows, for people.
        advice: Why its batches cannot be used; empty where they can.
    """

    name: str
    max_requests: int = 50_000
    max_bytes: int = 200 * MB
    prefix: str = "/v1"
    windows: str = "24h"
    advice: str = ""


OPENAI: Final = Provider("OpenAI")

PROVIDERS: Final = {
    "api.openai.com": OPENAI,
    "openai.azure.com": Provider("Azure OpenAI"),
    "api.together.xyz": Provider("Together", max_bytes=100 * MB),
    "api.together.ai": Provider("Together", max_bytes=100 * MB),
    "api.groq.com": Provider("Groq", windows="24h to 7d"),
    "api.novita.ai": Provider("Novita", max_bytes=100 * MB),
    "api.mistral.ai": Provider("Mistral", advice="it has an API of its own for batch jobs"),
    "api.fireworks.ai": Provider("Fireworks", advice="it has an API of its own, of data sets and jobs"),
}
"""By the end of the host's name."""


def provider_of(host: str) -> Provider:
    """Returns what is known of a host."""
    name = host.lower().rstrip(".")
    return next((each for end, each in PROVIDERS.items() if name == end or name.endswith(f".{end}")), OPENAI)
