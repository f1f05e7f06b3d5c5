"""Runs the examples as a user does: each in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from batches_core import MessageBatch
from transports.h11 import BatchesClient

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
REQUESTS = EXAMPLES / "requests.jsonl"

KEY = "sk-example-key"
#: Runs in a script's process before the script: lets a create be settled within a second.
SETTLING_QUICKLY = """
import functools, transports.h11, transports.httpx
from batches_core import SettlingPolicy
quickly = SettlingPolicy(settle_time=0.6, alone=0.3, first_look=0.1, longest_look=0.2)
for client in (transports.h11.BatchesClient, transports.httpx.BatchesClient):
    client.from_env = functools.partial(client.from_env, settling=quickly)
"""
#: Runs before the script as well: lets no file grow beyond so many bytes, as on a full disk.
FULL_DISK = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (%d, resource.RLIM_INFINITY))
"""
_AND_THEN_THE_SCRIPT = """
import runpy, sys
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def service(base_url: str, key: str = KEY) -> dict[str, str]:
    """Return the variables that point an example at a service."""
    return {"ANTHROPIC_API_KEY": key, "ANTHROPIC_BASE_URL": base_url}


def _environment(**variables: str) -> dict[str, str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if "ANTHROPIC" not in name and not name.lower().endswith("_proxy")
    }
    return {**clean, **variables}


def _command(script: str, *arguments: object, before: str = "") -> list[str]:
    program = ["-c", before + _AND_THEN_THE_SCRIPT] if before else []
    path = str(EXAMPLES / script)  # an absolute path replaces the folder
    return [sys.executable, "-W", "error", *program, path, *map(str, arguments)]


def run(
    script: str, *arguments: object, cwd: Path, before: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a script to its end; `before` is a program that its process executes first."""
    return subprocess.run(  # noqa: S603 - this interpreter, our own scripts
        _command(script, *arguments, before=before),
        cwd=cwd,
        env=_environment(**environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@contextlib.contextmanager
def running(
    script: str, *arguments: object, cwd: Path, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """Start a script; kill it at the end, if it still runs."""
    with subprocess.Popen(  # noqa: S603 - this interpreter, our own scripts
        _command(script, *arguments),
        cwd=cwd,
        env=_environment(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_line(process: subprocess.Popen[str], text: str) -> str:
    """Read a script's stderr until a line that contains the text; return all that was read."""
    assert process.stderr is not None
    read = ""
    for line in process.stderr:
        read += line
        if text in line:
            return read
    raise AssertionError(f"{text!r} is not in:\n{read}")


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true.

    Raises:
        TimeoutError: it is not true within 30 seconds.
    """
    end = time.monotonic() + 30
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)


def interrupt(process: subprocess.Popen[str], number: int = signal.SIGINT) -> str:
    """Send a signal and wait for the end; return what was written to stderr since."""
    process.send_signal(number)
    _, text = process.communicate(timeout=20)
    assert isinstance(text, str)
    return text


def assert_failed(done: subprocess.CompletedProcess[str], *texts: str) -> None:
    """Check that a script reported an error that a person can understand."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "error: " in line]
    for text in texts:
        assert text in line


def batches_of(base_url: str) -> list[MessageBatch]:
    """Return every batch of a service."""
    with BatchesClient(api_key=KEY, base_url=base_url) as client:
        return [*client.list_all()]
