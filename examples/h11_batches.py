"""Send a file of requests as one batch from a cron job or a container, and never twice.

    python examples/h11_batches.py examples/requests.jsonl --wait 600

Run the same command as often as you like. Each run continues where the last one stopped, even if
that was killed while it created the batch. For this, a marker is stored before the create is sent;
with it the next run finds the batch, or learns that there is none. The state is kept in
NAME-HASH.state.json, the results in NAME-HASH.results.jsonl. HASH identifies the requests: if the
file changes, it is sent as another batch. Needs no package but h11. Needs flock, which Windows does
not have.

With ANTHROPIC_API_KEY set, the requests go to the service and cost money. Without it, an emulator
in this process invents the answers. Exit status: 0 if all results are in the file, 75 if they
are not there yet (run it again), 1 after an error, 2 for wrong arguments, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import logging
import os
import sys
from functools import partial
from pathlib import Path

import msgspec

from batches_core import (
    BatchCreated,
    BatchesError,
    CreateMarked,
    CreateMarker,
    Event,
    WaitTimeoutError,
)
from batches_core.emulator import Emulator
from transports.emulator import running_emulator
from transports.files import RequestsFile
from transports.h11 import BatchesClient

say = partial(print, file=sys.stderr, flush=True)  # stdout is for the summary
has_key = any(os.environ.get(f"ANTHROPIC_{name}") for name in ("API_KEY", "AUTH_TOKEN"))


class State(msgspec.Struct):
    """What the next run has to know. If it has a marker but no id, there may be a batch."""

    marker: CreateMarker | None = None
    batch_id: str | None = None

    def save(self, path: Path) -> None:
        """Replace the file in one step: a crash leaves the old state or the new one."""
        new = path.with_suffix(".new")
        with new.open("wb") as file:
            file.write(msgspec.json.encode(self))
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)


def run(options: argparse.Namespace, name: str) -> None:
    """Continue from the stored state to the results."""
    path, results = Path(f"{name}.state.json"), Path(f"{name}.results.jsonl")
    state = State()
    if has_key and path.exists():  # an emulator's batches end with its process
        state = msgspec.json.decode(path.read_bytes(), type=State)
    if state.batch_id is None and results.exists():
        sys.exit(f"error: {results} already exists: move it away")

    def store(event: Event) -> None:
        match event:
            case CreateMarked(marker=marker):
                state.marker = marker
                state.save(path)  # if this fails, the create is not sent
                say(f"if this run stops, run the same command again: {path} lets it continue")
            case BatchCreated(batch=batch):
                state.batch_id = batch.id
                state.save(path)

    with BatchesClient.from_env(on_event=store) as client:
        if state.batch_id is None and state.marker is not None:
            say("an earlier run stopped while it created a batch: looking for it")
            client.settle(state.marker)  # calls `store` if it finds a batch
        if state.batch_id is None:
            client.create(RequestsFile(options.requests))  # calls `store` before and after
        assert state.batch_id is not None
        interval = 30.0 if has_key else 1.0
        batch = client.wait_for(state.batch_id, poll_interval=interval, timeout=options.wait)
        count, counts = client.download(batch, results), batch.request_counts
    print(f"{count} results in {results}: {counts.succeeded} succeeded, {counts.errored} errored")


def main() -> int:
    """Let one run at a time work on a file; return the exit status."""
    parser = argparse.ArgumentParser(description="Run a file of requests as one batch, once.")
    parser.add_argument("requests", type=Path, help="a file with one request per line")
    parser.add_argument("--wait", type=float, metavar="SECONDS", help="wait no longer in this run")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("transports.client").setLevel(logging.DEBUG)  # logs polls and retries
    try:
        with contextlib.ExitStack() as stack:
            requests = stack.enter_context(options.requests.open("rb"))
            fcntl.flock(requests, fcntl.LOCK_EX | fcntl.LOCK_NB)
            digest = hashlib.file_digest(requests, "sha256").hexdigest()
            name = f"{options.requests.stem}-{digest[:12]}"
            if not has_key:
                say("ANTHROPIC_API_KEY is not set: an emulator invents the answers, at no cost")
                url = stack.enter_context(running_emulator(Emulator(speed=5)))
                os.environ.update(ANTHROPIC_API_KEY="any", ANTHROPIC_BASE_URL=url)
                name = f"emulated-{name}"
            run(options, name)
    except BlockingIOError:
        say(f"another run is working on {options.requests}: try again later")
        return os.EX_TEMPFAIL
    except (BatchesError, OSError, KeyboardInterrupt) as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        text = "interrupted" if interrupted else f"error: {error}"
        say(text, *getattr(error, "__notes__", ()), sep="\n  ")
        if isinstance(error, WaitTimeoutError):
            return os.EX_TEMPFAIL
        return 130 if interrupted else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
