"""What a finish reason means, under any name: OpenAI's own, and those that servers pass through from their engines.

A name is judged by its words, ignoring case and separators, since engines and gateways spell the same reason in many
ways: `MAX_TOKENS`, `maxTokens`, `max-tokens`, `FINISH_REASON_MAX_TOKENS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from typing import Final

from connector.base.regex import regex


class Ending(Enum):
    """How a reply ended."""

    COMPLETED = "completed"
    """The model was done, or the reason is unknown."""

    CUT = "cut"
    """A token limit was reached."""

    FILTERED = "filtered"
    """A filter, a guardrail or the model itself stopped it."""

    BROKEN_OFF = "broken off"
    """The server, the network or somebody else ended it. The same request may succeed later."""


_NOT_A_LETTER: Final = regex(r"[^a-z]")
_LONGEST: Final = 100  # characters of a name that are read

_NAMES: Final[Mapping[str, Ending]] = {
    **dict.fromkeys(("limit", "errorlimit", "incomplete", "partial"), Ending.CUT),
    **dict.fromkeys(("filter", "block", "language", "spii", "errortoxic", "hate", "denied"), Ending.FILTERED),
    **dict.fromkeys(("pauseturn", "unload", "time", "oom", "lost"), Ending.BROKEN_OFF),
}
"""Names to be read as a whole, since their words would mislead or mean nothing."""

_INTERRUPTIONS: Final = """
    ratelimit throttl timelimit maxtime timeout timedout deadline quota malformed resource capacity outofmemory
"""
_FILTERS: Final = """
    filter safety unsafe sensitive moderat guardrail prohibit blocklist blocked recitation refus toxic policy violation
    censor armor inspection jailbreak harmful profanity privacy pii copyright riskcontrol
    flagged reject illegal violen hatespeech sexual selfharm csam abus
"""
_LENGTHS: Final = """
    length max toolong capped tokenlimit tokenbudget outoftokens contextwindow contextlimit contextsize contextfull
    contextoverflow truncat exceed overflow
"""
_FAILURES: Final = """
    error abort fail cancel interrupt network disconnect connection insufficient overload unavailable unload
    preempt evict crash panic stall expired closed unexpected toomany missing repetition userstop stoppedbyuser
    kill shutdown exception internal terminat
"""
_WORDS: Final = tuple(
    (ending, tuple(words.split()))
    for ending, words in (
        (Ending.BROKEN_OFF, _INTERRUPTIONS),
        (Ending.FILTERED, _FILTERS),
        (Ending.CUT, _LENGTHS),
        (Ending.BROKEN_OFF, _FAILURES),
    )
)
"""Words and their meanings, the more specific ones first: `content_filter_error` is about a filter, and `rate_limit` is
not a token limit. Names with these words were seen at OpenAI, Azure, Anthropic, Gemini and Vertex, Bedrock, Cohere,
Mistral, DeepSeek, Zhipu, Moonshot, vLLM, SGLang, TGI, llama.cpp, LM Studio, and as OpenRouter's `native_finish_reason`.
"""


@lru_cache(maxsize=256)
def ending_of(reason: str) -> Ending:
    """Returns what a finish reason means. An unknown one counts as completed, and is shown to the user."""
    name = _NOT_A_LETTER.sub("", reason[:_LONGEST].lower()).removeprefix("finishreason")
    if name in _NAMES:
        return _NAMES[name]
    return next((ending for ending, words in _WORDS if any(word in name for word in words)), Ending.COMPLETED)
