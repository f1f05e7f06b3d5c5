"""The fuzz target for a results body."""

from __future__ import annotations

import random

from .jsonl_reference import LIMITS, CheckedReading, read_body
from .operations import describe
from .source import Source, cut


def jsonl(data: bytes) -> None:
    """Check that `JSONLines` reads what the reference reads, whole and cut into pieces."""
    source = Source(data)
    max_line = LIMITS[source.byte() % len(LIMITS)]
    rng = random.Random(source.byte())
    body = source.rest()
    expected = read_body(body, max_line)
    for chunks in ([body] if body else [], cut(body, rng)):
        reading = CheckedReading(max_line)
        for chunk in chunks:
            reading.feed(chunk)
        reading.finish()
        assert reading.outcome == expected
        for item in reading.items:
            describe(item)
