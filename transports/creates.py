"""What a client knows of its own creates, so that none takes another's batch for its own.

Knows ids, markers and numbers of requests; nothing of how a create is carried out, and nothing of
a network.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from datetime import datetime
from types import TracebackType
from typing import Self

from batches_core import BatchCreated, BatchesError, CreateMarker, Event, OutcomeUnknown

#: How many of the batches that it created a client remembers.
_REMEMBERED = 1000


class Creates:
    """The creates of one client: their batches, and those of which the outcome is not known."""

    def __init__(self) -> None:
        #: The batches that answered a create, or were adopted, the oldest first.
        self._ids: dict[str, None] = {}
        #: Those that `settle` adopted, and by which marker.
        self._settled: dict[str, CreateMarker] = {}
        #: The creates of which it is not known what became, with their numbers of requests; two
        #: that began at once can have the same key.
        self._in_doubt: deque[tuple[object, int]] = deque(maxlen=_REMEMBERED)

    def begin(self, requests: int) -> OneCreate:
        """Begin a create; until it is known what became of it, it is in doubt."""
        return OneCreate(self, object(), requests)

    def resume(self, outcome: OutcomeUnknown | CreateMarker) -> OneCreate:
        """Take up a create whose outcome is to be settled."""
        marker = outcome.marker if isinstance(outcome, OutcomeUnknown) else outcome
        key = object() if marker is None else _key(marker)
        return OneCreate(self, key, 0 if marker is None else marker.requests, marker)

    def ids_but(self, marker: CreateMarker | None) -> list[str]:
        """Give the ids that cannot be the batch of this marker's create."""
        return [id_ for id_ in self._ids if marker is None or self._settled.get(id_) != marker]

    def doubts_but(self, key: object, requests: int) -> bool:
        """Whether another create of so many requests is in doubt."""
        others = [k for k, n in self._in_doubt if n == requests]
        return len(others) > (key in others)

    def doubt(self, key: object, requests: int) -> None:
        """Remember that nobody knows what became of a create."""
        self._in_doubt.append((key, requests))

    def is_in_doubt(self, key: object, requests: int) -> bool:
        """Whether this create is remembered as one in doubt."""
        return (key, requests) in self._in_doubt

    def know(self, key: object, requests: int) -> None:
        """Remember that it is known."""
        if (key, requests) in self._in_doubt:
            self._in_doubt.remove((key, requests))

    def add(self, id_: str, marker: CreateMarker | None) -> None:
        """Remember a batch."""
        self._ids[id_] = None
        if marker is not None:
            self._settled[id_] = marker
        if len(self._ids) > _REMEMBERED:
            oldest = next(iter(self._ids))
            del self._ids[oldest]
            self._settled.pop(oldest, None)


def _key(marker: CreateMarker) -> tuple[int, str | None, datetime | None]:
    # Without the known ids, of which the error of a create has more than the event before it.
    return marker.requests, marker.newest_id, marker.read_at


class OneCreate(Collection[str]):
    """One create among the others of its client: as a collection, the ids of their batches."""

    def __init__(
        self, creates: Creates, key: object, requests: int, marker: CreateMarker | None = None
    ) -> None:
        self._creates = creates
        self._key = key
        self._requests = requests
        self._marker = marker

    def __iter__(self) -> Iterator[str]:
        return iter(self._creates.ids_but(self._marker))

    def __len__(self) -> int:
        return len(self._creates.ids_but(self._marker))

    def __contains__(self, id_: object) -> bool:
        return id_ in self._creates.ids_but(self._marker)

    def is_contested(self) -> bool:
        """Whether another create of this size is in doubt, and could have made a batch as well."""
        return self._creates.doubts_but(self._key, self._requests)

    def on_event(self, event: Event) -> None:
        """Take the event of a batch that answers this create."""
        if isinstance(event, BatchCreated):
            self._creates.add(event.batch.id, self._marker)

    def __enter__(self) -> Self:
        if not self._creates.is_in_doubt(self._key, self._requests):
            self._creates.doubt(self._key, self._requests)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, OutcomeUnknown):
            if error.marker is not None:
                # It can be settled, by its marker, and is in doubt until then.
                self._creates.know(self._key, self._requests)
                self._creates.doubt(_key(error.marker), self._requests)
        elif error is None or isinstance(error, BatchesError):
            self._creates.know(self._key, self._requests)
        # What broke in from outside, as a cancellation does, leaves it in doubt.
