"""Requests from a file, results to a file, on every transport; and what goes wrong with files."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batches_core import (
    BatchesError,
    IncompleteResults,
    InvalidRequest,
    MalformedResult,
    MessageBatch,
    OutcomeUnknown,
    RawResult,
    RetryPolicy,
)
from batches_core import requests as core_requests
from batches_core.emulator import Emulator, FaultPlan
from tests.playbook import REQUEST, batch_json, result_line
from tests.transports.carriers import CARRIERS, Carrier
from tests.transports.scripted import reply, scripted
from transports.emulator import running_emulator
from transports.files import PartFile, RequestsFile
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


def ended(base_url: str, total: int, id_: str = "msgbatch_1") -> MessageBatch:
    data = batch_json(
        id_, "ended", request_counts={"succeeded": total}, results_url=f"{base_url}/r"
    )
    return msgspec.convert(data, MessageBatch, strict=False)


# --- requests from a file ----------------------------------------------------------------


def test_lines_pass_byte_for_byte_in_an_envelope(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = b'  {"custom_id": "odd",\t"params": {"n": 1e5, "s": "\\u00e9 \xc3\xa9"}}  \r\n'
    wanted = [odd.strip(), *lines(50)]
    data = b"\xef\xbb\xbf" + odd + b"\n \r\n" + b"\r\n".join(lines(50))
    for piece in (1, 100, 1_000_000):
        monkeypatch.setattr(core_requests, "_PIECE", piece)
        prepared = requests_file(tmp_path, data).prepared()
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
        assert sum(map(len, file.prepared().body)) > 20_000_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000


def test_faults_name_their_lines_all_of_them_up_to_a_bound(tmp_path: Path) -> None:
    first, second = lines(2)
    data = b"\n".join([first, b"", b"{", second, b"[]", first, b'{"custom_id":"ok"}'])
    with pytest.raises(InvalidRequest) as caught:
        requests_file(tmp_path, data).prepared()
    assert [(fault.line, fault.field) for fault in caught.value.faults] == [
        (3, None),
        (5, None),
        (6, "custom_id"),
        (7, "params"),
    ]
    text = str(caught.value)
    assert "line 3: is not JSON" in text
    assert "line 6, custom_id: 'r0' is the id of line 1 already" in text
    with pytest.raises(InvalidRequest) as caught:
        requests_file(tmp_path, b'{"a"\n' * 500).prepared()
    assert (len(caught.value.faults), caught.value.omitted) == (100, 400)


@pytest.mark.parametrize(
    ("data", "looks"),
    [
        (b"id,prompt\n" * 500, "a CSV file or other text: write one request as JSON on each line"),
        (gzip.compress(b"\n".join(lines(500))), "a gzip file: open it with gzip.open(path, 'rb')"),
        (b'[\n{"custom_id":"a","params":{}}\n]', "a JSON array: pass the list"),
    ],
)
def test_a_file_of_another_kind_is_told_once(tmp_path: Path, data: bytes, looks: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        requests_file(tmp_path, data).prepared()
    assert str(caught.value).startswith(f"this looks like {looks}")


@pytest.mark.parametrize("limit", ["MAX_REQUESTS", "MAX_BYTES"])
def test_a_file_over_a_limit_is_not_read_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(core_requests, limit, 3 if limit == "MAX_REQUESTS" else 500)
    with pytest.raises(InvalidRequest, match=r"line [45]: .*split") as caught:
        requests_file(tmp_path, b"\n".join([*lines(10), b"{"])).prepared()
    assert len(caught.value.faults) == 1


def test_what_cannot_be_read_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RequestsFile(tmp_path / "none").prepared()
    with pytest.raises(InvalidRequest, match=r"no regular file.*open"):
        RequestsFile("/dev/null").prepared()
    with pytest.raises(InvalidRequest, match="no requests"):
        requests_file(tmp_path, b"\n\n").prepared()


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
            assert not path.with_name("results.jsonl.part").exists()

    ids = [f"r{n}" for n in range(3000)]
    file = requests_file(tmp_path, b"\n".join(lines(3000, "x" * 300)))
    # It is sent a second time, and its results are cut off twice.
    faults = ["create:drop=before", "results:cut=100000,times=2,end=reset"]
    with running_emulator(Emulator(speed=1e6, faults=FaultPlan(*faults))) as base_url:
        carrier.run(job)


@every
def test_a_file_that_changes_before_it_is_sent_creates_nothing(
    carrier: Carrier, tmp_path: Path
) -> None:
    async def job() -> None:
        async with carrier.client(base_url, retry=AT_ONCE) as client:
            prepared = file.prepared()
            file.path.write_bytes(file.path.read_bytes() + b"\n")
            with pytest.raises(InvalidRequest, match="was changed after it was checked"):
                await client.create(prepared)
            assert (await client.list()).data == []

    file = requests_file(tmp_path, b"\n".join(lines(3)))
    with running_emulator(Emulator()) as base_url:
        carrier.run(job)


@pytest.mark.parametrize("cut", [1000, 1_000_000])
def test_a_file_that_is_cut_while_it_is_sent_is_not_sent_to_its_end(
    tmp_path: Path, cut: int
) -> None:
    file = requests_file(tmp_path, b"\n".join(lines(3000, "x" * 1000)))
    body = file.prepared().body
    pieces = iter(body)
    sent = [next(pieces)]
    with file.path.open("r+b") as meddled:
        meddled.truncate(3_000_000 - cut)
    with pytest.raises(InvalidRequest, match="was changed after it was checked"):
        sent.extend(pieces)
    assert sum(map(len, sent)) < body.content_length


@every
def test_a_file_that_changes_while_it_is_sent_creates_nothing(
    carrier: Carrier, tmp_path: Path
) -> None:
    class Meddled(RequestsFile):
        def prepared(self) -> Any:
            prepared = super().prepared()
            meddle = self.path

            class Body:
                content_length = prepared.body.content_length

                def __iter__(self) -> Any:
                    for number, piece in enumerate(prepared.body):
                        if number == 3:
                            meddle.write_bytes(meddle.read_bytes().replace(b"xxxx", b"yyyy"))
                        yield piece

            return core_requests.Prepared(body=Body(), count=prepared.count)

    async def job() -> None:
        async with carrier.client(base_url, retry=ONCE) as client:
            with pytest.raises(InvalidRequest, match="was changed after it was checked"):
                await client.create(file)
            assert (await client.list()).data == []

    file = Meddled(requests_file(tmp_path, b"\n".join(lines(3000, "x" * 1000))).path)
    with running_emulator(Emulator()) as base_url:
        carrier.run(job)


# --- results to a file -------------------------------------------------------------------


@every
def test_a_download_that_fails_is_gone_on_with(carrier: Carrier, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    part = tmp_path / "results.jsonl.part"

    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE) as client:
            batch = ended(served.base_url, 3)
            with pytest.raises(BatchesError) as caught:
                await client.download(batch, path)
            assert any("holds the 2 results that came" in note for note in caught.value.__notes__)
            assert part.read_bytes() == A + B
            part.write_bytes(A + B + C[:20])  # as a crash leaves it
            assert await client.download(batch, path) == 3

    with scripted(reply(A + B + C, cut=len(A + B) + 5), reply(A + B + C)) as served:
        carrier.run(job)
    assert path.read_bytes() == A + B + C
    assert not part.exists()


@every
def test_a_download_that_is_short_says_what_is_missing(carrier: Carrier, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"

    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE) as client:
            with pytest.raises(IncompleteResults) as caught:
                await client.download(ended(served.base_url, 3), path, expected=["a", "b", "c"])
            assert caught.value.missing == ("c",)

    with scripted(reply(A + B)) as served:
        carrier.run(job)
    assert not path.exists()
    assert (tmp_path / "results.jsonl.part").read_bytes() == A + B


def client_of(base_url: str, **settings: Any) -> BatchesClient:
    return BatchesClient(api_key="k", base_url=base_url, **{"retry": ONCE, **settings})


def test_lines_are_kept_as_they_came_and_once(tmp_path: Path) -> None:
    path = tmp_path / "r"
    odd = b'{"custom_id": "o",  "result": {"type":"new"}, "x": 1e5}'
    sent = A + odd + b"\r\n\r\n{\nnonsense\n" + A + b'{"custom_id":"b"}'
    with scripted(reply(sent)) as served, client_of(served.base_url) as client:
        assert client.download(ended(served.base_url, 5), path) == 5
    assert path.read_bytes() == A + odd + b'\n{\nnonsense\n{"custom_id":"b"}\n'


def test_unreadable_lines_of_a_part_are_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "r"
    sent = A + b"{\n{\n" + B
    served_lines = [reply(sent, cut=len(A) + 4), reply(sent)]
    with scripted(*served_lines) as served, client_of(served.base_url) as client:
        batch = ended(served.base_url, 4)
        with pytest.raises(BatchesError):
            client.download(batch, path)
        assert client.download(batch, path) == 4
    assert path.read_bytes() == sent


def test_a_part_of_another_batch_is_refused_and_left(tmp_path: Path) -> None:
    path = tmp_path / "r"
    part = tmp_path / "r.part"
    part.write_bytes(C)
    with scripted(reply(A + B)) as served, client_of(served.base_url) as client:
        batch = ended(served.base_url, 2)
        with pytest.raises(InvalidRequest, match=r"1 of the custom_ids .* another one"):
            client.download(batch, path)
    assert C in part.read_bytes()
    assert not path.exists()


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(b"mine")
    client = client_of("http://127.0.0.1:9")
    with client, pytest.raises(InvalidRequest, match="is there already"):
        client.download("msgbatch_1", path)
    assert path.read_bytes() == b"mine"
    assert [each.name for each in tmp_path.iterdir()] == ["r"]


def test_two_downloads_to_one_file_do_not_mix(tmp_path: Path) -> None:
    with PartFile(tmp_path / "r"), pytest.raises(InvalidRequest, match="by somebody else"):
        PartFile(tmp_path / "r")
    PartFile(tmp_path / "r").__exit__(None, None, None)


def test_a_line_over_the_limit_is_told_and_the_others_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "r"
    long = result_line("long", "x" * 2000)
    sent = A + long + B
    with scripted(*[reply(sent)] * 2) as served:
        batch = ended(served.base_url, 3)
        client = client_of(served.base_url, max_line=1000)
        with client, pytest.raises(MalformedResult, match="over the limit max_line=1,000"):
            client.download(batch, path)
        assert (tmp_path / "r.part").read_bytes() == A + B
        with client_of(served.base_url) as client:
            assert client.download(batch, path) == 3
    assert path.read_bytes() == A + B + long


class _Full(io.RawIOBase):
    """A file on a disk with room for 100 bytes."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._room = 100

    def write(self, data: Any) -> int:
        if not self._room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._file.write(data[: self._room])
        self._room -= written
        return int(written)

    def close(self) -> None:
        self._file.close()


def test_a_full_disk_leaves_the_part_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = PartFile(tmp_path / "r")
    monkeypatch.setattr(part, "_file", _Full(part._file))
    part.write([RawResult(custom_id="a", raw=b"x" * 50)])
    with pytest.raises(OSError, match="No space left") as caught, part:
        part.write([RawResult(custom_id="b", raw=b"y" * 80)])
    (note,) = caught.value.__notes__
    assert "r.part holds the 1 results" in note
    with PartFile(tmp_path / "r") as part:
        part.write([RawResult(custom_id="b", raw=b"y" * 80)])
        assert part.finish() == 2
    assert (tmp_path / "r").read_bytes().splitlines() == [b"x" * 50, b"y" * 80]


PROGRAM = """
import sys
from transports.h11 import BatchesClient
with BatchesClient(api_key="k", base_url=sys.argv[1]) as client:
    print(client.download(sys.argv[2], sys.argv[3]), flush=True)
"""


def test_a_process_that_is_killed_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "r"
    part = tmp_path / "r.part"
    plan = FaultPlan("results:cut=200000,end=clean")
    emulator = Emulator(speed=1e6, faults=plan)
    with running_emulator(emulator) as base_url, client_of(base_url) as client:
        batch = client.wait_for(client.create(lines(2000)).id, poll_interval=0.01)
        # Cut short, and the next try is put off for so long that the process is killed before.
        plan.add("results:status=429,retry_after=300")
        arguments = [sys.executable, "-c", PROGRAM, base_url, batch.id, str(path)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:  # noqa: S603 - ours
            while len(plan.applied) < 2:
                assert process.poll() is None
            process.send_signal(signal.SIGKILL)
        before = part.read_bytes()
        assert client.download(batch.id, path) == 2000
    assert len(before) > 150_000
    after = path.read_bytes()
    assert after.startswith(before[: before.rfind(b"\n") + 1])
    ids = [json.loads(line)["custom_id"] for line in after.splitlines()]
    assert sorted(ids) == sorted(f"r{n}" for n in range(2000))


def test_an_unknown_outcome_of_a_file_is_settled_like_any_other(tmp_path: Path) -> None:
    file = requests_file(tmp_path, b"\n".join(lines(7)))
    emulator = Emulator(faults=FaultPlan("create:drop=after"))
    with running_emulator(emulator) as base_url, client_of(base_url) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            client.create(file)
        found = client.settle(caught.value, settle_time=0.02)
    assert found is not None
    assert found.request_counts.total == 7
