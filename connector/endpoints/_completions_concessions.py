"""Other ways to ask for a completion, for servers that refuse parameters which others take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from connector.base.records import JSON
from connector.endpoints import Concession
from connector.endpoints._chat_concessions import CONCESSIONS as CHAT
from connector.endpoints._chat_concessions import schema_of
from connector.endpoints._prompt import in_json


def told(body: dict[str, JSON], words: str) -> dict[str, JSON] | None:
    """The request with words at the end of each of its prompts; `None` where these are tokens."""
    prompt = body.get("prompt")
    prompts = prompt if isinstance(prompt, list) else [prompt]
    if not prompts or not all(isinstance(each, str) for each in prompts):
        return None
    longer = [f"{each}\n\n{words}\n\n" for each in prompts]
    return {**body, "prompt": longer if isinstance(prompt, list) else longer[0]}


def _as_prompt(body: dict[str, JSON]) -> dict[str, JSON] | None:
    """Nothing but words: the schema is told in the prompt."""
    schema = schema_of(body)
    if schema is None:
        return None
    return told({name: value for name, value in body.items() if name != "response_format"}, in_json(schema))


CONCESSIONS: Final[Mapping[str, Concession]] = {
    "prompt": Concession(CHAT["prompt"].is_asked, _as_prompt),
    "no_usage": CHAT["no_usage"],
}
"""By the names that the table of capabilities keeps them under, in the order in which they are tried."""
