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

    A file that is not there yet is not made: another one is, beside it, and removed again.

    Raises:
        ConfigError: A run could not open it.
        StorageError: It cannot be written.
    """

    def waiting(why: str) -> NoReturn:
        raise _WaitingError(why)

    trial, made = location, []
    if isinstance(location, Path) and not os.path.lexists(location):
        trial = location.with_name(f"{location.name}.{secrets.token_hex(4)}.check")
        made = [folder for folder in location.parents if not folder.exists()]
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
        if isinstance(trial, Path) and trial != location:
            with suppress(OSError):
                trial.unlink(missing_ok=True)
                for folder in made:
                    folder.rmdir()
