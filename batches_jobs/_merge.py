"""Writes the settled rows of a job to one file, in the form of a batch's results.

`_row_lines` finds the lines, `_output_file` writes the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from batches_core import InvalidInputError, RawResult
from batches_core.jobs import FailedRow, job_tag, wire_id
from batches_core.lowlevel import RawDecoder

from ._output_file import OutputFile
from ._row_lines import RowLine, RowLines
from ._settled import SettledRows

#: ``input``: ascending row numbers. ``any``: file by file, which is faster.
Order: TypeAlias = Literal["input", "any"]

#: With these outcomes the received line is missing, is not a result, or is a success.
_REWRITTEN = frozenset({"rejected", "unreadable"})


class _Rejected(msgspec.Struct):
    message: msgspec.Raw


class _RejectedLine(msgspec.Struct):
    result: _Rejected


_encoder = msgspec.json.Encoder()
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_rejected_decoder = msgspec.json.Decoder(_RejectedLine)


class MergedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A merged file: its path, its size in bytes, and how many of its rows were answered."""

    path: Path
    size: int
    answered: int
    unanswered: int


def check_order(order: object) -> None:
    """Check that an order is known.

    Raises:
        InvalidInputError: it is not.
    """
    if order not in {"input", "any"}:
        raise InvalidInputError(f"order is {order!r}: pass 'input' or 'any'")


def merge(
    lines: RowLines,
    settled: SettledRows,
    file: OutputFile,
    *,
    order: Order,
    unanswered: bool,
) -> MergedFile:
    """Write the lines to a file, and finish it. See `JobResults.merge`."""
    counts = [0, 0]
    form = _MergedForm(settled)
    for chunk, row, own_id, line in _raw_lines(lines, order):
        failure = settled.failure(chunk, row)
        if failure is None and line is None:
            raise lines.missing(chunk, row)
        if failure is None or unanswered:
            file.write(form.encode(row, own_id, line, failure))
            counts[failure is not None] += 1
    size = file.finish()
    return MergedFile(path=file.path, size=size, answered=counts[0], unanswered=counts[1])


def _raw_lines(lines: RowLines, order: Order) -> Iterator[RowLine[bytes]]:
    if order == "input":
        yield from lines.read_lines()
        return
    for chunk, row, own_id, line in lines.by_file(RawDecoder()):
        yield RowLine(chunk, row, own_id, line.raw.strip() if isinstance(line, RawResult) else None)


class _MergedForm:
    """Encodes the lines of a merged file."""

    def __init__(self, settled: SettledRows) -> None:
        self._is_kept = settled.state.options.ids == "keep"
        self._tag = job_tag(settled.state.job_id)

    def encode(self, row: int, own_id: str | None, line: Any, failure: FailedRow | None) -> bytes:
        """Return the line of a row, with its line feed."""
        is_received = failure is None or failure.outcome not in _REWRITTEN
        if is_received and line is not None and self._is_kept:
            return bytes(line) + b"\n"
        fields: dict[str, Any] = {"custom_id": own_id}
        if not self._is_kept:
            # Own ids can be missing or repeated, so the line also has the row.
            shown_id = wire_id(self._tag, row) if own_id is None else own_id
            fields = {"custom_id": shown_id, "row": row}
        if is_received and line is not None:
            received = _fields_decoder.decode(line)
            fields |= {name: value for name, value in received.items() if name not in fields}
        else:
            assert failure is not None, "a row without a line was not answered"  # noqa: S101
            fields["result"] = _result_of(failure, line)
        return _encoder.encode(fields) + b"\n"


def _result_of(failure: FailedRow, line: bytes | None) -> dict[str, Any]:
    error = {"type": failure.type or failure.outcome, "message": failure.message}
    result: dict[str, Any] = {"type": failure.outcome, "error": error}
    if failure.outcome == "rejected" and line is not None:
        result["message"] = _rejected_decoder.decode(line).result.message
    return result
