"""Drive operations of batches_core in an event loop of your own: 100 batches on one thread.

    python examples/embed_selectors.py

Each task creates a batch, waits for it and reads its results, one operation after the other. No
task blocks: the loop wakes it when its socket is ready or its time has come. To stay short, this
speaks plain http only, and looking up a host name would block. So it is for an emulator or a
gateway on this machine.

With ANTHROPIC_API_KEY set, it uses the gateway at ANTHROPIC_BASE_URL. Without it, it uses an
emulator in this process.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import random
import selectors
import socket
import sys
import time
from collections.abc import Generator
from typing import Any

import h11

from batches_core import (
    BASE_URL,
    BatchesAPI,
    CreateOperation,
    Done,
    Need,
    Operation,
    Request,
    ResultsReceived,
    SendRequest,
    WaitUntil,
)
from batches_core.emulator import Emulator
from transports.emulator import running_emulator

BATCHES = 100
TIMEOUT = 60.0  # seconds without a byte
Steps = Generator[Operation[Any], Any, None]

selector = selectors.DefaultSelector()
timers: list[tuple[float, int, BatchTask]] = []
order = itertools.count()  # orders timers of the same moment, since tasks cannot be compared


class BatchTask:
    """The operations of one batch, and the exchange under way."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.operation = next(steps)
        self.results = 0
        self.exchange = 0
        self.sock: socket.socket | None = None
        self.active = 0.0  # when the last byte came or went
        self.alarm: float | None = None

    def wake_at(self, deadline: float | None) -> None:
        """Set a timer, if there is a deadline. One timer too many is harmless."""
        if deadline is not None and deadline != self.alarm:
            self.alarm = deadline
            heapq.heappush(timers, (deadline, next(order), self))

    def advance(self) -> bool:
        """Continue until there is something to wait for; return False after the last operation."""
        while True:
            match self.operation.next_event():
                case SendRequest(exchange=exchange, request=request):
                    self.close()
                    self.exchange = exchange
                    self.active = time.monotonic()
                    self.operation.handle_timeout(self.active)  # timeouts count from here
                    self.begin(request)
                    self.wake_at(self.active + TIMEOUT)
                    self.wake_at(self.operation.deadline)
                    return True
                case Need.DATA:
                    self.wake_at(self.operation.deadline)
                    return True  # the selector watches the socket
                case WaitUntil(deadline=deadline):
                    self.close()
                    self.wake_at(deadline)
                    return True
                case Done(value=value):
                    self.close()
                    try:
                        self.operation = self.steps.send(value)
                    except StopIteration:
                        return False
                case ResultsReceived(items=items):
                    self.results += len(items)

    def begin(self, request: Request) -> None:
        """Start to connect, and encode the request, which is sent once the socket is connected."""
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

    def on_ready(self, now: float) -> None:
        """Write or read without waiting, and pass what was read to the operation."""
        assert self.sock is not None
        self.active = now
        try:
            if self.out:
                written = self.sock.send(self.out)
                self.sent = True  # from the first byte on, because False means that none was sent
                self.out = self.out[written:]
                if not self.out:
                    selector.modify(self.sock, selectors.EVENT_READ, self)
                return
            self.http.receive_data(self.sock.recv(65536))
            while (event := self.http.next_event()) is not h11.NEED_DATA:
                match event:
                    case h11.InformationalResponse() | h11.Response():
                        status, headers = event.status_code, [*event.headers]
                        self.operation.receive_head(self.exchange, status, headers, now)
                    case h11.Data(data=data):
                        self.operation.receive_data(self.exchange, bytes(data), now)
                    case h11.EndOfMessage():
                        self.operation.receive_eof(self.exchange, now)
                        return
        except (OSError, h11.RemoteProtocolError) as error:
            lost = self.operation.connection_lost
            lost(self.exchange, repr(error), now, sent=self.sent, cause=error)

    def on_timer(self, now: float) -> None:
        """Report the time, and a connection that was silent for too long."""
        self.operation.handle_timeout(now)
        if self.sock is None:
            return
        if now < self.active + TIMEOUT:
            self.wake_at(self.active + TIMEOUT)
        else:
            reason = f"nothing came for {TIMEOUT:g} s"
            self.operation.connection_lost(self.exchange, reason, now, sent=self.sent)

    def close(self) -> None:
        """Close the socket, if there is one."""
        if self.sock is not None:
            selector.unregister(self.sock)
            self.sock.close()
            self.sock = None


def steps(api: BatchesAPI, number: int, poll_interval: float) -> Steps:
    """Yield the operations of one batch; each is sent the value of the one before."""
    message = {"role": "user", "content": f"What is {number} squared?"}
    params = {"model": "claude-haiku-4-5", "max_tokens": 100, "messages": [message]}
    batch = yield api.create([{"custom_id": f"n-{number}", "params": params}])
    batch = yield api.wait_for(batch, poll_interval=poll_interval)
    yield api.results_stream(batch)


def run(tasks: list[BatchTask]) -> None:
    """Run all tasks to their ends."""
    going = {task for task in tasks if task.advance()}
    try:
        while going:
            wait = max(0.0, timers[0][0] - time.monotonic()) if timers else None
            woken = [key.data for key, _ in selector.select(wait)]
            now = time.monotonic()
            for task in woken:
                task.on_ready(now)
            while timers and timers[0][0] <= now:
                _, _, task = heapq.heappop(timers)
                task.on_timer(now)
                woken.append(task)
            going -= {task for task in woken if not task.advance()}
    except BaseException as error:
        for task in going:
            if isinstance(task.operation, CreateOperation):
                task.operation.interrupt(error, time.monotonic())  # attaches what is known
        raise


def main() -> None:
    """Run a hundred batches at once."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(selector)
        if key := os.environ.get("ANTHROPIC_API_KEY"):
            url = os.environ.get("ANTHROPIC_BASE_URL") or BASE_URL
            if not url.startswith("http://"):
                sys.exit("error: this speaks plain http: set ANTHROPIC_BASE_URL to a local gateway")
        else:
            print("ANTHROPIC_API_KEY is not set: an emulator invents the answers, at no cost")
            url = stack.enter_context(running_emulator(Emulator(speed=5)))
        api = BatchesAPI(api_key=key or "any", base_url=url, jitter=random.random)
        poll_interval = 30.0 if key else 1.0
        tasks = [BatchTask(steps(api, number, poll_interval)) for number in range(BATCHES)]
        began = time.monotonic()
        run(tasks)
        results = sum(task.results for task in tasks)
        print(f"{BATCHES} batches, {results} results, {time.monotonic() - began:.1f} s, one thread")


if __name__ == "__main__":
    main()
