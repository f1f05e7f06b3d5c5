"""Results and interruptions: Ctrl-C between any two lines, cancellation while a thread writes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import linecache
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import msgspec
import pytest
import trio

import batches_core
import transports
from batches_core import (
    BatchesAPI,
    LocalProtocolError,
    MessageBatch,
    RawHeaders,
    Request,
    TransportError,
)
from tests.support.carriers import ASYNC_CARRIERS, Carrier
from tests.support.playbook import batch_json, result_line
from tests.support.scripted import reply, scripted
from transports._client._async.client import AsyncBatchesClientBase
from transports._client._sync.client import BatchesClientBase
from transports._files.results_file import ResultsFile

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

T = TypeVar("T")

IDS = ["a", "b", "c", "d"]
LINES = [result_line(i) for i in IDS]
PACKAGES = tuple(os.path.dirname(each.__file__ or "") for each in (batches_core, transports))  # noqa: PTH120 - as frames have it


def ended(base_url: str = "https://api.test", total: int = 4) -> MessageBatch:
    data = batch_json(
        "msgbatch_1", "ended", request_counts={"succeeded": total}, results_url=f"{base_url}/r"
    )
    return msgspec.convert(data, MessageBatch, strict=False)


class Canned:
    """A transport whose every response is the results in two pieces, the second cut off once."""

    status = 200
    headers: RawHeaders = ()

    def __init__(self) -> None:
        self._cuts = 1
        self._pieces: list[bytes] = []

    def send(self, request: Request, deadline: float | None) -> Canned:
        del request, deadline
        self._pieces = [b"", LINES[2] + LINES[3], LINES[0] + LINES[1]]
        return self

    def read(self, deadline: float | None) -> bytes:
        del deadline
        if len(self._pieces) == 2 and self._cuts:
            self._cuts = 0
            raise TransportError("cut off", sent=True)
        return self._pieces.pop()

    def now(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        assert seconds == 0

    def close(self) -> None:
        pass

    def in_thread(self, work: Callable[[], T]) -> T:
        return work()


class AsyncCanned:
    """The same, to be awaited; it never makes anyone wait."""

    status = 200
    headers: RawHeaders = ()

    def __init__(self) -> None:
        self._canned = Canned()
        self.now = self._canned.now

    async def send(self, request: Request, deadline: float | None) -> AsyncCanned:
        self._canned.send(request, deadline)
        return self

    async def read(self, deadline: float | None) -> bytes:
        return self._canned.read(deadline)

    async def sleep(self, seconds: float) -> None:
        self._canned.sleep(seconds)

    async def in_thread(self, work: Callable[[], T]) -> T:
        return work()

    async def aclose(self) -> None:
        pass


def api() -> BatchesAPI:
    retry = batches_core.RetryPolicy(initial_delay=0)
    return BatchesAPI(api_key="k", base_url="https://api.test", retry=retry)


def blocking() -> BatchesClientBase:
    return BatchesClientBase(api(), Canned(), None)


class Interruption:
    """Raises KeyboardInterrupt before the n-th line that runs of the packages."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.place: str | None = None

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        del arg
        if not frame.f_code.co_filename.startswith(PACKAGES):
            return None
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        # The interpreter handles no signal between the step of a loop and the line after it, and
        # so none after an item was taken and before it is returned.
        if event == "line" and text != "return item":
            self._left -= 1
            if not self._left:
                self.place = f"{frame.f_code.co_qualname}, line {frame.f_lineno}: {text}"
                raise KeyboardInterrupt
        return self

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        before = sys.gettrace()
        gc.disable()  # what is let go of in between is not what is to be interrupted
        sys.settrace(self)
        try:
            yield
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
            gc.enable()


def interruptions() -> Iterator[Interruption]:
    """Give one for each line, until there are no more."""
    number = 0
    while True:
        number += 1
        interruption = Interruption(number)
        yield interruption
        if interruption.place is None:
            assert number > 100, "nothing was interrupted"
            return


def run(coroutine: Any) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waited")


def take(stream: Any, got: list[str | None]) -> None:
    """Take the items of a stream of either kind."""
    if hasattr(stream, "__next__"):
        for item in stream:
            got.append(item.custom_id)  # noqa: PERF401 - what came is kept when it is interrupted
        return

    async def read() -> None:
        async for item in stream:
            got.append(item.custom_id)  # noqa: PERF401 - likewise

    run(read())


def awaited() -> AsyncBatchesClientBase:
    return AsyncBatchesClientBase(api(), AsyncCanned(), None)


@pytest.mark.parametrize("make", [blocking, awaited])
def test_a_stream_interrupted_at_any_line_goes_on_or_says_that_it_cannot(
    make: Callable[[], Any],
) -> None:
    went_on = told = 0
    for interruption in interruptions():
        stream = make().results_stream(ended())
        same: Any = iter(stream) if make is blocking else aiter(stream)
        got: list[str | None] = []
        with interruption.at_work():
            take(same, got)
        with contextlib.suppress(LocalProtocolError):
            take(same, got)
            assert got == IDS, interruption.place
            went_on += 1
            continue
        # And it is said as often as it is asked.
        with pytest.raises(LocalProtocolError, match="start it again"):
            take(same, got)
        assert got == IDS[: len(got)], interruption.place
        told += 1
    assert went_on > 100
    assert told > 100


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the disk: hundreds of files are finished here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.usefixtures("no_sync")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # see below
def test_a_download_interrupted_at_any_line_goes_on_with_the_same_call(tmp_path: Path) -> None:
    for number, interruption in enumerate(interruptions()):
        folder = tmp_path / str(number)
        folder.mkdir()
        with interruption.at_work():
            # An interruption of the closing leaves the file to be closed with its last reference.
            blocking().download(ended(), folder / "r")
        assert blocking().download(ended(), folder / "r") == 4, interruption.place
        assert (folder / "r").read_bytes() == b"".join(LINES), interruption.place
        assert [each.name for each in folder.iterdir()] == ["r"], interruption.place


class Held:
    """Holds a step of a download in its thread, until it is let go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
        self.entered = threading.Event()
        self.released = threading.Event()
        self.left = threading.Event()
        real: Any = getattr(ResultsFile, step)

        def held(file: ResultsFile, *args: Any) -> Any:
            if not self.entered.is_set():
                self.entered.set()
                assert self.released.wait(30)
            result = real(file, *args)
            self.left.set()
            return result

        monkeypatch.setattr(ResultsFile, step, held)


def open_files() -> set[str]:
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(str(fd.readlink()))
    return found


@pytest.mark.parametrize("carrier", ASYNC_CARRIERS, ids=lambda carrier: carrier.name)
@pytest.mark.parametrize("step", ["open", "write", "finish"])
def test_a_cancelled_download_lets_its_thread_end_and_leaves_nothing_open(
    carrier: Carrier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "r"
    held = Held(monkeypatch, step)
    asyncio_runs = carrier.name.endswith("asyncio")
    sleep: Any = asyncio.sleep if asyncio_runs else trio.sleep

    async def entered() -> None:
        while not held.entered.is_set():
            await sleep(0.001)

    async def cancel_on_asyncio(client: Any, batch: MessageBatch) -> None:
        task = asyncio.create_task(client.download(batch, path))
        await entered()
        for _ in range(3):  # as often as anybody likes
            task.cancel()
            await asyncio.sleep(0.01)
        assert not task.done()
        held.released.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def cancel_on_trio(client: Any, batch: MessageBatch) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.download, batch, path)
            await entered()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.sleep(0.01)
            held.released.set()

    async def job() -> None:
        async with carrier.client(served.base_url) as client:
            batch = ended(served.base_url, 2)
            await (cancel_on_asyncio if asyncio_runs else cancel_on_trio)(client, batch)
            assert held.left.is_set()
            assert not {each for each in open_files() if str(tmp_path) in each}
            assert await client.download(batch, path) == 2

    body = LINES[0] + LINES[1]
    with scripted(*[reply(body, keep=False)] * 2) as served:
        carrier.run(job)
    assert path.read_bytes() == body
    assert [each.name for each in tmp_path.iterdir()] == ["r"]
