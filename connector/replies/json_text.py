"""Finds the JSON in a model's text: after thoughts that a server left in it, or inside a Markdown code fence."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from connector.base import numbers
from connector.base.decoding import DepthError, is_too_deep
from connector.base.regex import regex

_THOUGHTS: Final = r"(?:seed:)?think(?:ing)?|thoughts?|reason(?:ing)?|reflection"
_OPENED: Final = regex(rf"\s*(?:<(?:{_THOUGHTS})>|◁think▷|\[think\])", re.IGNORECASE)
_FINAL: Final = r"<\|channel\|>final ?(?:<\|constrain\|>\w+)?<\|message\|>"  # gpt-oss: the channel of the answer
_CLOSED: Final = regex(rf"</(?:{_THOUGHTS})>|◁/think▷|\[/think\]|{_FINAL}", re.IGNORECASE)
_ENDED: Final = regex(r"<\|(?:return|end|im_end|eot_id|endoftext)\|>\Z")
"""The token that ends a turn, which some servers leave in the text."""

_FENCE: Final = "```"
_LANGUAGE: Final = regex(r"(?:json|[a-z]\w*(?=\s))?", re.IGNORECASE)


def json_in(content: str) -> Any:
    """Returns the value of the JSON in a text, which may have thoughts before it and a code fence around it.

    Chat templates often put the opening tag of thoughts into the prompt, so a closing tag alone ends them too.

    Raises:
        ValueError: It is not JSON. `DepthError`: it is nested too deeply.
    """
    text = content.strip().removeprefix("\ufeff")
    try:
        value = numbers.loads(text)
    except orjson.JSONDecodeError:
        text = _unfenced(_without_thoughts(text))
        value = numbers.loads(text)
    if is_too_deep(value, text):
        raise DepthError
    return value


def _without_thoughts(text: str) -> str:
    """Returns what follows the thoughts, of which there may be several; JSON after one of them ends the search."""
    end = 0
    closed = _CLOSED.search(text)
    while closed is not None:
        end = closed.end()
        closed = _CLOSED.search(text, end) if _OPENED.match(text, end) else None
    return _ENDED.sub("", text[end:]).strip()


def _unfenced(text: str) -> str:
    if len(text) < 2 * len(_FENCE) or not (text.startswith(_FENCE) and text.endswith(_FENCE)):
        return text
    inner = text.removeprefix(_FENCE).removesuffix(_FENCE)
    return inner[_LANGUAGE.match(inner).end() :].strip()  # type: ignore[union-attr]  # it matches the empty text
