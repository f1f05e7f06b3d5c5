"""Where a command keeps its job and its output, and how a job is found again.

==============================  ==================  ==============================
``batches run reviews.csv …``   the job             the results
==============================  ==================  ==============================
``-o out/``                     ``out/job``         ``out/results.jsonl``
``-o labels.parquet``           ``labels.job``      ``labels.parquet``
``-o s3://bucket/out/``         ``out.job``         ``s3://bucket/out/results.jsonl``
without ``-o``                  ``reviews.job``     ``batches results reviews.job``
==============================  ==================  ==============================

``--job DIR`` replaces the place of the job. If the results are in storage, the job is in the
current folder, because its journal and its lock need a local disk.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from .codes import ExitCode
from .console import CommandError, command
from .outputs import FORMATS, FileOutput, Output, is_url, stored_output

_JOURNAL = "journal.db"
_SUFFIX = ".job"
#: The name of the job in an output folder.
_JOB = "job"


class Places(NamedTuple):
    """The folder of a job, and where its results are written."""

    job: Path
    output: Output | None


def places_for(input_: str, out: str | None, job: str | None, format_: str | None) -> Places:
    """Return where a job on this input is kept.

    Raises:
        CommandError: the format of the output is not known.
    """
    name = "stdin" if input_ == "-" else Path(input_).stem or "input"
    if out is None:
        return Places(Path(job or f"{name}{_SUFFIX}"), None)
    if is_url(out):
        stored = stored_output(out, f"results.{format_ or 'jsonl'}")
        stored.format = _format_of(out, PurePosixPath(stored.name).suffix, format_)
        return Places(Path(job or _job_of_url(out, name)), stored)
    path = Path(out)
    suffix = path.suffix.lower()
    if path.is_dir() or out.endswith(("/", os.sep)) or not suffix:
        chosen = format_ or "jsonl"
        default = path / _JOB
        output = FileOutput(path / f"results.{chosen}", chosen)
        return Places(default if job is None else Path(job), output)
    output = FileOutput(path, _format_of(out, suffix, format_))
    default = path.with_suffix(_SUFFIX)
    return Places(default if job is None else Path(job), output)


def find_job(given: str | None) -> Path:
    """Return the folder of the job that a person means.

    `given` is that folder, the output folder around it, or the file of its results. By default it
    is the only job in the current folder.

    Raises:
        CommandError: there is no job, or there are several.
    """
    if given is None:
        return _only_job()
    if is_url(given):
        return _find_by_url(given)
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


def _format_of(out: str, suffix: str, format_: str | None) -> str:
    if format_ is not None:
        return format_
    if suffix.lower() not in FORMATS:
        raise CommandError(
            ExitCode.INPUT,
            f"-o {out} has the suffix {suffix.lower()!r}: use .jsonl, .csv or .parquet, end it "
            "with / for a folder, or pass --format",
        )
    return FORMATS[suffix.lower()]


def _job_of_url(url: str, default: str) -> str:
    """Return the folder of the job whose results are at a URL: its last part that names it."""
    parts = urlsplit(url)
    names = [unquote(part) for part in (parts.netloc, *parts.path.split("/")) if part]
    name = PurePosixPath(names[-1] if names else default).name
    is_folder = url.endswith("/") or len(names) == 1
    return f"{name if is_folder else PurePosixPath(name).stem}{_SUFFIX}"


def _find_by_url(url: str) -> Path:
    stored_output(url, "results")  # which refuses a credential before the URL is shown
    folder = Path(_job_of_url(url, ""))
    if not (folder / _JOURNAL).exists():
        raise CommandError(
            ExitCode.INPUT,
            f"the job of {url} is not in {folder}: pass the folder of the job, which is on the "
            "machine that ran it",
        )
    return folder


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
