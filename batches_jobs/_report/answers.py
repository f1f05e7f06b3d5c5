"""Compares the length of each answer of a job with its limit, `max_tokens`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from batches_core.jobs import Chunk, ChunkPlanned
from batches_jobs._results import AnsweredRow, JobResults
from batches_jobs._table.answers import ResultRow

#: How many bars the chart has. Each is for a share of 5 % of `max_tokens`.
BINS = 20
_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Params(msgspec.Struct):
    max_tokens: Any = None


class _Request(msgspec.Struct):
    params: _Params


_request_decoder = msgspec.json.Decoder(_Request)
#: Returns the requests of a chunk.
ReadLines = Callable[[ChunkPlanned], Iterator[tuple[int, bytes]]]


class AnswerLengths(msgspec.Struct):
    """The lengths of answers in shares of their `max_tokens`.

    `complete` and `truncated` count the answers of each share, from 0 to 100 %. `unknown` answers
    have no tokens or no limit that can be read. `limits` are the least and the greatest limit.
    """

    complete: list[int]
    truncated: list[int]
    answers: int = 0
    unknown: int = 0
    output_tokens: int = 0
    stop_reasons: dict[str, int] = {}
    limits: tuple[int, int] | None = None

    @property
    def cut(self) -> int:
        """The answers that were cut at their limit."""
        return sum(self.truncated)


def measure_answers(
    results: JobResults[msgspec.Raw], chunks: list[Chunk], read_lines: ReadLines
) -> AnswerLengths:
    """Read all answers and requests of a job. Memory is the limits of one chunk."""
    lengths = AnswerLengths([0] * BINS, [0] * BINS)
    reasons: Counter[str] = Counter()
    limits: dict[int, int] = {}
    current: int | None = None
    for result in results.rows("any"):
        if not isinstance(result, AnsweredRow):
            continue
        if result.chunk != current:
            current = result.chunk
            limits = _limits(read_lines(chunks[current].plan))
        row = ResultRow(result, chunks[result.chunk])
        reason = row.stop_reason or "unknown"
        reasons[reason] += 1
        lengths.answers += 1
        _add(lengths, row.output_tokens, limits.get(result.row), is_cut=reason == "max_tokens")
    lengths.stop_reasons = dict(reasons.most_common())
    return lengths


def _add(lengths: AnswerLengths, tokens: int | None, limit: int | None, *, is_cut: bool) -> None:
    lengths.output_tokens += tokens or 0
    if tokens is None or not limit:
        lengths.unknown += 1
        return
    least, greatest = lengths.limits or (limit, limit)
    lengths.limits = min(least, limit), max(greatest, limit)
    # An answer of exactly 5 % belongs to the first bar, so one of 100 % belongs to the last.
    at = min(BINS - 1, max(0, -(-tokens * BINS // limit) - 1))
    (lengths.truncated if is_cut else lengths.complete)[at] += 1


def _limits(lines: Iterator[tuple[int, bytes]]) -> dict[int, int]:
    limits = {}
    for row, line in lines:
        try:
            limit = _request_decoder.decode(line).params.max_tokens
        except _UNDECODABLE:
            continue
        if isinstance(limit, int) and limit > 0:
            limits[row] = limit
    return limits
