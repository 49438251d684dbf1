"""What a request demands about tool calls, and whether a reply complies."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, NamedTuple

from connector.base.records import JSON, Answer
from connector.endpoints._shapes import as_dict, text_or_none

_READS_CALLS: Final = frozenset({"tool_calls", "tool_name", "arguments", "choices", "output"})
_MUST: Final = frozenset({"required", "any"})
_OWN_TOOLS: Final = frozenset({"previous_response_id", "conversation", "prompt"})
"""Keys of a request to `/responses` that refer to stored content, which may include tools. Chat has none of them."""


class Asked(NamedTuple):
    """What a request demands: the functions it offers (`None`: any), whether one must be called, and which one."""

    offered: frozenset[str] | None
    must_call: bool = False
    named: str | None = None

    def unmet(self, body: dict[str, Any], answer: Answer) -> str | None:
        """Returns what is wrong with the tool calls of a reply, if anything. See `connector.endpoints.Expectation`."""
        del body
        called = answer.called
        if not called and not self.must_call:
            return None
        known = called if self.offered is None else [name for name in called if name in self.offered]
        if self.must_call and self.named is not None and self.named not in called:
            return f'the reply does not call "{self.named}", as tool_choice asks'
        if self.must_call and not known:
            return "the reply does not call a function that is offered, as tool_choice asks"
        if called and not known and not (answer.content or "").strip():
            names = ", ".join(f'"{name}"' for name in called)
            return f"the reply only calls {names}, which the request does not offer"
        return None


def asked_by(request: JSON, reads: Collection[str]) -> Asked | None:
    """Returns what a request of this structure demands; `None` if no reply could fail to comply.

    Args:
        request: The request, whose strings may be templates, which may render as anything.
        reads: The names that the response format reads. If it reads tool calls, any call is welcome.
    """
    if not isinstance(request, dict) or any("{" in key for key in request):
        return None
    offered = _offered(request)
    choice = request.get("tool_choice") or request.get("function_call")
    must_call, named = _chosen(choice)
    if choice == "none" or as_dict(choice).get("type") == "none":
        offered = frozenset()
    if not must_call and (offered is None or not _READS_CALLS.isdisjoint(reads)):
        return None
    return Asked(offered, must_call, named)


def _offered(request: dict[str, Any]) -> frozenset[str] | None:
    if not _OWN_TOOLS.isdisjoint(request):
        return None
    names: set[str] = set()
    for tools in (request.get("tools") or [], request.get("functions") or []):
        if not isinstance(tools, list):
            return None
        for tool in tools:
            if not isinstance(tool, dict):
                return None
            name = name_of(tool)
            if name is None and tool.get("type") not in ("function", "custom", None):
                continue  # a tool that the endpoint runs itself
            if name is None or "{" in name:
                return None
            names.add(name)
    return frozenset(names)


def name_of(tool: dict[str, Any]) -> str | None:
    """Returns the name of a tool or `tool_choice`, in the shape of chat or of responses."""
    inner = as_dict(tool.get("function") or tool.get("custom"))
    return text_or_none(inner.get("name")) or text_or_none(tool.get("name"))


def _chosen(choice: JSON) -> tuple[bool, str | None]:
    """Returns whether a `tool_choice` forces a call, and the function, if it names one."""
    if isinstance(choice, str):
        return choice.lower() in _MUST, None
    chosen = as_dict(choice)
    kind = chosen.get("type")
    if kind == "allowed_tools":
        inner = as_dict(chosen.get("allowed_tools")) or chosen
        return inner.get("mode") in _MUST, None
    if kind in _MUST:
        return True, None
    name = name_of(chosen)
    return name is not None, name if name is None or "{" not in name else None
