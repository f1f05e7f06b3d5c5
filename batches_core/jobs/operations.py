"""The operations that a job asks its driver to run, and what they return. All are plain values.

An engine can run them in another process: msgspec writes and reads them as JSON.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias

import msgspec

from batches_core.marker import CreateMarker
from batches_core.models import MessageBatch

from .records import ChunkPlanned, Counts, FailedRow, Usage


class _Spec(msgspec.Struct, frozen=True, kw_only=True, tag_field="operation"):
    """The base of all operations."""


class Plan(_Spec, frozen=True, kw_only=True, tag="plan"):
    """Cut the next chunk off the input: at most `rows` rows from `first_row`, at the byte `start`.

    Ends with a `PlannedInput`.
    """

    chunk: int
    first_row: int
    start: int
    rows: int


class PlanRetry(_Spec, frozen=True, kw_only=True, tag="plan_retry"):
    """Gather these rows of the input, which failed, into a chunk. Ends with a `ChunkPlanned`."""

    chunk: int
    rows: tuple[int, ...]
    round: int


class Create(_Spec, frozen=True, kw_only=True, tag="create"):
    """Create the batch of a chunk. Ends with its `MessageBatch`.

    The driver reports `CreateMarked` and `BatchCreated` as events. `known_ids` are batches of the
    job that have as many rows.
    """

    plan: ChunkPlanned
    known_ids: tuple[str, ...] = ()


class Settle(_Spec, frozen=True, kw_only=True, tag="settle"):
    """Find out whether a chunk's create made a batch. Ends with it, or with None."""

    chunk: int
    marker: CreateMarker
    settle_time: float
    known_ids: tuple[str, ...] = ()


class Poll(_Spec, frozen=True, kw_only=True, tag="poll"):
    """Read the list until it has shown all of these batches. Ends with a `PollResult`.

    Batches of these `sizes` are reported too: they can be creates that arrived late. The oldest of
    the batches was created at `since`, so the list need not be read further back.
    """

    batch_ids: tuple[str, ...]
    sizes: tuple[int, ...] = ()
    since: datetime | None = None


class Get(_Spec, frozen=True, kw_only=True, tag="get"):
    """Read a batch that the list did not show. Ends with its `MessageBatch`."""

    chunk: int
    batch_id: str


class Cancel(_Spec, frozen=True, kw_only=True, tag="cancel"):
    """Cancel a batch. Ends with its `MessageBatch`."""

    chunk: int
    batch_id: str


class Collect(_Spec, frozen=True, kw_only=True, tag="collect"):
    """Download a chunk's results to their file, and count them. Ends with a `CollectResult`."""

    plan: ChunkPlanned
    batch_id: str
    counts: Counts


#: All operations.
Spec: TypeAlias = Plan | PlanRetry | Create | Settle | Poll | Get | Cancel | Collect


class PlannedInput(msgspec.Struct, frozen=True, kw_only=True):
    """The next chunk of the input, None if no row is left; `ended` if no row is left after it."""

    plan: ChunkPlanned | None
    ended: bool


class PollResult(msgspec.Struct, frozen=True, kw_only=True):
    """The batches that a poll showed, of the requested ids and sizes."""

    batches: tuple[MessageBatch, ...]


class CollectResult(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of a chunk by their outcome.

    With `is_foreign` the results are those of other requests: the batch is not this chunk's.
    """

    answered: int
    failed: tuple[FailedRow, ...] = ()
    usage: tuple[Usage, ...] = ()
    is_foreign: bool = False


#: What an operation ends with.
Value: TypeAlias = PlannedInput | ChunkPlanned | MessageBatch | PollResult | CollectResult | None
