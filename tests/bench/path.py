"""The stages of a row's path: what each of them is, and what it may cost.

Data alone, since whoever measures memory imports this: a process begins its life with the memory of its parent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from tests.bench.harness import EVENTS

SOCKET: Final = "bare_socket"
JSON: Final = "plain_json"
WHOLE: Final = "the_whole_path"


class Stage(NamedTuple):
    """What a stage does, and its budget: a multiple of its floor, which is as fast as the machine and Python are."""

    what: str
    budget: float
    floor: str = JSON


STAGES: Final[Mapping[str, Stage]] = {
    "read": Stage("input file to records", 2.4),
    "render": Stage("record to request body", 1.4),
    "hash": Stage("request body to key", 0.5),
    "look_up": Stage("keys in a ledger that has as many others", 0.45),
    "hand_over": Stage("calls through the engine's threads, with an endpoint that takes no time", 5.9),
    "send": Stage("request body to reply body, over a socket", 2.5, SOCKET),
    "decode": Stage("reply body to reply", 4.2),
    "store": Stage("replies into a ledger on disk", 4.3),
    "map": Stage("reply to outcome", 3.0),
    "checkpoint": Stage("what a state covers, once all before it is done", 0.4),
    "write": Stage("outcomes to output file, beside their input", 1.9),
}
"""What every row goes through, in this order."""

ASIDE: Final[Mapping[str, Stage]] = {
    "decode_stream": Stage(f"{EVENTS} events to reply, in place of `decode`", 105),
    "recall": Stage("known key to reply, in place of all from `hand over` to `store`", 2.7),
}

FLOORS: Final[Mapping[str, str]] = {
    SOCKET: "the floor of `send`: the same exchange on a bare socket, with nothing done about it",
    JSON: "the floor of all others: a row's JSON written and read once, and a little plain Python",
}
