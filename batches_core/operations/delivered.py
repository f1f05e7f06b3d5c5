"""What a reader of results has already been given, so that a second reading adds only what is new.

Knows custom_ids and lines. When a file is read again is `results`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from operator import attrgetter
from typing import Any, TypeAlias, TypeVar

from batches_core.errors import MalformedResultError
from batches_core.models import RawResult, ResultItem

#: A line as the user gets it: decoded, or as it came.
Line = TypeVar("Line", ResultItem[Any], RawResult)
_Block: TypeAlias = list[Line | MalformedResultError]

_ID = attrgetter("custom_id")


class Delivered:
    """What the user has got, so that a second reading of the file adds only what is new.

    Items are known again by their custom_id. An unreadable line is known again by its bytes, of
    which only the hash is kept: of equal ones in a reading, as many are new as are more than in
    any reading before.
    """

    def __init__(self, before: Iterable[str]) -> None:
        self._lines_now = 0
        self._ids = set(before)
        #: What the user had from before, and no reading has shown yet.
        self._unseen = set(self._ids)
        self._malformed: Counter[int] = Counter()
        self._malformed_now: Counter[int] = Counter()
        self._named_now: set[str] = set()
        self._nameless_now = 0

    @property
    def items(self) -> int:
        """How many items were delivered, each custom_id once."""
        return len(self._ids)

    @property
    def accounted_for(self) -> int:
        """How many results are delivered or, in the present reading, were seen to be unreadable."""
        unread = len(self._named_now - self._ids) + self._nameless_now
        return len(self._ids) - len(self._unseen) + unread

    @property
    def is_something_else(self) -> bool:
        """Whether lines came, and none of them was a result or named one."""
        return self._lines_now > 0 and not self._ids and not self._named_now

    @property
    def unseen(self) -> int:
        """How many the user had from before that no reading has shown."""
        return len(self._unseen)

    def missing(self, expected: tuple[str, ...]) -> tuple[str, ...]:
        """Give those ids of which nothing came that names them."""
        return tuple(i for i in expected if i not in self._ids and i not in self._named_now)

    def unexpected(self, expected: tuple[str, ...]) -> tuple[str, ...]:
        """Give the ids that came and are not among these."""
        return tuple(sorted((self._ids | self._named_now).difference(expected)))

    def read_again(self) -> None:
        """Begin a further reading of the file."""
        self._lines_now = 0
        self._malformed_now.clear()
        self._named_now.clear()
        self._nameless_now = 0

    def new(self, block: _Block[Line]) -> _Block[Line]:
        """Give those of a block that were not delivered before, and count them as delivered."""
        if not block:
            return block
        self._lines_now += len(block)
        items = block
        if MalformedResultError in map(type, block):
            items = [item for item in block if not isinstance(item, MalformedResultError)]
        named = set(map(_ID, items))
        self._unseen -= named
        if len(named) == len(block) and self._ids.isdisjoint(named):
            # Nearly every block. In a large file its look-ups take longer than all else here.
            self._ids |= named
            return block
        new = named - self._ids
        self._ids |= named
        return [item for item in block if self._is_new(item, new)]

    def _is_new(self, item: Line | MalformedResultError, new: set[str]) -> bool:
        if not isinstance(item, MalformedResultError):
            was_new = item.custom_id in new
            new.discard(item.custom_id)
            return was_new
        if item.custom_id is None:
            self._nameless_now += 1
        else:
            self._named_now.add(item.custom_id)
        key = hash(item.raw)
        self._malformed_now[key] += 1
        if self._malformed_now[key] <= self._malformed[key]:
            return False
        self._malformed[key] += 1
        return True
