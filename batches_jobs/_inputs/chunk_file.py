"""Read the requests of a planned chunk from the file that holds them.

Every reading compares the bytes with the digest of the plan. So no request is sent or gathered from
a file that has changed. `stored` knows which file holds a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

from batches_core import PreparedRequests
from batches_core.jobs import ChunkPlanned
from batches_core.lowlevel import as_sent, envelope, quote
from batches_jobs._errors import InputChangedError

from .files import READ, open_file
from .request_ids import RequestIds


class ChunkFile:
    """The bytes of a file that hold the requests of a planned chunk, one on each line.

    The bytes begin at `start` and end before `end`. `place` returns the lines or rows of the chunk
    as text, for an error.
    """

    def __init__(
        self, plan: ChunkPlanned, path: Path, start: int, end: int, place: Callable[[], str]
    ) -> None:
        self.plan = plan
        self._path = path
        self._start = start
        self._end = end
        self._place = place

    def rows(self) -> Iterator[tuple[int, bytes]]:
        """Read each row and its request, as it is in the file. Blank lines are skipped.

        Raises:
            InputChangedError: the bytes have changed. It is raised after the last request.
            InvalidInputError: the file cannot be read.
        """
        plan = self.plan
        digest = sha256()
        requests = filter(None, self._lines(digest.update))
        numbers = plan.rows or range(plan.first_row, plan.first_row + plan.count)
        count = 0
        for request, row in zip(requests, numbers, strict=False):
            yield row, request
            count += 1
        # If there are more requests than numbers, not all bytes were read, and the digest differs.
        if count != plan.count or digest.hexdigest() != plan.digest:
            raise self.changed()

    def check(self) -> None:
        """Check that the bytes have not changed.

        Raises:
            InputChangedError: they have.
            InvalidInputError: the file cannot be read.
        """
        for _ in self.rows():
            pass

    def changed(self) -> InputChangedError:
        """Build the error for bytes that have changed."""
        place = f"chunk {self.plan.chunk} ({self._place()}) is not what was planned"
        return InputChangedError(quote(str(self._path)), place, chunk=self.plan.chunk)

    def _lines(self, update: Callable[[bytes], object]) -> Iterator[bytes]:
        """Read each line as it is sent; a blank line is empty."""
        left = self._end - self._start
        begun = bytearray()
        # Only the first line of a file can begin with a byte order mark.
        index = self._start
        with open_file(self._path) as file:
            file.seek(self._start)
            while left > 0 and (data := file.read(min(READ, left))):
                left -= len(data)
                update(data)
                first, *lines = data.split(b"\n")
                begun += first
                if lines:
                    yield as_sent(bytes(begun), index)
                    index += 1
                    begun = bytearray(lines.pop())
                    yield from map(bytes.strip, lines)
        if begun:
            yield as_sent(bytes(begun), index)


class ChunkRequests:
    """The requests of a planned chunk, for ``create``. Planning has checked them already."""

    def __init__(self, file: ChunkFile, ids: RequestIds) -> None:
        self._file = file
        self._ids = ids

    def prepare(self) -> PreparedRequests:
        """Return the requests with their body. The file is read when the body is sent."""
        return PreparedRequests(body=_ChunkBody(self._file, self._ids), count=self._file.plan.count)


class _ChunkBody:
    """The body of a chunk's create, read from its file each time that it is sent."""

    #: Iteration blocks, so an async transport iterates in a thread.
    blocks = True

    def __init__(self, file: ChunkFile, ids: RequestIds) -> None:
        self._file = file
        self._ids = ids

    @property
    def content_length(self) -> int:
        """The size in bytes."""
        return self._file.plan.content_length

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.content_length} bytes>"

    def __iter__(self) -> Iterator[bytes]:
        as_sent_row = self._ids.as_sent
        held: bytes | None = None
        left = self.content_length
        for piece in envelope(as_sent_row(line, row) for row, line in self._file.rows()):
            if held is not None:
                # The service could act on a body of the full length.
                if left <= 0:
                    raise self._file.changed()
                yield held
            held = piece
            left -= len(piece)
        # The last piece is sent only now, after all bytes were compared.
        if left != 0 or held is None:
            raise self._file.changed()
        yield held
