"""Runs a job, shows it, writes its results, and ends the command with its exit code."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from .client import open_client
from .codes import ExitCode
from .console import CommandError, Console, command
from .endings import exit_code, show_end, status_lines
from .failures import in_options
from .outputs import results_command
from .progress import ShownProgress
from .settings import EMULATOR, Settings, Settled, is_written, output_of, remember_written
from .signals import leave_at_once, watched_signals
from .stored_output import StoredOutput

if TYPE_CHECKING:
    from batches_core.jobs import JobOptions, News
    from batches_jobs import JobStatus


#: The states of chunks that need no more sending.
_SENT = {"in flight", "canceling", "ended", "collected", "lost"}


class JobCommand:
    """Runs the job of one command.

    `next_command` is what to type after an interruption, by default ``batches resume``.
    """

    def __init__(
        self,
        console: Console,
        job: Path,
        settings: Settings | None,
        *,
        every: float,
        max_cost: str | None = None,
        next_command: str | None = None,
    ) -> None:
        self._console = console
        self._job = job
        self._settings = settings
        self._every = every
        self._max_cost = max_cost
        self._next = next_command or command("resume", job)
        self._is_invented = settings is not None and settings.destination == EMULATOR
        self._output = output_of(settings)

    def run(
        self,
        requests: object,
        *,
        options: JobOptions | None = None,
        until: Literal["finished", "sent", "tried"] = "finished",
    ) -> JobStatus:
        """Run the job and return its status.

        `requests` are passed to `run_job`: None continues with the input that the journal names.

        Raises:
            CommandError: it was interrupted, or its input is invalid.
        """
        from batches_core import InvalidInputError
        from batches_jobs import run_job

        if self._is_invented:
            self._check_emulator()
        self._say_settling()
        console = self._console
        with (
            open_client(console, emulator=self._is_invented) as client,
            watched_signals(self._say_stopping) as signals,
        ):
            try:
                with ShownProgress(console, self._job, self._every) as progress:
                    return run_job(
                        client,
                        requests,
                        self._job,
                        options=options,
                        on_event=partial(self._on_news, progress),
                        max_cost=self._max_cost,
                        until=until,
                    )
            except KeyboardInterrupt:
                try:
                    self._end_interrupted(signals.code, at_once=signals.interrupts > 1)
                except KeyboardInterrupt:
                    leave_at_once(signals.code)
            except InvalidInputError as error:
                if _has_sent(self._job):
                    raise CommandError(
                        ExitCode.PERSON, in_options(str(error)), command("status", self._job)
                    ) from error
                raise

    def finish(self, status: JobStatus) -> NoReturn:
        """Write the results if the job is done, show it, and end the command."""
        output = self._output
        if status.is_finished:
            self.write(status)
        show_end(
            self._console,
            self._job,
            status,
            output=output,
            is_invented=self._is_invented,
        )
        raise SystemExit(exit_code(status))

    def leave(self, status: JobStatus) -> NoReturn:
        """Show a job that was submitted, and end the command: 0 if all its rows are sent."""
        show_end(self._console, self._job, status, output=None)
        code = exit_code(status)
        is_sent = status.rows is not None and not status.to_retry and set(status.chunks) <= _SENT
        raise SystemExit(ExitCode.OK if code is ExitCode.AGAIN and is_sent else code)

    def write(self, status: JobStatus) -> None:
        """Write the results, unless they are written already.

        Raises:
            CommandError: they could not be stored. How the job ended has been shown.
        """
        output = self._output
        if output is None:
            return
        settled = Settled(status.answered, status.failed, status.lost)
        if is_written(self._job, output, settled):
            return
        from batches_jobs import JobReader

        output.prepare()
        reader = JobReader(self._job)
        self._console.note(f"writing {output.shown}")
        try:
            output.write(
                self._job,
                lambda target: reader.write_table(reader.table(), target, output.format),
                next_command=results_command(self._job, output),
            )
        except CommandError as error:
            show_end(
                self._console,
                self._job,
                status,
                output=None,
                is_invented=self._is_invented,
                failure=error,
            )
            raise
        remember_written(self._job, output, settled)

    def warn_of_output(self) -> None:
        """Warn if the results cannot be stored. The job goes on, because its batches are paid."""
        if isinstance(self._output, StoredOutput):
            reason = self._output.why_not_writable()
            if reason is not None:
                self._console.warn(
                    f"{self._output.shown} cannot be written ({reason}): the results stay in "
                    f"{self._job}"
                )

    def _say_settling(self) -> None:
        """Say why a job that was killed can seem to stand still."""
        if _cut_off(self._job):
            self._console.note(
                "a create was cut off: its batch is looked for, which can take 10 minutes "
                "(--settle-time); the other rows go on meanwhile"
            )

    def _check_emulator(self) -> None:
        """Check that the job is not one of an emulator that has ended.

        Raises:
            CommandError: it is, and is not finished.
        """
        from batches_jobs import read_status

        if not (self._job / "journal.db").exists():
            return
        if not read_status(self._job).is_finished:
            raise CommandError(
                ExitCode.PERSON,
                f"the job in {self._job} ran on an emulator, which ended with its command, and "
                "its batches with it: remove the folder, or choose another -o; the server of "
                "'batches emulator' outlives a job",
            )

    def _say_stopping(self) -> None:
        self._console.say(
            "stopping: the request under way is finished first; Ctrl-C again leaves at once"
        )

    def _end_interrupted(self, code: ExitCode, *, at_once: bool) -> NoReturn:
        from batches_jobs import read_status

        console = self._console
        next_ = self._next if (self._job / "journal.db").exists() else None
        console.say("interrupted: the job is safe" if next_ else "interrupted: nothing was sent")
        if next_ and not at_once:
            for line in status_lines(read_status(self._job)):
                console.note(line)
        console.next(next_)
        if at_once:
            leave_at_once(code)
        raise SystemExit(code)

    def _on_news(self, progress: ShownProgress, news: News) -> None:
        from batches_core.jobs import Progress

        if isinstance(news, Progress):
            progress.update(news)
        for line in news_lines(news):
            self._console.note(line)


def news_lines(news: Any) -> list[str]:
    """Return a piece of news as lines of text; none if it is not worth a line."""
    from batches_core.jobs import (
        JobPaused,
        RoomChanged,
        StraySeen,
        Trouble,
    )

    match news:
        case Trouble(message=message, delay=delay):
            return [f"trouble: {message}; trying again in {delay:.0f} s"]
        case RoomChanged(room=room):
            return [f"the service's queue: up to {room:,} rows in flight from now on"]
        case StraySeen(chunk=chunk, batch_id=batch_id):
            return [f"batch {batch_id} may be that of chunk {chunk}; it is not touched"]
        case JobPaused(message=message):
            return [f"paused: {in_options(message)}"]
        case _:
            return []


def _cut_off(job: Path) -> int:
    from batches_core import BatchesError
    from batches_jobs import read_status

    try:
        return read_status(job).chunks.get("being created", 0)
    except BatchesError:
        return 0


def _has_sent(job: Path) -> bool:
    from batches_core import BatchesError
    from batches_jobs import read_status

    try:
        return bool(set(read_status(job).chunks) - {"planned"})
    except BatchesError:
        return False
