"""Write the results of a download to a file that gets its name only once it is complete.

`part` writes and continues an incomplete file. `complete_file` compares a file that exists already.
`ResultsFile` chooses between them. The client receives the results from the network. All calls
block; an async client makes them in threads.

Incomplete results are in ``NAME.<batch id>.part``, so every part belongs to one batch. Each line is
written as it arrives, and stays there if the download fails. The next download continues from
there. No file is ever replaced: a complete part is renamed only if no file has its final name. A
crash in this last step can leave the complete file. The next download compares it with the results,
line by line.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from batches_core import BatchesError, MessageBatch
from batches_core.lowlevel import MAX_LINE, path_segment

from .complete_file import CompleteFile
from .part import Part
from .result_lines import ResultLine


class ResultsFile:
    """The file of one batch's results, as a context manager.

    In the ``with`` statement call `open`, then `write` any number of times, then `finish`. The end
    of the statement closes and unlocks the file. An error that ends it gets a note, which says what
    the file holds.

    `max_line` is the longest line in bytes, 64 MiB by default.

    Raises:
        InvalidInputError: `batch` is neither a `MessageBatch` nor an id.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        batch: MessageBatch | str,
        *,
        max_line: int = MAX_LINE,
    ) -> None:
        self.path = Path(path)
        batch_id = batch.id if isinstance(batch, MessageBatch) else batch
        self._suffix = f".{path_segment('batch', batch_id)}.part"
        self._max_line = max_line
        self._file: Part | CompleteFile | None = None
        #: The custom_ids of the results that the part already held when it was opened.
        self.ids: list[str] = []

    def open(self) -> None:
        """Open or create the part; or, if the complete file exists already, read that.

        Raises:
            InvalidInputError: the existing file cannot hold this batch's results, or another
                download is writing them.
            OSError: the file cannot be opened.
        """
        part = self.path.parent / (self.path.name + self._suffix)
        if os.path.lexists(self.path):
            self._file = CompleteFile(self.path, part, self._max_line)
        else:
            self._file = Part(self.path, part, self._max_line)
        self.ids = self._file.ids

    def write(self, lines: Iterable[ResultLine]) -> None:
        """Append lines to the part, or compare them with the complete file.

        Raises:
            InvalidInputError: the complete file does not hold one of the lines, or another program
                changed the part.
            MalformedResultError: a line is longer than `max_line`, so it cannot be compared.
            OSError: the lines could not be written, for example because the disk is full.
        """
        assert self._file is not None, "open() comes first"  # noqa: S101 - a mistake of the client
        self._file.write(lines)

    def finish(self) -> int:
        """Rename the part, or check that the complete file holds nothing else.

        Returns the number of lines in the file.

        Raises:
            InvalidInputError: the file holds lines that are not in the results, or a file of its
                name has appeared.
            MalformedResultError: a line was longer than `max_line`, so it could not be written.
            OSError: the file could not be written to the disk or renamed.
        """
        assert self._file is not None, "open() comes first"  # noqa: S101 - a mistake of the client
        return self._file.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        file.close()
        if isinstance(error, (BatchesError, OSError)) and (note := file.note(error)):
            error.add_note(note)
