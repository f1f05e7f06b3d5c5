"""The exit codes of ``batches``. Each is documented here alone."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """How a command ended. Scripts can rely on these numbers."""

    OK = 0
    """Every row was answered. For other commands: the command did what it is for."""
    BUG = 1
    """A bug of this program: please report it."""
    INPUT = 2
    """The input or the command line is invalid, and nothing was sent."""
    FAILED_ROWS = 3
    """The job is done, but some rows failed for good, were canceled, or were lost."""
    PERSON = 4
    """A person is needed: for a key, a spend limit, a consent, a doubt."""
    AGAIN = 5
    """Not done yet, for a reason that passes: run the same command again."""
    LOCKED = 11
    """Another process runs the job."""
    INTERRUPTED = 130
    """Interrupted by Ctrl-C. The job is safe and can be resumed."""
    PIPE_CLOSED = 141
    """The reader of the output has gone, as when a program is ended by SIGPIPE."""
    TERMINATED = 143
    """Interrupted by SIGTERM. The job is safe and can be resumed."""
