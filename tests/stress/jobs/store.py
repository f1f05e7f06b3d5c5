"""What survives a crash: the records of a job that were made durable, and its files of results.

Records are kept as the bytes that a journal would have. A file is a name and its bytes; one that is
still being received is a part.
"""

from __future__ import annotations

from collections import Counter

from batches_core import MalformedResultError
from batches_core.jobs import Collect, JobState, Record, decode_record, encode_record
from batches_core.lowlevel import JSONLines, RawDecoder


class Store:
    """The durable things of one job. All records of one `append` are kept, or none."""

    def __init__(self, opened: Record) -> None:
        self.journal: list[bytes] = [encode_record(opened)]
        #: The state that the durable records say: what a new process would know.
        self.state = JobState()
        self.state.apply(decode_record(self.journal[0]))
        self.files: dict[str, bytes] = {}
        self.cancel_asked = False

    def append(self, records: tuple[Record, ...]) -> None:
        """Make records durable."""
        for record in records:
            encoded = encode_record(record)
            self.journal.append(encoded)
            self.state.apply(decode_record(encoded))

    def load(self) -> list[Record]:
        """Read the records as a new process does."""
        return [decode_record(encoded) for encoded in self.journal]

    def name_of(self, chunk: int) -> str:
        """Return the name of a chunk's results."""
        return f"raw/{chunk:06}.jsonl"

    def part_of(self, spec: Collect) -> str:
        """Return the name of what is received of a batch's results."""
        return f"{self.name_of(spec.plan.chunk)}.{spec.batch_id}.part"


def read_part(data: bytes) -> tuple[tuple[str, ...], Counter[bytes]]:
    """Return the custom_ids of the complete lines of a part, and its unreadable lines."""
    ids: list[str] = []
    unreadable: Counter[bytes] = Counter()
    for line in JSONLines(RawDecoder()).feed(data):
        if isinstance(line, MalformedResultError):
            unreadable[line.raw] += 1
        else:
            ids.append(line.custom_id)
    return tuple(ids), unreadable
