"""Shows how far a job is: a bar on a terminal, a line a minute elsewhere.

A job that runs here reports it as news. That of another process is read from its journal.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from .console import Console, is_terminal

if TYPE_CHECKING:
    from batches_core.jobs import Progress
    from batches_jobs import JobStatus

#: The counts in a line of progress.
_COUNTS = ("answered", "in_flight", "ended", "to_retry", "failed", "lost", "doubts")
#: How often the bar is drawn anew, in seconds.
_BAR_INTERVAL = 0.5


class View(Protocol):
    """What shows a status."""

    interval: float

    def show(self, progress: Progress) -> None:
        """Show how far a job is."""
        ...

    def close(self) -> None:
        """End."""
        ...


class LineView:
    """Writes a line of ``key=value`` pairs to stderr."""

    def __init__(self, console: Console, interval: float) -> None:
        self._console = console
        self.interval = interval

    def show(self, progress: Progress) -> None:
        """See `View`."""
        self._console.say(progress_line(progress))

    def close(self) -> None:
        """See `View`."""


def progress_line(progress: Progress) -> str:
    """Return how far a job is as ``key=value`` pairs."""
    values: dict[str, object] = {
        "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "rows": "?" if progress.rows is None else progress.rows,
        **{name: getattr(progress, name) for name in _COUNTS},
    }
    if progress.expires_at is not None:
        values["expires"] = f"{progress.expires_at:%Y-%m-%dT%H:%M:%SZ}"
    return " ".join(f"{name}={value}" for name, value in values.items())


def make_view(console: Console, every: float, description: str) -> View:
    """Return the view for this stderr."""
    if is_terminal(sys.stderr):
        with contextlib.suppress(ModuleNotFoundError):
            from .progress_bar import BarView

            return BarView(console, description, _BAR_INTERVAL)
    return LineView(console, every)


class ShownProgress:
    """Shows the progress of a job that runs here, as a context manager.

    `update` is called with each piece of news on the progress. A thread shows the last one.
    """

    def __init__(self, console: Console, job: Path, every: float) -> None:
        self._view = None if console.is_quiet else make_view(console, every, job.name)
        self._job = job
        self._latest: Progress | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._show, name="batches-progress", daemon=True)

    def update(self, progress: Progress) -> None:
        """Remember how far the job is."""
        self._latest = progress

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._view is not None:
            self._view.close()

    def _show(self) -> None:
        while self._view is not None and not self._ended.wait(self._view.interval):
            # A job that is resumed reports nothing before something has changed.
            latest = self._latest or _kept_progress(self._job)
            if latest is not None:
                self._view.show(latest)


def follow(
    console: Console, job: Path, every: float, is_over: Callable[[JobStatus], bool]
) -> JobStatus:
    """Show the progress of a job that another process runs, until `is_over`."""
    from batches_jobs import read_status

    view = make_view(console, every, job.name)
    shown_at = -every
    try:
        while True:
            status = read_status(job)
            now = time.monotonic()
            if not console.is_quiet and now - shown_at >= view.interval:
                view.show(_progress_of(status))
                shown_at = now
            if is_over(status):
                return status
            time.sleep(min(view.interval, 1.0))
    finally:
        view.close()


def _kept_progress(job: Path) -> Progress | None:
    """Return how far a job is by its journal; None if that cannot be read yet."""
    from batches_core import BatchesError
    from batches_jobs import read_status

    try:
        return _progress_of(read_status(job))
    except (BatchesError, OSError):
        return None


def _progress_of(status: JobStatus) -> Progress:
    from batches_core.jobs import Progress

    fields = {name: getattr(status, name) for name in Progress.__struct_fields__}
    return Progress(**{**fields, "doubts": len(status.doubts)})
