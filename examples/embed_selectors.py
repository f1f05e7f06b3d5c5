"""Embed the core in a loop of one's own: a hundred operations at once, one thread, `selectors`.

python examples/embed_selectors.py

Each job creates a batch, waits for it and reads its results, one operation after the other, and
never blocks: the loop wakes it when its socket is ready or its time has come. To stay short it
speaks plain http alone, so it is for an emulator or a gateway on this machine.
"""

from __future__ import annotations

import heapq
import itertools
import random
import selectors
import socket
import time
from collections.abc import Generator
from typing import Any

import h11
from report import endpoint, poll_interval, say

from batches_core import (
    BatchesAPI,
    Done,
    Need,
    Operation,
    Request,
    ResultsReceived,
    SendRequest,
    WaitUntil,
)

JOBS = 100
Steps = Generator[Operation[Any], Any, None]

selector = selectors.DefaultSelector()
timers: list[tuple[float, int, Job]] = []
order = itertools.count()  # two timers of the same moment are not to be compared further


class Job:
    """The operations of one batch, and the exchange that is under way."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.operation = next(steps)
        self.results = 0
        self.exchange = 0
        self.sock: socket.socket | None = None
        self.alarm: float | None = None

    def wake(self, deadline: float | None) -> None:
        """Have the time told at a deadline, if there is one; too often is harmless."""
        if deadline is not None and deadline != self.alarm:
            self.alarm = deadline
            heapq.heappush(timers, (deadline, next(order), self))

    def advance(self) -> bool:
        """Go on until there is something to wait for; False once all is done."""
        while True:
            match self.operation.next_event():
                case SendRequest(exchange=exchange, request=request):
                    self.close()
                    self.exchange = exchange
                    self.operation.handle_timeout(time.monotonic())  # timeouts count from here
                    self.begin(request)
                    self.wake(self.operation.deadline)
                    return True
                case Need.DATA:
                    self.wake(self.operation.deadline)
                    return True  # the selector is watching
                case WaitUntil(deadline=deadline):
                    self.close()
                    self.wake(deadline)
                    return True
                case Done(value=value):
                    self.close()
                    try:
                        self.operation = self.steps.send(value)
                    except StopIteration:
                        return False
                case ResultsReceived(items=items):
                    self.results += len(items)
                case _:
                    pass

    def begin(self, request: Request) -> None:
        """Start to connect, and make the bytes that go out once that is done."""
        _, host, port = request.origin
        self.http = h11.Connection(h11.CLIENT)
        headers = [("host", request.authority), *request.headers, ("connection", "close")]
        head = h11.Request(method=request.method, target=request.target, headers=headers)
        body = [h11.Data(data=piece) for piece in request.body or ()]
        self.out = b"".join(self.http.send(e) or b"" for e in (head, *body, h11.EndOfMessage()))
        self.sent = False
        self.sock = socket.socket()
        self.sock.setblocking(False)  # noqa: FBT003 - the socket's own signature
        self.sock.connect_ex((host, port))
        selector.register(self.sock, selectors.EVENT_WRITE, self)

    def ready(self, now: float) -> None:
        """Write or read what goes without waiting, and tell the operation."""
        assert self.sock is not None
        try:
            if self.out:
                written = self.sock.send(self.out)
                self.sent = True
                self.out = self.out[written:]
                if not self.out:
                    selector.modify(self.sock, selectors.EVENT_READ, self)
                return
            self.http.receive_data(self.sock.recv(65536))
            while (event := self.http.next_event()) is not h11.NEED_DATA:
                match event:
                    case h11.Response(status_code=status, headers=headers):
                        self.operation.receive_head(self.exchange, status, [*headers], now)
                    case h11.Data(data=data):
                        self.operation.receive_data(self.exchange, bytes(data), now)
                    case h11.EndOfMessage():
                        self.operation.receive_eof(self.exchange, now)
                        return
        except (OSError, h11.RemoteProtocolError) as error:
            self.operation.connection_lost(self.exchange, repr(error), now, sent=self.sent)

    def close(self) -> None:
        """Let go of the socket."""
        if self.sock is not None:
            selector.unregister(self.sock)
            self.sock.close()
            self.sock = None


def steps(api: BatchesAPI, number: int, interval: float) -> Steps:
    """Give the operations of one job, each made of what the one before came to."""
    message = {"role": "user", "content": f"What is {number} squared?"}
    params = {"model": "claude-haiku-4-5", "max_tokens": 100, "messages": [message]}
    batch = yield api.create([{"custom_id": f"n-{number}", "params": params}])
    batch = yield api.wait_for(batch.id, poll_interval=interval)
    yield api.results_stream(batch)


def run(jobs: list[Job]) -> None:
    """Run all jobs to their ends."""
    going = {job for job in jobs if job.advance()}
    while going:
        wait = max(0.0, timers[0][0] - time.monotonic()) if timers else None
        woken = [key.data for key, _ in selector.select(wait)]
        now = time.monotonic()
        for job in woken:
            job.ready(now)
        while timers and timers[0][0] <= now:
            _, _, job = heapq.heappop(timers)
            job.operation.handle_timeout(now)
            woken.append(job)
        going -= {job for job in woken if not job.advance()}


def main() -> None:
    """Run a hundred jobs at once."""
    with endpoint() as settings, selector:
        api = BatchesAPI(jitter=random.random, **settings)
        interval = poll_interval(settings)
        jobs = [Job(steps(api, number, interval)) for number in range(JOBS)]
        began = time.monotonic()
        run(jobs)
        results = sum(job.results for job in jobs)
        say(f"{JOBS} batches, {results} results, {time.monotonic() - began:.1f} s, one thread")


if __name__ == "__main__":
    main()
