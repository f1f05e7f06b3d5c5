"""Drive operations of batches_core with the standard library alone: one batch per thread.

    python examples/embed_threads.py

A `BatchesAPI` never changes, so all threads share one. An operation belongs to one thread at a
time. `http.client` carries the bytes, with a connection for each exchange.

With ANTHROPIC_API_KEY set, it uses the service, which costs money. Without it, it uses an emulator
in this process.
"""

from __future__ import annotations

import contextlib
import http.client
import math
import os
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from batches_core import (
    BASE_URL,
    BatchesAPI,
    CreateOperation,
    Done,
    Need,
    Operation,
    Request,
    ResultsReceived,
    RetryScheduled,
    SendRequest,
    WaitUntil,
)
from batches_core.emulator import Emulator
from transports.emulator import running_emulator

T = TypeVar("T")

BATCHES = 8
TIMEOUT = 60.0  # seconds without a byte
READ = 64 * 1024  # bytes at a time


def drive(operation: Operation[T]) -> tuple[T, int]:
    """Carry out an operation; return its value and the number of results that it received."""
    clock = time.monotonic
    results = 0
    operation.handle_timeout(clock())  # timeouts count from here
    with contextlib.ExitStack() as connection:
        try:
            while True:
                match operation.next_event():
                    case SendRequest(exchange=number, request=request):
                        connection.close()
                        exchange = Exchange(operation, number)
                        connection.callback(exchange.close)
                        exchange.send(request)
                    case Need.DATA:
                        exchange.read()
                    case WaitUntil(deadline=deadline):
                        connection.close()
                        time.sleep(max(0.0, deadline - clock()))
                        operation.handle_timeout(clock())
                    case ResultsReceived(items=items):
                        results += len(items)
                    case RetryScheduled(error=error, delay=delay):
                        print(f"retry in {delay:.1f} s: {error}")
                    case Done(value=value):
                        return value, results
        except BaseException as error:
            if isinstance(operation, CreateOperation):
                operation.interrupt(error, clock())  # attaches what is known of the batch
            raise


class Exchange:
    """One request and its response, on a connection of their own."""

    def __init__(self, operation: Operation[Any], number: int) -> None:
        self.operation, self.number = operation, number
        self.connection: http.client.HTTPConnection | None = None
        self.sent = False

    def send(self, request: Request) -> None:
        """Send the request, and pass the response's head to the operation."""
        scheme, host, port = request.origin
        https = scheme == "https"
        kind = http.client.HTTPSConnection if https else http.client.HTTPConnection
        self.connection = kind(host, port, timeout=self.left())
        headers = dict(request.headers)
        with self.reporting_loss():
            self.connection.connect()
            self.sock = self.connection.sock
            self.sent = True  # from the first byte on, because False means that none was sent
            self.connection.request(request.method, request.target, request.body, headers)
            self.response = self.connection.getresponse()
            pairs = self.response.getheaders()
            now = time.monotonic()
            self.operation.receive_head(self.number, self.response.status, pairs, now)

    def read(self) -> None:
        """Read on, and pass the next piece of the body or its end to the operation."""
        with self.reporting_loss():
            if not self.response.isclosed():
                self.sock.settimeout(self.left())
            data = self.response.read1(READ)
            if data:
                self.operation.receive_data(self.number, data, time.monotonic())
            elif self.response.length:
                raise http.client.IncompleteRead(b"", self.response.length)
            else:
                self.operation.receive_eof(self.number, time.monotonic())

    def left(self) -> float:
        """Return how many seconds to wait for the next byte, at most until the deadline."""
        left = (self.operation.deadline or math.inf) - time.monotonic()
        return max(0.001, min(TIMEOUT, left))

    @contextlib.contextmanager
    def reporting_loss(self) -> Iterator[None]:
        """Report an error of the network to the operation."""
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            lost, now = self.operation.connection_lost, time.monotonic()
            lost(self.number, repr(error), now, sent=self.sent, cause=error)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self.connection is not None:
            self.connection.close()


def run_batch(api: BatchesAPI, number: int, poll_interval: float) -> str:
    """Create a batch, wait for it and count its results, all in the calling thread."""
    question = {"role": "user", "content": f"What is {number} squared?"}
    params: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": 100}
    requests = [
        {"custom_id": f"{number}-{n}", "params": {**params, "messages": [question]}}
        for n in range(5)
    ]
    batch, _ = drive(api.create(requests))
    batch, _ = drive(api.wait_for(batch, poll_interval=poll_interval))
    _, results = drive(api.results_stream(batch))
    return f"thread {number}: {results} results of {batch.id}"


def main() -> None:
    """Run all batches at once."""
    with contextlib.ExitStack() as stack:
        if key := os.environ.get("ANTHROPIC_API_KEY"):
            url = os.environ.get("ANTHROPIC_BASE_URL") or BASE_URL
        else:
            print("ANTHROPIC_API_KEY is not set: an emulator invents the answers, at no cost")
            url = stack.enter_context(running_emulator(Emulator(speed=5)))
        api = BatchesAPI(api_key=key or "any", base_url=url, jitter=random.random)
        poll_interval = 30.0 if key else 1.0
        threads = stack.enter_context(ThreadPoolExecutor(BATCHES))
        for line in threads.map(lambda n: run_batch(api, n, poll_interval), range(BATCHES)):
            print(line)


if __name__ == "__main__":
    main()
