"""Counts the results of a job again, and compares them with its records.

`_collect` counts one file. `JobState` has checked the records: each row that was not answered is in
a later chunk, waits to be sent again, or failed for good.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from batches_core import BatchesError
from batches_core.jobs import Chunk, ChunkState, CollectResult

from ._collect import collect
from ._result_lines import ChunkIds, ResultFiles
from ._settled import ChunkOutcome, RowCounts, SettledRows, rows_of

#: How many rows a problem lists.
_MOST_LISTED = 5


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of `verify`.

    - `counts`: the rows of the job, according to its records;
    - `files`: how many results files were counted;
    - `problems`: the differences between files and records, each with the number of the chunk.
    """

    counts: RowCounts
    files: int
    problems: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every row of the input is settled, and all files agree with the records."""
        return not self.problems and self.counts.rows is not None and not self.counts.open


def verify(
    settled: SettledRows, folder: ResultFiles, chunk_ids: ChunkIds, max_line: int
) -> Verification:
    """Count every results file, and compare its rows with those of its chunk."""
    files = 0
    problems: list[str] = []
    for chunk in settled.state.chunks:
        if chunk.state is ChunkState.COLLECTED:
            files += 1
            outcome = settled.outcomes[chunk.number]
            path = folder.raw(chunk.number)
            found = _problems(chunk, outcome, path, chunk_ids, max_line)
            problems += (f"chunk {chunk.number}: {problem}" for problem in found)
    return Verification(counts=settled.counts(), files=files, problems=tuple(problems))


def _problems(
    chunk: Chunk, outcome: ChunkOutcome, path: Path, chunk_ids: ChunkIds, max_line: int
) -> Iterator[str]:
    try:
        ids = chunk_ids.ids(chunk.plan)
        lost = any(each.outcome == "lost" for each in outcome.record.failed)
        # If rows are lost, the file is known to have fewer results than the batch.
        counts = None if lost else chunk.counts
        counted = collect(path, ids, counts, max_line=max_line, batch_id=chunk.batch_id)
    except (BatchesError, OSError) as error:
        yield str(error)
        return
    if sorted(ids.values()) != [*rows_of(chunk.plan)]:
        yield "the custom_ids of the input are not those of its rows"
    if counted.is_foreign:
        yield f"{path} holds the results of other requests"
    else:
        yield from _differences(outcome, counted, ids)


def _differences(
    outcome: ChunkOutcome, counted: CollectResult, ids: Mapping[str, int]
) -> Iterator[str]:
    record = outcome.record
    not_answered = {each.row: each for each in (*record.retried, *record.failed)}
    # Rejected rows were answered. Only the caller can reject them again.
    rejected = {row for row, each in not_answered.items() if each.outcome == "rejected"}
    expected = {row: (each.outcome, each.type) for row, each in not_answered.items()}
    found = {each.row: (each.outcome, each.type) for each in counted.failed}
    names = {row: custom_id for custom_id, row in ids.items()}
    different = sorted(
        row
        for row in expected.keys() | found.keys()
        if expected.get(row) != found.get(row) and (row not in rejected or row in found)
    )
    if different:
        listed = ", ".join(f"row {row:,} ({names.get(row)!r})" for row in different[:_MOST_LISTED])
        more = "" if len(different) <= _MOST_LISTED else ", …"
        yield f"{len(different):,} rows are not what the journal says: {listed}{more}"
    if counted.answered != record.answered + len(rejected):
        yield (
            f"the file has {counted.answered:,} answers, and the journal counts "
            f"{record.answered + len(rejected):,}"
        )
    if counted.usage != record.usage:
        yield "the tokens of the answers are not those that the journal counts"
