"""Runs a command in a pseudo-terminal, and types into it."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from .support import KEY, command, environment

#: The longest that a command is waited for, in seconds.
_PATIENCE = 60.0
#: Makes the pseudo-terminal the one that Ctrl-C comes from, and becomes the command.
_TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A command that runs in a pseudo-terminal, which is its stdin, stdout and stderr."""

    def __init__(
        self, cwd: Path, *arguments: object, base_url: str | None = None, **more: str
    ) -> None:
        self._fd, inner = pty.openpty()
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter
            [sys.executable, "-c", _TAKE_TERMINAL, *command(*arguments)],
            cwd=cwd,
            env=environment(base_url, TERM="xterm", **more),
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
        )
        os.close(inner)
        self.raw = ""

    @property
    def text(self) -> str:
        """What the terminal has shown, without colors and movements."""
        return _ESCAPES.sub("", self.raw).replace("\r", "")

    def expect(self, words: str) -> None:
        """Wait until the terminal has shown these words."""
        deadline = time.monotonic() + _PATIENCE
        while words not in self.text:
            assert self._read(deadline), f"{words!r} is not in {self.text!r}"

    def type(self, text: str) -> None:
        """Type a text. ``\\x03`` is Ctrl-C."""
        os.write(self._fd, text.encode())

    def wait(self) -> int:
        """Wait for the end, and return the exit code."""
        deadline = time.monotonic() + _PATIENCE
        while self._read(deadline):
            pass
        code = self._process.wait(max(0.1, deadline - time.monotonic()))
        assert KEY not in self.raw
        return code

    def close(self) -> None:
        """End the command if it still runs."""
        self._process.kill()
        self._process.wait()
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _read(self, deadline: float) -> bool:
        """Read what was shown; return False at its end."""
        ready, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"nothing more after {self.text!r}"
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # Linux ends a pseudo-terminal so
            return False
        self.raw += data.decode(errors="replace")
        return bool(data)
