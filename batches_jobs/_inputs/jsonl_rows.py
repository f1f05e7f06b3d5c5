"""Reads the rows of a JSONL file: one JSON object on each line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from batches_core import InvalidInputError, RequestProblem
from batches_core.lowlevel import as_sent, quote

from .files import LongLine, open_file, read_lines, reading

_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_decoder = msgspec.json.Decoder()


class JSONLRows:
    """The rows of a file with one JSON object on each line. Blank lines are skipped.

    The objects can have different names.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = quote(str(path))

    def rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Read each row, with its line, from 1.

        Raises:
            InvalidInputError: the file cannot be read, or a line is not an object.
        """
        with open_file(self._path) as file, reading(self._path):
            for number, line in enumerate(read_lines(file), 1):
                if isinstance(line, LongLine):
                    raise _problem(number, line.problem)
                # Only the first line of a file can begin with a byte order mark.
                text = as_sent(line, number - 1)
                if not text:
                    continue
                try:
                    row = _decoder.decode(text)
                except _UNDECODABLE as error:
                    raise _problem(number, f"is not JSON: {error}") from None
                if not isinstance(row, dict):
                    kind = type(row).__name__
                    raise _problem(
                        number, f"is a {kind}: each line is a JSON object, a row by its columns"
                    )
                yield number, row


def _problem(line: int, message: str) -> InvalidInputError:
    return InvalidInputError(RequestProblem(line=line, message=message))
