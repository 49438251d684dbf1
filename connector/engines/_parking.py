"""Where calls wait for hours: what is large of them lies in a temporary file, so that a million take little memory."""

from __future__ import annotations

import pickle
from tempfile import TemporaryFile
from typing import Any, Final, NamedTuple

from connector.engines import Call

_NOWHERE: Final[dict[str, Any]] = {}  # one for all: there may be a million
_FLUSHED_AT: Final = 1 << 20


class Parked(NamedTuple):
    """A call that waits, and where its request and its rows lie; a size of 0 where they are still with it."""

    call: Call
    at: int = 0
    size: int = 0


class Parking:
    """Takes the requests and rows of calls, and gives them back. Its file has no name, so it goes with the process."""

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._end = 0
        self._pending = bytearray()

    def park(self, call: Call) -> Parked:
        """Takes what is large of a call. Rows that cannot be written down stay where they are."""
        try:
            data = pickle.dumps((call.body, [record.data for record in call.records]), pickle.HIGHEST_PROTOCOL)
        except Exception:  # noqa: BLE001 - a row may hold objects of any library, which fail as they like
            return Parked(call)
        at = self._end + len(self._pending)
        self._pending += data
        if len(self._pending) >= _FLUSHED_AT:
            self._flush()
        call.body = b""
        for record in call.records:
            record.data = _NOWHERE
        return Parked(call, at, len(data))

    def unpark(self, parked: Parked) -> Call:
        """Returns a call as it was; rows that have joined it since are left alone."""
        call = parked.call
        if parked.size:
            if parked.at + parked.size > self._end:
                self._flush()
            self._file.seek(parked.at)
            call.body, rows = pickle.loads(self._file.read(parked.size))  # noqa: S301 - written above, by this process
            for record, data in zip(call.records, rows, strict=False):
                record.data = data
        return call

    def close(self) -> None:
        """Gives the space back."""
        self._file.close()

    def _flush(self) -> None:
        self._file.seek(self._end)
        self._end += self._file.write(self._pending)
        self._file.flush()
        self._pending.clear()
