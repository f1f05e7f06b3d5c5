"""Rename a file without ever replacing another one, and make the new name survive a crash."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

#: Whether a rename replaces an existing file, as it does on every system but Windows.
_RENAME_REPLACES = os.name != "nt"


def rename_to_new_name(old: Path, new: Path) -> None:
    """Rename a closed file.

    An interruption can leave both names on the same file.

    Raises:
        FileExistsError: a file of the new name exists.
        OSError: the file cannot be renamed.
    """
    if not _RENAME_REPLACES:
        old.rename(new)
        return
    try:
        os.link(old, new)
    except FileExistsError:
        raise
    except OSError:
        # This file system has no hard links. Claim the new name first, because a rename replaces.
        claim = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            os.close(claim)
            old.replace(new)
        except BaseException:
            # Release the claim, unless the interruption came after the rename.
            if os.path.lexists(old):
                new.unlink()
            raise
        _sync_folder(new)
    else:
        _sync_folder(new)
        # The file has its new name, so a failure here is harmless. `CompleteFile.finish` removes
        # the old name in the next download.
        with contextlib.suppress(OSError):
            old.unlink()


def _sync_folder(path: Path) -> None:
    """Write the folder of a file to the disk, unless folders cannot be opened, as on Windows."""
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
