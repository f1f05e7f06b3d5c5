"""Writes what a command has to say: data to stdout, all else to stderr.

`Console` is made once for each command. `output` opens stdout for bytes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO

import click

#: The environment variables whose values must never be shown.
_SECRETS = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
)
#: A shorter value is no key, and would be found in ordinary words.
_SHORTEST_SECRET = 6


class CommandError(Exception):
    """Ends a command with an exit code, a message, and the next command to type if there is one."""

    def __init__(self, code: int, message: str, next_command: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.next_command = next_command


@dataclasses.dataclass
class Console:
    """How a command speaks.

    - `is_json`: whether stdout is JSON;
    - `is_debug`: whether errors have tracebacks;
    - `is_quiet`: whether progress and notes are left out.
    """

    is_json: bool = False
    is_debug: bool = False
    is_quiet: bool = False
    #: Prints a line above the progress bar while there is one.
    above_bar: Any = None
    _lock: Any = dataclasses.field(default_factory=threading.Lock)

    def out(self, text: str) -> None:
        """Write a line of data to stdout."""
        check_stdout()
        click.echo(redacted(text), color=_color(sys.stdout))

    def out_json(self, value: Any) -> None:
        """Write a value as JSON to stdout."""
        self.out(json.dumps(value, indent=2, default=str, ensure_ascii=False))

    def say(self, text: str) -> None:
        """Write a line to stderr."""
        text = redacted(text)
        with self._lock:
            if self.above_bar is not None:
                self.above_bar(text)
            else:
                click.echo(text, err=True, color=_color(sys.stderr))

    def note(self, text: str) -> None:
        """Write a line to stderr, unless the command is quiet."""
        if not self.is_quiet:
            self.say(text)

    def warn(self, text: str) -> None:
        """Write a warning to stderr."""
        self.say(f"{click.style('warning:', fg='yellow')} {text}")

    def error(self, text: str) -> None:
        """Write an error to stderr."""
        self.say(f"{click.style('error:', fg='red')} {text}")

    def next(self, command: str | None) -> None:
        """Write the next command to type to stderr."""
        if command is not None:
            self.say(f"{click.style('next:', bold=True)} {command}")


def command(*words: str | os.PathLike[str]) -> str:
    """Return a command of this program, as it is typed in a shell."""
    return shlex.join(["batches", *(os.fspath(word) for word in words)])


def shown_path(path: str | os.PathLike[str]) -> str:
    """Return a path as it is shown: relative to the current folder if it is in there."""
    absolute, here = Path(os.path.abspath(path)), Path.cwd()  # noqa: PTH100 - links stay
    return os.fspath(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def redacted(text: str) -> str:
    """Return a text without the values of the variables that hold keys."""
    for name in _SECRETS:
        value = os.environ.get(name, "").strip()
        if len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "[redacted]")
    return text


def check_stdout() -> None:
    """Check that there is a stdout.

    Raises:
        CommandError: it was closed.
    """
    if sys.stdout is None:
        raise CommandError(2, "stdout is closed: open it, or write to a file with -o")


def stdout_bytes() -> BinaryIO:
    """Return stdout for bytes.

    Raises:
        CommandError: it was closed.
    """
    check_stdout()
    return sys.stdout.buffer


def stdin_bytes() -> BinaryIO:
    """Return stdin for bytes."""
    return sys.stdin.buffer


def is_interactive() -> bool:
    """Whether a person can be asked: stdin and stderr are a terminal."""
    return _is_terminal(sys.stdin) and _is_terminal(sys.stderr)


def is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal that can draw a progress bar."""
    return _is_terminal(stream) and os.environ.get("TERM") != "dumb"


def _is_terminal(stream: Any) -> bool:
    return stream is not None and bool(stream.isatty())


def _color(stream: Any) -> bool:
    return is_terminal(stream) and not os.environ.get("NO_COLOR")
