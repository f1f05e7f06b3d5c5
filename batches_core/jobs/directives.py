"""What a job hands to its driver: records to persist, operations to run, and news to pass on."""

from __future__ import annotations

import enum
from typing import TypeAlias

import msgspec

from .operations import Spec
from .records import PauseReason, Record
from .status import Progress


class Persist(msgspec.Struct, frozen=True, kw_only=True):
    """Make these records durable, then call `persisted` with this number.

    No other directive comes before that, and the same one comes again until then.
    """

    number: int
    records: tuple[Record, ...]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Start an operation. It runs beside the others."""

    operation_id: int
    spec: Spec


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """Wait until a running operation reports anything, or until `deadline` if that is not None.

    After the deadline call `handle_timeout`.
    """

    deadline: float | None


class Ending(enum.StrEnum):
    """How a job's run ends."""

    FINISHED = "finished"
    """Every row has its end."""
    CANCELED = "canceled"
    """The job was canceled, and what it had bought is collected."""
    PAUSED = "paused"
    """A person is needed; `JobStatus.paused` says for what."""
    DOUBTS = "doubts"
    """All is done but chunks of which a person must say whether their batch exists."""


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """The run is over. Running the job again goes on where that is possible."""

    ending: Ending


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """Pull this operation again only after `Persist` number `number` is durable."""

    number: int


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """An operation failed and will be tried again after `delay` seconds."""

    chunk: int | None
    message: str
    delay: float


class RoomChanged(msgspec.Struct, frozen=True, kw_only=True):
    """The service's queue was full, or was served for an hour: this many rows may be in flight."""

    room: int


class StraySeen(msgspec.Struct, frozen=True, kw_only=True):
    """The list shows a batch of a doubted chunk's size that is not the job's.

    It can be a create that arrived late, or a colleague's batch. It is never touched.
    """

    chunk: int
    batch_id: str


class JobPaused(msgspec.Struct, frozen=True, kw_only=True):
    """Submitting stopped."""

    reason: PauseReason
    message: str


class ChunkChanged(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk went on to another state."""

    chunk: int
    state: str


#: What a driver passes on to its user.
News: TypeAlias = Trouble | RoomChanged | StraySeen | JobPaused | ChunkChanged | Progress


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Pass this on to the user."""

    news: News


#: Everything that `Job.next` returns.
Directive: TypeAlias = Persist | Run | Wait | Report | Done
