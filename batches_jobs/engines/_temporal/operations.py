"""Carries out one operation of a job with a blocking client, in a thread of a worker.

`activities` wraps it for Temporal. Nothing here knows of Temporal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from batches_core import (
    BatchesError,
    Event,
    InvalidInputError,
    MessageBatch,
    OutcomeUnknownError,
    PreparedRequests,
)
from batches_core.jobs import (
    Cancel,
    ChunkPlanned,
    Collect,
    Create,
    Failure,
    Get,
    JobState,
    Plan,
    PlanRetry,
    Poll,
    PollResult,
    Settle,
    Value,
    describe,
)
from batches_core.lowlevel import CLOCK_SLACK, prepare
from batches_jobs._collect import collect
from batches_jobs._errors import StorageError
from batches_jobs._folder import JobFolder
from batches_jobs._output_file import digest_of
from batches_jobs._results import JobResults
from batches_jobs._runner._sync.client import JobClient
from batches_jobs._storage.input import SharedInput
from batches_jobs._storage.interface import Storage
from batches_jobs._storage.job_files import output_name, raw_name

from .fence import Fence, FencedError
from .messages import JobPlace, Output, Work, WriteWork
