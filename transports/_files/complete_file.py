"""Compare a file of results that exists already with the results of a batch.

`part` handles the file while it is incomplete.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from batches_core import InvalidInputError, MalformedResultError, RawResult
from batches_core.lowlevel import JSONLines, RawDecoder

from .result_lines import MAX_LINES, ResultLine, digest_of, pieces_of


class CompleteFile:
    """A file with its final name. It is never changed. `ResultsFile` documents the methods.

    If the previous download was interrupted in its last step, the file holds the complete results
    of this batch. Equal custom_ids do not prove that, because another batch can have the same ones.
    Therefore all lines must be equal, in any order.

    Raises:
        InvalidInputError: the file is not a file of results.
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path, part: Path, max_line: int) -> None:
        #: Always empty: no result counts as delivered, so that every line is received and compared.
        self.ids: list[str] = []
        self._path = path
        self._part = part
        #: The lines that this download has not received yet, by digest.
        self._unmatched: Counter[bytes] = Counter()
        self._lines = 0
        self._read(max_line)

    def write(self, lines: Iterable[ResultLine]) -> None:
        for line in lines:
            if isinstance(line, MalformedResultError) and line.is_cut:
                raise line
            key = digest_of(line.raw)
            if self._unmatched[key] < 1:
                raise self._refusal()
            self._unmatched[key] -= 1

    def finish(self) -> int:
        if self._unmatched.total():
            raise self._refusal()
        # An interruption after the file was linked to its new name leaves its old name as well.
        with contextlib.suppress(OSError):
            if os.path.samestat(self._part.lstat(), self._path.lstat()):
                self._part.unlink()
        return self._lines

    def close(self) -> None:
        pass  # the constructor has closed the file

    def note(self, error: Exception) -> str | None:
        """Return a note for an error that ended the download, or None if it names the file."""
        if str(self._path) in str(error):
            return None
        return (
            f"{self._path} already exists and was left as it is: it could not be checked whether "
            "it holds all results of this batch"
        )

    def _refusal(self) -> InvalidInputError:
        return InvalidInputError(
            f"{self._path} already exists and is not the complete results of this batch: it was "
            "left as it is; move it away, or choose another path"
        )

    def _read(self, max_line: int) -> None:
        if not stat.S_ISREG(self._path.lstat().st_mode):
            raise self._refusal()
        reader = JSONLines(RawDecoder(), max_line)
        has_results = False
        last_byte = b"\n"
        with self._path.open("rb", buffering=0) as file:
            for data in pieces_of(file):
                last_byte = data[-1:]
                for line in reader.feed(data):
                    has_results = has_results or isinstance(line, RawResult)
                    self._unmatched[digest_of(line.raw)] += 1
                    self._lines += 1
                if self._lines > MAX_LINES:
                    raise self._refusal()
        if last_byte != b"\n" or not has_results:
            raise self._refusal()
