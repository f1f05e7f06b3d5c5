"""Where a command writes: a file on this machine, or a file in storage by its URL.

`places` says which output a command has, and `settings` keeps it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import unquote

from .codes import ExitCode
from .console import CommandError, command, shown_path
from .stored_output import StoredOutput, Write

if TYPE_CHECKING:
    from batches_jobs import WrittenTable

#: The format of results by the suffix of their file.
FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class FileOutput:
    """A file on this machine.

    `format` is that of a table; None if it is that of the suffix.
    """

    def __init__(self, path: Path, format_: str | None = None) -> None:
        self.path = path
        self.format = format_

    @property
    def given(self) -> str:
        """The path as it was given."""
        return os.fspath(self.path)

    @property
    def text(self) -> str:
        """The absolute path."""
        return str(self.path.absolute())

    @property
    def shown(self) -> str:
        """The path as it is shown."""
        return shown_path(self.path)

    def check_new(self) -> None:
        """Check that the output of a new job can be written at its end.

        Raises:
            CommandError: another file is there.
        """
        if self.path.exists():
            raise CommandError(
                ExitCode.INPUT,
                f"{self.path} is there already, and is not the output of this job: move it away, "
                "or choose another -o",
            )

    def prepare(self) -> None:
        """Create the folder."""
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def version(self) -> str | None:
        """Return what changes when the file changes; None if there is no file."""
        try:
            info = self.path.stat()
        except OSError:
            return None
        return f"{info.st_size}-{info.st_mtime_ns}"

    def is_missing_in(self, job: Path) -> bool:
        """Whether the folder of the job says that it was never written."""
        del job
        return False

    def write(self, job: Path, write: Write, *, next_command: str | None = None) -> WrittenTable:
        """Write the file. `JobReader` replaces only what the job wrote."""
        del job, next_command
        return write(self.path)


Output: TypeAlias = FileOutput | StoredOutput


def is_url(text: str) -> bool:
    """Whether an output is in storage."""
    return _URL.match(text) is not None


def stored_output(url: str, default_name: str, format_: str | None = None) -> StoredOutput:
    """Return the output at a URL. `default_name` is that of the file if the URL is a folder.

    Raises:
        InvalidInputError: the URL is malformed, or has a credential.
    """
    from batches_jobs._storage.opening import check_url

    check_url(url)
    last = url.partition("://")[2].partition("/")[2].rpartition("/")[2]
    if PurePosixPath(unquote(last)).suffix:
        return StoredOutput(url, format_)
    return StoredOutput(f"{url.removesuffix('/')}/{default_name}", format_)


def kept_output(text: str, format_: str | None) -> Output:
    """Return the output whose `text` was kept."""
    return StoredOutput(text, format_) if is_url(text) else FileOutput(Path(text), format_)


def results_command(job: Path, output: Output) -> str:
    """Return the command that writes the results of a job to its output."""
    by_suffix = FORMATS.get(PurePosixPath(output.text).suffix.lower())
    more = () if output.format in {None, by_suffix} else ("--format", str(output.format))
    return command("results", job, "-o", output.shown, *more)
