"""The fuzz target for operations: any operation with any responses, driven to its end."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from batches_core import (
    BatchesError,
    Done,
    LocalProtocolError,
    MalformedResultError,
    Need,
    Operation,
    Request,
    ResultsReceived,
    SendRequest,
    WaitUntil,
)

from .jsonl_reference import LIMITS
from .operations import KINDS, describe, make_operation
from .responses import HEADERS, STATUSES, bodies_for
from .source import Source, cut

#: An operation with more exchanges than this counts as endless.
_MAX_EXCHANGES = 2000


class FuzzedPeer:
    """Chooses responses by a fuzzer's bytes; after their end it cannot be reached."""

    def __init__(self, data: bytes) -> None:
        self._source = Source(data)

    def respond(self, request: Request) -> tuple[int, Any, bytes, str] | None:
        """Return status, headers, body and end of a response; None if no connection is possible."""
        source = self._source
        if source.is_empty:
            return None
        choice, bodies = source.byte(), bodies_for(request)
        status = STATUSES[source.byte() % len(STATUSES)] if choice & 1 else 200
        headers = HEADERS[source.byte() % len(HEADERS)] if choice & 2 else ()
        body = bodies[source.byte() % len(bodies)]
        if choice & 4:
            body = source.take(source.byte())
        if choice & 8:
            place = source.byte() * 2
            body = body[:place] + source.take(source.byte() % 8) + body[place + 1 :]
        if choice & 16:
            body = body * (2 + source.byte() % 3)
        end = ("eof", "eof", "lost", "eof, late")[choice >> 6]
        return status, headers, body, end


class DrivenOperation:
    """An operation that is driven to its end on a virtual clock; all outputs are kept as text.

    `rng` cuts the bodies; None leaves them whole.
    """

    def __init__(
        self, operation: Operation[Any], peer: FuzzedPeer, rng: random.Random | None
    ) -> None:
        self.outputs: list[str] = []
        self.delivered: list[str] = []
        self.exchanges = 0
        #: How often `next_event` was called, and how many inputs were passed.
        self.calls = 0
        self.inputs = 0
        self._operation = operation
        self._peer = peer
        self._rng = rng
        self._now = 1000.0

    def run(self) -> None:
        inputs: Iterator[Callable[[], None]] = iter(())
        self._operation.handle_timeout(self._now)
        while True:
            self.calls += 1
            output = self._next_output()
            match output:
                case SendRequest(exchange=number, request=request):
                    self.exchanges += 1
                    assert number == self.exchanges <= _MAX_EXCHANGES
                    self.outputs.append(describe(output))
                    inputs = self._inputs_of_exchange(number, request)
                case Need.DATA:
                    self.inputs += 1
                    pass_input = next(inputs, None)
                    assert pass_input is not None, "it needs data after the end"
                    pass_input()
                case WaitUntil(deadline=deadline):
                    assert self._now < deadline < math.inf
                    self.outputs.append(describe(output))
                    self._now = deadline
                    self._operation.handle_timeout(deadline)
                case ResultsReceived(items=items):
                    self._add_items(items)
                case Done() | BatchesError():
                    assert not isinstance(output, LocalProtocolError)
                    self.outputs.append(describe(output))
                    return
                case _:
                    self.outputs.append(describe(output))

    def _next_output(self) -> object:
        try:
            return self._operation.next_event()
        except BatchesError as error:
            return error

    def _inputs_of_exchange(self, number: int, request: Request) -> Iterator[Callable[[], None]]:
        operation = self._operation
        response = self._peer.respond(request)
        if response is None:
            yield lambda: operation.connection_lost(number, "no route", self._now, sent=False)
            return
        status, headers, body, end = response
        if end == "eof, late":
            self._now += 45.0
        yield lambda: operation.receive_head(number, status, headers, self._now)
        whole = [body] if body else []
        for piece in whole if self._rng is None else cut(body, self._rng):
            yield partial(operation.receive_data, number, piece, self._now)
        if end == "lost":
            yield lambda: operation.connection_lost(number, "reset", self._now, sent=True)
        else:
            yield lambda: operation.receive_eof(number, self._now)

    def _add_items(self, items: list[Any]) -> None:
        for item in items:
            if not isinstance(item, MalformedResultError):
                self.delivered.append(item.custom_id)
            # One output for each item: how the items are grouped depends on the cuts.
            self.outputs.append(describe(item))


def operation(data: bytes) -> None:
    """Check that any operation ends, with the same outputs however the bodies are cut."""
    source = Source(data)
    kind = sorted(KINDS)[source.byte() % len(KINDS)]
    attempts = 1 + source.byte() % 4
    max_line = LIMITS[~(source.byte() % len(LIMITS))]
    seed = source.byte()
    responses = source.rest()
    runs = []
    for rng in (None, random.Random(seed)):
        made = make_operation(kind, attempts=attempts, max_line=max_line)
        run = DrivenOperation(made, FuzzedPeer(responses), rng)
        run.run()
        assert len(set(run.delivered)) == len(run.delivered), "a result was delivered twice"
        # Each call returns an event or asks for an input, and an input causes few events.
        assert run.calls <= 4 + run.inputs * 3 + run.exchanges * 5
        runs.append(run)
    whole, in_pieces = runs
    assert whole.outputs == in_pieces.outputs
