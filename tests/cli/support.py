"""Runs ``batches`` as a user does: in processes of its own, with pipes or a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from batches_core.emulator import Emulator
from transports.emulator import running_emulator

KEY = "sk-ant-of-the-command-line"
#: A job's steps are this quick on the emulator of a test.
QUICK = ("--poll-interval", "0.05")
_ROOT = Path(__file__).parents[2]


class Ended(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What stdout says as JSON."""
        return json.loads(self.out)


def environment(base_url: str | None = None, **more: str) -> dict[str, str]:
    """Return the environment of a command, without what this machine sets."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    own = {"PYTHONPATH": str(_ROOT), "COLUMNS": "100", "LC_ALL": "C.UTF-8"}
    keys = {} if base_url is None else {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": base_url}
    return kept | own | keys | more


def command(*arguments: object) -> list[str]:
    """Return the command line of a process."""
    return [sys.executable, "-m", "batches_jobs", *map(str, arguments)]


def batches(
    cwd: Path, *arguments: object, base_url: str | None = None, stdin: bytes = b"", **more: str
) -> Ended:
    """Run a command to its end, in pipes."""
    done = subprocess.run(  # noqa: S603 - this interpreter
        command(*arguments),
        cwd=cwd,
        env=environment(base_url, **more),
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )
    ended = Ended(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert KEY not in ended.out + ended.err
    return ended


@contextmanager
def started(cwd: Path, *arguments: object, base_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command beside the test. It is killed at the end if it still runs."""
    with subprocess.Popen(  # noqa: S603 - this interpreter
        command(*arguments),
        cwd=cwd,
        env=environment(base_url),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def served(emulator: Emulator) -> Iterator[str]:
    """Serve an emulator, and return its base URL."""
    with running_emulator(emulator) as base_url:
        yield base_url


def write_requests(path: Path, count: int, **params: object) -> Path:
    """Write requests as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            messages = [{"role": "user", "content": f"{number}"}]
            request = {
                "custom_id": f"r{number}",
                "params": {
                    "model": "claude-haiku-4-5",
                    "max_tokens": 5,
                    "messages": messages,
                    **params,
                },
            }
            file.write(json.dumps(request) + "\n")
    return path


def write_table(path: Path, count: int) -> Path:
    """Write a CSV file of reviews."""
    rows = "".join(f'{number},"review, {number}"\n' for number in range(count))
    path.write_text(f"id,review\n{rows}", "utf-8")
    return path


def sold(emulator: Emulator) -> Counter[str]:
    """Count how often each custom_id was bought."""
    return Counter(custom_id for sale in emulator.sales for custom_id in sale.custom_ids)


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Read results in JSONL."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
