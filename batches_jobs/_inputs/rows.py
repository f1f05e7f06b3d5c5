"""Opens a table of rows as the requests of a job: `open_rows` chooses the format by the name.

`table` reads the rows and makes the requests.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

from batches_core import InvalidInputError
from batches_core.lowlevel import quote
from batches_jobs._errors import InputChangedError, StorageError
from batches_jobs._folder import sync_folder
from batches_jobs._template import Template

from .files import READ, open_file, reading
from .table import RowFormat, TableSource

#: The format of each suffix.
_SUFFIXES: dict[str, RowFormat] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_FORMATS = ("csv", "tsv", "jsonl", "parquet")
#: The suffixes of compressed files, and a command that unpacks one.
_COMPRESSED = {
    ".gz": "gunzip -k",
    ".bz2": "bunzip2 -k",
    ".xz": "unxz -k",
    ".zst": "unzstd",
    ".zip": "unzip",
}


def open_rows(
    rows: str | os.PathLike[str] | BinaryIO,
    template: Template,
    *,
    format: RowFormat | None = None,  # noqa: A002 - the name that readers of tables use
    copy_to: Path | None = None,
) -> TableSource:
    """Return the requests of a table, for `run_job`. The same call resumes the job.

    - `rows`: the path of a CSV, TSV, JSONL or Parquet file; or an open binary file, such as
      ``sys.stdin.buffer``;
    - `template`: makes a request from each row;
    - `format`: ``csv``, ``tsv``, ``jsonl`` or ``parquet``. By default the suffix of the path says
      it: .csv, .tsv, .tab, .jsonl, .ndjson, .parquet, .pq. An open file needs it;
    - `copy_to`: the path to which an open file is copied before the job begins, such as
      `JobFolder.rows`. The copy resumes the job, and has the input's columns for the results. If
      it is there already, the open file must have the same bytes.

    A row has the number of its request in the job. CSV is UTF-8, with the names of the columns in
    its first row. Compressed files are refused.

    Raises:
        InvalidInputError: the format is not known, the file cannot be read or has not all columns
            of the template, or an open file is passed without `format` and `copy_to`.
        InputChangedError: an open file is not what was copied before.
        StorageError: the copy could not be written.
        ModuleNotFoundError: pyarrow is not installed, and the format is ``parquet``.
    """
    if format is not None and format not in _FORMATS:
        raise InvalidInputError(f"format is {format!r}: pass one of {', '.join(_FORMATS)}")
    if isinstance(rows, (str, os.PathLike)):
        path = Path(rows)
        return TableSource(path, format or _format_of(path), template)
    if format is None or copy_to is None:
        raise InvalidInputError(
            f"rows from an open file have no suffix: pass format, one of {', '.join(_FORMATS)}, "
            "and copy_to"
        )
    copy_rows(rows, copy_to)
    return TableSource(copy_to, format, template)


def copy_rows(rows: BinaryIO, path: Path) -> None:
    """Copy an open file to a path, completely and durably, or compare it with an earlier copy.

    Raises:
        InvalidInputError: the open file cannot be read.
        InputChangedError: the copy is there and has other bytes.
        StorageError: it could not be written.
    """
    if path.exists():
        _compare(rows, path)
        return
    part: Path | None = None
    try:
        # With a name of its own, because the job can be started twice at the same time.
        descriptor, name = tempfile.mkstemp(".part", path.name + ".", path.parent)
        part = Path(name)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - an open file has no path
            while data := _read(rows, READ):
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _publish(part, path)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(path, error.strerror or str(error)) from error
    finally:
        if part is not None:
            with contextlib.suppress(OSError):
                part.unlink()


def _publish(part: Path, path: Path) -> None:
    """Give a copy its name, unless another start of the job was faster. No file is replaced.

    Raises:
        InputChangedError: the copy of the other start has other bytes.
    """
    try:
        path.hardlink_to(part)
    except FileExistsError:
        with part.open("rb") as file:
            _compare(file, path)
    except OSError:
        # The file system has no links.
        part.rename(path)


def _read(rows: BinaryIO, size: int) -> bytes:
    with reading(Path(str(getattr(rows, "name", "the open file")))):
        return rows.read(size)


def _compare(rows: BinaryIO, path: Path) -> None:
    with open_file(path) as file:
        while True:
            kept = file.read(READ)
            given = _exactly(rows, len(kept)) if kept else _read(rows, 1)
            if given != kept:
                raise InputChangedError(
                    f"the open file of rows, which was copied to {quote(str(path))},",
                    f"it differs near byte {file.tell():,}",
                    chunk=None,
                )
            if not kept:
                return


def _exactly(rows: BinaryIO, left: int) -> bytes:
    """Read so many bytes, or to the end. A pipe can return less than was asked for."""
    pieces: list[bytes] = []
    while left and (data := _read(rows, left)):
        pieces.append(data)
        left -= len(data)
    return b"".join(pieces)


def _format_of(path: Path) -> RowFormat:
    suffix = path.suffix.lower()
    if suffix in _COMPRESSED:
        raise InvalidInputError(
            f"{quote(str(path))} is compressed: unpack it first, for example with "
            f"{_COMPRESSED[suffix]} {quote(path.name)}"
        )
    if suffix not in _SUFFIXES:
        raise InvalidInputError(
            f"{quote(str(path))} has the suffix {suffix!r}, which is not that of a table: pass "
            f"format, one of {', '.join(_FORMATS)}"
        )
    return _SUFFIXES[suffix]
