"""Counts the results of a chunk: from its file to a `CollectResult`.

The driver downloads the file. The machine, `batches_core.jobs.Job`, decides which failed rows are
sent again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import repeat
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar, cast, overload

from batches_core import (
    CanceledResult,
    ErroredResult,
    ExpiredResult,
    MalformedResultError,
    Message,
    ResultItem,
    SucceededResult,
)
from batches_core.jobs import CollectResult, Counts, FailedRow, Outcome
from batches_core.lowlevel import MAX_LINE, JSONLines, ResultDecoder, message_decoder, quote

from ._errors import ResultsFileError
from ._result_lines import UNDECODABLE, read_blocks
from ._usage import Answer, AnswerDecoder, UsageSum

M = TypeVar("M")

#: The caller's check of an answer: whether it is good enough. If not, its row is sent again.
Accept: TypeAlias = Callable[[SucceededResult[M]], bool]

_custom_id_of = attrgetter("custom_id")
_result_of = attrgetter("result")

_NO_LINE = "the results file has no line for this request"
_NO_READABLE_LINE = "the results file has no line for this request, but lines that are unreadable"
_NOT_ACCEPTED = "accept() returned False"


@overload
def collect(
    path: Path,
    ids: Mapping[str, int],
    counts: Counts | None = ...,
    *,
    accept: Accept[Message] | None = ...,
    max_line: int = ...,
    batch_id: str | None = ...,
) -> CollectResult: ...
@overload
def collect(
    path: Path,
    ids: Mapping[str, int],
    counts: Counts | None = ...,
    *,
    accept: Accept[M],
    message_type: type[M],
    max_line: int = ...,
    batch_id: str | None = ...,
) -> CollectResult: ...
def collect(
    path: Path,
    ids: Mapping[str, int],
    counts: Counts | None = None,
    *,
    accept: Accept[Any] | None = None,
    message_type: type[Any] = Message,
    max_line: int = MAX_LINE,
    batch_id: str | None = None,
) -> CollectResult:
    """Count the results in a chunk's file, by the rows of the chunk.

    `ids` maps each custom_id of the chunk, as it was sent, to its row. A file with any other
    custom_id is foreign. If two lines have the same custom_id, the first one counts. A row without
    a line has the outcome ``lost``, or ``unreadable`` if the file has lines that nobody can assign.

    `counts` are those of the batch. With them, fewer results than the batch has are an error.

    `accept` is called with each success, whose message is of `message_type`. If it returns False,
    or if the message does not fit that type, the row has the outcome ``rejected``. Exceptions of
    `accept` are raised unchanged.

    A line of more than `max_line` bytes is unreadable: 64 MiB by default. `batch_id` is for the
    error message, if the file was counted before.

    The file is read once, as a stream. Memory is the ids of one chunk and its failed rows.

    Raises:
        ResultsFileError: the file is missing, ends in the middle of a line, or contradicts
            `counts`.
        OSError: it cannot be read.
        TypeError: `accept` returned something other than True or False.
    """
    collection = _Collection(path, ids, batch_id)
    try:
        if accept is None:
            collection.read(max_line)
        else:
            collection.read_judged(max_line, _Judge(accept, message_type))
    except _ForeignError:
        return CollectResult(answered=0, is_foreign=True)
    return collection.finish(counts)


class _ForeignError(Exception):
    """A line has a custom_id that is not one of the chunk's."""


class _Collection:
    """The results of one chunk while they are counted."""

    def __init__(self, path: Path, ids: Mapping[str, int], batch_id: str | None) -> None:
        self._path = path
        self._batch_id = batch_id
        self._ids = ids
        #: The rows without a line so far.
        self._left = dict(ids)
        self._usage = UsageSum()
        self._answered = 0
        self._failed: list[FailedRow] = []
        #: The lines of each type of result, and the unreadable ones without a known custom_id.
        self._types: Counter[str] = Counter()
        self._unreadable = 0

    def read(self, max_line: int) -> None:
        """Read the file to its end, or to a line of another chunk."""
        lines = JSONLines(AnswerDecoder(), max_line)
        for block in read_blocks(self._path, lines, self._batch_id):
            if MalformedResultError not in map(type, block):
                self._add_block(cast("list[ResultItem[Answer]]", block))
                continue
            for item in block:
                if isinstance(item, MalformedResultError):
                    self._add_unreadable(item)
                else:
                    self._add_block([item])

    def read_judged(self, max_line: int, judge: _Judge[M]) -> None:
        """Do the same, and let the caller judge each success."""
        lines = JSONLines(judge, max_line)
        for block in read_blocks(self._path, lines, self._batch_id):
            for pair in block:
                if isinstance(pair, MalformedResultError):
                    self._add_unreadable(pair)
                    continue
                item, typed = pair
                [row] = self._rows([item])
                if row is None:
                    continue
                if not isinstance(item.result, SucceededResult):
                    self._add_failure(row, item.result)
                    continue
                # A rejected answer was paid for as well.
                self._types["succeeded"] += 1
                self._usage.add([item.result.message])
                if (reason := judge.reject(typed)) is None:
                    self._answered += 1
                else:
                    self._fail(row, "rejected", message=reason)

    def _add_block(self, block: list[ResultItem[Answer]]) -> None:
        answers: list[Answer] = []
        for row, result in zip(self._rows(block), map(_result_of, block), strict=True):
            if row is None:
                continue
            if isinstance(result, SucceededResult):
                answers.append(result.message)
            else:
                self._add_failure(row, result)
        self._types["succeeded"] += len(answers)
        self._answered += len(answers)
        self._usage.add(answers)

    def _rows(self, block: list[ResultItem[Answer]]) -> list[int | None]:
        """Return the row of each line; None if an earlier line was of the same row."""
        ids = [*map(_custom_id_of, block)]
        rows: list[int | None] = [*map(self._left.pop, ids, repeat(None))]
        if None in rows and not all(map(self._ids.__contains__, ids)):
            raise _ForeignError
        return rows

    def finish(self, counts: Counts | None) -> CollectResult:
        """Add the rows without a line, and check the counts.

        Raises:
            ResultsFileError: the file does not agree with the counts.
        """
        if counts is not None and (reason := self._compare(counts)) is not None:
            raise ResultsFileError(self._path, reason, batch_id=self._batch_id)
        for row in self._left.values():
            if self._unreadable:
                self._fail(row, "unreadable", message=_NO_READABLE_LINE)
            else:
                self._fail(row, "lost", message=_NO_LINE)
        self._failed.sort(key=lambda failed: failed.row)
        return CollectResult(
            answered=self._answered, failed=tuple(self._failed), usage=self._usage.result()
        )

    def _add_unreadable(self, line: MalformedResultError) -> None:
        row = None if line.custom_id is None else self._left.pop(line.custom_id, None)
        if row is not None:
            self._types["unreadable"] += 1
            self._fail(row, "unreadable", message=line.reason)
        elif line.custom_id not in self._ids:
            self._unreadable += 1

    def _add_failure(self, row: int, result: Any) -> None:
        self._types[result.type] += 1
        match result:
            case ErroredResult(error=error):
                self._fail(row, "errored", error.type, error.message)
            case ExpiredResult():
                self._fail(row, "expired")
            case CanceledResult():
                self._fail(row, "canceled")
            case _:
                # It is not known whether it was paid for, so it is not sent again.
                reason = "this version does not know results of this type"
                self._fail(row, "errored", result.type, reason)

    def _fail(self, row: int, outcome: Outcome, type_: str = "", message: str = "") -> None:
        self._failed.append(
            FailedRow(row=row, outcome=outcome, type=quote(type_), message=quote(message))
        )

    def _compare(self, counts: Counts) -> str | None:
        """Return how the file differs from the counts of its batch; None if it does not."""
        types = ("succeeded", "errored", "canceled", "expired")
        for type_ in types:
            if self._types[type_] > getattr(counts, type_):
                return (
                    f"has {self._types[type_]:,} {type_} results, but its batch has "
                    f"{getattr(counts, type_):,}"
                )
        if (lines := self._types.total() + self._unreadable) < counts.total:
            return f"has {lines:,} results, but its batch has {counts.total:,}"
        return None


class _Judge(Generic[M]):
    """Decodes each line twice: for its usage, and for the caller who judges it."""

    def __init__(self, accept: Accept[M], message_type: type[M]) -> None:
        self._accept = accept
        self._answers = AnswerDecoder()
        # `Message` needs no decoder of its own.
        decoder: Any = message_decoder() if message_type is Message else ResultDecoder(message_type)
        self._typed: ResultDecoder[M] = decoder

    def decode_lines(
        self, block: bytes | memoryview
    ) -> list[tuple[ResultItem[Answer], ResultItem[M] | Exception]]:
        """Decode many lines in one call."""
        return [
            *zip(self._answers.decode_lines(block), self._typed.decode_lines(block), strict=True)
        ]

    def decode_line(self, line: bytes) -> tuple[ResultItem[Answer], ResultItem[M] | Exception]:
        """Decode one line. If only the caller's type does not fit, the error is in its place."""
        answer = self._answers.decode_line(line)
        try:
            return answer, self._typed.decode_line(line)
        except UNDECODABLE as error:
            return answer, error

    def reject(self, item: ResultItem[M] | Exception) -> str | None:
        """Return why a success is rejected; None if it is accepted."""
        if isinstance(item, Exception):
            return str(item)
        assert isinstance(item.result, SucceededResult)  # noqa: S101 - the caller has checked it
        is_accepted: object = self._accept(item.result)
        # To take None for False would send, and pay for, every row again.
        if not isinstance(is_accepted, bool):
            raise TypeError(f"accept() returned {is_accepted!r}: it must return True or False")
        return None if is_accepted else _NOT_ACCEPTED
