"""Embed the core in asyncio, from nothing: asyncio's streams, h11, and an operation.

python examples/embed_asyncio.py
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any, TypeVar

import h11
from report import endpoint, poll_interval

from batches_core import BatchesAPI, Done, Need, Operation, Request, SendRequest, WaitUntil

T = TypeVar("T")

TIMEOUT = 60.0  # seconds without a byte


class Exchange:
    """One request and its response, on a connection of their own."""

    def __init__(self, operation: Operation[Any], number: int, request: Request) -> None:
        self.operation, self.number, self.request = operation, number, request
        self.sent = False
        self.http = h11.Connection(h11.CLIENT)

    async def step(self) -> None:
        """Send the request, or read on if that was done; tell the operation how it went."""
        clock = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout_at(self.operation.deadline):  # not wanted after that
                event = await (self.next() if self.sent else self.send())
        except (OSError, h11.RemoteProtocolError) as error:  # a TimeoutError is an OSError
            self.operation.connection_lost(self.number, repr(error), clock(), sent=self.sent)
            return
        match event:
            case h11.Response(status_code=status, headers=headers):
                self.operation.receive_head(self.number, status, [*headers], clock())
            case h11.Data(data=data):
                self.operation.receive_data(self.number, bytes(data), clock())
            case h11.EndOfMessage():
                self.operation.receive_eof(self.number, clock())

    async def send(self) -> Any:
        """Connect and send the request; give the first thing of the response."""
        request = self.request
        scheme, host, port = request.origin
        connecting = asyncio.open_connection(host, port, ssl=scheme == "https" or None)
        self.reader, self.writer = await asyncio.wait_for(connecting, TIMEOUT)
        self.sent = True  # from here on nobody can be sure that nothing left
        headers = [("host", request.authority), *request.headers, ("connection", "close")]
        head = h11.Request(method=request.method, target=request.target, headers=headers)
        for event in (head, *(h11.Data(data=piece) for piece in request.body or ())):
            self.writer.write(self.http.send(event) or b"")
            await self.writer.drain()
        self.http.send(h11.EndOfMessage())
        return await self.next()

    async def next(self) -> Any:
        """Give the next thing of the response; an informational head is nothing yet."""
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await asyncio.wait_for(self.reader.read(65536), TIMEOUT))
        return event

    def close(self) -> None:
        """Let go of the connection."""
        if self.sent:
            self.writer.close()


async def drive(operation: Operation[T], on_event: Callable[[object], None]) -> T:
    """Carry an operation out. A cancellation comes out of an await, and closes what is open."""
    clock = asyncio.get_running_loop().time
    operation.handle_timeout(clock())  # timeouts count from here
    with contextlib.ExitStack() as open_now:
        while True:
            match operation.next_event():
                case SendRequest(exchange=number, request=request):
                    open_now.close()
                    exchange = Exchange(operation, number, request)
                    open_now.callback(exchange.close)
                    await exchange.step()
                case Need.DATA:
                    await exchange.step()
                case WaitUntil(deadline=deadline):
                    open_now.close()
                    await asyncio.sleep(deadline - clock())
                    operation.handle_timeout(clock())
                case Done(value=value):
                    return value
                case event:
                    on_event(event)


async def main() -> None:
    """Create a batch, wait for it, show its results."""
    messages = [{"role": "user", "content": "Why is the sea salt?"}]
    params = {"model": "claude-haiku-4-5", "max_tokens": 200, "messages": messages}
    with endpoint() as settings:
        api = BatchesAPI(jitter=random.random, **settings)
        create = api.create([{"custom_id": f"sea-{n}", "params": params} for n in range(3)])
        batch = await drive(create, print)
        wait = api.wait_for(batch.id, poll_interval=poll_interval(settings))
        batch = await drive(wait, print)
        await drive(api.results_stream(batch), print)


if __name__ == "__main__":
    asyncio.run(main())
