"""The common part of all inputs: planned chunks are read again from the files that hold them.

`jsonl` and `spooled` plan the chunks of the input.
"""

from __future__ import annotations

import contextlib
import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence

import msgspec

from batches_core import MAX_BYTES, InvalidInputError, LocalProtocolError, RequestsSource
from batches_core.jobs import ChunkFiller, ChunkPlanned, Ids, Plan, PlannedInput, PlanRetry
from batches_jobs._folder import JobFolder

from .chunk_file import ChunkFile, ChunkRequests
from .files import Description
from .request_ids import RequestIds, own_id
from .spool_file import SpoolFile

#: The names of the files of chunks, and of incomplete ones.
_CHUNK_NAME = re.compile(r"(\d{6,})\.jsonl(\.part)?")


class StoredInput(ABC):
    """An input whose planned chunks are in files. It implements `interface.Input`.

    `max_bytes` is the limit of a chunk's body, in bytes. By default it is that of the service.

    The files in ``spool/`` and ``retry/`` are kept as long as the job. Its results need them after
    its end: to join each answer to its row and to the caller's custom_id, and to verify the files.
    """

    #: The kind of the input, as in its description.
    kind: str

    def __init__(
        self, folder: JobFolder, *, job_id: str, ids: Ids = "keep", max_bytes: int = MAX_BYTES
    ) -> None:
        self._folder = folder
        self._ids = RequestIds(ids, job_id)
        self._max_bytes = max_bytes

    @abstractmethod
    def describe(self) -> str:
        """See `interface.Input`."""

    @abstractmethod
    def plan(self, spec: Plan) -> PlannedInput:
        """See `interface.Input`."""

    @abstractmethod
    def _input_file(self, plan: ChunkPlanned) -> ChunkFile:
        """Return the file of a chunk that was cut off the input."""

    @abstractmethod
    def _resume(self, source: str, chunks: list[ChunkPlanned], *, ended: bool) -> None:
        """Continue after these chunks of the input. Chunks of retries are not among them."""

    def resume(self, source: str, chunks: Sequence[ChunkPlanned], *, ended: bool) -> None:
        """See `interface.Input`."""
        kind = _kind_of(source)
        if kind and kind != self.kind:
            raise InvalidInputError(
                f"the job was begun with an input of the kind {kind!r}, and this one is "
                f"{self.kind!r}: pass the same input, or start another job in another folder"
            )
        self._remove_unplanned(chunks)
        self._resume(source, [each for each in chunks if not each.rows], ended=ended)

    def plan_retry(self, spec: PlanRetry, chunks: Sequence[ChunkPlanned]) -> ChunkPlanned:
        """See `interface.Input`."""
        filler = ChunkFiller(len(spec.rows), self._max_bytes)
        rows: list[int] = []
        ids: set[str] = set()
        is_full = False
        with SpoolFile(self._folder.retry(spec.chunk)) as file:
            for chunk, wanted in _by_chunk(spec.rows, chunks):
                # A chunk is read to its end, because only then have its bytes been compared.
                for row, line in self._file(chunk).rows():
                    if row not in wanted or is_full:
                        continue
                    if (custom_id := self._ids.sent_id(line, row)) in ids:
                        continue
                    if not filler.add(len(self._ids.as_sent(line, row))):
                        is_full = True
                        continue
                    ids.add(custom_id)
                    rows.append(row)
                    file.write(line)
                if is_full:
                    break
            file.finish()
        return ChunkPlanned(
            chunk=spec.chunk,
            count=filler.count,
            rows=tuple(rows),
            round=spec.round,
            end=file.size,
            content_length=filler.content_length,
            digest=file.digest,
        )

    def requests(self, plan: ChunkPlanned) -> RequestsSource:
        """See `interface.Input`."""
        return ChunkRequests(self._file(plan), self._ids)

    def lines(self, plan: ChunkPlanned) -> Iterator[tuple[int, bytes]]:
        """See `interface.Input`."""
        return self._file(plan).rows()

    def ids(self, plan: ChunkPlanned) -> dict[str, int]:
        """See `interface.Input`."""
        if self._ids.is_mapped:
            rows = plan.rows or range(plan.first_row, plan.first_row + plan.count)
            return {self._ids.sent_id(b"", row): row for row in rows}
        return {self._ids.sent_id(line, row): row for row, line in self._file(plan).rows()}

    def custom_ids(self, plan: ChunkPlanned) -> dict[int, str | None]:
        """See `interface.Input`."""
        return {row: own_id(line) for row, line in self._file(plan).rows()}

    def lines_of(
        self, rows: Sequence[int], chunks: Sequence[ChunkPlanned]
    ) -> Iterator[tuple[int, bytes]]:
        """Read the requests of these rows in ascending order, byte for byte as in the input.

        The errors are those of `lines`.
        """
        for chunk, wanted in _by_chunk(rows, chunks):
            for row, line in self._file(chunk).rows():
                if row in wanted:
                    yield row, line

    def _file(self, plan: ChunkPlanned) -> ChunkFile:
        if not plan.rows:
            return self._input_file(plan)
        path = self._folder.retry(plan.chunk)
        first, last = plan.rows[0], plan.rows[-1]
        return ChunkFile(plan, path, 0, plan.end, lambda: f"rows {first:,} to {last:,}")

    def _remove_unplanned(self, chunks: Sequence[ChunkPlanned]) -> None:
        """Remove the files of chunks that are not in the journal because of a crash."""
        spooled = {each.chunk for each in chunks if not each.rows}
        gathered = {each.chunk for each in chunks if each.rows}
        for folder, planned in (
            (self._folder.spool(0).parent, spooled),
            (self._folder.retry(0).parent, gathered),
        ):
            for path in folder.glob("*"):
                match = _CHUNK_NAME.fullmatch(path.name)
                if match and (match[2] or int(match[1]) not in planned):
                    with contextlib.suppress(OSError):
                        path.unlink()


def _kind_of(source: str) -> str:
    """Return the kind of input that a description names; empty if it is not a description."""
    try:
        return msgspec.json.decode(source, type=Description).kind
    except msgspec.MsgspecError:
        return ""


def _by_chunk(
    rows: Sequence[int], chunks: Sequence[ChunkPlanned]
) -> Iterator[tuple[ChunkPlanned, frozenset[int]]]:
    """Return the chunks of the input that contain these rows, each with its rows, in order.

    Raises:
        LocalProtocolError: a row is in no chunk.
    """
    of_input = [each for each in chunks if not each.rows]
    firsts = [each.first_row for each in of_input]
    found: dict[int, list[int]] = {}
    for row in sorted(rows):
        at = bisect_right(firsts, row) - 1
        if at < 0 or row >= firsts[at] + of_input[at].count:
            raise LocalProtocolError(f"row {row} is in no chunk")
        found.setdefault(at, []).append(row)
    for at, wanted in found.items():
        yield of_input[at], frozenset(wanted)
