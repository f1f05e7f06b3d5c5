"""Results and interruptions: Ctrl-C before any line, and cancellation while a thread writes."""

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
from tests.support.carriers import Carrier
from tests.support.marks import async_carriers
from tests.support.playbook import batch_json, result_line
from tests.support.scripted import reply, scripted
from transports._client._async.client import AsyncBatchesClientBase
from transports._client._sync.client import BatchesClientBase
from transports._files.results_file import ResultsFile

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

T = TypeVar("T")

IDS = ["a", "b", "c", "d"]
LINES = [result_line(i) for i in IDS]
PACKAGES = tuple(os.path.dirname(each.__file__ or "") for each in (batches_core, transports))  # noqa: PTH120 - frames hold strings


def ended(base_url: str = "https://api.test", total: int = 4) -> MessageBatch:
    data = batch_json(
        "msgbatch_1", "ended", request_counts={"succeeded": total}, results_url=f"{base_url}/r"
    )
    return msgspec.convert(data, MessageBatch, strict=False)


class CannedTransport:
    """Responds with the results in two pieces; the first response breaks off after one of them."""

    status = 200
    headers: RawHeaders = ()

    def __init__(self) -> None:
        self._cuts = 1
        self._pieces: list[bytes] = []

    def send(self, request: Request, deadline: float | None) -> CannedTransport:
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


class AsyncCannedTransport:
    """The async twin of `CannedTransport`; its methods never suspend."""

    status = 200
    headers: RawHeaders = ()

    def __init__(self) -> None:
        self._canned = CannedTransport()
        self.now = self._canned.now

    async def send(self, request: Request, deadline: float | None) -> AsyncCannedTransport:
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


def blocking_client() -> BatchesClientBase:
    return BatchesClientBase(api(), CannedTransport(), None)


class Interruption:
    """Raises KeyboardInterrupt before the n-th executed line of the packages."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.place: str | None = None

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        del arg
        if not frame.f_code.co_filename.startswith(PACKAGES):
            return None
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        # The interpreter handles no signal between a step of a loop and its next line. So none
        # comes between the step that takes an item and the line that returns it.
        if event == "line" and text != "return item":
            self._left -= 1
            if not self._left:
                self.place = f"{frame.f_code.co_qualname}, line {frame.f_lineno}: {text}"
                raise KeyboardInterrupt
        return self

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        before = sys.gettrace()
        gc.disable()  # a collection would run lines of finalizers
        sys.settrace(self)
        try:
            yield
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
            gc.enable()


def interruptions() -> Iterator[Interruption]:
    """Yield an interruption for each line, until one does not occur."""
    number = 0
    while True:
        number += 1
        interruption = Interruption(number)
        yield interruption
        if interruption.place is None:
            assert number > 100, "nothing was interrupted"
            return


def run_without_loop(coroutine: Any) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the coroutine was suspended")


def read(stream: Any, custom_ids: list[str | None]) -> None:
    """Append the ids of the items of a blocking or an async stream."""
    if hasattr(stream, "__next__"):
        for item in stream:
            custom_ids.append(item.custom_id)  # noqa: PERF401 - kept after an interruption
        return

    async def read_async() -> None:
        async for item in stream:
            custom_ids.append(item.custom_id)  # noqa: PERF401 - kept after an interruption

    run_without_loop(read_async())


def async_client() -> AsyncBatchesClientBase:
    return AsyncBatchesClientBase(api(), AsyncCannedTransport(), None)


@pytest.mark.parametrize("make", [blocking_client, async_client], ids=["blocking", "async"])
def test_a_results_stream_interrupted_at_any_line_continues_or_raises(
    make: Callable[[], Any],
) -> None:
    continued = raised = 0
    for interruption in interruptions():
        stream = make().results_stream(ended())
        iterator: Any = iter(stream) if make is blocking_client else aiter(stream)
        custom_ids: list[str | None] = []
        with interruption.armed():
            read(iterator, custom_ids)
        with contextlib.suppress(LocalProtocolError):
            read(iterator, custom_ids)
            assert custom_ids == IDS, interruption.place
            continued += 1
            continue
        # The error is raised again at every attempt.
        with pytest.raises(LocalProtocolError, match="start it again"):
            read(iterator, custom_ids)
        assert custom_ids == IDS[: len(custom_ids)], interruption.place
        raised += 1
    assert continued > 100
    assert raised > 100


@pytest.fixture
def without_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace `os.fsync`, because hundreds of files are finished here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.usefixtures("without_fsync")
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # see the comment below
def test_a_download_interrupted_at_any_line_continues_with_the_same_call(tmp_path: Path) -> None:
    for number, interruption in enumerate(interruptions()):
        folder = tmp_path / str(number)
        folder.mkdir()
        with interruption.armed():
            # If closing is interrupted, the file is closed with its last reference.
            blocking_client().download(ended(), folder / "r")
        gc.collect(0)  # which can be in a cycle with the error
        assert blocking_client().download(ended(), folder / "r") == 4, interruption.place
        assert (folder / "r").read_bytes() == b"".join(LINES), interruption.place
        assert [each.name for each in folder.iterdir()] == ["r"], interruption.place


class HeldStep:
    """Holds one step of a download in its thread until `released` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
        self.entered = threading.Event()
        self.released = threading.Event()
        self.left = threading.Event()
        real: Any = getattr(ResultsFile, step)

        def hold(file: ResultsFile, *args: Any) -> Any:
            if not self.entered.is_set():
                self.entered.set()
                assert self.released.wait(30)
            result = real(file, *args)
            self.left.set()
            return result

        monkeypatch.setattr(ResultsFile, step, hold)


def open_files() -> set[str]:
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(str(fd.readlink()))
    return found


@async_carriers
@pytest.mark.parametrize("step", ["open", "write", "finish"])
def test_a_cancelled_download_waits_for_its_thread_and_leaves_no_file_open(
    carrier: Carrier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "r"
    held = HeldStep(monkeypatch, step)
    on_asyncio = carrier.name.endswith("asyncio")
    sleep: Any = asyncio.sleep if on_asyncio else trio.sleep

    async def until_entered() -> None:
        while not held.entered.is_set():
            await sleep(0.001)

    async def cancel_on_asyncio(client: Any, batch: MessageBatch) -> None:
        task = asyncio.create_task(client.download(batch, path))
        await until_entered()
        for _ in range(3):  # repeated cancellations wait for the thread too
            task.cancel()
            await asyncio.sleep(0.01)
        assert not task.done()
        held.released.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def cancel_on_trio(client: Any, batch: MessageBatch) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.download, batch, path)
            await until_entered()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.sleep(0.01)
            held.released.set()

    async def scenario() -> None:
        async with carrier.client(served.base_url) as client:
            batch = ended(served.base_url, 2)
            await (cancel_on_asyncio if on_asyncio else cancel_on_trio)(client, batch)
            assert held.left.is_set()
            assert not {each for each in open_files() if str(tmp_path) in each}
            assert await client.download(batch, path) == 2

    body = LINES[0] + LINES[1]
    with scripted(*[reply(body, keep=False)] * 2) as served:
        carrier.run(scenario)
    assert path.read_bytes() == body
    assert [each.name for each in tmp_path.iterdir()] == ["r"]
