"""Whether a run could open its ledger and write it, found out without leaving anything behind."""

from __future__ import annotations

import os
import secrets
from contextlib import closing, suppress
from pathlib import Path
from typing import NoReturn

from connector import ledger as ledgers
from connector.base.errors import ConfigError, Problem, StorageError


class _WaitingError(Exception):
    """A ledger cannot be opened at once."""


def tried(location: ledgers.Location) -> None:
    """Opens the ledger as a run would. One that another run has is well; one that is damaged a run would set aside.

    A file or a folder that is not there yet is not made: another one is, beside it, and removed again.

    Raises:
        ConfigError: A run could not open it.
        StorageError: It cannot be written.
    """

    def waiting(why: str) -> NoReturn:
        raise _WaitingError(why)

    place = location.folder if isinstance(location, ledgers.Url) else location
    trial, beside, made = location, None, []
    if place is not None and not os.path.lexists(place):
        beside = place.with_name(f"{place.name}.{secrets.token_hex(4)}.check")
        trial = beside if isinstance(location, Path) else ledgers.location_of(f"{beside}/")
        made = [folder for folder in place.parents if not folder.exists()]
    try:
        with closing(ledgers.load(trial).opened(trial, waiting)) as ledger:
            ledger.prove()
    except ledgers.DamageError:
        pass
    except StorageError as error:
        raise StorageError(error.message.replace(str(trial), str(location)), detail=error.detail) from None
    except _WaitingError as error:
        if isinstance(location, ledgers.Url):
            raise ConfigError([Problem("cache", str(error))]) from None
    finally:
        if beside is not None:
            with suppress(OSError):
                beside.rmdir() if beside.is_dir() else beside.unlink(missing_ok=True)
                for folder in made:
                    folder.rmdir()
