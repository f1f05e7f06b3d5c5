"""The folder of a job: its paths, its lock, and the checks that it can hold a job.

`_journal` and `_inputs` write the files. The folder of a job called ``reviews.job``::

    reviews.job/
    ├── journal.db       the journal; while it is open also journal.db-wal and journal.db-shm
    ├── lock             locked while a process runs the job; holds the id of that process
    ├── spool/000003.jsonl   the requests of chunk 3, if the input cannot be read again in place
    ├── retry/000007.jsonl   the requests of chunk 7, which failed before and are sent again
    ├── raw/000003.jsonl     the results of chunk 3, as they were received
    └── rows.csv         the table that was read from an open file, if there was one
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Any

from batches_core import BatchesError

from ._errors import JobFolderError, JobLockedError, StorageError


def _module_of_this_system(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


fcntl = _module_of_this_system("fcntl")
msvcrt = _module_of_this_system("msvcrt")

#: The byte that Windows locks. It is far after the end, because a locked byte cannot be read.
_LOCKED_BYTE = 2**42
#: The error numbers that mean that another process holds the lock.
_LOCKED = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK})
#: The error numbers of systems that cannot sync a folder. Windows cannot open one. There, the
#: system itself makes names durable.
_NO_SYNC = frozenset({errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP})
#: How many bytes of the lock file are read. Every process id fits.
_MAX_PID = 20
#: How often the id of the other process is read while it is missing, and the seconds in between.
_PID_READS, _PID_INTERVAL = 10, 0.01
#: The mount table of Linux. Other systems do not have this file.
_MOUNTS = "/proc/self/mounts"
#: File systems whose files other machines can change. Locks and shared memory do not work there as
#: SQLite needs them. Sources: mount(8), and "How To Corrupt An SQLite Database File", section 2.1.
_NETWORK_TYPES = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "ncpfs", "afs", "coda", "9p"),
        *("davfs", "ceph", "lustre", "glusterfs", "beegfs", "gpfs", "pvfs2", "orangefs", "vboxsf"),
    }
)
#: Such file systems that run in user space. Their type is ``fuse.NAME``.
_NETWORK_FUSE = frozenset(
    {
        *("sshfs", "smbnetfs", "curlftpfs", "davfs2", "ceph", "glusterfs", "juicefs", "rclone"),
        *("s3fs", "goofys", "mountpoint-s3", "gcsfuse", "blobfuse", "blobfuse2", "gvfsd-fuse"),
    }
)
#: The names that an interrupted creation can leave in a folder without a journal.
_OWN_NAMES = re.compile(r"lock|command\.json.*|raw|retry|spool|rows\..*|journal\.db\.new.*")


def read_mounts() -> str:
    """Return the mount table of Linux; empty on other systems."""
    try:
        with open(_MOUNTS, "rb") as file:  # noqa: PTH123 - decoded as paths are, not as text
            return os.fsdecode(file.read())
    except OSError:
        return ""


def network_file_system(path: PurePath, mounts: str) -> str | None:
    """Return the type of the network file system that contains an absolute path.

    Return None if the path is on a local file system. `mounts` is the mount table, in the form of
    ``/proc/self/mounts``.
    """
    if path.drive.startswith("\\\\"):
        return f"the share {path.drive}"
    best, found = -1, ""
    parts = path.parts
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:  # noqa: PLR2004 - the device, the folder, the type
            continue
        mounted = PurePath(_unescape(fields[1])).parts
        # A later mount on the same folder hides the earlier one.
        if mounted == parts[: len(mounted)] and len(mounted) >= best:
            best, found = len(mounted), fields[2]
    is_network = found in _NETWORK_TYPES or found.removeprefix("fuse.") in _NETWORK_FUSE
    return found if is_network else None


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _unescape(name: str) -> str:
    r"""Decode the mount table's escapes: a space is written as ``\040``."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), name)


class JobFolder:
    """The folder of one job.

    `mounts` returns the mount table, by default that of this system.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, mounts: Callable[[], str] = read_mounts
    ) -> None:
        self.path = Path(path)
        self._mounts = mounts

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    @property
    def journal_path(self) -> Path:
        """The path of the journal."""
        return self.path / "journal.db"

    @property
    def lock_path(self) -> Path:
        """The path of the lock file."""
        return self.path / "lock"

    @property
    def cancel_path(self) -> Path:
        """The path of the file that asks for the job to be canceled. Its contents do not matter."""
        return self.path / "cancel"

    @property
    def has_job(self) -> bool:
        """Whether a job was begun in this folder."""
        return self.journal_path.exists()

    def raw(self, chunk: int) -> Path:
        """Return the path of a chunk's results."""
        return self.path / "raw" / _name(chunk)

    def rows(self, suffix: str) -> Path:
        """Return the path of a table that was read from an open file, such as stdin."""
        return self.path / f"rows.{suffix}"

    def spool(self, chunk: int) -> Path:
        """Return the path of the requests of a chunk that was cut off the input."""
        return self.path / "spool" / _name(chunk)

    def retry(self, chunk: int) -> Path:
        """Return the path of the requests of a chunk that was gathered from failed rows."""
        return self.path / "retry" / _name(chunk)

    def create(self) -> None:
        """Create the folder if it does not exist, and check that it can hold a job.

        Raises:
            JobFolderError: the folder is on a network file system, cannot be written, or contains
                other files and no job.
            StorageError: the disk is full.
        """
        absolute = self.path.resolve()
        if (kind := network_file_system(absolute, self._mounts())) is not None:
            raise JobFolderError(
                f"{self.path} is on a network file system ({kind}), where locks cannot be relied "
                "on: use a folder on a local disk, and copy the results afterwards"
            )
        try:
            self.path.mkdir(exist_ok=True)
            names = sorted(each.name for each in self.path.iterdir())
            other = [name for name in names if not _OWN_NAMES.fullmatch(name)]
            other += [
                f"{name}/{each.name}"
                for name in ("raw", "retry", "spool")
                if name in names
                for each in sorted((self.path / name).iterdir())[:1]
            ]
            if other and not self.has_job:
                raise JobFolderError(self._foreign(other))
            for name in ("raw", "retry", "spool"):
                (self.path / name).mkdir(exist_ok=True)
            # An existing folder can be read-only, which nothing above finds out.
            os.close(os.open(self.lock_path, os.O_RDWR | os.O_CREAT, 0o666))
            sync_folder(self.path)
            sync_folder(absolute.parent)
        except OSError as error:
            raise _unusable(self.path, error) from error

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the job. The system releases it if the process is killed.

        Raises:
            JobLockedError: another process holds it, or another call in this one.
            JobFolderError: the lock file cannot be opened or locked.
        """
        lock = _Lock(self)
        try:
            yield
        finally:
            lock.close()

    def _foreign(self, names: list[str]) -> str:
        for name in names:
            if name.startswith("journal.db-"):
                # It belongs to the missing journal. SQLite would apply it to a new one.
                return (
                    f"{self.path} has a {name}, but its journal.db is missing: put that back, or "
                    "choose another folder"
                )
            if "/" in name:
                # These rows would be taken for those of the new job.
                return (
                    f"{self.path} has files of an earlier job ({name}), but its journal.db is "
                    "missing: put that back, or choose another folder"
                )
        return (
            f"{self.path} is not the folder of a job: it contains other files ({names[0]!r}); "
            "choose a name that does not exist yet, such as reviews.job"
        )


class _Lock:
    """The lock of a folder, held until `close` or until the process ends."""

    def __init__(self, folder: JobFolder) -> None:
        try:
            self._fd = os.open(
                folder.lock_path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666
            )
        except OSError as error:
            raise _unusable(folder.path, error) from error
        try:
            self._acquire(folder)
            self._write_pid()
        except BaseException:
            os.close(self._fd)
            raise
        _held.add(self)

    def close(self) -> None:
        """Release the lock. The file remains, because all processes must lock the same file."""
        if self not in _held:
            return
        _held.discard(self)
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
        if fcntl is None:
            with contextlib.suppress(OSError):
                os.lseek(self._fd, _LOCKED_BYTE, os.SEEK_SET)
                msvcrt.locking(self._fd, msvcrt.LK_UNLCK, 1)
        os.close(self._fd)

    def close_in_child(self) -> None:
        """Close the copy in a forked process. The parent still holds the lock.

        An open copy would hold the lock after the parent has ended.
        """
        os.close(self._fd)

    def _acquire(self, folder: JobFolder) -> None:
        try:
            if fcntl is not None:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            elif msvcrt is not None:
                os.lseek(self._fd, _LOCKED_BYTE, os.SEEK_SET)
                msvcrt.locking(self._fd, msvcrt.LK_NBLCK, 1)
            else:
                raise JobFolderError(
                    "this system has no file locks, and two processes could run one job: use "
                    "another system"
                )
        except OSError as error:
            if error.errno in _LOCKED:
                raise JobLockedError(folder.path, self._read_pid()) from None
            raise _unusable(folder.path, error) from error

    def _read_pid(self) -> int | None:
        # The other process writes its id just after it has locked the file.
        for _ in range(_PID_READS):
            os.lseek(self._fd, 0, os.SEEK_SET)
            digits = os.read(self._fd, _MAX_PID).strip()
            if digits.isdigit():
                return int(digits)
            time.sleep(_PID_INTERVAL)
        return None

    def _write_pid(self) -> None:
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        # The id only serves the message of another process. A full disk must not prevent a lock.
        with contextlib.suppress(OSError):
            os.write(self._fd, b"%d\n" % os.getpid())


#: The locks that this process holds.
_held: set[_Lock] = set()


def _close_in_child() -> None:
    for lock in [*_held]:
        lock.close_in_child()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def _unusable(path: Path, error: OSError) -> BatchesError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageError(path, error.strerror or "the disk is full")
    if isinstance(error, (NotADirectoryError, FileExistsError)):
        return JobFolderError(f"{path} is not a folder: choose another name")
    if isinstance(error, FileNotFoundError):
        return JobFolderError(
            f"{path} cannot be created, because {path.parent} does not exist: create that first"
        )
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return JobFolderError(
            f"{path} cannot be written ({error.strerror}): use a folder that you can write to"
        )
    return JobFolderError(
        f"{path} cannot be used ({error.strerror or error}): correct that, or use another folder"
    )


def _name(chunk: int) -> str:
    return f"{chunk:06}.jsonl"
