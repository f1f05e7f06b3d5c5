"""Drives one operation of a job over the network, as the driver of a client does.

The process can die at every step. What has left by then still happens to the service.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, TypeVar

from batches_core import CreateOperation, Done, Event, Need, Operation, SendRequest, WaitUntil
from batches_core.exchange import END_OF_BODY, Head, Lost, ResponseEvent
from tests.stress.simulation.delivery import Timeline, headers_in_form
from tests.stress.simulation.network import route_of
from tests.stress.simulation.record import OperationRecord

if TYPE_CHECKING:
    from .process import Process

T = TypeVar("T")

#: How often what was on its way when a process died still arrives.
_ARRIVES = 0.7


class DeadError(Exception):
    """The process of this operation is dead, or its run is over."""


class Exchanges:
    """Drives operations of one process, each with a record of its own."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.sim.world
        self._rng = process.sim.world.rng

    def run(
        self,
        operation: Operation[T],
        record: OperationRecord,
        on_event: Callable[[Event], bool | None],
        chunk: int = -1,
    ) -> Generator[float, None, T | None]:
        """Drive an operation to its end, or until `on_event` returns True.

        Raises:
            DeadError: the process died.
            BatchesError: the operation failed.
        """
        timeline: Timeline = iter(())
        process = self._process
        must_end = isinstance(operation, CreateOperation)
        exchange = 0
        if self._rng.random() < 0.7:
            operation.handle_timeout(process.clock)
        try:
            while True:
                event = operation.next_event()
                if isinstance(event, Done):
                    return event.value
                if isinstance(event, SendRequest):
                    process.step(must_end=must_end)
                    exchange = event.exchange
                    timeline = self._send(event, record, chunk)
                elif isinstance(event, WaitUntil):
                    process.step(must_end=must_end)
                    timeline = iter(())
                    yield max(self._world.now, process.time_of(event.deadline)) + self._late()
                    process.check(must_end=must_end)
                    operation.handle_timeout(max(event.deadline, process.clock))
                elif event is Need.DATA:
                    process.step(must_end=must_end)
                    yield from self._receive(operation, exchange, timeline, record, chunk)
                elif on_event(event):
                    return None
        except DeadError as error:
            self._abandon(operation, error, timeline)
            raise

    def _abandon(self, operation: Operation[T], error: DeadError, timeline: Timeline) -> None:
        if isinstance(operation, CreateOperation) and not self._process.was_killed:
            operation.interrupt(error, self._process.clock)
        if self._rng.random() < _ARRIVES:
            self._world.spawn(self._run_out(timeline))

    def _late(self) -> float:
        chance = self._rng.random()
        return 0.0 if chance < 0.99 else self._rng.choice((0.1, 2.0, 40.0, 4000.0))

    def _send(self, send: SendRequest, record: OperationRecord, chunk: int) -> Timeline:
        request, sim = send.request, self._process.sim
        record.begin_exchange()
        if self._world.trace is not None:
            self._world.note(f"  {record.name} {record.label}: #{send.exchange} {request!r}")
        if route_of(request) == "create":
            self._world.job_service.expect(request, record.label)
            sim.wire.create_leaves(chunk)
        return sim.network.carry(request, record)

    def _receive(
        self,
        operation: Operation[T],
        exchange: int,
        timeline: Timeline,
        record: OperationRecord,
        chunk: int,
    ) -> Generator[float, None, None]:
        """Pass the next event of the timeline, or end the exchange at its deadline."""
        process, world = self._process, self._world
        must_end = isinstance(operation, CreateOperation)
        deadline = operation.deadline
        for seconds, event in timeline:
            left = float("inf") if deadline is None else max(0.0, deadline - process.clock)
            if deadline is not None and left <= seconds:
                yield world.now + left
                process.check(must_end=must_end)
                world.spawn(self._run_out(timeline), seconds - left)
                operation.handle_timeout(max(deadline, process.clock))
                return
            if seconds:
                yield world.now + seconds
                process.check(must_end=must_end)
            if event is not None:
                self._pass(operation, exchange, event)
                if record.name == "create":
                    process.sim.wire.answered(chunk, event)
                return
        world.report_violation(f"{record.name} {record.label} needs data of an exchange that ended")
        raise DeadError

    def _pass(self, operation: Operation[T], number: int, event: ResponseEvent) -> None:
        clock = self._process.clock
        match event:
            case Head(status=status, headers=headers):
                form = headers_in_form(headers, self._rng.randint(0, 2))
                operation.receive_head(number, status, form, clock)
            case Lost(reason=reason, sent=sent):
                operation.connection_lost(number, reason, clock, sent=sent)
            case bytes() if event == END_OF_BODY:
                operation.receive_eof(number, clock)
            case bytes():
                operation.receive_data(number, event, clock)

    def _run_out(self, timeline: Timeline) -> Generator[float, None, None]:
        for seconds, _ in timeline:
            yield self._world.now + seconds
