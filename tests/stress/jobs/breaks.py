"""Mechanisms of jobs, each broken on purpose: the simulation must see every one of them.

`python -m tests.stress.jobs --break all` runs seeds with each of them until one sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import msgspec

from batches_core import BatchCreated, BatchesAPI, CreateMarked, Event, OutcomeUnknownError
from batches_core.context import Flow
from batches_core.jobs import (
    ChunkState,
    Collect,
    CollectResult,
    FailedRow,
    Job,
    JobState,
    Refused,
    machine,
)
from batches_core.jobs.failure import Failure, is_passing, pause_of
from batches_core.operations import create, settle
from batches_core.operations.delivered import Delivered

from . import operations
from .process import Process
from .store import Store, read_part

_S = ChunkState


class _AnySize(int):
    """A number of requests that every batch has."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__


# --- what the driver must do -------------------------------------------------------------

_observe = Process.observe


def _observe_lazily(self: Process, operation_id: int, event: Event) -> None:
    """Write the intent some time later."""
    if not isinstance(event, CreateMarked):
        _observe(self, operation_id, event)
        return
    self.step()
    self.job.event(operation_id, event, self.clock)


def _append_torn(self: Store, records: tuple[Any, ...]) -> None:
    """Make one record after the other durable; the last is lost in a crash."""
    _append(self, records[:-1] or records)


_append = Store.append


def _read_part_torn(data: bytes) -> tuple[tuple[str, ...], Any]:
    """Forget which results a part holds."""
    return (), _read_part(data)[1]


_read_part = read_part


def _collect_early(process: Process, spec: Collect, name: str) -> Generator[float, None, None]:
    """Take the first piece of the results for all of them."""
    files, run = process.sim.store.files, process.exchanges.run
    files[part := process.sim.store.part_of(spec)] = b""

    def on_event(event: Event) -> bool:
        for item in getattr(event, "items", ()):
            files[part] += item.raw + b"\n"
        return bool(files[part])

    operation = process.api.raw_results(spec.batch_id)
    yield from run(operation, process.record("results", spec.plan.chunk), on_event)
    process.check()
    files[name] = files.pop(part)


def _count_anything(process: Process, spec: Collect, name: str) -> CollectResult:
    """Count results without a look at the number and the ids of the lines."""
    lines = process.sim.store.files[name].splitlines()
    return CollectResult(
        answered=spec.plan.count if lines else 0,
    )


# --- what the machine must do ------------------------------------------------------------

_event = Job.event
_init = Job.__init__


def _event_without_created(self: Job, operation_id: int, event: Event, now: float) -> Any:
    """Record a batch when the operation has ended."""
    return None if isinstance(event, BatchCreated) else _event(self, operation_id, event, now)


def _init_without_intents(self: Job, *arguments: Any, **options: Any) -> None:
    """Create again what was being created when the last process died."""
    _init(self, *arguments, **options)
    for chunk in [*self.state.by_state[_S.INTENT]]:
        self._emit(Refused(chunk=chunk, reason="the process died"))


class _Nothing(set[int]):
    """A set that nothing can be added to."""

    def add(self, element: int) -> None:
        del element


def _init_without_obstructions(self: Job, *arguments: Any, **options: Any) -> None:
    """Repeat a download that only a person can help."""
    _init(self, *arguments, **options)
    self._obstructed = _Nothing()


def _doubt_as_refused(self: Job, chunk: Any, failure: Failure) -> None:
    """Create a chunk again whose outcome is unknown."""
    self._emit(Refused(chunk=chunk.number, reason=failure.message))


def _sent_again_for_ever(self: Job, chunk: Any, row: FailedRow) -> bool:
    del chunk
    return not self.state.is_canceled and (is_passing(row) or pause_of(row) is not None)


def _sent_again_for_a_round(self: Job, chunk: Any, row: FailedRow) -> bool:
    """Let a row that failed for want of money fail for good."""
    return is_passing(row) and chunk.plan.round < self.state.options.rounds


def _all_planned(self: Job) -> list[Any]:
    return [*self.state.by_state[_S.PLANNED].values()]


def _no_ids(self: Job, chunk: Any) -> tuple[str, ...]:
    del self, chunk
    return ()


def _always(*arguments: Any) -> bool:
    del arguments
    return True


def _never(*arguments: Any) -> bool:
    del arguments
    return False


_collect_state = JobState._collect


def _forget_retries(self: JobState, chunk: Any, record: Any) -> None:
    _collect_state(self, chunk, record)
    self.waiting.clear()


# --- what the core must do ---------------------------------------------------------------

_settle = BatchesAPI.settle


def _is_no_file(self: Delivered) -> bool:
    """Judge a reading by all readings before it."""
    return self._lines > 0 and not self._ids and not self._unreadable_ids


_find = settle._find_candidates


def _find_any_size(context: Any, pending: Any, settling: Any, *, is_last: bool) -> Flow[Any]:
    marker = pending.marker
    pending.marker = msgspec.structs.replace(marker, requests=_AnySize(marker.requests))
    try:
        return (yield from _find(context, pending, settling, is_last=is_last))
    except OutcomeUnknownError as error:
        error.marker = marker
        raise
    finally:
        pending.marker = marker


def _settle_at_once(self: BatchesAPI, outcome: Any, **options: Any) -> Any:
    return _settle(self, outcome, **{**options, "settle_time": 0.0})


#: Each mechanism by name: what it is broken with.
BREAKS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "intent written after the create left": lambda: patch.object(
        Process, "observe", _observe_lazily
    ),
    "batch recorded only when its create has ended": lambda: patch.object(
        Job, "event", _event_without_created
    ),
    "records of one write kept in part": lambda: patch.object(Store, "append", _append_torn),
    "intents forgotten by the next process": lambda: patch.object(
        Job, "__init__", _init_without_intents
    ),
    "doubted chunk created again": lambda: patch.object(Job, "_doubt", _doubt_as_refused),
    "lost response taken for a refusal": lambda: patch.object(
        create, "may_have_had_effect", _never
    ),
    "settle adopts any size": lambda: patch.object(settle, "_find_candidates", _find_any_size),
    "settle looks only once": lambda: patch.object(BatchesAPI, "settle", _settle_at_once),
    "adopted batch not proven by its ids": lambda: patch.object(
        operations, "_count", _count_anything
    ),
    "known ids forgotten": lambda: patch.object(Job, "_known_ids", _no_ids),
    "chunks of one size created while one is unclear": lambda: patch.object(
        Job, "_ready", _all_planned
    ),
    "results collected before the file is complete": lambda: patch.object(
        operations, "_download", _collect_early
    ),
    "results of a part forgotten": lambda: patch.object(operations, "read_part", _read_part_torn),
    "rounds unbounded": lambda: patch.object(Job, "_is_sent_again", _sent_again_for_ever),
    "missing money costs a round": lambda: patch.object(
        Job, "_is_sent_again", _sent_again_for_a_round
    ),
    "rows to send again forgotten": lambda: patch.object(JobState, "_collect", _forget_retries),
    "room ignored": lambda: patch.object(Job, "_has_room", _always),
    "any key trusted that finds no batch": lambda: patch.object(Job, "_has_right_key", _always),
    "obstructed download repeated": lambda: patch.object(
        Job, "__init__", _init_without_obstructions
    ),
    "page taken for the rest of the results": lambda: patch.object(
        Delivered, "is_not_a_results_file", property(_is_no_file)
    ),
    "a 404 taken for a lost batch at once": lambda: patch.object(machine, "_MISSING", 0.0),
}


@contextmanager
def broken(name: str | None) -> Iterator[None]:
    """Break one mechanism for a while; None breaks nothing."""
    with nullcontext() if name is None else BREAKS[name]():
        yield
