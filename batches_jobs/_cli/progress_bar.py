"""Draws the progress of a job on a terminal with rich, which is imported only here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from .console import Console

if TYPE_CHECKING:
    from batches_core.jobs import Progress as JobProgress


class BarView:
    """A bar of the answered rows, and the numbers of the others."""

    def __init__(self, console: Console, description: str, interval: float) -> None:
        self.interval = interval
        self._console = console
        screen = RichConsole(stderr=True, no_color=bool(os.environ.get("NO_COLOR")) or None)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rest]}", markup=False),
            TimeElapsedColumn(),
            console=screen,
            transient=True,
        )
        self._task = self._progress.add_task(description, total=None, rest="")
        self._progress.start()
        console.above_bar = lambda text: screen.print(Text.from_ansi(text), soft_wrap=True)

    def show(self, progress: JobProgress) -> None:
        """See `progress.View`."""
        parts = {
            "in flight": progress.in_flight,
            "to retry": progress.to_retry,
            "failed": progress.failed + progress.lost,
            "chunks in doubt": progress.doubts,
        }
        rest = "  ".join(f"{count:,} {words}" for words, count in parts.items() if count)
        done = progress.answered + progress.failed + progress.lost
        self._progress.update(self._task, completed=done, total=progress.rows, rest=rest)

    def close(self) -> None:
        """See `progress.View`."""
        self._console.above_bar = None
        self._progress.stop()
