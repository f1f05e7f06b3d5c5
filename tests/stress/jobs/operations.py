"""The operations of a job, as its runner carries them out: real operations of `BatchesAPI`.

See `batches_jobs/_runner/_async/runner.py`, whose part this plays.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from batches_core import (
    Event,
    InvalidInputError,
    MalformedResultError,
    MessageBatch,
    PageReceived,
    ResultsReceived,
)
from batches_core.jobs import (
    Cancel,
    Collect,
    CollectResult,
    Create,
    Get,
    Plan,
    PlanRetry,
    Poll,
    PollResult,
    Settle,
    Spec,
    Value,
)
from batches_core.lowlevel import CLOCK_SLACK, prepare
from batches_jobs import _collect as _collect_module
from batches_jobs._collect import collect
from batches_jobs._usage import AnswerDecoder

from .store import read_part

if TYPE_CHECKING:
    from .process import Process

_shared_decoder = cache(AnswerDecoder)


def execute(process: Process, operation_id: int, spec: Spec) -> Generator[float, None, Value]:
    """Carry out an operation; return what it ends with."""
    sim = process.sim
    match spec:
        case Plan():
            yield sim.world.now
            return sim.rows.plan(spec)
        case PlanRetry():
            yield sim.world.now
            return sim.rows.plan_retry(spec)
        case Poll():
            return (yield from _poll(process, spec))
        case Collect():
            return (yield from _collect(process, spec))
        case Settle():
            return (yield from _settle(process, operation_id, spec))
        case _:
            return (yield from _request(process, operation_id, spec))


def _request(
    process: Process, operation_id: int, spec: Create | Get | Cancel
) -> Generator[float, None, MessageBatch | None]:
    api, run = process.api, process.exchanges.run
    observe = partial(process.observe, operation_id)
    match spec:
        case Create(plan=plan):
            prepared = prepare(process.sim.rows.requests(plan))
            create = api.create(prepared, known_ids=spec.known_ids)
            batch = yield from run(
                create, process.record("create", plan.chunk), observe, plan.chunk
            )
            process.check(must_end=True)
            process.sim.wire.created(plan.chunk, batch)
            return batch
        case Get(chunk=chunk, batch_id=batch_id):
            return (yield from run(api.get(batch_id), process.record("get", chunk), observe))
        case Cancel(chunk=chunk, batch_id=batch_id):
            return (yield from run(api.cancel(batch_id), process.record("cancel", chunk), observe))


def _settle(
    process: Process, operation_id: int, spec: Settle
) -> Generator[float, None, MessageBatch | None]:
    settle = process.api.settle(spec.marker, settle_time=spec.settle_time, known_ids=spec.known_ids)
    record = process.record("settle", spec.chunk)
    batch = yield from process.exchanges.run(settle, record, partial(process.observe, operation_id))
    process.check()
    if batch is None and process.is_open(spec):
        process.sim.wire.settled(spec.chunk, by="settle")
    return batch


def _collect(process: Process, spec: Collect) -> Generator[float, None, CollectResult]:
    name = process.sim.store.name_of(spec.plan.chunk)
    if name not in process.sim.store.files:
        yield from _download(process, spec, name)
        process.step()
    return _count(process, spec, name)


def _poll(process: Process, spec: Poll) -> Generator[float, None, PollResult]:
    missing = set(spec.batch_ids)
    shown: list[MessageBatch] = []

    def on_event(event: Event) -> bool:
        if not isinstance(event, PageReceived):
            return False
        for batch in event.page.data:
            if batch.id in missing or batch.request_counts.total in spec.sizes:
                missing.discard(batch.id)
                shown.append(batch)
            is_past = spec.since is not None and spec.since - batch.created_at > CLOCK_SLACK
            if is_past or (not missing and not spec.sizes):
                return True
        return False

    operation = process.api.list_all(limit=1000)
    yield from process.exchanges.run(operation, process.record("list", -1), on_event)
    return PollResult(batches=tuple(shown))


def _download(process: Process, spec: Collect, name: str) -> Generator[float, None, None]:
    """Receive the results into a part, from where the last download stopped; then rename it.

    Raises:
        InvalidInputError: the part has lines that the service does not send, as `ResultsFile` says.
    """
    files, part = process.sim.store.files, process.sim.store.part_of(spec)
    kept = files.get(part, b"")
    kept = kept[: kept.rfind(b"\n") + 1]
    files[part] = kept
    delivered, unmatched = read_part(kept)

    def on_event(event: Event) -> None:
        if not isinstance(event, ResultsReceived):
            return
        lines: list[bytes] = []
        for item in event.items:
            raw: bytes = item.raw
            if isinstance(item, MalformedResultError) and unmatched[raw] > 0:
                unmatched[raw] -= 1
            else:
                lines.append(raw + b"\n")
        process.write(part, b"".join(lines))

    operation = process.api.raw_results(spec.batch_id, delivered=delivered)
    record = process.record("results", spec.plan.chunk)
    yield from process.exchanges.run(operation, record, on_event)
    if unmatched.total():
        raise InvalidInputError(f"{part} has unreadable lines that are not in the results")
    process.step()
    files[name] = files.pop(part)


def _count(process: Process, spec: Collect, name: str) -> CollectResult:
    """Count the results with the code of `batches_jobs`, which wants a real file."""
    sim = process.sim
    data = sim.store.files[name]
    with tempfile.NamedTemporaryFile(prefix="sim-") as file:
        file.write(data)
        file.flush()
        # To make a decoder takes longer than everything else here.
        with patch.object(_collect_module, "AnswerDecoder", _shared_decoder):
            result = collect(
                Path(file.name), sim.rows.ids_of(spec.plan), spec.counts, accept=sim.accept
            )
    if result.is_foreign:
        sim.store.files[f"{name}.{spec.batch_id}.foreign"] = sim.store.files.pop(name)
    return result
