"""Lock a file against other processes, if the operating system and the file system can.

`part` decides what to lock, and notices another writer if there are no locks.
"""

from __future__ import annotations

import errno
import importlib
import io
from typing import Any


def _import_if_available(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


#: Locks files on Unix; None on Windows.
fcntl = _import_if_available("fcntl")
#: Locks files on Windows; None on other systems.
msvcrt = _import_if_available("msvcrt")

#: The offset of the byte to lock on Windows. A locked byte cannot be read, so it is far beyond the
#: end of any file of results.
_LOCKED_BYTE = 2**42
#: The errors that mean that another process holds the lock. Any other error means that this file
#: system has no locks.
_LOCKED_ERRORS = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES})


def lock(file: io.FileIO) -> bool:
    """Lock a file until it is closed, and move its position to the start.

    Returns False only if another process or another open file holds the lock. Returns True if the
    file cannot be locked at all.
    """
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt is not None:
            file.seek(_LOCKED_BYTE)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except OSError as error:
        return error.errno not in _LOCKED_ERRORS
    finally:
        file.seek(0)
    return True
