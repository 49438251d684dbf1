"""Keys for the rows of an input without a primary key: the same input gives the same keys, and no two rows share one.

A key is a hash of the row's content. Rows with the same content get a number behind it, from the second one on. So a
key stays the same when other rows come, go or move; a row that changes is another row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import Any, Final

import orjson

from connector.base import numbers
from connector.base.records import ROW_KEY, Outcome, Record, Schema

SCHEMA: Final[Schema] = {"type": "string", "description": "Identifies the row, where no primary key is configured."}


class RowKeys:
    """Gives a key to each record that enters, and puts it into the record's outcome.

    It remembers eight bytes of each row (about 70 MB for a million rows): configure a `primary_key` to save them.

    Args:
        earlier: Returns the records of the input from its beginning; used where reading continues in the middle.
    """

    def __init__(self, earlier: Callable[[], Iterable[Any]]) -> None:
        self._earlier = earlier
        self._seen: set[int] = set()
        self._again: Counter[int] = Counter()
        self._keys: dict[int, str] = {}
        self._has_begun = False

    def entering(self, items: Iterable[Any]) -> Iterator[Any]:
        """Passes items on, in the order of the input."""
        for item in items:
            if isinstance(item, Record):
                if not self._has_begun:
                    self._begin(item.index)
                self._keys[item.index] = self._key(item.data)
            yield item

    def leaving(self, results: Iterable[Any]) -> Iterator[Any]:
        """Passes results on, in any order; each outcome's group begins with the key."""
        for result in results:
            if isinstance(result, Outcome):
                yield result._replace(group={ROW_KEY: self._keys.pop(result.record.index), **result.group})
            else:
                yield result

    def _begin(self, first: int) -> None:
        """Counts the rows that an earlier read has handed out: later ones may have the same content."""
        self._has_begun = True
        for item in self._earlier() if first else ():
            if isinstance(item, Record):
                if item.index >= first:
                    return
                self._key(item.data)

    def _key(self, data: dict[str, Any]) -> str:
        digest = blake2b(numbers.dumps(data, str, orjson.OPT_SORT_KEYS), digest_size=8)
        number = int.from_bytes(digest.digest())
        if number not in self._seen:
            self._seen.add(number)
            return digest.hexdigest()
        self._again[number] += 1
        return f"{digest.hexdigest()}-{self._again[number]}"
