"""The model: whether the server lists it, which names are near, and whether it is one for this kind of endpoint."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Final

_CHATTING: Final = ("chat", "responses", "completions")
_OTHERS: Final = {
    "embeddings": re.compile(r"embed|(?:^|[/-])(?:bge|gte|e5|minilm)(?:$|[-.])", re.IGNORECASE),
    "images": re.compile(r"dall-e|gpt-image|stable-diffusion|flux|imagen", re.IGNORECASE),
    "audio": re.compile(r"whisper|(?:^|[/-])tts(?:$|[-.])|transcribe", re.IGNORECASE),
    "moderation": re.compile(r"moderation|rerank", re.IGNORECASE),
}


def near(model: str, offered: Sequence[str], kind: str) -> str:
    """The names that were probably meant, of those that fit the kind, as a half sentence."""
    fitting = [name for name in offered if unfit(name, kind) is None] or list(offered)
    meant, by_lower = model.strip().lower(), {name.lower(): name for name in reversed(fitting)}
    found = [by_lower[name] for name in get_close_matches(meant, by_lower, n=3, cutoff=0.5)]
    contained = [name for lower, name in by_lower.items() if meant and (meant in lower or lower.endswith(f"/{meant}"))]
    names = list(dict.fromkeys([*found, *contained]))[:3]
    if names:
        return f"did you mean {', '.join(names)}?"
    return f"there are: {', '.join(fitting[:5])}{', …' if len(fitting) > len(fitting[:5]) else ''}" if fitting else ""


def unfit(model: str, kind: str) -> str | None:
    """What a model is for by its name, where that is not what this kind of endpoint does."""
    purpose = next((name for name, pattern in _OTHERS.items() if pattern.search(model)), None)
    if purpose is None or purpose == kind:
        return "chat" if kind == "embeddings" and re.search(r"chat|instruct|gpt-[345]", model, re.IGNORECASE) else None
    return purpose if kind in (*_CHATTING, "embeddings", "images") else None


def answered(model: str | None, offered: Sequence[str], kind: str, told: str | None) -> str:
    """What is to be said of a model that answers; `told` is what the reply calls it."""
    if model is None:
        return f"the request names none; {told or 'one that the server does not name'} answers"
    other = f'; the reply says it is "{told}"' if told not in (None, model) else ""
    if offered and model not in offered:
        rest = near(model, offered, kind)
        return f'"{model}" answers{other}, though the server does not list it: it may be ignored; {rest}'
    return f'"{model}" answers{other}'


def wanted(model: str | None, offered: Sequence[str], kind: str) -> str:
    """The change to make where the endpoint does not want this model."""
    if model is None:
        pick = f": the server has {', '.join(offered[:5])}" if offered else ""
        return f"the request names no model: set model, or put it into request_format{pick}"
    purpose = unfit(model, kind)
    if purpose is not None:
        rest = near("", offered, kind)
        return f'"{model}" is by its name a model for {purpose}, not for {kind}: set model to another' + (
            f"; {rest}" if rest else ""
        )
    if model in offered:
        change = f"set model to one for {kind}, or url to the endpoint that this one is for"
        return f'the server lists "{model}", but does not answer with it here: {change}'
    rest = near(model, offered, kind)
    return f'there is no model "{model}": set model to one that the endpoint has' + (f" ({rest})" if rest else "")
