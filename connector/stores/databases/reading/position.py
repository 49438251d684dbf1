"""How far a query has been read: up to which cursor value and which of its rows, or up to which key."""

from __future__ import annotations

import logging
from base64 import b64decode, b64encode
from binascii import Error
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import orjson

from connector.base import numbers
from connector.base.records import JSON
from connector.stores.staging.position import in_state, state_mismatch

REMEMBERED: Final = 10_000
"""Most rows that a state remembers at its cursor, and as many without one. If more, those at the cursor are reread."""

_LOG: Final = logging.getLogger(__name__)
_SIZE: Final = 8  # bytes of a digest


class SqlPosition(NamedTuple):
    """The position after `rows` records.

    With a cursor `field`, `cursor` is its last value other than null and infinity; `seen` are the digests of the rows
    with that value, `nulls` of those with null or infinity; `None` if there were too many. A later read takes the rows
    at the cursor, or with null, that are not among these: whatever was inserted, updated or deleted since, and in
    whatever order rows come, none is lost, and none is returned twice unchanged.

    Without a cursor, `names` is the primary key and `key` its values in the last row; empty if there is none to resume
    from.
    """

    rows: int = 0
    field: str | None = None
    cursor: JSON = None
    seen: tuple[bytes, ...] | None = ()
    nulls: tuple[bytes, ...] | None = ()
    names: tuple[str, ...] = ()
    key: tuple[JSON, ...] = ()

    @classmethod
    def of(cls, state: JSON, field: str | None, names: Sequence[str]) -> SqlPosition:
        """Returns the position that a state describes, for rows read by the cursor `field`, else by their key if any.

        Raises:
            StateMismatchError: It is not the state of an input read in this order.
        """
        start = cls(field=field, names=tuple(names))
        if not state:
            return start
        match state:
            case {"rows": int(rows), **rest} if field is None and rows >= 0 and rest.keys() <= {"key"}:
                return start._keyed(rows, rest.get("key"))
            case {"cursor_field": str(saved), "cursor": cursor, **rest} if (
                saved == field
                and rest.keys() <= {"rows", "rows_at_cursor", "seen", "nulls"}
                and not isinstance(cursor, dict | list)
            ):  # one written by hand has no digests: rows at the cursor are read again
                handed_out = rest.get("rows", 0)
                try:
                    seen, nulls = (_unpacked(rest.get(name)) for name in ("seen", "nulls"))
                except (Error, TypeError, ValueError):
                    raise state_mismatch(state, field) from None
                if isinstance(handed_out, int) and handed_out >= 0:
                    return start._replace(rows=handed_out, cursor=cursor, seen=seen, nulls=nulls)
        raise state_mismatch(state, field)

    def _keyed(self, rows: int, key: JSON) -> SqlPosition:
        """Returns the position after a key; the beginning if the rows have another key, or none."""
        if not isinstance(key, dict) or tuple(key) != self.names or None in key.values():
            return self
        return self._replace(rows=rows, key=tuple(key.values()))

    @property
    def state(self) -> dict[str, JSON]:
        """The state to save, and to pass to a later `read`."""
        if self.field is None:
            key: dict[str, JSON] = {"key": dict(zip(self.names, self.key, strict=True))} if self.key else {}
            return {"rows": self.rows, **key}
        kept = {"seen": self.seen, "nulls": self.nulls}
        packed = {name: b64encode(b"".join(digests)).decode() for name, digests in kept.items() if digests is not None}
        return {"rows": self.rows, "cursor_field": self.field, "cursor": self.cursor, **packed}

    @property
    def reads_nulls(self) -> bool:
        """Whether rows without a cursor value are read: always, unless there were too many to tell the new ones."""
        return self.cursor is None or self.nulls is not None

    def after(self, batch: Sequence[dict[str, Any]]) -> SqlPosition:
        """Returns the position after these rows."""
        rows = self.rows + len(batch)
        if not batch:
            return self
        if self.field is None:
            return self._replace(rows=rows, key=tuple(batch[-1][name] for name in self.names))
        field = self.field
        nulls = _more(self.nulls, [row for row in batch if in_state(row[field]) is None])
        if nulls is None and self.nulls is not None:
            _LOG.warning(
                'more than %s rows have no value in "%s", so those of them that come later will not be read: '
                "set another cursor_field, or fill them",
                f"{REMEMBERED:,}", field,
            )  # fmt: skip
        others = [row for row in batch if in_state(row[field]) is not None]
        if not others:
            return self._replace(rows=rows, nulls=nulls)
        cursor = others[-1][field]
        ties = next((place for place, row in enumerate(reversed(others)) if row[field] != cursor), len(others))
        before = self.seen if ties == len(others) and cursor == self.cursor else ()
        return self._replace(rows=rows, cursor=cursor, seen=_more(before, others[len(others) - ties :]), nulls=nulls)

    def unread(self, batches: Iterable[list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
        """Yields the batches without the rows that were handed out before this position."""
        if self.field is None:
            yield from batches
            return
        left = {None: Counter(self.nulls or ()), self.cursor: Counter(self.seen or ())}
        if self.cursor is None:
            left[None] = Counter(self.nulls or ())
        for rows in batches:
            if fresh := [row for row in rows if not _is_known(row, left.get(in_state(row[self.field])))]:
                yield fresh


def _is_known(row: dict[str, Any], known: Counter[bytes] | None) -> bool:
    """Returns whether a row is among the known ones, and takes it off their count."""
    if not known:
        return False
    digest = digest_of(row)
    if known[digest] <= 0:
        return False
    known[digest] -= 1
    return True


def digest_of(row: Mapping[str, Any]) -> bytes:
    """Returns the digest that identifies a row, whatever the order of its columns."""
    return blake2b(numbers.dumps(row, str, orjson.OPT_SORT_KEYS), digest_size=_SIZE).digest()


def _more(digests: tuple[bytes, ...] | None, rows: Sequence[dict[str, Any]]) -> tuple[bytes, ...] | None:
    if digests is None or len(digests) + len(rows) > REMEMBERED:
        return None
    return (*digests, *map(digest_of, rows)) if rows else digests


def _unpacked(text: JSON) -> tuple[bytes, ...] | None:
    if text is None:
        return None
    data = b64decode(str(text), validate=True)
    return tuple(data[place : place + _SIZE] for place in range(0, len(data), _SIZE))
