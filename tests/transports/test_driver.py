"""The driver and the clients on it, on a virtual clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from batches_core import (
    BatchState,
    Event,
    Page,
    RawHeaders,
    Request,
    RetryScheduled,
    TransportError,
)
from batches_core.emulator import Emulator
from tests.support.playbook import REQUEST
from transports._client._sync.client import BatchesClientBase
from transports._client.settings import make_api

T = TypeVar("T")

KEY = "sk-never-to-be-shown"


class EmulatedResponse:
    def __init__(self, status: int, headers: RawHeaders, chunks: Iterator[bytes]) -> None:
        self.status = status
        self.headers = headers
        self._chunks = chunks
        self.closed = 0

    def read(self, deadline: float | None) -> bytes:
        del deadline
        return next(self._chunks, b"")

    def close(self) -> None:
        self.closed += 1


class EmulatedTransport:
    """Passes requests to an emulator on a virtual clock; fails them until `down_until`."""

    def __init__(self, emulator: Emulator, down_until: float = 0.0) -> None:
        self.clock = 1000.0
        self.emulator = emulator
        self.down_until = down_until
        self.slept: list[float] = []
        self.responses: list[EmulatedResponse] = []

    def send(self, request: Request, deadline: float | None) -> EmulatedResponse:
        del deadline
        assert all(response.closed for response in self.responses), "two responses are open at once"
        if self.clock < self.down_until:
            raise TransportError("the network is down", sent=False)
        response = self.emulator.handle(request, self.clock)
        emulated = EmulatedResponse(response.status, response.headers, iter(response.chunks))
        self.responses.append(emulated)
        return emulated

    def now(self) -> float:
        return self.clock

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock += seconds

    def in_thread(self, work: Callable[[], T]) -> T:
        return work()

    def close(self) -> None:
        pass


def client_over(transport: EmulatedTransport, events: list[Event]) -> BatchesClientBase:
    api = make_api({"api_key": KEY, "base_url": "https://emulated.test"})
    return BatchesClientBase(api, transport, events.append)


def test_a_wait_sleeps_between_polls_with_no_response_open() -> None:
    events: list[Event] = []
    transport = EmulatedTransport(Emulator(seconds_per_request=100))
    client = client_over(transport, events)
    batch = client.wait_for(client.create([REQUEST]).id)
    assert batch.ended
    assert all(24.0 <= seconds <= 30.0 for seconds in transport.slept)
    polls = [event for event in events if isinstance(event, BatchState)]
    assert len(polls) == len(transport.slept) + 1
    assert all(response.closed == 1 for response in transport.responses)


def test_a_wait_outlasts_an_outage_and_reports_each_retry() -> None:
    events: list[Event] = []
    transport = EmulatedTransport(Emulator(seconds_per_request=1))
    client = client_over(transport, events)
    batch_id = client.create([REQUEST]).id
    transport.down_until = transport.clock + 300
    assert client.wait_for(batch_id).ended
    assert sum(isinstance(event, RetryScheduled) for event in events) > 5


def test_an_error_of_the_event_callback_closes_the_response() -> None:
    transport = EmulatedTransport(Emulator())
    api = make_api({"api_key": KEY, "base_url": "https://emulated.test"})

    def on_event(event: Event) -> None:
        if isinstance(event, BatchState):
            raise ZeroDivisionError(event)

    client = BatchesClientBase(api, transport, on_event)
    batch = client.create([REQUEST])
    with pytest.raises(ZeroDivisionError):
        client.wait_for(batch.id)
    assert all(response.closed for response in transport.responses)


def test_a_dropped_blocking_results_stream_closes_its_response() -> None:
    transport = EmulatedTransport(Emulator(speed=1e6))
    client = client_over(transport, [])
    batch = client.create([REQUEST, {**REQUEST, "custom_id": "b"}])
    transport.clock += 10
    stream = client.results_stream(batch.id)
    assert next(stream).custom_id in {"a", "b"}
    assert not transport.responses[-1].closed
    del stream
    assert transport.responses[-1].closed


def test_list_all_requests_each_page_when_it_is_needed() -> None:
    transport = EmulatedTransport(Emulator())
    client = client_over(transport, [])
    for _ in range(5):
        client.create([REQUEST])
    count = len(transport.responses)
    batches = client.list_all(limit=2)
    assert len(transport.responses) == count
    next(batches)
    next(batches)
    assert len(transport.responses) == count + 1
    assert len(list(batches)) == 3
    assert isinstance(client.list(), Page)
