"""The record of results that were delivered, so that a second reading adds only new ones.

`Delivered` compares custom_ids and unreadable lines. `results` decides when a file is read again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from operator import attrgetter
from typing import Any, TypeAlias, TypeVar

from batches_core.errors import MalformedResultError
from batches_core.models import RawResult, ResultItem

#: A line as it is delivered: decoded, or unparsed.
Line = TypeVar("Line", ResultItem[Any], RawResult)
#: The items of the lines that one received piece of the file completed.
_Block: TypeAlias = list[Line | MalformedResultError]

_custom_id_of = attrgetter("custom_id")


class Delivered:
    """The results that the caller has received, in one or more readings of the file.

    `before` holds the custom_ids that an earlier operation delivered.

    A result is recognised by its custom_id, and an unreadable line by a hash of its bytes. The same
    unreadable line can occur several times in a file. If it occurred twice in an earlier reading,
    only a third occurrence in a later reading is new.
    """

    def __init__(self, before: Iterable[str]) -> None:
        self._ids = set(before)
        #: The ids from before that no reading has contained yet.
        self._unconfirmed = set(self._ids)
        #: How often each unreadable line was delivered, by its hash.
        self._unreadable: Counter[int] = Counter()
        # The other attributes describe the current reading.
        self._lines = 0
        self._has_results = False
        self._unreadable_in_reading: Counter[int] = Counter()
        #: The custom_ids of unreadable lines, and how many such lines show none.
        self._unreadable_ids: set[str] = set()
        self._unreadable_without_id = 0

    @property
    def count(self) -> int:
        """The number of custom_ids whose results were delivered, including those from before."""
        return len(self._ids)

    @property
    def accounted_for(self) -> int:
        """The number of results that were in any reading, or are unreadable in the current one."""
        unreadable = len(self._unreadable_ids - self._ids) + self._unreadable_without_id
        return len(self._ids) - len(self._unconfirmed) + unreadable

    @property
    def is_not_a_results_file(self) -> bool:
        """Whether the current reading has lines, but shows no custom_id."""
        return self._lines > 0 and not self._has_results and not self._unreadable_ids

    @property
    def unconfirmed(self) -> int:
        """The number of ids from before that no reading has contained."""
        return len(self._unconfirmed)

    def missing(self, expected: tuple[str, ...]) -> tuple[str, ...]:
        """Return the expected ids that no line shows."""
        return tuple(i for i in expected if i not in self._ids and i not in self._unreadable_ids)

    def unexpected(self, expected: tuple[str, ...]) -> tuple[str, ...]:
        """Return the ids of lines that were not expected, sorted."""
        return tuple(sorted((self._ids | self._unreadable_ids).difference(expected)))

    def begin_reading(self) -> None:
        """Begin another reading of the file."""
        self._lines = 0
        self._has_results = False
        self._unreadable_in_reading.clear()
        self._unreadable_ids.clear()
        self._unreadable_without_id = 0

    def add(self, block: _Block[Line]) -> _Block[Line]:
        """Return the items of a block that are new, and record them as delivered."""
        if not block:
            return block
        self._lines += len(block)
        readable = block
        if MalformedResultError in map(type, block):
            readable = [item for item in block if not isinstance(item, MalformedResultError)]
        ids = set(map(_custom_id_of, readable))
        self._has_results = self._has_results or bool(ids)
        self._unconfirmed -= ids
        if len(ids) == len(block) and self._ids.isdisjoint(ids):
            # Nearly every block is new as a whole. This path saves look-ups, which take longer than
            # everything else here if the file is large.
            self._ids |= ids
            return block
        new_ids = ids - self._ids
        self._ids |= ids
        return [item for item in block if self._record_if_new(item, new_ids)]

    def _record_if_new(self, item: Line | MalformedResultError, new_ids: set[str]) -> bool:
        if not isinstance(item, MalformedResultError):
            is_new = item.custom_id in new_ids
            new_ids.discard(item.custom_id)
            return is_new
        if item.custom_id is None:
            self._unreadable_without_id += 1
        else:
            self._unreadable_ids.add(item.custom_id)
        key = hash(item.raw)
        self._unreadable_in_reading[key] += 1
        if self._unreadable_in_reading[key] <= self._unreadable[key]:
            return False
        self._unreadable[key] += 1
        return True
