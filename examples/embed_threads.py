"""Embed the core in threads, with nothing but the standard library: one operation, one thread.

python examples/embed_threads.py

A `BatchesAPI` never changes, so all threads share one; an operation belongs to one thread at a
time. `http.client` carries the bytes, a connection for each exchange.
"""

from __future__ import annotations

import http.client
import random
import time
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
    connection: http.client.HTTPConnection | None = None
    results = exchange = 0
    operation.handle_timeout(clock())  # timeouts count from here
    while True:
        event = operation.next_event()
        if connection is not None and isinstance(event, (SendRequest, WaitUntil, Done)):
            connection.close()  # any directive but Need.DATA: the exchange before it is done with
        match event:
            case SendRequest(exchange=exchange, request=request):
                connection = connect(request)
                sent = False
                try:
                    connection.connect()
                    sent = True  # from here on nobody can be sure that nothing left
                    connection.request(
                        request.method, request.target, request.body, dict(request.headers)
                    )
                    response = connection.getresponse()
                except (OSError, http.client.HTTPException) as error:
                    operation.connection_lost(exchange, repr(error), clock(), sent=sent)
                else:
                    headers = response.getheaders()
                    operation.receive_head(exchange, response.status, headers, clock())
            case Need.DATA:
                try:
                    data = response.read1(READ)
                    if not data and response.length:
                        raise http.client.IncompleteRead(b"", response.length)
                except (OSError, http.client.HTTPException) as error:
                    operation.connection_lost(exchange, repr(error), clock(), sent=True)
                else:
                    if data:
                        operation.receive_data(exchange, data, clock())
                    else:
                        operation.receive_eof(exchange, clock())
            case WaitUntil(deadline=deadline):
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


def connect(request: Request) -> http.client.HTTPConnection:
    """Choose the connection that a request needs; http.client opens it."""
    scheme, host, port = request.origin
    kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    return kind(host, port, timeout=TIMEOUT)


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
