"""The driver and the clients on it: a virtual clock, dropped iterators, and interruptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from batches_core import (
    BatchState,
    Done,
    Event,
    Operation,
    Page,
    RawHeaders,
    Request,
    ResultsReceived,
    RetryPolicy,
    RetryScheduled,
    TransportError,
)
from batches_core.emulator import Emulator
from tests.support.batches import ended_batch
from tests.support.playbook import BASE, REQUEST, api, result_line
from transports._client._async.driver import AsyncDriver
from transports._client._sync.client import BatchesClientBase
from transports._client._sync.driver import Driver
from transports._client.settings import Settings, make_api

T = TypeVar("T")

KEY = "sk-never-to-be-shown"


class EmulatedResponse:
    def __init__(self, status: int, headers: RawHeaders, chunks: Iterator[bytes]) -> None:
        self.status = status
        self.headers = headers
        self._chunks = chunks
        self.closed = 0
        self.is_interrupted = False

    def read(self, deadline: float | None) -> bytes:
        del deadline
        if self.is_interrupted:
            raise KeyboardInterrupt
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
        #: The call to interrupt once, ``send`` or ``read``, and the number of its response.
        self.interrupted_call: tuple[str, int] | None = None

    def send(self, request: Request, deadline: float | None) -> EmulatedResponse:
        del deadline
        assert all(response.closed for response in self.responses), "two responses are open at once"
        if self.clock < self.down_until:
            raise TransportError("the network is down", sent=False)
        response = self.emulator.handle(request, self.clock)
        emulated = EmulatedResponse(response.status, response.headers, iter(response.chunks))
        if self.interrupted_call == ("send", len(self.responses)):
            self.interrupted_call = None
            raise KeyboardInterrupt
        if self.interrupted_call == ("read", len(self.responses)):
            self.interrupted_call = None
            emulated.is_interrupted = True
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


def client_with(
    transport: EmulatedTransport, on_event: Callable[[Event], None]
) -> BatchesClientBase:
    settings: Settings = {"api_key": KEY, "base_url": "https://emulated.test"}
    return BatchesClientBase(make_api(settings), transport, on_event)


def client_over(transport: EmulatedTransport, events: list[Event]) -> BatchesClientBase:
    return client_with(transport, events.append)


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

    def on_event(event: Event) -> None:
        if isinstance(event, BatchState):
            raise ZeroDivisionError(event)

    client = client_with(transport, on_event)
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


@pytest.mark.parametrize("call", ["send", "read"])
@pytest.mark.parametrize("page", [0, 1, 2])
def test_an_interrupted_blocking_list_all_continues_when_it_is_iterated_again(
    call: str, page: int
) -> None:
    transport = EmulatedTransport(Emulator())
    client = client_over(transport, [])
    created = [client.create([REQUEST]).id for _ in range(5)]
    transport.interrupted_call = (call, len(transport.responses) + page)
    batches = client.list_all(limit=2)
    listed: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        listed.extend(batch.id for batch in batches)
    assert len(listed) == 2 * page
    listed.extend(batch.id for batch in batches)
    assert listed == created[::-1]
    assert all(response.closed for response in transport.responses)


class FailingTransport:
    """Fails the read of the first response with an error, and records when it is closed."""

    status = 200
    headers: RawHeaders = ()

    def __init__(self, error: BaseException, calls: list[str]) -> None:
        self._read_errors = [error]
        #: Raised by the first call of `close`.
        self.close_errors: list[BaseException] = []
        self._calls = calls
        self._pieces: list[bytes] = []

    def send(self, request: Request, deadline: float | None) -> FailingTransport:
        del request, deadline
        self._pieces = [b"", result_line("a") + result_line("b")]
        return self

    def read(self, deadline: float | None) -> bytes:
        del deadline
        if self._read_errors:
            raise self._read_errors.pop()
        return self._pieces.pop()

    def close(self) -> None:
        self._calls.append("close")
        if self.close_errors:
            raise self.close_errors.pop()

    def now(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        assert seconds == 0

    def in_thread(self, work: Callable[[], T]) -> T:
        return work()


class AsyncTwin:
    """The async twin of a `FailingTransport`; its methods never suspend."""

    status = 200
    headers: RawHeaders = ()

    def __init__(self, transport: FailingTransport) -> None:
        self._transport = transport
        self.now = transport.now

    async def send(self, request: Request, deadline: float | None) -> AsyncTwin:
        self._transport.send(request, deadline)
        return self

    async def read(self, deadline: float | None) -> bytes:
        return self._transport.read(deadline)

    async def aclose(self) -> None:
        self._transport.close()

    async def sleep(self, seconds: float) -> None:
        self._transport.sleep(seconds)

    async def in_thread(self, work: Callable[[], T]) -> T:
        return work()


#: Calls `next_event` of a driver.
NextEvent = Callable[[], Any]


def blocking_driver(transport: FailingTransport, operation: Operation[None]) -> NextEvent:
    return Driver(transport, operation).next_event


def async_driver(transport: FailingTransport, operation: Operation[None]) -> NextEvent:
    driver = AsyncDriver(AsyncTwin(transport), operation)

    def next_event() -> Any:
        try:
            driver.next_event().send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError("the driver was suspended")

    return next_event


drivers = pytest.mark.parametrize(
    "make_driver", [blocking_driver, async_driver], ids=["blocking", "async"]
)
MakeDriver = Callable[[FailingTransport, Operation[None]], NextEvent]


def results_operation() -> Operation[None]:
    return api(retry=RetryPolicy(initial_delay=0)).results_stream(ended_batch(BASE, 2))


def read_results(next_event: NextEvent) -> list[str | None]:
    """Read to the end of the operation, and return the ids of the results."""
    custom_ids: list[str | None] = []
    while not isinstance(event := next_event(), Done):
        if isinstance(event, ResultsReceived):
            custom_ids.extend(item.custom_id for item in event.items)
    return custom_ids


@drivers
@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt("read"), TransportError("cut off", sent=True)],
    ids=["interrupted", "cut off"],
)
def test_a_driver_reports_a_loss_before_it_closes_the_response(
    make_driver: MakeDriver, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    original = Operation.connection_lost

    def connection_lost(operation: Operation[None], *args: Any, **options: Any) -> None:
        calls.append("connection_lost")
        original(operation, *args, **options)

    monkeypatch.setattr(Operation, "connection_lost", connection_lost)
    next_event = make_driver(FailingTransport(error, calls), results_operation())
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            next_event()
        assert calls == ["connection_lost", "close"]
    assert read_results(next_event) == ["a", "b"]
    assert calls == ["connection_lost", "close", "close"]


@drivers
def test_a_driver_continues_after_an_interrupt_while_it_closes_a_response(
    make_driver: MakeDriver,
) -> None:
    transport = FailingTransport(KeyboardInterrupt("read"), [])
    transport.close_errors.append(KeyboardInterrupt("close"))
    next_event = make_driver(transport, results_operation())
    with pytest.raises(KeyboardInterrupt, match="close"):
        next_event()
    # The loss was reported before, so the operation sends its request again.
    assert read_results(next_event) == ["a", "b"]
