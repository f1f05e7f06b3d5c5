"""Lets SIGTERM end a job as Ctrl-C does, and says at once that the first Ctrl-C was seen.

`run_job` itself holds back the first Ctrl-C until its step is complete. It replaces only Python's
own handler, so this module replaces none for SIGINT: it is told of signals through a socket.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn, TypeVar

import click

from .codes import ExitCode

T = TypeVar("T")


class Signals:
    """The signals of a command that were seen."""

    def __init__(self) -> None:
        self.is_terminated = False
        self.interrupts = 0

    @property
    def code(self) -> ExitCode:
        """The exit code after an interruption."""
        return ExitCode.TERMINATED if self.is_terminated else ExitCode.INTERRUPTED

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if not self.is_terminated:
            self.is_terminated = True
            signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def watched_signals(on_first: Callable[[], object]) -> Iterator[Signals]:
    """Watch signals. `on_first` is called in a thread at the first SIGINT or SIGTERM."""
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    receiver, sender = socket.socketpair()
    sender.setblocking(False)  # noqa: FBT003 - the socket's own signature

    def watch() -> None:
        while data := receiver.recv(64):
            for number in data:
                if number == signal.SIGINT:
                    signals.interrupts += 1
                    if signals.interrupts == 1:
                        on_first()

    watcher = threading.Thread(target=watch, name="batches-signals", daemon=True)
    watcher.start()
    old_fd = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    old_handler = signal.signal(signal.SIGTERM, signals._terminate)  # noqa: SLF001 - of this module
    try:
        yield signals
    finally:
        signal.signal(signal.SIGTERM, old_handler)
        signal.set_wakeup_fd(old_fd)
        sender.close()
        watcher.join()
        receiver.close()


def leave_at_once(code: int) -> NoReturn:
    """End the process without waiting for threads. The journal is safe, as after a kill."""
    os._exit(code)


def call_or_leave(act: Callable[[], T], farewell: str) -> T:
    """Call a function that holds back signals. Ctrl-C ends the process at once with a farewell."""
    values: list[T] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            values.append(act())
        except BaseException as error:  # noqa: BLE001 - raised by the caller
            errors.append(error)

    thread = threading.Thread(target=call, name="batches-storage", daemon=True)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        click.echo(farewell, err=True)
        leave_at_once(ExitCode.INTERRUPTED)
    if errors:
        raise errors[0]
    return values[0]
