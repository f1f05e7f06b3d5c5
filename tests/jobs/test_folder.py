"""The folder of a job: what it refuses, and its lock."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pytest

from batches_core import BatchesError
from batches_jobs import _folder
from batches_jobs._errors import JobFolderError, JobLockedError, StorageError
from batches_jobs._folder import JobFolder, network_file_system, read_mounts

from .store_support import folder_in, names, python, read_only

HOLD = """
    import sys
    from batches_jobs._folder import JobFolder
    with JobFolder(sys.argv[1]).lock():
        print("locked", flush=True)
        sys.stdin.readline()
"""


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    return folder_in(tmp_path)


@pytest.fixture
def holder(folder: JobFolder) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    with python(HOLD, str(folder.path)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


# --- the folder --------------------------------------------------------------------------


def test_a_new_folder_has_a_place_for_everything(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "reviews.job")
    folder.create()
    folder.create()
    assert names(folder.path) == ["lock", "raw", "retry", "spool"]
    assert not folder.has_job
    assert folder.raw(12) == folder.path / "raw" / "000012.jsonl"
    assert folder.spool(1_234_567) == folder.path / "spool" / "1234567.jsonl"
    assert folder.retry(0) == folder.path / "retry" / "000000.jsonl"
    assert repr(folder) == f"JobFolder({str(folder.path)!r})"


def test_what_an_interrupted_creation_left_is_no_other_file(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    for name in ("journal.db.new", "journal.db.new-journal"):
        (folder.path / name).touch()
    folder.create()


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(JobFolderError, match=r"other files \('thesis.tex'\); choose a name"):
        JobFolder(tmp_path).create()
    assert names(tmp_path) == ["thesis.tex"]


def test_a_journal_that_was_lost_without_its_log_is_not_begun_anew(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    (folder.path / "journal.db-wal").touch()
    with pytest.raises(JobFolderError, match=r"journal\.db-wal, but its journal\.db is missing"):
        folder.create()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "reviews.job"
    path.touch()
    with pytest.raises(JobFolderError, match="is not a folder"):
        JobFolder(path).create()
    with pytest.raises(JobFolderError, match="is not a folder"):
        JobFolder(path / "inner").create()


def test_a_folder_in_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobFolderError, match=r"/none does not exist: create that first"):
        JobFolder(tmp_path / "none" / "reviews.job").create()


@pytest.mark.parametrize(
    ("number", "kind", "advice"),
    [
        (errno.EROFS, JobFolderError, "cannot be written .Read-only file system.: use a folder"),
        (errno.EACCES, JobFolderError, "cannot be written .Permission denied.: use a folder"),
        (errno.ENOSPC, StorageError, "No space left on device.*run the job again"),
        (errno.EIO, JobFolderError, "cannot be used .Input/output error.: correct that"),
    ],
)
def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[BatchesError],
    advice: str,
) -> None:
    folder = folder_in(tmp_path)

    def refuse(path: Any, flags: int, mode: int = 0) -> int:
        del flags, mode
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(kind, match=advice):
        folder.create()
    with pytest.raises(kind, match=advice), folder.lock():
        pass


def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    code = """
        import os, sys
        from batches_jobs._errors import JobFolderError
        from batches_jobs._folder import JobFolder
        if os.getuid() == 0:
            os.setuid(65534)  # root may write anywhere
        try:
            JobFolder(sys.argv[1]).create()
        except JobFolderError as error:
            print(error)
    """
    with read_only(folder.path), python(code, str(folder.path)) as process:
        out, _ = process.communicate()
    assert "cannot be written (Permission denied): use a folder" in out


# --- network file systems ----------------------------------------------------------------

MOUNTS = """\
rootfs / rootfs rw 0 0
/dev/vda / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
server:/export /mnt/data nfs4 rw,vers=4.2 0 0
/dev/vdb /mnt/data/local xfs rw 0 0
//server/share /mnt/with\\040space cifs rw 0 0
me@host: /home/me/remote fuse.sshfs rw 0 0
/dev/fuse /mnt/usb fuse.ntfs rw 0 0
share /mnt/shadowed nfs rw 0 0
/dev/vdc /mnt/shadowed ext4 rw 0 0
torn
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/reviews.job", None),
        ("/mnt/data", "nfs4"),
        ("/mnt/data/reviews.job", "nfs4"),
        ("/mnt/database/reviews.job", None),
        ("/mnt/data/local/reviews.job", None),
        ("/mnt/with space/reviews.job", "cifs"),
        ("/home/me/remote/x/y", "fuse.sshfs"),
        ("/mnt/usb/reviews.job", None),
        ("/mnt/shadowed/reviews.job", None),
    ],
)
def test_the_innermost_mount_says_what_file_system_a_path_is_on(
    path: str, kind: str | None
) -> None:
    assert network_file_system(PurePosixPath(path), MOUNTS) == kind


@pytest.mark.parametrize(
    "kind",
    [
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "vboxsf"),
        *("fuse.sshfs", "fuse.rclone", "fuse.s3fs", "fuse.gcsfuse", "fuse.glusterfs"),
    ],
)
def test_network_file_systems_are_known(kind: str) -> None:
    assert network_file_system(PurePosixPath("/a/b"), f"x /a {kind} rw 0 0\n") == kind


def test_a_share_of_windows_is_on_the_network() -> None:
    share = PureWindowsPath(r"\\server\share\reviews.job")
    assert network_file_system(share, "") == r"the share \\server\share"
    assert network_file_system(PureWindowsPath(r"C:\reviews.job"), "") is None


def test_a_folder_on_a_network_file_system_is_refused(tmp_path: Path) -> None:
    (tmp_path / "remote").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "remote")
    mounts = f"server:/x {tmp_path.resolve()}/remote nfs4 rw 0 0\n"
    for name in ("remote", "link"):
        folder = JobFolder(tmp_path / name / "reviews.job", mounts=lambda: mounts)
        with pytest.raises(JobFolderError, match=r"network file system \(nfs4\).*local disk"):
            folder.create()
        assert not folder.path.exists()
    JobFolder(tmp_path / "reviews.job", mounts=lambda: mounts).create()


def test_the_mount_table_is_that_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    assert " / " in read_mounts()
    monkeypatch.setattr(_folder, "_MOUNTS", "/none")
    assert read_mounts() == ""


# --- the lock ----------------------------------------------------------------------------


def test_a_second_process_is_told_which_one_has_the_lock(
    folder: JobFolder, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(JobLockedError, match=f"in process {holder.pid}: wait") as caught:
        folder.lock().__enter__()
    assert caught.value.pid == holder.pid
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
    assert (copy.pid, str(copy)) == (holder.pid, str(caught.value))


@pytest.mark.parametrize("end", ["return", "kill", "terminate"])
def test_the_lock_is_released_however_its_process_ends(
    folder: JobFolder, holder: subprocess.Popen[str], end: str
) -> None:
    if end == "return":
        holder.communicate("\n")
    elif end == "kill":
        holder.send_signal(signal.SIGKILL)
    else:
        holder.terminate()
    holder.wait()
    with folder.lock():
        assert folder.lock_path.read_text() == f"{os.getpid()}\n"
    assert folder.lock_path.read_text() == ""


def test_a_second_call_in_one_process_is_refused(folder: JobFolder) -> None:
    with folder.lock():
        for _ in range(2):
            with pytest.raises(JobLockedError, match=r"already running in this process \(\d+\)"):
                folder.lock().__enter__()
    with folder.lock():
        pass


def test_a_lock_without_an_id_is_still_a_lock(
    folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        held = folder.lock()
        held.__enter__()
    monkeypatch.setattr(_folder, "_PID_INTERVAL", 0)
    with pytest.raises(JobLockedError, match="in another process") as caught:
        folder.lock().__enter__()
    assert caught.value.pid is None
    held.__exit__(None, None, None)


def test_a_forked_process_does_not_keep_the_lock(folder: JobFolder) -> None:
    code = """
        import os, signal, sys
        from batches_jobs._folder import JobFolder
        with JobFolder(sys.argv[1]).lock():
            if os.fork() == 0:
                print(os.getpid(), flush=True)
                sys.stdin.readline()
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    with python(code, str(folder.path)) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.wait()
        os.kill(child, 0)  # it lives
        with folder.lock():
            pass
        os.kill(child, signal.SIGKILL)


class _Windows:
    """Locks bytes as Windows does, once each."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def __init__(self) -> None:
        self.is_locked = False

    def locking(self, descriptor: int, mode: int, count: int) -> None:
        assert count == 1
        assert os.lseek(descriptor, 0, os.SEEK_CUR) > 2**41, "a locked byte cannot be read"
        if mode == self.LK_NBLCK and self.is_locked:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        self.is_locked = mode == self.LK_NBLCK


def test_windows_locks_a_byte_behind_the_end(
    folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    double = _Windows()
    monkeypatch.setattr(_folder, "fcntl", None)
    monkeypatch.setattr(_folder, "msvcrt", double)
    with folder.lock():
        assert double.is_locked
        with pytest.raises(JobLockedError, match=f"this process .{os.getpid()}"):
            folder.lock().__enter__()
    assert not double.is_locked
    assert folder.lock_path.stat().st_size == 0


def test_a_system_without_locks_is_refused(
    folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_folder, "fcntl", None)
    monkeypatch.setattr(_folder, "msvcrt", None)
    with pytest.raises(JobFolderError, match="no file locks"):
        folder.lock().__enter__()


def test_a_file_that_cannot_be_locked_is_refused(
    folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(_folder.fcntl, "flock", refuse)
    with pytest.raises(JobFolderError, match=r"cannot be used \(No locks available"):
        folder.lock().__enter__()
