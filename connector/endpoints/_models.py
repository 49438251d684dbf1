"""What a model is for, judged by its name alone."""

from __future__ import annotations

import re
from typing import Final

from connector.base.regex import regex

EMBEDDING: Final = "embeddings"
IMAGE: Final = "images"
MODERATION: Final = "moderations"

_NAMES: Final = {
    EMBEDDING: regex(r"embed|(?:^|[/-])(?:bge|gte|e5|minilm)(?:$|[-.])", re.IGNORECASE),
    IMAGE: regex(r"dall-e|gpt-image|stable-diffusion|flux|imagen", re.IGNORECASE),
    "audio": regex(r"whisper|(?:^|[/-])tts(?:$|[-.])|transcribe", re.IGNORECASE),
    MODERATION: regex(r"moderation", re.IGNORECASE),
    "ranking": regex(r"rerank", re.IGNORECASE),
}
_CHAT: Final = regex(r"chat|instruct|gpt-[345]", re.IGNORECASE)


def purpose_of(model: str) -> str | None:
    """Returns the purpose of a model that does not write text; `None` for others, and if the name does not say."""
    return next((purpose for purpose, pattern in _NAMES.items() if pattern.search(model)), None)


def is_chat_model(model: str) -> bool:
    """Returns whether the name is that of a chat model."""
    return _CHAT.search(model) is not None
