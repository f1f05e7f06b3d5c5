"""Plan the requests of any source: each chunk is copied to the folder of the job.

`sources` and `parquet` read the sources.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple

from batches_core import MAX_BYTES, BatchesError, InvalidInputError, RequestLike
from batches_core.jobs import ChunkPlanned, Ids, Plan, PlannedInput
from batches_core.lowlevel import NotEncodableError, encode_request, quote
from batches_jobs._errors import InputChangedError, StorageError
from batches_jobs._folder import JobFolder

from .chunk_file import ChunkFile
from .cut import Cut
from .request_ids import RequestIds, TooDeepError
from .sources import Source
from .spool_file import SpoolFile
from .stored import StoredInput

#: Replaces line breaks between the values of JSON text by spaces.
_SPACES = bytes.maketrans(b"\r\n", b"  ")


class _Item(NamedTuple):
    """A request of the source, or a blank line.

    `position` counts the items of the source, from 0. `line` is the line in which the item begins,
    if that is known. `encoded` is the request as JSON on one line. It is empty for a blank line,
    and None if the request cannot be written as JSON.
    """

    position: int
    line: int | None
    request: RequestLike
    encoded: bytes | None


class SpooledInput(StoredInput):
    """The requests of any source. Each chunk is copied to ``spool/`` before it is sent.

    The file of a chunk is complete and durable before `plan` returns. If a job is resumed before
    its source was read to the end, the source is read again from the beginning. The requests of
    planned chunks must then have the digests of the plans. After its end a source is not read
    again.

    A source is read once in a run. After any failure, `plan` raises an error until the job is run
    again with the same requests from their beginning.
    """

    def __init__(
        self,
        source: Source,
        folder: JobFolder,
        *,
        job_id: str,
        ids: Ids = "keep",
        max_bytes: int = MAX_BYTES,
    ) -> None:
        super().__init__(folder, job_id=job_id, ids=ids, max_bytes=max_bytes)
        self.kind = source.kind
        self._source = source
        self._items = self._read()
        #: An item that was read already, and belongs to the next chunk.
        self._pushed: _Item | None = None
        #: The position of the next item in the source, and the row of the next request.
        self._position = 0
        self._row = 0
        #: The planned chunks that the source has not been compared with yet.
        self._to_compare: deque[ChunkPlanned] = deque()
        #: The error that every further `plan` raises.
        self._failure: InvalidInputError | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._source.name!r})"

    def describe(self) -> str:
        """See `interface.Input`."""
        return self._source.describe().encode()

    def plan(self, spec: Plan) -> PlannedInput:
        """See `interface.Input`."""
        if self._failure is not None:
            raise self._failure
        self._failure = self._cannot_go_on("an interruption")
        try:
            while self._to_compare:
                self._compare(self._to_compare.popleft())
            if self._row != spec.first_row:
                raise self._cannot_go_on("an interruption")
            with SpoolFile(self._folder.spool(spec.chunk)) as file:
                planned = self._cut(spec, file)
        except InvalidInputError as error:
            self._failure = error
            raise
        except StorageError:
            self._failure = self._cannot_go_on("a failure to write")
            raise
        self._failure = None
        self._row += 0 if planned.plan is None else planned.plan.count
        return planned

    def _cut(self, spec: Plan, file: SpoolFile) -> PlannedInput:
        cut = _CopyCut(self, file, spec, self._ids, source=self._source, max_bytes=self._max_bytes)
        return cut.planned()

    def _resume(self, source: str, chunks: list[ChunkPlanned], *, ended: bool) -> None:
        # A file with another name or time can have the same requests.
        self._source.check_resumed(source)
        if not ended:
            self._to_compare.extend(chunks)

    def _input_file(self, plan: ChunkPlanned) -> ChunkFile:
        path = self._folder.spool(plan.chunk)
        return ChunkFile(plan, path, 0, plan.end - plan.start, lambda: _rows_of(plan))

    def _compare(self, plan: ChunkPlanned) -> None:
        """Read the requests of a planned chunk again, and compare them with its digest.

        Raises:
            InputChangedError: they have changed.
        """
        digest = sha256()
        count = 0
        while count < plan.count and (item := self.take()) is not None:
            if item.encoded != b"":
                digest.update((item.encoded or b"") + b"\n")
                count += 1
        self._row += count
        if count != plan.count or digest.hexdigest() != plan.digest:
            reason = (
                f"chunk {plan.chunk} ({_rows_of(plan)}) is not what was planned"
                if count == plan.count
                else f"it ends in chunk {plan.chunk} ({_rows_of(plan)}), after {self._row:,} rows"
            )
            raise InputChangedError(self._source.name, reason, chunk=plan.chunk)

    def take(self) -> _Item | None:
        """Return the next item of the source; None after the last one.

        Raises:
            InvalidInputError: the source cannot be read, or raised an error.
        """
        item, self._pushed = self._pushed, None
        if item is not None:
            return item
        try:
            item = next(self._items, None)
        except BatchesError:
            raise
        except Exception as error:
            raise InvalidInputError(
                f"reading {self._source.name} failed at its item {self._position:,} "
                f"({type(error).__name__}: {quote(str(error))}): correct that, then run the job "
                "again with the same requests"
            ) from error
        if item is not None:
            self._position = item.position + 1
        return item

    def push_back(self, item: _Item) -> None:
        """Put back an item that belongs to the next chunk. `take` returns it again."""
        self._pushed = item

    @property
    def position(self) -> int:
        """The position of the next item, from 0."""
        return self._position if self._pushed is None else self._pushed.position

    def _read(self) -> Iterator[_Item]:
        for index, (line, request) in enumerate(self._source.read()):
            try:
                encoded = encode_request(request, index)
            except NotEncodableError:
                yield _Item(index, line, request, None)
                continue
            # JSON text from the caller can contain line breaks between its values.
            if b"\n" in encoded or b"\r" in encoded:
                encoded = encoded.translate(_SPACES)
            yield _Item(index, line, request, encoded)

    def _cannot_go_on(self, after: str) -> InvalidInputError:
        return InvalidInputError(
            f"{self._source.name} cannot be continued after {after}: run the job again with the "
            "same requests from their beginning"
        )


class _CopyCut(Cut):
    """A chunk that is copied to a file."""

    def __init__(
        self,
        input_: SpooledInput,
        file: SpoolFile,
        spec: Plan,
        ids: RequestIds,
        *,
        source: Source,
        max_bytes: int,
    ) -> None:
        super().__init__(
            spec,
            ids,
            name=source.name,
            first=input_.position,
            lines=source.lines,
            max_bytes=max_bytes,
        )
        self._input = input_
        self._file = file
        #: The line of each item, for the problems.
        self._lines: list[int | None] = []

    def requests(self) -> Iterator[RequestLike]:
        """See `Cut`."""
        filler = self.filler
        # No item is read ahead, because a source can be slow.
        while filler.count < filler.rows:
            if (item := self._input.take()) is None:
                self.is_last = True
                return
            self._lines.append(item.line)
            if not item.encoded:
                # A blank line is not a row. Any other item has a problem, which the checker finds.
                if item.encoded is None and not filler.add(0):
                    self._input.push_back(item)
                    return
                yield item.request
                continue
            try:
                request = self.ids.as_sent(item.encoded, self.spec.first_row + filler.count)
            except TooDeepError as error:
                if not self.refuse(len(item.encoded), error.problem, item.position):
                    self._input.push_back(item)
                    return
                yield b""
                continue
            if not filler.add(len(request)):
                self._input.push_back(item)
                return
            self._file.write(item.encoded)
            yield request

    def finish(self) -> tuple[int, str]:
        """See `Cut`."""
        self._file.finish()
        return self.spec.start + self._file.size, self._file.digest

    def explain(self, error: InvalidInputError) -> InvalidInputError:
        """Add the line to each problem that names the position of an item."""
        problems = [
            each
            if each.index is None
            else dataclasses.replace(each, line=self._lines[each.index - self.first])
            for each in error.problems
        ]
        return super().explain(InvalidInputError(*problems, omitted=error.omitted))


def _rows_of(plan: ChunkPlanned) -> str:
    return f"rows {plan.first_row:,} to {plan.first_row + plan.count - 1:,}"
