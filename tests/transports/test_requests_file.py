"""Requests from a file: checked line by line, and sent on every transport."""

from __future__ import annotations

import gzip
import io
import json
import os
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batches_core import InvalidInputError, OutcomeUnknownError, PreparedRequests, request_checker
from batches_core import requests as core_requests
from batches_core.emulator import Emulator, FaultPlan
from batches_core.lowlevel import as_sent
from tests.support.batches import ONE_ATTEMPT, QUICK_RETRIES
from tests.support.carriers import QUICK_SETTLING, Carrier
from tests.support.marks import async_carriers, every_carrier
from tests.support.playbook import REQUEST
from transports._files import requests_file as requests_module
from transports.emulator import running_emulator
from transports.files import RequestsFile
from transports.h11 import BatchesClient

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


def lines(count: int, text: str = "?") -> list[bytes]:
    params = {**REQUEST["params"], "messages": [{"role": "user", "content": text}]}
    return [json.dumps({"custom_id": f"r{n}", "params": params}).encode() for n in range(count)]


def requests_file(tmp_path: Path, data: bytes) -> RequestsFile:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(data)
    return RequestsFile(path)


# --- checking --------------------------------------------------------------------------


def test_request_lines_are_sent_byte_for_byte_inside_the_envelope(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spaced = b'  {"custom_id": "odd",\t"params": {"n": 1e5, "s": "\\u00e9 \xc3\xa9"}}  \r\n'
    expected = [spaced.strip(), *lines(50)]
    data = b"\xef\xbb\xbf" + spaced + b"\n \r\n" + b"\r\n".join(lines(50))
    for piece in (1, 100, 1_000_000):
        monkeypatch.setattr(core_requests, "_PIECE_SIZE", piece)
        prepared = requests_file(tmp_path, data).prepare()
        for _ in range(2):
            body = b"".join(prepared.body)
            assert body == b'{"requests":[' + b",".join(expected) + b"]}"
            assert prepared.body.content_length == len(body)
        assert prepared.count == 51
    assert repr(prepared.body) == f"<_FileBody of {len(body)} bytes>"


def test_long_request_lines_within_the_limit_are_sent_byte_for_byte(tmp_path: Path) -> None:
    mib = 1024 * 1024
    long_lines = []
    for number, size in enumerate([mib - 1, mib, mib + 1, 3 * mib, 5, 2 * mib]):
        line = json.dumps({"custom_id": f"r{number}", "params": {"s": "x" * 10}}).encode()
        long_lines.append(line[:-1] + b" " * max(0, size - len(line) - 1) + b"}")
    for end in (b"", b"\n", b"\r\n"):
        prepared = requests_file(tmp_path, b"\n".join(long_lines) + end).prepare()
        assert b"".join(prepared.body) == b'{"requests":[' + b",".join(long_lines) + b"]}"
        assert prepared.count == 6


def test_each_problem_of_a_requests_file_names_its_line_up_to_100(tmp_path: Path) -> None:
    first, second = lines(2)
    data = b"\n".join([first, b"", b"{", second, b"[]", first, b'{"custom_id":"ok"}'])
    with pytest.raises(InvalidInputError) as caught:
        requests_file(tmp_path, data).prepare()
    assert [(problem.line, problem.field) for problem in caught.value.problems] == [
        (3, None),
        (5, None),
        (6, "custom_id"),
        (7, "params"),
    ]
    text = str(caught.value)
    assert "line 3: is not JSON" in text
    assert "line 6, custom_id: 'r0' is already the id of line 1" in text
    with pytest.raises(InvalidInputError) as caught:
        requests_file(tmp_path, b'{"a"\n' * 500).prepare()
    assert (len(caught.value.problems), caught.value.omitted) == (100, 400)


@pytest.mark.parametrize(
    ("data", "format_and_advice"),
    [
        (b"id,prompt\n" * 500, "a CSV file or other text: write one request as JSON on each line"),
        (gzip.compress(b"\n".join(lines(500))), "a gzip file: open it with gzip.open(path, 'rb')"),
        (b'[\n{"custom_id":"a","params":{}}\n]', "a JSON array: pass the list"),
    ],
    ids=["CSV", "gzip", "JSON array"],
)
def test_a_file_of_another_format_is_reported_once_with_advice(
    tmp_path: Path, data: bytes, format_and_advice: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        requests_file(tmp_path, data).prepare()
    assert str(caught.value).startswith(f"this looks like {format_and_advice}")


@pytest.mark.parametrize("limit", ["MAX_REQUESTS", "MAX_BYTES"])
def test_checking_a_requests_file_stops_at_an_exceeded_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(request_checker, limit, 3 if limit == "MAX_REQUESTS" else 500)
    with pytest.raises(InvalidInputError, match=r"line [45]: .*split") as caught:
        requests_file(tmp_path, b"\n".join([*lines(10), b"{"])).prepare()
    assert len(caught.value.problems) == 1


def test_a_requests_file_must_be_a_regular_file_with_requests(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RequestsFile(tmp_path / "none").prepare()
    with pytest.raises(InvalidInputError, match=r"not a regular file.*open"):
        RequestsFile("/dev/null").prepare()
    with pytest.raises(InvalidInputError, match="no requests"):
        requests_file(tmp_path, b"\n\n").prepare()


def test_a_named_pipe_is_rejected_as_a_requests_file_without_blocking(tmp_path: Path) -> None:
    def prepare() -> None:
        with pytest.raises(InvalidInputError, match=r"not a regular file.*open"):
            RequestsFile(path).prepare()
        refused.set()

    path = tmp_path / "pipe"
    os.mkfifo(path)
    refused = threading.Event()
    thread = threading.Thread(target=prepare)
    thread.start()
    was_refused = refused.wait(5)
    if not was_refused:  # end the call that waits for a writer
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    thread.join()
    assert was_refused


# --- memory ----------------------------------------------------------------------------


def test_a_requests_file_is_never_completely_in_memory(tmp_path: Path) -> None:
    file = requests_file(tmp_path, b"\n".join(lines(4000, "x" * 5000)))
    tracemalloc.start()
    try:
        assert sum(map(len, file.prepare().body)) > 20_000_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000


def test_a_request_line_over_the_limit_is_a_problem_and_not_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_checker, "MAX_BYTES", 3_000_000)
    monkeypatch.setattr(requests_module, "MAX_BYTES", 3_000_000)
    first, second = lines(2)
    path = tmp_path / "requests.jsonl"
    with path.open("wb") as file:
        file.write(first + b"\n")
        file.seek(300_000_000, os.SEEK_CUR)  # a hole, which reads as zeros
        file.write(b"\n{\n" + second + b"\n")
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInputError) as caught:
            RequestsFile(path).prepare()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [problem.line for problem in caught.value.problems] == [2, 3]
    assert "line 2: has 300,000,001 bytes, over the limit of 3,000,000" in str(caught.value)
    assert peak < 10_000_000


class _Zeros(io.RawIOBase):
    """Replaces a file by three gigabytes without a line feed."""

    size = 3_000_000_000
    _zeros = memoryview(bytes(1024 * 1024))

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._read = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        assert (offset, whence) == (0, os.SEEK_CUR), "skipped bytes are not read again"
        return self._read

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), len(self._zeros), self.size - self._read)
        buffer[:size] = self._zeros[:size]
        self._read += size
        return size

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()
        super().close()


def test_a_request_line_of_three_gigabytes_takes_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = requests_file(tmp_path, b"")
    monkeypatch.setattr(
        requests_module, "_open", lambda path: io.BufferedReader(_Zeros(path), 262_144)
    )
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInputError) as caught:
            file.prepare()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "line 1: has 3,000,000,000 bytes, over the limit of 256,000,000" in str(caught.value)
    assert peak < 10_000_000


def test_a_requests_file_of_one_oversized_line_has_one_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_checker, "MAX_BYTES", 2_000_000)
    monkeypatch.setattr(requests_module, "MAX_BYTES", 2_000_000)
    with pytest.raises(InvalidInputError, match="one request on each line") as caught:
        requests_file(tmp_path, b"[" + b" " * 3_000_000 + b"]").prepare()
    assert len(caught.value.problems) == 1


# --- sending ---------------------------------------------------------------------------


@every_carrier
def test_a_create_from_a_requests_file_is_retried_and_its_results_are_downloaded(
    carrier: Carrier, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with carrier.client(base_url, retry=QUICK_RETRIES) as client:
            batch = await client.create(file, if_unknown="settle", settle_time=0.01)
            assert batch.request_counts.total == 3000
            batch = await client.wait_for(batch.id, poll_interval=0.01)
            path = tmp_path / "results.jsonl"
            assert await client.download(batch, path, expected=ids) == 3000
            results = [json.loads(line) for line in path.read_bytes().splitlines()]
            assert sorted(result["custom_id"] for result in results) == sorted(ids)

    ids = [f"r{n}" for n in range(3000)]
    file = requests_file(tmp_path, b"\n".join(lines(3000, "x" * 300)))
    # The create is sent a second time, and the results are cut off twice.
    faults = ["create:drop=before", "results:cut=100000,times=2,end=reset"]
    with running_emulator(Emulator(speed=1e6, faults=FaultPlan(*faults))) as base_url:
        carrier.run(scenario)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["requests.jsonl", "results.jsonl"]


@async_carriers
def test_a_requests_file_is_not_read_in_the_thread_of_the_event_loop(
    carrier: Carrier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers: list[int] = []

    def record_line(line: bytes, index: int) -> bytes:
        readers.append(threading.get_ident())
        return as_sent(line, index)

    def record_open(path: Path, *args: Any, **options: Any) -> Any:
        readers.append(threading.get_ident())
        return open(path, *args, **options)  # noqa: PTH123 - the function that is replaced

    async def scenario() -> None:
        async with carrier.client(base_url, retry=QUICK_RETRIES) as client:
            assert (await client.create(file)).request_counts.total == 3000

    file = requests_file(tmp_path, b"\n".join(lines(3000, "x" * 300)))
    monkeypatch.setattr(requests_module, "as_sent", record_line)
    monkeypatch.setattr(requests_module, "open", record_open, raising=False)
    with running_emulator(Emulator(speed=1e6)) as base_url:
        carrier.run(scenario)
    assert len(readers) == 3000 + 2  # the file is opened to check it, and to send it
    assert threading.get_ident() not in readers


@async_carriers
def test_a_request_body_with_empty_pieces_is_sent_completely(carrier: Carrier) -> None:
    class Body:
        blocks = True
        pieces = (b"", b'{"requests":[', b"", b"", *lines(1), b"]}", b"")
        content_length = sum(map(len, pieces))

        def __iter__(self) -> Iterator[bytes]:
            return iter(self.pieces)

    async def scenario() -> None:
        async with carrier.client(base_url, retry=QUICK_RETRIES) as client:
            prepared = PreparedRequests(body=Body(), count=1)
            assert (await client.create(prepared)).request_counts.total == 1

    with running_emulator(Emulator(speed=1e6)) as base_url:
        carrier.run(scenario)


def test_the_unknown_outcome_of_a_requests_file_can_be_settled(tmp_path: Path) -> None:
    file = requests_file(tmp_path, b"\n".join(lines(7)))
    emulator = Emulator(faults=FaultPlan("create:drop=after"))
    with (
        running_emulator(emulator) as base_url,
        BatchesClient(
            api_key="k", base_url=base_url, retry=ONE_ATTEMPT, settling=QUICK_SETTLING
        ) as client,
    ):
        with pytest.raises(OutcomeUnknownError) as caught:
            client.create(file)
        batch = client.settle(caught.value, settle_time=0.02)
    assert batch is not None
    assert batch.request_counts.total == 7


# --- changes between check and upload --------------------------------------------------


def edit_keeping_size_and_mtime(path: Path, old: bytes, new: bytes) -> None:
    """Change a file but not its size and times, as far as a program can."""
    before = path.stat()
    data = path.read_bytes()
    assert len(old) == len(new)
    assert old in data
    with path.open("r+b") as file:
        file.write(data.replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@every_carrier
def test_a_requests_file_changed_before_the_upload_creates_no_batch(
    carrier: Carrier, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with carrier.client(base_url, retry=QUICK_RETRIES) as client:
            prepared = file.prepare()
            file.path.write_bytes(file.path.read_bytes() + b"\n")
            with pytest.raises(InvalidInputError, match="was changed after it was checked"):
                await client.create(prepared)
            assert (await client.list()).data == []

    file = requests_file(tmp_path, b"\n".join(lines(3)))
    with running_emulator(Emulator()) as base_url:
        carrier.run(scenario)


@every_carrier
def test_an_edit_that_keeps_size_and_mtime_creates_no_batch(
    carrier: Carrier, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with carrier.client(base_url, retry=QUICK_RETRIES) as client:
            prepared = file.prepare()
            edit_keeping_size_and_mtime(file.path, b"first", b"other")
            with pytest.raises(InvalidInputError, match="was changed after it was checked"):
                await client.create(prepared)
            assert (await client.list()).data == []
            edit_keeping_size_and_mtime(file.path, b"other", b"first")
            assert (await client.create(prepared)).request_counts.total == 1003

    with running_emulator(Emulator()) as base_url:
        data = [lines(1003, "x" * 1000)[0].replace(b"xxxxx", b"first", 1)]
        data += lines(1003, "x" * 1000)[1:]
        file = requests_file(tmp_path, b"\n".join(data))
        carrier.run(scenario)


@every_carrier
def test_a_requests_file_changed_during_the_upload_creates_no_batch(
    carrier: Carrier, tmp_path: Path
) -> None:
    class ChangingFile(RequestsFile):
        def prepare(self) -> Any:
            prepared = super().prepare()
            path = self.path

            class Body:
                content_length = prepared.body.content_length

                def __iter__(self) -> Any:
                    for number, piece in enumerate(prepared.body):
                        if number == 3:
                            path.write_bytes(path.read_bytes().replace(b"xxxx", b"yyyy"))
                        yield piece

            return PreparedRequests(body=Body(), count=prepared.count)

    async def scenario() -> None:
        async with carrier.client(base_url, retry=ONE_ATTEMPT) as client:
            with pytest.raises(InvalidInputError, match="was changed after it was checked"):
                await client.create(file)
            assert (await client.list()).data == []

    file = ChangingFile(requests_file(tmp_path, b"\n".join(lines(3000, "x" * 1000))).path)
    with running_emulator(Emulator()) as base_url:
        carrier.run(scenario)


@pytest.mark.parametrize("removed", [1000, 1_000_000])
def test_a_requests_file_truncated_during_the_upload_is_not_sent_completely(
    tmp_path: Path, removed: int
) -> None:
    file = requests_file(tmp_path, b"\n".join(lines(3000, "x" * 1000)))
    body = file.prepare().body
    pieces = iter(body)
    sent = [next(pieces)]
    with file.path.open("r+b") as changed:
        changed.truncate(3_000_000 - removed)
    with pytest.raises(InvalidInputError, match="was changed after it was checked"):
        sent.extend(pieces)
    assert sum(map(len, sent)) < body.content_length


def test_a_metadata_change_does_not_invalidate_a_checked_requests_file(tmp_path: Path) -> None:
    file = requests_file(tmp_path, b"\n".join(lines(3)))
    body = file.prepare().body
    file.path.chmod(0o600)
    (tmp_path / "backup").hardlink_to(file.path)
    assert len(b"".join(body)) == body.content_length
