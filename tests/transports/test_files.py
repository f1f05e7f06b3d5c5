"""Requests from a file, on every transport; and the reader of downloaded results."""

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

import msgspec
import pytest

import transports.files
from batches_core import (
    InvalidInputError,
    LocalProtocolError,
    MalformedResultError,
    OutcomeUnknownError,
    PreparedRequests,
    ResultItem,
    RetryPolicy,
    request_checker,
)
from batches_core import requests as core_requests
from batches_core.emulator import Emulator, FaultPlan
from batches_core.lowlevel import as_sent
from tests.support.carriers import ASYNC_CARRIERS, CARRIERS, QUICK_SETTLING, Carrier
from tests.support.playbook import REQUEST, result_line
from transports._files import requests_file as requests_module
from transports._files import results_reader
from transports.emulator import running_emulator
from transports.files import RequestsFile, read_results
from transports.h11 import BatchesClient

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

every = pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)

ONCE = RetryPolicy(attempts=1)
AT_ONCE = RetryPolicy(initial_delay=0.001)
A, B, C = result_line("a"), result_line("b"), result_line("c")


def lines(count: int, text: str = "?") -> list[bytes]:
    params = {**REQUEST["params"], "messages": [{"role": "user", "content": text}]}
    wanted = [{"custom_id": f"r{n}", "params": params} for n in range(count)]
    return [json.dumps(each).encode() for each in wanted]


def requests_file(tmp_path: Path, data: bytes) -> RequestsFile:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(data)
    return RequestsFile(path)


# --- requests from a file ----------------------------------------------------------------


def test_lines_pass_byte_for_byte_in_an_envelope(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = b'  {"custom_id": "odd",\t"params": {"n": 1e5, "s": "\\u00e9 \xc3\xa9"}}  \r\n'
    wanted = [odd.strip(), *lines(50)]
    data = b"\xef\xbb\xbf" + odd + b"\n \r\n" + b"\r\n".join(lines(50))
    for piece in (1, 100, 1_000_000):
        monkeypatch.setattr(core_requests, "_PIECE_SIZE", piece)
        prepared = requests_file(tmp_path, data).prepare()
        for _ in range(2):
            body = b"".join(prepared.body)
            assert body == b'{"requests":[' + b",".join(wanted) + b"]}"
            assert prepared.body.content_length == len(body)
        assert prepared.count == 51
    assert repr(prepared.body) == f"<_FileBody of {len(body)} bytes>"


def test_it_is_never_in_memory_whole(tmp_path: Path) -> None:
    file = requests_file(tmp_path, b"\n".join(lines(4000, "x" * 5000)))
    tracemalloc.start()
    try:
        assert sum(map(len, file.prepare().body)) > 20_000_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000


def test_problems_name_their_lines_all_of_them_up_to_a_bound(tmp_path: Path) -> None:
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
    ("data", "looks"),
    [
        (b"id,prompt\n" * 500, "a CSV file or other text: write one request as JSON on each line"),
        (gzip.compress(b"\n".join(lines(500))), "a gzip file: open it with gzip.open(path, 'rb')"),
        (b'[\n{"custom_id":"a","params":{}}\n]', "a JSON array: pass the list"),
    ],
)
def test_a_file_of_another_kind_is_told_once(tmp_path: Path, data: bytes, looks: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        requests_file(tmp_path, data).prepare()
    assert str(caught.value).startswith(f"this looks like {looks}")


@pytest.mark.parametrize("limit", ["MAX_REQUESTS", "MAX_BYTES"])
def test_a_file_over_a_limit_is_not_read_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(request_checker, limit, 3 if limit == "MAX_REQUESTS" else 500)
    with pytest.raises(InvalidInputError, match=r"line [45]: .*split") as caught:
        requests_file(tmp_path, b"\n".join([*lines(10), b"{"])).prepare()
    assert len(caught.value.problems) == 1


def test_what_cannot_be_read_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RequestsFile(tmp_path / "none").prepare()
    with pytest.raises(InvalidInputError, match=r"not a regular file.*open"):
        RequestsFile("/dev/null").prepare()
    with pytest.raises(InvalidInputError, match="no requests"):
        requests_file(tmp_path, b"\n\n").prepare()


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
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
    if not was_refused:  # let it go on
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    thread.join()
    assert was_refused


def test_a_line_over_the_limit_is_a_problem_and_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_checker, "MAX_BYTES", 3_000_000)
    monkeypatch.setattr(requests_module, "MAX_BYTES", 3_000_000)
    first, second = lines(2)
    path = tmp_path / "requests.jsonl"
    with path.open("wb") as file:
        file.write(first + b"\n")
        file.seek(300_000_000, os.SEEK_CUR)  # a hole, of zeros, that takes no room
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
    """Three gigabytes without a line feed, in the place of a file."""

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
        assert (offset, whence) == (0, os.SEEK_CUR), "what was left out is not read again"
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


def test_a_line_of_three_gigabytes_takes_little_memory(
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


def test_a_file_that_is_one_long_line_has_one_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_checker, "MAX_BYTES", 2_000_000)
    monkeypatch.setattr(requests_module, "MAX_BYTES", 2_000_000)
    with pytest.raises(InvalidInputError, match="one request on each line") as caught:
        requests_file(tmp_path, b"[" + b" " * 3_000_000 + b"]").prepare()
    assert len(caught.value.problems) == 1


def test_long_lines_within_the_limit_pass_byte_for_byte(tmp_path: Path) -> None:
    usual = 1024 * 1024
    made = []
    for number, size in enumerate([usual - 1, usual, usual + 1, 3 * usual, 5, 2 * usual]):
        line = json.dumps({"custom_id": f"r{number}", "params": {"s": "x" * 10}}).encode()
        made.append(line[:-1] + b" " * max(0, size - len(line) - 1) + b"}")
    for end in (b"", b"\n", b"\r\n"):
        prepared = requests_file(tmp_path, b"\n".join(made) + end).prepare()
        assert b"".join(prepared.body) == b'{"requests":[' + b",".join(made) + b"]}"
        assert prepared.count == 6


@every
def test_a_create_from_a_file(carrier: Carrier, tmp_path: Path) -> None:
    async def job() -> None:
        async with carrier.client(base_url, retry=AT_ONCE) as client:
            batch = await client.create(file, if_unknown="settle", settle_time=0.01)
            assert batch.request_counts.total == 3000
            batch = await client.wait_for(batch.id, poll_interval=0.01)
            path = tmp_path / "results.jsonl"
            assert await client.download(batch, path, expected=ids) == 3000
            got = [json.loads(line)["custom_id"] for line in path.read_bytes().splitlines()]
            assert sorted(got) == sorted(ids)

    ids = [f"r{n}" for n in range(3000)]
    file = requests_file(tmp_path, b"\n".join(lines(3000, "x" * 300)))
    # It is sent a second time, and its results are cut off twice.
    faults = ["create:drop=before", "results:cut=100000,times=2,end=reset"]
    with running_emulator(Emulator(speed=1e6, faults=FaultPlan(*faults))) as base_url:
        carrier.run(job)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["requests.jsonl", "results.jsonl"]


@every
def test_a_file_that_changes_before_it_is_sent_creates_nothing(
    carrier: Carrier, tmp_path: Path
) -> None:
    async def job() -> None:
        async with carrier.client(base_url, retry=AT_ONCE) as client:
            prepared = file.prepare()
            file.path.write_bytes(file.path.read_bytes() + b"\n")
            with pytest.raises(InvalidInputError, match="was changed after it was checked"):
                await client.create(prepared)
            assert (await client.list()).data == []

    file = requests_file(tmp_path, b"\n".join(lines(3)))
    with running_emulator(Emulator()) as base_url:
        carrier.run(job)


def edit_unseen(path: Path, old: bytes, new: bytes) -> None:
    """Change a file and nothing of its size and times, as far as a program can."""
    before = path.stat()
    data = path.read_bytes()
    assert len(old) == len(new)
    assert old in data
    with path.open("r+b") as file:
        file.write(data.replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@every
def test_an_edit_that_keeps_size_and_time_creates_nothing(carrier: Carrier, tmp_path: Path) -> None:
    async def job() -> None:
        async with carrier.client(base_url, retry=AT_ONCE) as client:
            prepared = file.prepare()
            edit_unseen(file.path, b"first", b"other")
            with pytest.raises(InvalidInputError, match="was changed after it was checked"):
                await client.create(prepared)
            assert (await client.list()).data == []
            edit_unseen(file.path, b"other", b"first")
            assert (await client.create(prepared)).request_counts.total == 1003

    with running_emulator(Emulator()) as base_url:
        data = [lines(1003, "x" * 1000)[0].replace(b"xxxxx", b"first", 1)]
        data += lines(1003, "x" * 1000)[1:]
        file = requests_file(tmp_path, b"\n".join(data))
        carrier.run(job)


def test_what_changes_no_byte_is_no_change(tmp_path: Path) -> None:
    file = requests_file(tmp_path, b"\n".join(lines(3)))
    body = file.prepare().body
    file.path.chmod(0o600)
    (tmp_path / "backup").hardlink_to(file.path)
    assert len(b"".join(body)) == body.content_length


@pytest.mark.parametrize("carrier", ASYNC_CARRIERS, ids=lambda carrier: carrier.name)
def test_a_file_is_not_read_on_the_event_loop(
    carrier: Carrier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers: list[int] = []

    def watched(line: bytes, index: int) -> bytes:
        readers.append(threading.get_ident())
        return as_sent(line, index)

    def opening(path: Path, *args: Any, **options: Any) -> Any:
        readers.append(threading.get_ident())
        return open(path, *args, **options)  # noqa: PTH123 - what is watched

    async def job() -> None:
        async with carrier.client(base_url, retry=AT_ONCE) as client:
            assert (await client.create(file)).request_counts.total == 3000

    file = requests_file(tmp_path, b"\n".join(lines(3000, "x" * 300)))
    monkeypatch.setattr(requests_module, "as_sent", watched)
    monkeypatch.setattr(requests_module, "open", opening, raising=False)
    with running_emulator(Emulator(speed=1e6)) as base_url:
        carrier.run(job)
    assert len(readers) == 3000 + 2  # it is opened to be checked, and to be sent
    assert threading.get_ident() not in readers


@pytest.mark.parametrize("carrier", ASYNC_CARRIERS, ids=lambda carrier: carrier.name)
def test_a_body_with_empty_pieces_is_sent_whole(carrier: Carrier) -> None:
    class Body:
        blocks = True
        pieces = (b"", b'{"requests":[', b"", b"", *lines(1), b"]}", b"")
        content_length = sum(map(len, pieces))

        def __iter__(self) -> Iterator[bytes]:
            return iter(self.pieces)

    async def job() -> None:
        async with carrier.client(base_url, retry=AT_ONCE) as client:
            prepared = PreparedRequests(body=Body(), count=1)
            assert (await client.create(prepared)).request_counts.total == 1

    with running_emulator(Emulator(speed=1e6)) as base_url:
        carrier.run(job)


@pytest.mark.parametrize("cut", [1000, 1_000_000])
def test_a_file_that_is_cut_while_it_is_sent_is_not_sent_to_its_end(
    tmp_path: Path, cut: int
) -> None:
    file = requests_file(tmp_path, b"\n".join(lines(3000, "x" * 1000)))
    body = file.prepare().body
    pieces = iter(body)
    sent = [next(pieces)]
    with file.path.open("r+b") as meddled:
        meddled.truncate(3_000_000 - cut)
    with pytest.raises(InvalidInputError, match="was changed after it was checked"):
        sent.extend(pieces)
    assert sum(map(len, sent)) < body.content_length


@every
def test_a_file_that_changes_while_it_is_sent_creates_nothing(
    carrier: Carrier, tmp_path: Path
) -> None:
    class Meddled(RequestsFile):
        def prepare(self) -> Any:
            prepared = super().prepare()
            meddle = self.path

            class Body:
                content_length = prepared.body.content_length

                def __iter__(self) -> Any:
                    for number, piece in enumerate(prepared.body):
                        if number == 3:
                            meddle.write_bytes(meddle.read_bytes().replace(b"xxxx", b"yyyy"))
                        yield piece

            return PreparedRequests(body=Body(), count=prepared.count)

    async def job() -> None:
        async with carrier.client(base_url, retry=ONCE) as client:
            with pytest.raises(InvalidInputError, match="was changed after it was checked"):
                await client.create(file)
            assert (await client.list()).data == []

    file = Meddled(requests_file(tmp_path, b"\n".join(lines(3000, "x" * 1000))).path)
    with running_emulator(Emulator()) as base_url:
        carrier.run(job)


def client_of(base_url: str) -> BatchesClient:
    return BatchesClient(api_key="k", base_url=base_url, retry=ONCE, settling=QUICK_SETTLING)


def test_an_unknown_outcome_of_a_file_is_settled_like_any_other(tmp_path: Path) -> None:
    file = requests_file(tmp_path, b"\n".join(lines(7)))
    emulator = Emulator(faults=FaultPlan("create:drop=after"))
    with running_emulator(emulator) as base_url, client_of(base_url) as client:
        with pytest.raises(OutcomeUnknownError) as caught:
            client.create(file)
        found = client.settle(caught.value, settle_time=0.02)
    assert found is not None
    assert found.request_counts.total == 7


# --- a reader of downloaded results ------------------------------------------------------

A, B = result_line("a"), result_line("b")


def results_path(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "results.jsonl"
    path.write_bytes(data)
    return path


def ids(items: Any) -> list[str | None]:
    return [item.custom_id for item in items]


@pytest.mark.parametrize("at_once", [1, 7, 1_000_000])
def test_a_reader_is_as_tolerant_as_a_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(results_reader, "_READ", at_once)
    odd = b'{"custom_id":"c","result":{"type":"new"}}\n'
    data = b"\xef\xbb\xbf" + A[:-1] + b"\r\n\n  \r\n" + b"{\n" + odd + B[:-1]
    with read_results(results_path(tmp_path, data)) as results:
        items = [*results]
    assert ids(items) == ["a", None, "c", "b"]
    assert [type(item) for item in items] == [
        ResultItem,
        MalformedResultError,
        ResultItem,
        ResultItem,
    ]
    assert isinstance(items[1], MalformedResultError)
    assert items[1].line_number == 4


def test_a_download_reads_as_the_stream_did(tmp_path: Path) -> None:
    emulator = Emulator(speed=1e6)
    with running_emulator(emulator) as base_url, client_of(base_url) as client:
        batch = client.wait_for(client.create(lines(500)).id, poll_interval=0.01)
        assert client.download(batch, tmp_path / "r") == 500
        assert [*read_results(tmp_path / "r")] == client.results(batch)


@pytest.mark.parametrize("end", [b"{", b'{"custom_id":"b"', B[:-3], b"garbage"])
def test_a_file_that_ends_in_the_middle_of_a_line_is_an_error_after_its_items(
    tmp_path: Path, end: bytes
) -> None:
    results = read_results(results_path(tmp_path, A + end))
    assert next(results).custom_id == "a"
    for _ in range(2):
        with pytest.raises(InvalidInputError, match=r"results.jsonl ends in the middle of a line"):
            next(results)
    assert results._file.closed


def test_a_reader_closes_its_file_at_the_end_and_by_close(tmp_path: Path) -> None:
    path = results_path(tmp_path, A + B)
    results = read_results(path)
    assert ids(results) == ["a", "b"]
    assert results._file.closed
    assert ids(results) == []
    with read_results(path) as results:
        assert next(results).custom_id == "a"
    assert results._file.closed
    with pytest.raises(LocalProtocolError, match="was closed: read the file again"):
        next(results)
    assert repr(results) == f"<ResultsReader of {str(path)!r}>"


def test_a_reader_holds_one_piece_of_its_file(tmp_path: Path) -> None:
    path = results_path(tmp_path, b"".join(result_line(f"r{n}", "x" * 5000) for n in range(4000)))
    tracemalloc.start()
    try:
        with read_results(path) as results:
            assert sum(1 for _ in results) == 4000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 20_000_000
    assert peak < 3_000_000


def test_a_reader_takes_a_message_type_and_a_longest_line(tmp_path: Path) -> None:
    path = results_path(tmp_path, A + result_line("long", "x" * 2000) + B)
    items = [*read_results(path, dict[str, Any], max_line=1000)]
    assert [isinstance(item, MalformedResultError) and item.is_cut for item in items] == [0, 1, 0]
    assert isinstance(items[0], ResultItem)
    assert type(msgspec.to_builtins(items[0].result)["message"]) is dict
    with pytest.raises(TypeError, match="not a type that msgspec can decode"):
        read_results(path, threading.Lock)
    with pytest.raises(FileNotFoundError):
        read_results(tmp_path / "none")


def test_a_reader_that_was_interrupted_between_two_pieces_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> Any:
        raise KeyboardInterrupt

    results = read_results(results_path(tmp_path, A + B))
    with monkeypatch.context() as patch:
        patch.setattr(results._lines, "feed", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(results)
    for _ in range(2):
        with pytest.raises(LocalProtocolError, match="interrupted in the middle"):
            next(results)
    assert results._file.closed


def test_the_module_has_these_names() -> None:
    assert transports.files.__all__ == ["RequestsFile", "ResultsReader", "read_results"]
