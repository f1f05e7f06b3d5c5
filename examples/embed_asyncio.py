"""Drive the operations of batches_core on asyncio, with nothing but asyncio's streams and h11.

    python examples/embed_asyncio.py

Creates a batch, waits for it, reads its results, and prints every event. With ANTHROPIC_API_KEY
set, it uses the service, which costs money. Without it, it uses an emulator in this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Callable
from typing import Any, TypeVar

import h11

from batches_core import (
    BASE_URL,
    BatchesAPI,
    CreateOperation,
    Done,
    Need,
    Operation,
    Request,
    SendRequest,
    WaitUntil,
)
from batches_core.emulator import Emulator
from transports.emulator import running_emulator

T = TypeVar("T")

TIMEOUT = 60.0  # seconds without a byte


class Exchange:
    """One request and its response, on a connection of their own."""

    def __init__(self, operation: Operation[Any], number: int, request: Request) -> None:
        self.operation, self.number, self.request = operation, number, request
        self.sent = False
        self.http = h11.Connection(h11.CLIENT)

    async def step(self) -> None:
        """Send the request, or read on if it was sent; pass what happens to the operation."""
        clock = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout_at(self.operation.deadline):
                event = await (self.next() if self.sent else self.send())
        except (OSError, h11.RemoteProtocolError) as error:  # a TimeoutError is an OSError
            lost = self.operation.connection_lost
            lost(self.number, repr(error), clock(), sent=self.sent, cause=error)
            return
        match event:
            case h11.InformationalResponse() | h11.Response():
                headers = [*event.headers]
                self.operation.receive_head(self.number, event.status_code, headers, clock())
            case h11.Data(data=data):
                self.operation.receive_data(self.number, bytes(data), clock())
            case h11.EndOfMessage():
                self.operation.receive_eof(self.number, clock())

    async def send(self) -> Any:
        """Connect, send the request, and return the first h11 event of the response."""
        request = self.request
        scheme, host, port = request.origin
        connecting = asyncio.open_connection(host, port, ssl=scheme == "https" or None)
        self.reader, self.writer = await asyncio.wait_for(connecting, TIMEOUT)
        self.sent = True  # from the first byte on, because False means that none was sent
        headers = [("host", request.authority), *request.headers, ("connection", "close")]
        head = h11.Request(method=request.method, target=request.target, headers=headers)
        for event in (head, *(h11.Data(data=piece) for piece in request.body or ())):
            self.writer.write(self.http.send(event) or b"")
            await asyncio.wait_for(self.writer.drain(), TIMEOUT)
        self.http.send(h11.EndOfMessage())
        return await self.next()

    async def next(self) -> Any:
        """Return the next h11 event of the response."""
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await asyncio.wait_for(self.reader.read(65536), TIMEOUT))
        return event

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self.sent:
            self.writer.close()


async def drive(operation: Operation[T], on_event: Callable[[object], None]) -> T:
    """Carry out an operation and return its value. A cancellation closes the connection."""
    clock = asyncio.get_running_loop().time
    operation.handle_timeout(clock())  # timeouts count from here
    with contextlib.ExitStack() as connection:
        try:
            while True:
                match operation.next_event():
                    case SendRequest(exchange=number, request=request):
                        connection.close()
                        exchange = Exchange(operation, number, request)
                        connection.callback(exchange.close)
                        await exchange.step()
                    case Need.DATA:
                        await exchange.step()
                    case WaitUntil(deadline=deadline):
                        connection.close()
                        await asyncio.sleep(deadline - clock())
                        operation.handle_timeout(clock())
                    case Done(value=value):
                        return value
                    case event:
                        on_event(event)
        except BaseException as error:
            if isinstance(operation, CreateOperation):
                operation.interrupt(error, clock())  # attaches what is known of the batch
            raise


async def main(api: BatchesAPI, poll_interval: float) -> None:
    """Create a batch, wait for it, and read its results."""
    messages = [{"role": "user", "content": "Why is the sea salt?"}]
    params = {"model": "claude-haiku-4-5", "max_tokens": 200, "messages": messages}
    create = api.create([{"custom_id": f"sea-{n}", "params": params} for n in range(3)])
    batch = await drive(create, print)
    batch = await drive(api.wait_for(batch, poll_interval=poll_interval), print)
    await drive(api.results_stream(batch), print)


if __name__ == "__main__":
    with contextlib.ExitStack() as stack:
        if key := os.environ.get("ANTHROPIC_API_KEY"):
            url = os.environ.get("ANTHROPIC_BASE_URL") or BASE_URL
        else:
            print("ANTHROPIC_API_KEY is not set: an emulator invents the answers, at no cost")
            url = stack.enter_context(running_emulator(Emulator(speed=5)))
        api = BatchesAPI(api_key=key or "any", base_url=url, jitter=random.random)
        asyncio.run(main(api, poll_interval=30.0 if key else 1.0))
