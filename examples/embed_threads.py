"""Embed the core in threads, with nothing but the standard library: one operation, one thread.

python examples/embed_threads.py

A `BatchesAPI` never changes, so all threads share one; an operation belongs to one thread at a
time. `http.client` carries the bytes, a connection for each exchange.
"""

from __future__ import annotations

import contextlib
import http.client
import math
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from report import endpoint, poll_interval, say

from batches_core import (
    BatchesAPI,
    Done,
    Need,
    Operation,
    Request,
    ResultsReceived,
    RetryScheduled,
    SendRequest,
    WaitUntil,
)

T = TypeVar("T")

JOBS = 8
TIMEOUT = 60.0  # seconds without a byte
READ = 64 * 1024


def drive(operation: Operation[T]) -> tuple[T, int]:
    """Carry an operation out; give its value, and how many results came on the way."""
    clock = time.monotonic
    results = 0
    operation.handle_timeout(clock())  # timeouts count from here
    with contextlib.ExitStack() as opened:
        while True:
            match operation.next_event():
                case SendRequest(exchange=number, request=request):
                    opened.close()
                    exchange = Exchange(operation, number)
                    opened.callback(exchange.close)
                    exchange.send(request)
                case Need.DATA:
                    exchange.read()
                case WaitUntil(deadline=deadline):
                    opened.close()
                    time.sleep(max(0.0, deadline - clock()))
                    operation.handle_timeout(clock())
                case ResultsReceived(items=items):
                    results += len(items)
                case RetryScheduled(error=error, delay=delay):
                    say(f"trying again in {delay:.1f} s: {error}")
                case Done(value=value):
                    return value, results
                case _:
                    pass


class Exchange:
    """One request and its response, on a connection of their own."""

    def __init__(self, operation: Operation[Any], number: int) -> None:
        self.operation, self.number = operation, number
        self.connection: http.client.HTTPConnection | None = None
        self.sent = False

    def send(self, request: Request) -> None:
        """Send the request; tell the operation of the response's head."""
        scheme, host, port = request.origin
        https = scheme == "https"
        kind = http.client.HTTPSConnection if https else http.client.HTTPConnection
        self.connection = kind(host, port, timeout=self.left())
        headers = dict(request.headers)
        with self.losses_told():
            self.connection.connect()
            self.sock = self.connection.sock
            self.sent = True  # from here on nobody can be sure that nothing left
            self.connection.request(request.method, request.target, request.body, headers)
            self.response = self.connection.getresponse()
            pairs = self.response.getheaders()
            now = time.monotonic()
            self.operation.receive_head(self.number, self.response.status, pairs, now)

    def read(self) -> None:
        """Read on; tell the operation of the body's next piece or its end."""
        with self.losses_told():
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
        """Give the seconds to wait: no longer than the operation wants the exchange."""
        left = (self.operation.deadline or math.inf) - time.monotonic()
        return max(0.001, min(TIMEOUT, left))

    @contextlib.contextmanager
    def losses_told(self) -> Iterator[None]:
        """Tell the operation of whatever goes wrong on the network."""
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            now = time.monotonic()
            self.operation.connection_lost(self.number, repr(error), now, sent=self.sent)

    def close(self) -> None:
        """Let go of the connection."""
        if self.connection is not None:
            self.connection.close()


def job(api: BatchesAPI, number: int, interval: float) -> str:
    """Create a batch, wait for it, count its results: the whole of it in one thread."""
    question = {"role": "user", "content": f"What is {number} squared?"}
    params: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": 100}
    requests = [
        {"custom_id": f"{number}-{n}", "params": {**params, "messages": [question]}}
        for n in range(5)
    ]
    batch, _ = drive(api.create(requests))
    batch, _ = drive(api.wait_for(batch.id, poll_interval=interval))
    _, results = drive(api.results_stream(batch))
    return f"job {number}: {results} results of {batch.id}"


def main() -> None:
    """Run all jobs at once."""
    with endpoint() as settings, ThreadPoolExecutor(JOBS) as threads:
        api = BatchesAPI(jitter=random.random, **settings)
        interval = poll_interval(settings)
        for line in threads.map(lambda number: job(api, number, interval), range(JOBS)):
            say(line)


if __name__ == "__main__":
    main()
