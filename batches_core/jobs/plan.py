"""The size of each chunk, and the id that each request is sent with.

A batch has no name of the sender's choice, and a list shows little of it but its size. So each
chunk has an odd size of its own: a lost create is recognised by it, and strangers rarely have it.
"""

from __future__ import annotations

from hashlib import blake2b

from batches_core.request_checker import MAX_BYTES, MAX_REQUESTS

#: How much smaller than `chunk_rows` a chunk can be: this share of it.
SIZE_SPREAD = 0.01
#: The bytes of a body besides its requests and the commas between them: ``{"requests":[]}``.
ENVELOPE = len('{"requests":[]}')
#: The digits of a row number in a wire id.
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
#: The characters of the tag in a wire id.
_TAG = 8


def chunk_size(job_id: str, chunk: int, chunk_rows: int) -> int:
    """Return how many rows a chunk should have: `chunk_rows`, less a hash within 1 %."""
    spread = int(chunk_rows * SIZE_SPREAD)
    return chunk_rows - _number(job_id, chunk) % (spread + 1)


class ChunkFiller:
    """Decides where a chunk ends: at its number of rows, or where its body would be too large.

    `count` and `content_length` (bytes of the whole body) are those of the rows added so far.
    """

    def __init__(self, rows: int, max_bytes: int = MAX_BYTES) -> None:
        self.rows = min(rows, MAX_REQUESTS)
        self.max_bytes = max_bytes
        self.count = 0
        self.content_length = ENVELOPE

    def add(self, length: int) -> bool:
        """Add a request of this many bytes; return False if it must begin the next chunk."""
        with_it = self.content_length + length + (self.count > 0)
        if self.count == self.rows or (self.count and with_it > self.max_bytes):
            return False
        self.count += 1
        self.content_length = with_it
        return True


def job_tag(job_id: str) -> str:
    """Return the tag of a job's wire ids: 8 characters."""
    return blake2b(job_id.encode(), digest_size=_TAG // 2, person=b"job-tag").hexdigest()


def wire_id(tag: str, row: int) -> str:
    """Return the custom_id that a row is sent with if its own cannot be sent: ``tag-row``."""
    digits = ""
    left = row
    while left or not digits:
        left, digit = divmod(left, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return f"{tag}-{digits}"


def row_of(tag: str, custom_id: str) -> int | None:
    """Return the row of a wire id, or None if it is not one of this tag."""
    own, _, digits = custom_id.partition("-")
    if own != tag or not digits or not set(digits) <= set(_DIGITS):
        return None
    row = int(digits, len(_DIGITS))
    # Each row has one wire id: without leading zeros.
    return row if wire_id(tag, row) == custom_id else None


def _number(job_id: str, chunk: int) -> int:
    hashed = blake2b(f"{job_id}/{chunk}".encode(), digest_size=8, person=b"chunk-size")
    return int.from_bytes(hashed.digest())
