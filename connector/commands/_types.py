"""The types of arguments: each returns the value of a text, or raises what argparse tells, with exit code 2."""

from __future__ import annotations

import math
import os
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Final

from connector.ledger import Url, location_of

_MOST: Final = 2**31 - 1
_ALL: Final = 100
_MOST_DAYS: Final = 10**6


def file_path(text: str) -> str:
    """Returns the path of a file, with `~` expanded where the shell has left it: `--config=~/c.json`."""
    if not text.strip():
        raise ArgumentTypeError("the name of a file is missing: name one")
    return os.path.expanduser(text)  # noqa: PTH111 - a glob is not a path


def ledger_place(text: str) -> Path | Url:
    """Returns where a ledger is: a URL, or a path."""
    try:
        return location_of(text if "://" in text else file_path(text))
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def new_ledger(text: str) -> str:
    """Returns where a run keeps its replies: a URL, a folder, or a file to write."""
    return text if isinstance(ledger_place(text), Url) else new_file_path(text)


def new_file_path(text: str) -> str:
    """Returns the path of a file to write."""
    found = file_path(text)
    if os.path.isdir(found) or not os.path.basename(found):  # noqa: PTH112, PTH119 - Path("a/") is Path("a")
        raise ArgumentTypeError(f'"{text}" is a folder: name the file to write')
    return found


def count(text: str) -> int:
    """Returns a whole number of at least 0."""
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number <= _MOST:
        raise ArgumentTypeError(f'"{text}" is not a whole number from 0 to {_MOST}: write one')
    return number


def percent(text: str) -> float:
    """Returns a number of percent, from 0 to 100."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= _ALL:
        raise ArgumentTypeError(f'"{text}" is not a number of percent, from 0 to {_ALL}: write one')
    return number


def days(text: str) -> float:
    """Returns a number of days. A negative one reaches into the future."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not abs(number) <= _MOST_DAYS:  # also where it is not a number
        raise ArgumentTypeError(f'"{text}" is not a number of days: write one')
    return number
