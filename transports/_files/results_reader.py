"""Read a file of results item by item. All calls block.

`JSONLines` splits and decodes the lines. `results_file` writes such files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload

from batches_core import (
    InvalidInputError,
    LocalProtocolError,
    MalformedResultError,
    Message,
    ResultItem,
)
from batches_core.lowlevel import MAX_LINE, JSONLines, ResultDecoder, message_decoder

M = TypeVar("M")

#: How much of a file is read at once, in bytes.
_READ = 256 * 1024


class ResultsReader(Generic[M]):
    """An iterator over the results in a file, and a context manager. `read_results` makes it.

    It closes its file at the end of the file, after an error, on `close`, and when the ``with``
    statement ends.
    """

    def __init__(
        self, path: str | os.PathLike[str], message_type: type[M], *, max_line: int = MAX_LINE
    ) -> None:
        self._path = Path(path)
        # The decoder for Message is shared, because it takes long to build.
        decoder: Any = message_decoder() if message_type is Message else ResultDecoder(message_type)
        self._lines: JSONLines[ResultItem[M]] = JSONLines(decoder, max_line)
        self._block: Iterator[ResultItem[M] | MalformedResultError] = iter(())
        #: The error that every call raises once the block is used up; None while reading.
        self._end: Exception | None = None
        #: Whether bytes are being read and decoded. If that is interrupted, results are lost.
        self._is_reading = False
        self._file = self._path.open("rb", buffering=0)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {str(self._path)!r}>"

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ResultItem[M] | MalformedResultError:
        while True:
            for item in self._block:
                return item
            self._block = self._next_block()
            self._is_reading = False

    def close(self) -> None:
        """Close the file. Reading on raises `LocalProtocolError`, except after the last item."""
        self._block = iter(())
        self._end = self._end or LocalProtocolError(
            f"the reader of {self._path} was closed: read the file again"
        )
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _next_block(self) -> Iterator[ResultItem[M] | MalformedResultError]:
        if self._is_reading:
            self._end = LocalProtocolError(
                f"the reader of {self._path} was interrupted in the middle: read the file again"
            )
            self._file.close()
        if self._end is not None:
            raise self._end
        self._is_reading = True
        if data := self._file.read(_READ):
            return iter(self._lines.feed(data))
        last, torn = self._lines.finish()
        self._end = StopIteration()
        if torn:
            self._end = InvalidInputError(
                f"{self._path} ends in the middle of a line: its end is missing; download the "
                "results again"
            )
        self._file.close()
        return iter(last)


@overload
def read_results(
    path: str | os.PathLike[str], *, max_line: int = ...
) -> ResultsReader[Message]: ...
@overload
def read_results(
    path: str | os.PathLike[str], message_type: type[M], *, max_line: int = ...
) -> ResultsReader[M]: ...
def read_results(
    path: str | os.PathLike[str], message_type: type[Any] = Message, *, max_line: int = MAX_LINE
) -> ResultsReader[Any]:
    """Read the results in a file one by one, such as a file that `download` wrote.

    ``with read_results(path) as results: for item in results: …``

    - `message_type`: the type of a success's message, `Message` by default; the same types as for
      `BatchesAPI.results_stream`.
    - `max_line`: the longest line in bytes, 64 MiB by default.

    Only a piece of the file and one incomplete line are in memory. Blank lines, CRLF, a byte order
    mark and a last line without a line feed are accepted. A line that cannot be read or is longer
    than `max_line` becomes a `MalformedResultError` among the items.

    Raises:
        OSError: the file cannot be read.
        TypeError: msgspec cannot decode `message_type`.
        InvalidInputError: after the last item, if the file ends in the middle of a line.
    """
    return ResultsReader(path, message_type, max_line=max_line)
