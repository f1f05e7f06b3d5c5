"""Holds back Ctrl-C while a job runs, so that it ends the run between two steps.

Python raises `KeyboardInterrupt` between any two instructions of the main thread, for example while
a record is written. `workers` uses this for the blocking runner. An async run needs none of it: the
event loop turns Ctrl-C into a cancellation.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable


class Interrupts:
    """Holds back the first Ctrl-C until `check`; a second one is raised at once.

    Only Python's own handler is replaced, and only in the main thread, where signals are handled.
    A handler of the application stays. `wake` is called when Ctrl-C is held back.
    """

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self._is_holding = False
        self._is_due = False

    def hold(self) -> None:
        """Begin to hold back Ctrl-C."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._is_holding = True
            signal.signal(signal.SIGINT, self._handle)

    def release(self) -> None:
        """Restore Python's handler."""
        if self._is_holding:
            self._is_holding = False
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def check(self) -> None:
        """Raise the Ctrl-C that was held back, if there is one.

        Raises:
            KeyboardInterrupt: there is one.
        """
        if self._is_due:
            self._is_due = False
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: object) -> None:
        del number, frame
        if self._is_due:
            raise KeyboardInterrupt
        self._is_due = True
        self._wake()
