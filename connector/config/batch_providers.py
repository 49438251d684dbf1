"""How providers of batches differ, by the host of their URL. One that is not listed is treated like OpenAI.

`docs/batch.md` names the source of each row.
"""

from __future__ import annotations

from typing import Final, NamedTuple

MB: Final = 1_000_000


class Provider(NamedTuple):
    """What a provider allows.

    Attributes:
        name: Its name.
        max_requests: Most requests in a batch.
        max_bytes: Most bytes of a batch's file.
        prefix: What precedes the path of an endpoint kind in the lines of a file.
        windows: The completion windows that it offers, for people to read.
        advice: Why its batches cannot be used; empty if they can.
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
    "api.mistral.ai": Provider("Mistral", advice="it has its own API for batch jobs"),
    "api.fireworks.ai": Provider("Fireworks", advice="it has its own API of data sets and jobs"),
}
"""By the end of the host name."""


def provider_of(host: str) -> Provider:
    """Returns what is known of a host."""
    name = host.lower().rstrip(".")
    return next((each for end, each in PROVIDERS.items() if name == end or name.endswith(f".{end}")), OPENAI)
