"""Plan the requests in a file of JSON lines: each chunk is a range of its bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import IO

from batches_core import MAX_BYTES, InvalidInputError
from batches_core.jobs import ChunkPlanned, Ids, Plan, PlannedInput
from batches_core.lowlevel import as_sent, quote
from batches_jobs._errors import InputChangedError
from batches_jobs._folder import JobFolder

from .chunk_file import ChunkFile
from .cut import Cut
from .files import (
    READ,
    Description,
    LongLine,
    Version,
    count_line_feeds,
    open_file,
    read_lines,
    version_of,
)
from .request_ids import RequestIds, TooDeepError
from .stored import StoredInput


class JSONLInput(StoredInput):
    """A file with one request as JSON on each line. It is neither copied nor loaded whole.

    The file must not change while the job runs. The bytes of a chunk are compared whenever they are
    read again. If they have changed, `InputChangedError` is raised and nothing of it is sent.

    Lines end with LF or CRLF. The last line can lack that. A byte order mark is skipped.

    Raises:
        InvalidInputError: `ids` is neither ``"keep"`` nor ``"map"``.
    """

    kind = "jsonl"

    def __init__(
        self,
        path: str | os.PathLike[str],
        folder: JobFolder,
        *,
        job_id: str,
        ids: Ids = "keep",
        max_bytes: int = MAX_BYTES,
    ) -> None:
        super().__init__(folder, job_id=job_id, ids=ids, max_bytes=max_bytes)
        self._path = Path(path)
        #: The last planned chunk, and the version of the file in which its bytes are correct.
        self._version: Version | None = None
        self._last: ChunkPlanned | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._path)!r})"

    def describe(self) -> str:
        """See `interface.Input`."""
        return Description.of_file(self.kind, self._path).encode()

    def plan(self, spec: Plan) -> PlannedInput:
        """See `interface.Input`."""
        with open_file(self._path) as file:
            version = version_of(file)
            if self._last is not None and version != self._version:
                # After an edit, the next chunk might start in the middle of a line.
                self._input_file(self._last).check()
            try:
                # The number of the first line is only needed for problems. To find it, all
                # earlier lines must be read. Until then, any number above 0 will do.
                planned = self._cut(file, spec, int(spec.start > 0))
            except InvalidInputError:
                if not spec.start:
                    raise
                first = count_line_feeds(file, 0, spec.start)
                planned = self._cut(file, spec, first)
        self._version, self._last = version, planned.plan or self._last
        return planned

    def _cut(self, file: IO[bytes], spec: Plan, first: int) -> PlannedInput:
        name = quote(str(self._path))
        cut = RangeCut(file, spec, self._ids, name=name, first=first, max_bytes=self._max_bytes)
        return cut.planned()

    def _resume(self, source: str, chunks: list[ChunkPlanned], *, ended: bool) -> None:
        with open_file(self._path) as file:
            self._version = version_of(file)
            self._last = chunks[-1] if chunks else None
            if self.describe() == source:
                return
            for chunk in chunks:
                self._input_file(chunk).check()
            if ended and chunks:
                self._check_not_grown(file, chunks[-1].end)

    def _check_not_grown(self, file: IO[bytes], end: int) -> None:
        file.seek(end)
        for line in read_lines(file):
            if isinstance(line, LongLine) or line.strip():
                number = count_line_feeds(file, 0, end) + 1
                place = f"it has lines after the last one of the job, from line {number:,} on"
                raise InputChangedError(quote(str(self._path)), place, chunk=None)

    def _input_file(self, plan: ChunkPlanned) -> ChunkFile:
        return ChunkFile(plan, self._path, plan.start, plan.end, lambda: self._lines_of(plan))

    def _lines_of(self, plan: ChunkPlanned) -> str:
        with open_file(self._path) as file:
            first = count_line_feeds(file, 0, plan.start) + 1
            last = first + max(count_line_feeds(file, plan.start, plan.end - 1), plan.count - 1)
        return f"lines {first:,} to {last:,}"


class RangeCut(Cut):
    """A chunk that is a range of a file's bytes."""

    def __init__(
        self,
        file: IO[bytes],
        spec: Plan,
        ids: RequestIds,
        *,
        name: str,
        first: int,
        max_bytes: int,
    ) -> None:
        super().__init__(spec, ids, name=name, first=first, lines=True, max_bytes=max_bytes)
        self._file = file
        self._digest = sha256()
        #: Lines that are not in the digest yet. To hash each alone would let another thread run
        #: every time, and wait for it.
        self._unhashed: list[bytes] = []
        self._hashed = self._end = spec.start

    def requests(self) -> Iterator[bytes]:
        """See `Cut`."""
        self._file.seek(self.spec.start)
        for index, line in enumerate(read_lines(self._file), self.first):
            if isinstance(line, LongLine):
                if not self.refuse(line.length, line.problem, index):
                    return
                yield b""
                continue
            request = as_sent(line, index)
            if request:
                try:
                    request = self.ids.as_sent(request, self.spec.first_row + self.filler.count)
                except TooDeepError as error:
                    if not self.refuse(len(request), error.problem, index):
                        return
                    yield b""
                    continue
                if not self.filler.add(len(request)):
                    return
            yield request
            self._unhashed.append(line)
            self._end += len(line)
            if self._end - self._hashed >= READ:
                self._hash()
        self.is_last = True

    def finish(self) -> tuple[int, str]:
        """See `Cut`."""
        self._hash()
        return self._end, self._digest.hexdigest()

    def _hash(self) -> None:
        self._digest.update(b"".join(self._unhashed))
        self._unhashed.clear()
        self._hashed = self._end
