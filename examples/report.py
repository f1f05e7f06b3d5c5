"""What every example says to its user: where it runs, how the batch stands, how it ended."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from batches_core import (
    BatchesError,
    BatchState,
    ErroredResult,
    Event,
    InvalidInputError,
    MalformedResultError,
    Message,
    MessageBatch,
    ResultItem,
    ResultsInterrupted,
    RetryScheduled,
    SucceededResult,
)
from batches_core.emulator import Emulator
from transports._client.environment import settings_from_env
from transports.emulator import running_emulator


@dataclass(kw_only=True)
class Job:
    """What the command line asked for, and what is known of it since.

    `source` is a file to submit, or the id of a batch to go on with; `batch_id` is the batch's
    once there is one, so that whatever goes wrong afterwards can say how to go on.
    """

    source: Path | str
    results: Path | None
    batch_id: str | None = None

    def begin(self, batch: MessageBatch, verb: str) -> None:
        """Say which batch it is, and remember."""
        self.batch_id = batch.id
        say(f"{verb} {batch.id} with {batch.request_counts.total} requests")

    def results_path(self, batch: MessageBatch) -> Path:
        """Name a file for the results that is not there yet, so that none is overwritten."""
        if self.results is not None:
            return self.results
        path = Path(f"results-{batch.id}.jsonl")
        tries = itertools.count(2)
        while path.exists():
            path = Path(f"results-{batch.id}-{next(tries)}.jsonl")
        return path

    def how_to_go_on(self) -> str:
        """Say how the results can still be had, where there is a batch that lives on."""
        if self.batch_id is None or not _has_credential():
            return ""
        return f"; batch {self.batch_id} is not lost: go on with --batch {self.batch_id}"


def read_command_line(doc: str | None) -> Job:
    """Read the command line, or explain it and leave."""
    parser = argparse.ArgumentParser(description=doc)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("requests", nargs="?", type=Path, help="a file with one request a line")
    what.add_argument("--batch", metavar="ID", help="go on with this batch; create none")
    parser.add_argument("--results", type=Path, help="a new file; default: results-<batch>.jsonl")
    options = parser.parse_args()
    if options.batch is not None and not _has_credential():
        parser.error("--batch is for the service's batches: set ANTHROPIC_API_KEY")
    # Looked at now, for the results come only after the batch is paid for.
    results = options.results
    if results is not None and results.exists() and not results.is_char_device():
        parser.error(f"--results {results} is there already: name a new file")
    if results is not None and not os.access(results.parent, os.W_OK | os.X_OK):
        parser.error(f"--results {results} cannot be written there: is it a folder of yours?")
    return Job(source=options.batch or options.requests, results=results)


def _has_credential() -> bool:
    return any(os.environ.get(f"ANTHROPIC_{name}") for name in ("API_KEY", "AUTH_TOKEN"))


@contextlib.contextmanager
def service() -> Iterator[dict[str, Any]]:
    """Give a client's arguments: none for the service of the environment, or an emulator's.

    Without a credential in the environment an emulator is started, and this says so.
    """
    if _has_credential():
        yield {}
        return
    with running_emulator(Emulator(speed=5)) as base_url:
        # It is on this machine, so no proxy of the environment leads there.
        os.environ["NO_PROXY"] = "127.0.0.1"
        say(f"ANTHROPIC_API_KEY is not set: using an emulator at {base_url}, which costs nothing")
        yield {"api_key": "any-key-will-do", "base_url": base_url}


@contextlib.contextmanager
def endpoint() -> Iterator[dict[str, Any]]:
    """Give what a `BatchesAPI` is made of: the service of the environment, or an emulator."""
    with service() as arguments:
        yield arguments or settings_from_env({}, with_proxy=False)


def poll_interval(arguments: dict[str, Any]) -> float:
    """Poll the service every half minute, what is on this machine every second."""
    return 1.0 if "127.0.0.1" in arguments.get("base_url", "") else 30.0


def say(text: str) -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)


def on_event(event: Event) -> None:
    """Tell what is known while waiting; within a batch the service shows no progress."""
    match event:
        case BatchState(batch=batch):
            now = datetime.now(UTC)
            elapsed = _short((batch.ended_at or now) - batch.created_at)
            left = "" if batch.ended else f", {_short(batch.expires_at - now)} until it expires"
            say(f"  {batch.processing_status:<12} {elapsed} after its creation{left}")
        case RetryScheduled(error=error, delay=delay):
            say(f"  trying again in {delay:.1f} s: {error}")
        case ResultsInterrupted(error=error, delivered=delivered, delay=delay):
            say(f"  broke off after {delivered} results, going on in {delay:.1f} s: {error}")
        case _:
            pass


def _short(span: timedelta) -> str:
    return str(max(timedelta(), timedelta(seconds=round(span.total_seconds()))))


@dataclass
class Tally:
    """Counts what came, for the last lines."""

    outcomes: Counter[str] = field(default_factory=Counter)
    input_tokens: int = 0
    output_tokens: int = 0
    failed: list[str] = field(default_factory=list)

    def add(self, item: ResultItem[Message] | MalformedResultError) -> None:
        """Count one result."""
        if isinstance(item, MalformedResultError):
            self.outcomes["unreadable"] += 1
            self.failed.append(f"{item.custom_id or '?'}: line {item.line_number}: {item.reason}")
            return
        self.outcomes[item.result.type] += 1
        match item.result:
            case SucceededResult(message=message):
                usage = message.usage
                self.input_tokens += usage.input_tokens
                self.input_tokens += usage.cache_creation_input_tokens or 0
                self.input_tokens += usage.cache_read_input_tokens or 0
                self.output_tokens += usage.output_tokens
            case ErroredResult(error=error):
                self.failed.append(f"{item.custom_id}: {error.type}: {error.message}")
            case _:
                pass

    def report(self, path: Path) -> None:
        """Say how it ended."""
        counts = ", ".join(f"{n:,} {outcome}" for outcome, n in self.outcomes.most_common())
        say(f"{self.outcomes.total():,} results in {path}: {counts}")
        say(f"tokens: {self.input_tokens:,} in, {self.output_tokens:,} out")
        for line in self.failed:
            say(f"  {line}")


@contextlib.contextmanager
def errors_in_a_line(job: Job) -> Iterator[None]:
    """Turn what a person can mend into a line on the error stream and an exit status of 1."""
    try:
        yield
    except InvalidInputError as error:
        for problem in error.problems:
            # The position of a request is the number of its line, for every line is counted.
            place = "error" if problem.index is None else f"{job.source}:{problem.index + 1}"
            what = f"{problem.field} {problem.message}" if problem.field else problem.message
            print(f"{place}: {what}", file=sys.stderr)
        if error.omitted:
            print(f"… and {error.omitted} more", file=sys.stderr)
    except BatchesError as error:
        print(f"error: {error}{job.how_to_go_on()}", file=sys.stderr)
    except BrokenPipeError:
        # Whoever read what is said here has gone; nothing more can be said, not even at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        print(f"error: {error.strerror or error}{where}{job.how_to_go_on()}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"interrupted{job.how_to_go_on()}", file=sys.stderr)
        sys.exit(130)
    else:
        return
    sys.exit(1)
