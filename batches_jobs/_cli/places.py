"""Where a command keeps its job and its output, and how a job is found again.

==============================  ==================  ==============================
``batches run reviews.csv …``   the job             the results
==============================  ==================  ==============================
``-o out/``                     ``out/job``         ``out/results.jsonl``
``-o labels.parquet``           ``labels.job``      ``labels.parquet``
without ``-o``                  ``reviews.job``     ``batches results reviews.job``
==============================  ==================  ==============================

``--job DIR`` replaces the place of the job.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from .codes import ExitCode
from .console import CommandError, command

#: The format of results by the suffix of their file.
FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_JOURNAL = "journal.db"
_SUFFIX = ".job"
#: The name of the job in an output folder.
_JOB = "job"


class Places(NamedTuple):
    """The folder of a job, the file of its results, and the format of that."""

    job: Path
    output: Path | None
    format: str | None


def places_for(input_: str, out: str | None, job: str | None, format_: str | None) -> Places:
    """Return where a job on this input is kept.

    Raises:
        CommandError: the format of the output is not known.
    """
    name = "stdin" if input_ == "-" else Path(input_).stem or "input"
    if out is None:
        return Places(Path(job or f"{name}{_SUFFIX}"), None, None)
    path = Path(out)
    suffix = path.suffix.lower()
    if path.is_dir() or out.endswith(("/", os.sep)) or not suffix:
        chosen = format_ or "jsonl"
        default = path / _JOB
        return Places(default if job is None else Path(job), path / f"results.{chosen}", chosen)
    if suffix not in FORMATS and format_ is None:
        raise CommandError(
            ExitCode.INPUT,
            f"-o {out} has the suffix {suffix!r}: use .jsonl, .csv or .parquet, end it with / for "
            "a folder, or pass --format",
        )
    default = path.with_suffix(_SUFFIX)
    return Places(default if job is None else Path(job), path, format_ or FORMATS[suffix])


def find_job(given: str | None) -> Path:
    """Return the folder of the job that a person means.

    `given` is that folder, the output folder around it, or the file of its results. By default it
    is the only job in the current folder.

    Raises:
        CommandError: there is no job, or there are several.
    """
    if given is None:
        return _only_job()
    path = Path(given)
    beside: tuple[Path, ...] = (path.with_suffix(_SUFFIX),) if path.name else ()
    for folder in (path, path / _JOB, *beside):
        if (folder / _JOURNAL).exists():
            return folder
    if not path.exists():
        raise CommandError(ExitCode.INPUT, f"{given} does not exist: pass the folder of a job")
    raise CommandError(
        ExitCode.INPUT,
        f"there is no job in {given}: pass the folder of a job, which holds a {_JOURNAL}",
        command("run", "INPUT", "-o", "OUT"),
    )


def _only_job() -> Path:
    here = Path()
    folders = sorted(
        path.parent for pattern in ("*/", f"*/{_JOB}/") for path in here.glob(pattern + _JOURNAL)
    )
    if not folders:
        raise CommandError(
            ExitCode.INPUT,
            "there is no job in this folder: pass the folder of a job",
            command("run", "INPUT", "-o", "OUT"),
        )
    if len(folders) > 1:
        names = "\n  ".join(map(str, folders))
        raise CommandError(ExitCode.INPUT, f"there are several jobs here, pass one:\n  {names}")
    return folders[0]
