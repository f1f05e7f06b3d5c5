"""What the workflow is started with, and what it asks of its activities."""

from __future__ import annotations

from typing import Any

import msgspec

from batches_core import CreateMarker, MessageBatch
from batches_core.jobs import (
    ChunkPlanned,
    CollectResult,
    Failure,
    JobOptions,
    JobStatus,
    PlannedInput,
    PollResult,
    Record,
    Spec,
)


class JobStart(msgspec.Struct, frozen=True, kw_only=True):
    """The start of a run of the workflow: the first one, or one that continues another.

    - `job`: the name of the job in the storage;
    - `input_name`: the name of its requests there;
    - `records`: all records so far; none in the first run, which opens the job;
    - `is_paused`: whether the job was paused when the run before ended;
    - `account`: the id of the workflow that grants rows in flight; empty for none;
    - `granted`: the chunks for which it has granted them;
    - `heartbeat`: the seconds after which a silent worker is given up;
    - `most_events`: the events after which the workflow continues in a new run.
    """

    job: str
    job_id: str
    input_name: str
    options: JobOptions
    account: str = ""
    granted: tuple[int, ...] = ()
    heartbeat: float = 60.0
    #: A run can have 51,200 events.
    most_events: int = 10_000
    records: tuple[Record, ...] = ()
    is_paused: bool = False


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A job asks for rows in flight, for one of its chunks; later it releases them.

    `workflow_id` is that of the job, `key` names the chunk. `rows` is 0 in a release.
    """

    workflow_id: str
    key: str
    rows: int = 0


class AccountStart(msgspec.Struct, frozen=True, kw_only=True):
    """The start of a run of an account's workflow.

    - `rows`: how many rows may be in flight, in all jobs together;
    - `granted`, `asked`: the asks that were granted, and those that wait, in their order;
    - `lease`: the seconds after which jobs are asked whether they still run, while others wait;
    - `most_events`: as for a job.
    """

    rows: int
    granted: tuple[Ask, ...] = ()
    asked: tuple[Ask, ...] = ()
    lease: float = 600.0
    most_events: int = 10_000


class AccountStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The rows in flight of an account: how many may be, are granted to each job, and are asked."""

    rows: int
    granted: dict[str, int]
    asked: dict[str, int]


class JobPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where a job's files are, and how its requests are sent."""

    job: str
    job_id: str
    input_name: str
    options: JobOptions


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of a job, as an activity receives it.

    `marker` is that of a create, `chunks` are those of the rows to send again.
    """

    place: JobPlace
    spec: Spec
    marker: CreateMarker | None = None
    chunks: tuple[ChunkPlanned, ...] = ()


class WriteWork(msgspec.Struct, frozen=True, kw_only=True):
    """The output of a job is to be written from these records."""

    place: JobPlace
    records: tuple[Record, ...]


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """A written output: its name in the storage, its size in bytes, and the rows in it."""

    name: str
    size: int
    answered: int
    unanswered: int


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """How an operation ended: with a value, or with a failure. Both are packed."""

    value: Any = None
    failure: Any = None


# msgspec looks up annotations when it first needs them. It must do so here, because a workflow's
# sandbox has other modules.
for _type in (
    Ask,
    AccountStart,
    AccountStatus,
    JobStart,
    Work,
    WriteWork,
    Output,
    Ran,
    Failure,
    PlannedInput,
    PollResult,
    CollectResult,
    MessageBatch,
    JobStatus,
):
    msgspec.json.Decoder(_type)
