"""What `part` and `complete_file` share: how a file of results is read, and lines are compared."""

from __future__ import annotations

import io
from collections.abc import Iterator
from hashlib import blake2b
from typing import TypeAlias

from batches_core import MAX_REQUESTS, MalformedResultError, RawResult

#: A line of a results file: a result, or a line that could not be read.
ResultLine: TypeAlias = RawResult | MalformedResultError

#: The most lines that a download can have written. The core stops reading results after twice as
#: many lines as the batch has requests, plus 1,000.
MAX_LINES = 2 * MAX_REQUESTS + 1000
#: How much of a file is read at once, in bytes.
_READ = 1024 * 1024


def pieces_of(file: io.RawIOBase) -> Iterator[bytes]:
    """Yield the rest of a file in pieces of up to 1 MiB."""
    while data := file.read(_READ):
        yield data


def digest_of(line: bytes) -> bytes:
    """Return a hash of a line, which is compared and stored in place of the line."""
    return blake2b(line, digest_size=16).digest()
