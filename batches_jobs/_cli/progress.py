"""Shows how far a job is, from its journal: a bar on a terminal, a line a minute elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .console import Console, is_terminal

if TYPE_CHECKING:
    from batches_jobs import JobStatus

#: How often the bar is drawn anew, in seconds.
_BAR_INTERVAL = 0.5


class View(Protocol):
    """What shows a status."""

    interval: float

    def show(self, status: JobStatus) -> None:
        """Show a status."""
        ...

    def close(self) -> None:
        """End."""
        ...


class LineView:
    """Writes a line of ``key=value`` pairs to stderr."""

    def __init__(self, console: Console, interval: float) -> None:
        self._console = console
        self.interval = interval

    def show(self, status: JobStatus) -> None:
        """See `View`."""
        self._console.say(status_line(status))

    def close(self) -> None:
        """See `View`."""


def status_line(status: JobStatus) -> str:
    """Return a status as ``key=value`` pairs."""
    values: dict[str, object] = {
        "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "rows": "?" if status.rows is None else status.rows,
        "answered": status.answered,
        "in_flight": status.in_flight,
        "ended": status.ended,
        "to_retry": status.to_retry,
        "failed": status.failed,
        "lost": status.lost,
        "doubts": len(status.doubts),
    }
    if status.expires_at is not None:
        values["expires"] = f"{status.expires_at:%Y-%m-%dT%H:%M:%SZ}"
    return " ".join(f"{name}={value}" for name, value in values.items())


def make_view(console: Console, every: float, description: str) -> View:
    """Return the view for this stderr."""
    if is_terminal(sys.stderr):
        with contextlib.suppress(ModuleNotFoundError):
            from .progress_bar import BarView  # noqa: PLC0415 - rich is loaded only on a terminal

            return BarView(console, description, _BAR_INTERVAL)
    return LineView(console, every)


@contextlib.contextmanager
def shown_progress(console: Console, job: Path, every: float) -> Iterator[None]:
    """Show the progress of a job in a thread while the `with` statement runs."""
    if console.is_quiet:
        yield
        return
    view = make_view(console, every, job.name)
    ended = threading.Event()

    def show() -> None:
        while not ended.wait(view.interval):
            _show_once(view, job)

    thread = threading.Thread(target=show, name="batches-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        view.close()


def _show_once(view: View, job: Path) -> None:
    from batches_core import BatchesError  # noqa: PLC0415 - `batches --help` must be fast
    from batches_jobs import read_status  # noqa: PLC0415 - likewise

    # Before its first record, and after a failed write, there is nothing to show.
    with contextlib.suppress(BatchesError, OSError):
        view.show(read_status(job))


def follow(
    console: Console, job: Path, every: float, is_over: Callable[[JobStatus], bool]
) -> JobStatus:
    """Show the progress of a job that another process runs, until `is_over`."""
    from batches_jobs import read_status  # noqa: PLC0415 - `batches --help` must be fast

    view = make_view(console, every, job.name)
    shown_at = -every
    try:
        while True:
            status = read_status(job)
            now = time.monotonic()
            if not console.is_quiet and now - shown_at >= view.interval:
                view.show(status)
                shown_at = now
            if is_over(status):
                return status
            time.sleep(min(view.interval, 1.0))
    finally:
        view.close()
