"""Watches the creates of one job where they leave: at the wire.

A create of a chunk must not leave before its intent is durable, nor while the outcome of an earlier
create of this chunk is unknown, nor if that one made a batch.
"""

from __future__ import annotations

from collections import Counter

from batches_core import MessageBatch, exchange
from batches_core.exchange import Head, ResponseEvent
from batches_core.jobs import ChunkState, Lost, Record, Refused, Submitted
from tests.stress.simulation.service import EPOCH

from .store import Store
from .world import JobWorld


class Wire:
    """What left of one job. `name` is that of the job."""

    def __init__(self, world: JobWorld, name: str, store: Store) -> None:
        self._world = world
        self._name = name
        self._store = store
        #: The chunks whose last create has an unknown outcome.
        self.unknown: set[int] = set()
        self.posts = 0
        #: How many of a chunk's batches are lost.
        self.lost: Counter[int] = Counter()

    def label(self, chunk: int) -> str:
        """Return what the batches of a chunk are known by."""
        return f"{self._name}.{chunk}"

    def create_leaves(self, chunk: int) -> None:
        """Check that a chunk's create may leave now."""
        self.posts += 1
        kept = self._store.state.chunks
        if len(kept) <= chunk or kept[chunk].state is not ChunkState.INTENT:
            self._report(chunk, "a create leaves and its intent is not durable")
        if chunk in self.unknown:
            self._report(chunk, "a create leaves while the outcome of an earlier one is unknown")
        count = kept[chunk].count if len(kept) > chunk else 0
        rivals = [other for other in self.unknown if kept[other].count == count and other != chunk]
        if rivals:
            self._report(chunk, f"a create leaves that looks like that of chunk {rivals[0]}")
        state = self._store.state
        # An adopted batch can turn out to be another's while the next create is under way.
        in_flight = state.in_flight - state.rows_by_state[ChunkState.DOUBT]
        if max(count, state.options.max_waiting) < in_flight:
            self._report(chunk, f"a create leaves, and {in_flight} rows are in flight")
        if self._is_sold(chunk):
            self._report(chunk, "a create leaves and a batch of this chunk exists")
        self.unknown.add(chunk)

    def answered(self, chunk: int, event: ResponseEvent) -> None:
        """Note what the sender of a create is told: a refusal leaves nothing unknown."""
        match event:
            case Head(status=status) if status == 529 or (300 <= status < 500 and status != 408):
                self.unknown.discard(chunk)
            case exchange.Lost(sent=False):
                self.unknown.discard(chunk)
            case _:
                pass

    def created(self, chunk: int, batch: MessageBatch | None) -> None:
        """Check that a batch's id is durable when its create has ended."""
        if batch is None or batch.id not in self._store.state.batches:
            self._report(chunk, "a create ended before its batch was durable")

    def settled(self, chunk: int, *, by: str) -> None:
        """Note that somebody says that a chunk's create made no batch."""
        if self._is_sold(chunk):
            self._report(chunk, f"{by} says that no batch exists, and one does")
        self.unknown.discard(chunk)

    def recorded(self, records: tuple[Record, ...]) -> None:
        """Check records that are durable now."""
        for record in records:
            match record:
                case Submitted(chunk=chunk):
                    self.unknown.discard(chunk)
                case Refused(chunk=chunk) if chunk in self.unknown:
                    self._report(chunk, "a create counts as refused, and nobody has said so")
                case Lost(chunk=chunk):
                    self._is_lost(chunk)
                case _:
                    pass

    def _is_lost(self, chunk: int) -> None:
        service = self._world.job_service
        batch_id = self._store.state.chunks[chunk].batch_id
        created = service.find(batch_id)
        if created is None or created.batch.archived_at(self._world.now + EPOCH) is None:
            self._report(chunk, "a batch counts as lost, and its results can be read")
        if created not in service.batches_of[self.label(chunk)]:
            self._report(chunk, "another's batch counts as this chunk's, and as lost")
        self.lost[chunk] += 1
        self.unknown.discard(chunk)

    def _is_sold(self, chunk: int) -> bool:
        """Whether a create of this chunk made a batch that is not lost, or still can."""
        label = self.label(chunk)
        made = len(self._world.job_service.batches_of[label]) + self._world.held_creates[label]
        return made > self.lost[chunk]

    def _report(self, chunk: int, text: str) -> None:
        self._world.report_violation(f"{text}: {self._name} chunk {chunk}")
