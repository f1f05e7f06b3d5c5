"""An output in storage: checked before a job begins, and stored whole at its end.

``s3://…``, ``gs://…``, ``az://…`` and other URLs are those of `batches_jobs.storage.open_storage`.
The job itself stays on a local disk.
"""

from __future__ import annotations

import contextlib
import errno
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote

import msgspec

from .codes import ExitCode
from .console import CommandError
from .json_file import replace_file
from .signals import call_or_leave

if TYPE_CHECKING:
    from batches_core import BatchesError
    from batches_jobs import WrittenTable
    from batches_jobs.storage import Storage

#: Writes to a path, or to an open file.
Write: TypeAlias = "Callable[[Any], WrittenTable]"

#: The file in the folder of a job that lists what was stored, or was about to be.
_REGISTER = "uploads.json"
#: How long a check tries to reach a store. At the end of a job it is tried for minutes.
_CHECK = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
#: The error numbers of a folder that cannot be written to.
_READ_ONLY = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NOTHING_SENT = "interrupted: nothing was sent"


class StoredOutput:
    """A file in storage. Only its job replaces it."""

    def __init__(self, url: str, format_: str | None = None) -> None:
        self.text = self.shown = self.given = url
        self.format = format_
        root, _, name = url.rpartition("/")
        self._root = f"{root}/"
        #: The name of the file in its folder.
        self.name = unquote(name)

    def check_new(self) -> None:
        """Check that the output of a new job can be written at its end.

        Raises:
            CommandError: another file is there, or none can be written.
        """
        from batches_jobs import StorageError

        storage = self._open(retry_config=_CHECK)
        try:
            if call_or_leave(lambda: self._is_there(storage), _NOTHING_SENT):
                raise CommandError(
                    ExitCode.INPUT,
                    f"{self.text} is there already, and is not the output of this job: remove it, "
                    "or choose another -o",
                )
            call_or_leave(lambda: storage.check_writable(self.name), _NOTHING_SENT)
        except StorageError as error:
            raise CommandError(
                ExitCode.INPUT,
                f"{self.text} cannot be written ({error.reason}), and nothing was sent: correct "
                "that, or choose another -o",
            ) from error

    def why_not_writable(self) -> str | None:
        """Return why it cannot be written now; None if it can."""
        from batches_core import InvalidInputError
        from batches_jobs import StorageError

        try:
            storage = self._open(retry_config=_CHECK)
            call_or_leave(lambda: storage.check_writable(self.name), "interrupted: the job is safe")
        except StorageError as error:
            return error.reason
        except InvalidInputError as error:
            return str(error)
        return None

    def prepare(self) -> None:
        """Storage has no folders to create."""

    def version(self) -> str | None:
        """Return a text if the file is there; None if it is not, or cannot be seen."""
        from batches_core import InvalidInputError
        from batches_jobs import StorageError

        try:
            storage = self._open(retry_config=_CHECK)
            is_there = call_or_leave(lambda: storage.has(self.name), "interrupted")
        except (InvalidInputError, StorageError):
            return None
        return "stored" if is_there else None

    def is_missing_in(self, job: Path) -> bool:
        """Whether the folder of the job says that it was never written. Calls nothing."""
        return not _register(job).get(self.text, False)

    def write(self, job: Path, write: Write, *, next_command: str | None = None) -> WrittenTable:
        """Write a file on this machine, and store it. It appears whole or not at all.

        `next_command` is what to type if it cannot be stored.

        Raises:
            CommandError: it could not be stored, or another file is there.
        """
        from batches_core import InvalidInputError
        from batches_jobs import StorageError

        interrupted = f"interrupted: the results are safe in {job}"
        if next_command is not None:
            interrupted += f"\nnext: {next_command}"
        try:
            storage = self._open()
            is_own = self.text in _register(job)
            if not is_own and call_or_leave(lambda: self._is_there(storage), interrupted):
                raise CommandError(
                    ExitCode.PERSON,
                    f"{self.text} is there already, and is not what this job wrote there: it was "
                    "left as it is; remove it, or choose another -o",
                    next_command,
                )
        except (StorageError, InvalidInputError) as error:
            if next_command is None and isinstance(error, InvalidInputError):
                raise
            raise self._failed(job, error, next_command) from error
        with _scratch(job) as file:
            written = write(file)
            # Now, because after a crash the file can be there and must count as that of the job.
            _note(job, self.text, is_stored=False)
            try:
                call_or_leave(lambda: storage.replace(self.name, file), interrupted)
            except StorageError as error:
                raise self._failed(job, error, next_command) from error
        _note(job, self.text, is_stored=True)
        return written

    def _open(self, **options: Any) -> Storage:
        from batches_jobs.storage import open_storage

        return open_storage(self._root, **options)

    def _is_there(self, storage: Storage) -> bool:
        """Whether a file is there. If the credentials may not look, there is none."""
        from batches_jobs import ObjectStoreError

        try:
            return storage.has(self.name)
        except ObjectStoreError as error:
            if error.passes:
                raise
            return False

    def _failed(self, job: Path, error: BatchesError, next_command: str | None) -> CommandError:
        from batches_jobs import StorageError

        passes = getattr(error, "passes", isinstance(error, StorageError))
        remedy = "try again" if passes else "correct that"
        then = "" if next_command is not None else ", then run the same again"
        return CommandError(
            ExitCode.AGAIN if passes else ExitCode.PERSON,
            f"{self.text} could not be written ({getattr(error, 'reason', error)}): the results "
            f"are safe in {job}; {remedy}{then}",
            next_command,
        )


def _register(job: Path) -> dict[str, bool]:
    """Return the URLs to which a job has written, and whether that was completed."""
    try:
        return msgspec.json.decode((job / _REGISTER).read_bytes(), type=dict[str, bool])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}


def _note(job: Path, url: str, *, is_stored: bool) -> None:
    register = _register(job)
    if register.get(url) in {is_stored, True}:
        return
    try:
        replace_file(job / _REGISTER, {**register, url: is_stored})
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
        # The results of a job can be read from a read-only folder. The output is then not
        # registered, so a later write does not replace it.


@contextlib.contextmanager
def _scratch(job: Path) -> Iterator[IO[bytes]]:
    """Open a file without a name, of which nothing is left, whatever happens to the process."""
    where: Path | None = job
    try:
        tempfile.TemporaryFile(dir=job).close()
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
        where = None  # that of all programs
    with tempfile.TemporaryFile(dir=where) as file:
        yield file
