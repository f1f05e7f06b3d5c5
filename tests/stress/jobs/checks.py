"""Checks of what is left of a job at its end: its records and files, against the service's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from batches_core.jobs import (
    Chunk,
    ChunkState,
    Collected,
    CreateIntended,
    Done,
    Doubted,
    Ending,
    Job,
    JobState,
    Persist,
    Report,
    Resumed,
)
from batches_core.jobs.failure import pause_of

from .rows import is_good, rows_of
from .sim import SimJob


def check_job(job: SimJob) -> None:
    """Report everything that is wrong with a job that has come to its end."""
    if job.ending is None:
        if not job.world.violations:
            job.world.report_violation(f"{job.name} has no end")
        return
    for text in _problems(job):
        job.world.report_violation(f"{text}: {job.name}")


def _problems(job: SimJob) -> Iterator[str]:
    records = job.store.load()
    state = JobState()
    state.apply_all(records)
    if (job.ending is Ending.CANCELED) is not state.is_canceled:
        yield f"it ended {job.ending} and is_canceled is {state.is_canceled}"
    yield from _sold(job, state)
    yield from _rows(job, state, [each for each in records if isinstance(each, Collected)])
    yield from _rounds(job, state)
    yield from _memory(job, state)
    yield from _runs_again(job)


def _sold(job: SimJob, state: JobState) -> Iterator[str]:
    """Each chunk was bought as often as it had to be, and each batch is in the records."""
    service = job.world.job_service
    known = set(state.batches)
    labels = {job.wire.label(chunk.number) for chunk in state.chunks}
    for label in service.batches_of:
        if label.startswith(f"{job.name}.") and label not in labels:
            yield f"a batch was made of {label}, which is no chunk"
    for chunk in state.chunks:
        own = service.batches_of[job.wire.label(chunk.number)]
        is_sold = chunk.state in {ChunkState.COLLECTED, ChunkState.LOST}
        wanted = job.wire.lost[chunk.number] + (chunk.state is ChunkState.COLLECTED)
        if len(own) != wanted:
            yield f"chunk {chunk.number}, {chunk.state.value}, was bought {len(own)} times"
        if not is_sold and not (state.is_canceled and chunk.state is ChunkState.PLANNED):
            yield f"chunk {chunk.number} is {chunk.state.value} at the end"
        for each in own:
            if each.id not in known:
                yield f"batch {each.id} of chunk {chunk.number} is in no record"
        if own and chunk.batch_id and own[-1].id != chunk.batch_id:
            yield f"the batch of chunk {chunk.number} is not its own"


def _rows(job: SimJob, state: JobState, collected: list[Collected]) -> Iterator[str]:
    """Each row was answered or failed once, and as the service says."""
    ends: Counter[int] = Counter()
    for record in collected:
        chunk = state.chunks[record.chunk]
        again = {row.row for row in record.retried}
        failed = {row.row for row in record.failed}
        ids = job.rows.ids_of(chunk.plan)
        good = {ids[custom_id] for custom_id in _answered(job, chunk)}
        if good & (again | failed) or good | again | failed != set(rows_of(chunk.plan)):
            yield f"the rows of chunk {chunk.number} are not what the service says"
        if len(good) != record.answered:
            yield f"chunk {chunk.number} has {len(good)} answers and counts {record.answered}"
        ends.update(good)
        ends.update(failed)
        if not state.is_canceled and any(pause_of(row) for row in record.failed):
            yield f"rows of chunk {chunk.number} failed because there was no money"
    for chunk in state.by_state[ChunkState.LOST].values():
        ends.update(rows_of(chunk.plan))
    if twice := [row for row, times in ends.items() if times > 1]:
        yield f"rows have two ends: {twice}"
    if job.ending is Ending.FINISHED and set(ends) != set(range(len(job.rows.ids))):
        yield f"rows have no end: {sorted(set(range(len(job.rows.ids))) - set(ends))}"


def _answered(job: SimJob, chunk: Chunk) -> Iterator[str]:
    """Return the ids of the rows that the file answers; its results must be the service's.

    What else stands in the file are unreadable lines, which a proxy can have sent.
    """
    data = job.store.files.get(job.store.name_of(chunk.number), b"")
    created = job.world.job_service.find(chunk.batch_id)
    assert created is not None
    sent = Counter(created.batch.lines())
    received = Counter(data.splitlines(keepends=True))
    if sent - received or any(b'"result"' in line for line in received - sent):
        job.world.report_violation(
            f"the file of chunk {chunk.number} is not what the service sent: {job.name}"
        )
    for line in sent:
        item = msgspec.json.decode(line)
        result = item["result"]
        if result["type"] == "succeeded":
            is_bad = result["message"]["content"][0]["text"] == "bad"
            if not (is_bad and job.accept is is_good):
                yield item["custom_id"]


def _rounds(job: SimJob, state: JobState) -> Iterator[str]:
    """No row is sent more often than the rounds, missing money and purchases allow."""
    sent: Counter[int] = Counter()
    free: Counter[int] = Counter()
    for record in job.store.load():
        if isinstance(record, Collected):
            free.update(row.row for row in record.retried if pause_of(row) is not None)
    for chunk in state.chunks:
        own = job.world.job_service.batches_of[job.wire.label(chunk.number)]
        for row in rows_of(chunk.plan):
            sent[row] += len(own)
            free[row] += chunk.times_lost
    most = 1 + job.options.rounds
    for row, times in sent.items():
        if times > most + free[row]:
            yield f"row {row} was sent {times} times, and {most + free[row]} are allowed"


def _memory(job: SimJob, state: JobState) -> Iterator[str]:
    """There are only so many records: some for each chunk, create, doubt and run."""
    records = job.store.load()
    intents = sum(isinstance(record, CreateIntended) for record in records)
    doubts = sum(isinstance(record, Doubted) for record in records)
    if intents > job.wire.posts + job.processes + doubts:
        yield f"{intents} intents for {job.wire.posts} creates"
    most = 6 * len(state.chunks) + 3 * intents + 2 * doubts + 4 * (job.processes + job.runs) + 8
    if len(records) > most:
        yield f"{len(records)} records, more than {most}"


def _runs_again(job: SimJob) -> Iterator[str]:
    """To run a finished job again starts no operation."""
    again = Job(job.store.load(), 0.0)
    while isinstance(directive := again.next(), Report | Persist):
        if isinstance(directive, Persist):
            # Only that it goes on after a pause.
            if not all(isinstance(record, Resumed) for record in directive.records):
                yield f"to run it again records {directive.records!r:.100}"
            again.persisted(directive.number, 0.0)
    if not isinstance(directive, Done):
        yield f"to run it again does something: {directive!r:.100}"
    elif directive.ending is not job.ending:
        yield f"to run it again ends {directive.ending}"
