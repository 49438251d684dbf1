"""What a model is for, judged by its name alone."""

from __future__ import annotations

import re
from typing import Final

EMBEDDING: Final = "embeddings"
IMAGE: Final = "images"
MODERATION: Final = "moderations"

_NAMES: Final = {
    EMBEDDING: re.compile(r"embed|(?:^|[/-])(?:bge|gte|e5|minilm)(?:$|[-.])", re.IGNORECASE),
    IMAGE: re.compile(r"dall-e|gpt-image|stable-diffusion|flux|imagen", re.IGNORECASE),
    "audio": re.compile(r"whisper|(?:^|[/-])tts(?:$|[-.])|transcribe", re.IGNORECASE),
    MODERATION: re.compile(r"moderation", re.IGNORECASE),
    "ranking": re.compile(r"rerank", re.IGNORECASE),
}
_CHAT: Final = re.compile(r"chat|instruct|gpt-[345]", re.IGNORECASE)


def purpose_of(model: str) -> str | None:
    """Returns what a model that does not write text is for; `None` for all others, and where the name does not tell."""
    return next((purpose for purpose, pattern in _NAMES.items() if pattern.search(model)), None)


def is_chat_model(model: str) -> bool:
    """Returns whether the name is that of a model that chats."""
    return _CHAT.search(model) is not None
