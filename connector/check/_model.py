"""The model: whether the server lists it, which names are close, and whether it suits the kind of endpoint."""

from __future__ import annotations

from collections.abc import Sequence

from connector import endpoints
from connector.base.suggestions import closest


def near(model: str, offered: Sequence[str], kind: str) -> str:
    """Returns a clause with the names that were probably meant, among those that suit the kind."""
    endpoint = endpoints.load(kind)
    fitting = [name for name in offered if endpoint.other_purpose(name) is None] or list(offered)
    meant, by_lower = model.strip().lower(), {name.lower(): name for name in reversed(fitting)}
    found = [by_lower[name] for name in closest(meant, by_lower, 3, 0.5)]
    contained = [name for lower, name in by_lower.items() if meant and (meant in lower or lower.endswith(f"/{meant}"))]
    names = list(dict.fromkeys([*found, *contained]))[:3]
    if names:
        return f"did you mean {', '.join(names)}?"
    return f"there are: {', '.join(fitting[:5])}{', …' if len(fitting) > len(fitting[:5]) else ''}" if fitting else ""


def answered(model: str | None, offered: Sequence[str], kind: str, reported: str | None) -> str:
    """Returns the finding for a model that answers; `reported` is its name in the reply."""
    if model is None:
        return f"the request names none; {reported or 'one that the server does not name'} answers"
    other = f'; the reply says it is "{reported}"' if reported not in (None, model) else ""
    if offered and model not in offered:
        rest = near(model, offered, kind)
        return f'"{model}" answers{other}, though the server does not list it: it may be ignored; {rest}'
    return f'"{model}" answers{other}'


def wanted(model: str | None, offered: Sequence[str], kind: str) -> str:
    """Returns the problem and the change to make for a model that the endpoint refuses."""
    if model is None:
        pick = f": the server has {', '.join(offered[:5])}" if offered else ""
        return f"the request names no model: put it into request_format, or set model if there is none{pick}"
    purpose = endpoints.load(kind).other_purpose(model)
    if purpose is not None:
        rest = near("", offered, kind)
        return f'"{model}" is, by its name, a model for {purpose}, not for {kind}: set model to another' + (
            f"; {rest}" if rest else ""
        )
    if model in offered:
        change = f"set model to one for {kind}, or url to the endpoint that this one is for"
        return f'the server lists "{model}", but does not answer with it here: {change}'
    rest = near(model, offered, kind)
    return f'there is no model "{model}": set model to one that the endpoint has' + (f" ({rest})" if rest else "")
