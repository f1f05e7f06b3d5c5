"""The batches of an emulator, and what each endpoint does with them.

`service` authenticates requests and makes responses; `EmulatedBatch` computes a batch's state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from .answers import Responder
from .batch import EmulatedBatch, Owner, Pace
from .digest import batch_id
from .fault_rules import FaultRule
from .limits import Limits
from .pages import Ties, cut_page, newest_first
from .refusals import bad_request, not_found


@dataclass(frozen=True, slots=True, kw_only=True)
class Sale:
    """A batch that was accepted, and the ids of its requests."""

    batch_id: str
    custom_ids: tuple[str, ...]


class Endpoints:
    """The endpoints of a service; each returns the JSON body of its response.

    `batches` holds every batch that was not deleted, by id and in the order of creation. The
    parameters are those of `Emulator`. `now` is the time of a call in seconds since the epoch,
    `origin` the origin that the client uses.
    """

    def __init__(
        self, *, pace: Pace, responder: Responder, errored: float, ties: Ties, limits: Limits
    ) -> None:
        self._limits = limits
        #: Every batch that was ever created, deleted ones too, and what was sold with it.
        self.accepted: list[tuple[EmulatedBatch, Sale]] = []
        self._pace = pace
        self._responder = responder
        self._errored = errored
        self._ties = ties
        self.batches: dict[str, EmulatedBatch] = {}
        self._created = 0

    def find(self, id_: str, owner: Owner, now: float) -> EmulatedBatch:
        """Return the owner's batch of this id.

        Raises:
            RefusedError: there is none, or a fault hides it (404).
        """
        batch = self.batches.get(id_)
        if batch is None or batch.owner != owner or batch.is_missing(now):
            raise not_found(f"Batch `{id_}` was not found.")
        return batch

    def newest_first(self, owner: Owner, now: float) -> list[EmulatedBatch]:
        """Return the batches in the owner's list."""
        batches = self.batches.values()
        listed = [b for b in batches if b.owner == owner and not b.is_unlisted(now)]
        return newest_first(listed, self._ties)

    def create(
        self,
        requests: list[tuple[str, msgspec.Raw]],
        *,
        owner: Owner,
        version: str,
        user_profile_id: str | None,
        fault: FaultRule | None,
        now: float,
        origin: str,
    ) -> dict[str, Any]:
        """Add a batch of checked requests.

        Raises:
            RefusedError: the queue of the owner's organization is full (429).
        """
        others = (each for each in self.batches.values() if each.owner[0] == owner[0])
        self._limits.check_queue(sum(each.waiting(now) for each in others), len(requests))
        self._created += 1
        batch = EmulatedBatch(
            id_=batch_id(self._created),
            requests=requests,
            created_at=now,
            version=version,
            pace=self._pace,
            responder=self._responder,
            fault=fault,
            owner=owner,
            user_profile_id=user_profile_id,
            errored=self._errored,
        )
        self.batches[batch.id] = batch
        sale = Sale(batch_id=batch.id, custom_ids=tuple(each for each, _ in requests))
        self.accepted.append((batch, sale))
        return batch.describe(now, origin)

    def list_page(self, url: str, owner: Owner, now: float, origin: str) -> dict[str, Any]:
        """Return a page of the owner's list, chosen by a URL's query.

        Raises:
            RefusedError: the query is invalid (400).
        """
        page, has_more = cut_page(self.newest_first(owner, now), url)
        data = [batch.describe(now, origin) for batch in page]
        return {
            "data": data,
            "has_more": has_more,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
        }

    def cancel(self, batch: EmulatedBatch, now: float, origin: str) -> dict[str, Any]:
        """Cancel a batch.

        Raises:
            RefusedError: it has ended (400). What the service responds then is not documented.
        """
        if batch.ended(now):
            raise bad_request(f"Batch `{batch.id}` cannot be canceled: it has ended.")
        batch.cancel(now)
        return batch.describe(now, origin)

    def delete(self, batch: EmulatedBatch, now: float) -> dict[str, Any]:
        """Delete a batch.

        Raises:
            RefusedError: it has not ended (400).
        """
        if not batch.ended(now):
            state = "processing" if batch.canceled_at is None else "canceling"
            raise bad_request(
                f"Batch `{batch.id}` has not finished {state}. It can be deleted once it has ended."
            )
        del self.batches[batch.id]
        return {"id": batch.id, "type": "message_batch_deleted"}

    def results(self, batch: EmulatedBatch, now: float) -> list[bytes]:
        """Return the lines of a batch's results.

        Raises:
            RefusedError: there are none yet, or they are archived (404). What the service responds
                then is not documented. The resource does not exist, so a 404 is likely.
        """
        if not batch.ended(now):
            raise not_found(f"Batch `{batch.id}` has no results yet.")
        if batch.archived_at(now) is not None:
            raise not_found(f"The results of batch `{batch.id}` have been archived.")
        return batch.lines()
