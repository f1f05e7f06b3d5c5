"""Results to a file, on every transport: whose part it is, what is never replaced, and crashes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import trio

from batches_core import (
    BatchesError,
    IncompleteResultsError,
    InvalidInputError,
    LocalProtocolError,
    MalformedResultError,
    MessageBatch,
    NotFoundError,
    RawResult,
    ResultsReceived,
    ResultsUnavailableError,
    RetryPolicy,
    TransportError,
)
from batches_core.emulator import Emulator, FaultPlan
from tests.support.carriers import ASYNC_CARRIERS, CARRIERS, Carrier
from tests.support.playbook import REQUEST, batch_json, error_json, result_line
from tests.support.scripted import reply, scripted
from transports._client._async.driver import AsyncDriver
from transports._client._sync.driver import Driver
from transports._files import locking, renaming
from transports._files import part as part_module
from transports._files.results_file import ResultsFile
from transports.emulator import running_emulator
from transports.h11 import BatchesClient

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

every = pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)

ONCE = RetryPolicy(attempts=1)
A, B, C = result_line("a"), result_line("b"), result_line("c")
NOT_FOUND = reply(json.dumps(error_json("not_found_error")).encode(), status=404)


def lines(count: int) -> list[bytes]:
    wanted = [{"custom_id": f"r{n}", "params": REQUEST["params"]} for n in range(count)]
    return [json.dumps(each).encode() for each in wanted]


def ended(base_url: str, total: int, id_: str = "msgbatch_1") -> MessageBatch:
    data = batch_json(
        id_, "ended", request_counts={"succeeded": total}, results_url=f"{base_url}/r"
    )
    return msgspec.convert(data, MessageBatch, strict=False)


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


@every
def test_a_download_that_fails_is_gone_on_with(carrier: Carrier, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    part = tmp_path / "results.jsonl.msgbatch_1.part"

    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE) as client:
            batch = ended(served.base_url, 3)
            with pytest.raises(BatchesError) as caught:
                await client.download(batch, path)
            assert any(
                "holds 2 results: download again to continue" in note
                for note in caught.value.__notes__
            )
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
            with pytest.raises(IncompleteResultsError) as caught:
                await client.download(ended(served.base_url, 3), path, expected=["a", "b", "c"])
            assert caught.value.missing == ("c",)

    with scripted(reply(A + B)) as served:
        carrier.run(job)
    assert not path.exists()
    assert (tmp_path / "results.jsonl.msgbatch_1.part").read_bytes() == A + B


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


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(b"mine")
    client = client_of("http://127.0.0.1:9")
    with (
        client,
        pytest.raises(InvalidInputError, match="already exists and is not the complete"),
    ):
        client.download("msgbatch_1", path)
    assert path.read_bytes() == b"mine"
    assert [each.name for each in tmp_path.iterdir()] == ["r"]


def opened(path: Path, batch: str = "msgbatch_1") -> ResultsFile:
    file = ResultsFile(path, batch)
    file.open()
    return file


def test_two_downloads_to_one_file_do_not_mix(tmp_path: Path) -> None:
    with opened(tmp_path / "r"), pytest.raises(InvalidInputError, match="by another download"):
        opened(tmp_path / "r")
    opened(tmp_path / "r").__exit__(None, None, None)


def test_a_line_over_the_limit_is_told_and_the_others_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "r"
    long = result_line("long", "x" * 2000)
    sent = A + long + B
    with scripted(*[reply(sent)] * 2) as served:
        batch = ended(served.base_url, 3)
        client = client_of(served.base_url, max_line=1000)
        with (
            client,
            pytest.raises(MalformedResultError, match="over the limit max_line=1,000") as told,
        ):
            client.download(batch, path)
        assert ["larger max_line, to add this one" in note for note in told.value.__notes__] == [
            True
        ]
        assert (tmp_path / "r.msgbatch_1.part").read_bytes() == A + B
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

    def fileno(self) -> int:
        return int(self._file.fileno())


def test_a_full_disk_leaves_the_part_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = opened(tmp_path / "r")
    part: Any = file._file
    full = _Full(part._file)
    monkeypatch.setattr(part, "_file", full)
    file.write([RawResult(custom_id="a", raw=b'{"custom_id":"a"}')])
    with pytest.raises(OSError, match="No space left") as caught, file:
        file.write([RawResult(custom_id="b", raw=b'{"custom_id":"b"}' + b" " * 80)])
    (note,) = caught.value.__notes__
    assert "r.msgbatch_1.part holds 1 results" in note
    with opened(tmp_path / "r") as file:
        assert file.ids == ["a"]
        file.write([RawResult(custom_id="b", raw=b'{"custom_id":"b"}')])
        assert file.finish() == 2
    assert (tmp_path / "r").read_bytes() == b'{"custom_id":"a"}\n{"custom_id":"b"}\n'


PROGRAM = """
import sys
from transports.h11 import BatchesClient
with BatchesClient(api_key="k", base_url=sys.argv[1]) as client:
    print(client.download(sys.argv[2], sys.argv[3]), flush=True)
"""


def test_a_process_that_is_killed_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "r"
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
        before = (tmp_path / f"r.{batch.id}.part").read_bytes()
        assert client.download(batch.id, path) == 2000
    assert len(before) > 150_000
    after = path.read_bytes()
    assert after.startswith(before[: before.rfind(b"\n") + 1])
    ids = [json.loads(line)["custom_id"] for line in after.splitlines()]
    assert sorted(ids) == sorted(f"r{n}" for n in range(2000))


# --- whose part it is --------------------------------------------------------------------


def test_a_part_belongs_to_one_batch(tmp_path: Path) -> None:
    path = tmp_path / "r"
    monday, tuesday = [[result_line(i, day) for i in "ab"] for day in ("monday", "tuesday")]
    answers = [reply(b"".join(monday), cut=len(monday[0])), reply(b"".join(tuesday))]
    with scripted(*answers) as served, client_of(served.base_url) as client:
        with pytest.raises(TransportError):
            client.download(ended(served.base_url, 2, "msgbatch_monday"), path)
        assert client.download(ended(served.base_url, 2, "msgbatch_tuesday"), path) == 2
    assert path.read_bytes() == b"".join(tuesday)
    assert (tmp_path / "r.msgbatch_monday.part").read_bytes() == monday[0]


def test_a_file_named_part_that_is_not_ours_is_not_touched(tmp_path: Path) -> None:
    other = tmp_path / "r.part"
    other.write_bytes(B + b'{"custom_id": "x')
    with scripted(reply(A)) as served, client_of(served.base_url) as client:
        assert client.download(ended(served.base_url, 1), tmp_path / "r") == 1
    assert other.read_bytes() == B + b'{"custom_id": "x'
    assert (tmp_path / "r").read_bytes() == A


def test_an_id_is_percent_encoded_in_the_name_of_the_part(tmp_path: Path) -> None:
    with opened(tmp_path / "r", "a/../b c") as file:
        assert names(tmp_path) == ["r.a%2F..%2Fb%20c.part"]
        file.write([RawResult(custom_id="a", raw=A[:-1])])
        assert file.finish() == 1
    with pytest.raises(InvalidInputError, match="batch must be a str, not int"):
        ResultsFile(tmp_path / "s", 7)  # type: ignore[arg-type]  # a mistake
    assert names(tmp_path) == ["r"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"some notes\n", "no results"),
        (b"without a line feed", "no results"),
        (b'{"a": 1}\n{"b": 2}\n', "no results"),
        (A + b"some notes", "no results"),
        (A + B + A, "two results with the same custom_id"),
        (A + result_line("long", "x" * 2000), "over the limit max_line=1,000"),
        (b"\n{\n" * 300, "more lines than the results of any batch"),
    ],
)
def test_a_part_that_cannot_be_one_is_refused_and_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, why: str
) -> None:
    monkeypatch.setattr(part_module, "MAX_LINES", 200)
    part = tmp_path / "r.msgbatch_1.part"
    part.write_bytes(content)
    with (
        client_of("http://127.0.0.1:9", max_line=1000) as client,
        pytest.raises(InvalidInputError, match=why) as caught,
    ):
        client.download("msgbatch_1", tmp_path / "r")
    assert "was left as it is: move it away and download again" in str(caught.value)
    assert not hasattr(caught.value, "__notes__")
    assert part.read_bytes() == content
    assert names(tmp_path) == [part.name]


def _link(target: Path, part: Path) -> None:
    target.write_bytes(A)
    part.symlink_to(target)


def _dangling(target: Path, part: Path) -> None:
    part.symlink_to(target)


def _hard_link(target: Path, part: Path) -> None:
    target.write_bytes(A)
    part.hardlink_to(target)


def _pipe(target: Path, part: Path) -> None:
    target.write_bytes(A)
    os.mkfifo(part)


def _folder(target: Path, part: Path) -> None:
    target.write_bytes(A)
    part.mkdir()


@pytest.mark.parametrize("make", [_link, _dangling, _hard_link, _pipe, _folder])
@pytest.mark.parametrize("knows_links", [True, False])
def test_a_link_a_pipe_or_a_folder_is_no_part(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path, Path], None],
    *,
    knows_links: bool,
) -> None:
    if not knows_links:  # as on Windows
        monkeypatch.delattr(os, "O_NOFOLLOW")
        monkeypatch.delattr(os, "O_NONBLOCK")
    target, part = tmp_path / "target", tmp_path / "r.msgbatch_1.part"
    make(target, part)
    before = target.read_bytes() if target.exists() else None
    with scripted(reply(A + B)) as served, client_of(served.base_url) as client:
        batch = ended(served.base_url, 2)
        with pytest.raises(
            InvalidInputError, match=r"(not a regular file|hard link).* move it away"
        ) as caught:
            client.download(batch, tmp_path / "r")
        assert (target.read_bytes() if target.exists() else None) == before
        assert not hasattr(caught.value, "__notes__")
        # The advice is true.
        part.rename(tmp_path / "away")
        assert client.download(batch, tmp_path / "r") == 2


def test_unreadable_lines_of_a_part_that_the_batch_does_not_have_are_an_error(
    tmp_path: Path,
) -> None:
    part = tmp_path / "r.msgbatch_1.part"
    part.write_bytes(A + b"garbage\n{\n")
    with scripted(*[reply(A + b"{\n" + B)] * 2) as served, client_of(served.base_url) as client:
        batch = ended(served.base_url, 3)
        with pytest.raises(
            InvalidInputError, match="1 of its unreadable lines are not in the results"
        ):
            client.download(batch, tmp_path / "r")
        assert names(tmp_path) == [part.name]
        part.rename(tmp_path / "away")
        assert client.download(batch, tmp_path / "r") == 3
    assert (tmp_path / "r").read_bytes() == A + b"{\n" + B


def test_a_part_with_ids_that_are_not_the_batchs_is_an_error_with_advice(tmp_path: Path) -> None:
    part = tmp_path / "r.msgbatch_1.part"
    part.write_bytes(C)
    with scripted(*[reply(A + B)] * 2) as served, client_of(served.base_url) as client:
        batch = ended(served.base_url, 2)
        with pytest.raises(InvalidInputError, match=r"1 of the custom_ids") as caught:
            client.download(batch, tmp_path / "r")
        (note,) = caught.value.__notes__
        assert f"{part} was kept: if it holds results of another batch, move it away" in note
        assert part.read_bytes().startswith(C)
        part.rename(tmp_path / "away")
        assert client.download(batch, tmp_path / "r") == 2


# --- what a refusal leaves ---------------------------------------------------------------


@every
def test_a_refusal_leaves_no_empty_part(carrier: Carrier, tmp_path: Path) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE) as client:
            with pytest.raises(ResultsUnavailableError):
                await client.download("msgbatch_1", path)
            assert names(tmp_path) == []
            with pytest.raises(NotFoundError) as caught:
                await client.download("msgbatch_1", path)
            assert names(tmp_path) == []
            assert not hasattr(caught.value, "__notes__")
            with pytest.raises(InvalidInputError, match="expected"):
                await client.download("msgbatch_1", path, expected="a")
            assert names(tmp_path) == []

    path = tmp_path / "r"
    running = reply(json.dumps(batch_json("msgbatch_1", "in_progress")).encode())
    with scripted(running, NOT_FOUND) as served:
        carrier.run(job)


def test_a_refusal_leaves_the_part_as_it_was_with_its_torn_end(tmp_path: Path) -> None:
    part = tmp_path / "r.msgbatch_1.part"
    part.write_bytes(A + B[:20])
    with scripted(NOT_FOUND, reply(A + B)) as served, client_of(served.base_url) as client:
        with pytest.raises(NotFoundError) as caught:
            client.download("msgbatch_1", tmp_path / "r")
        assert part.read_bytes() == A + B[:20]
        assert "holds 1 results" in caught.value.__notes__[0]
        assert client.download(ended(served.base_url, 2), tmp_path / "r") == 2
    assert (tmp_path / "r").read_bytes() == A + B
    assert names(tmp_path) == ["r"]


def test_a_torn_end_of_a_part_that_is_complete_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "r.msgbatch_1.part").write_bytes(A + B + b'{"cus')
    with scripted(reply(A + B)) as served, client_of(served.base_url) as client:
        assert client.download(ended(served.base_url, 2), tmp_path / "r") == 2
    assert (tmp_path / "r").read_bytes() == A + B


# --- the last step -----------------------------------------------------------------------


def _no_links(*args: object, **options: object) -> None:
    del args, options
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))


def _rename_like_windows(self: Path, target: Path) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    os.rename(self, target)  # noqa: PTH104 - the one that is replaced here


def links(monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch


def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", _no_links)


def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renaming, "_RENAME_REPLACES", False)
    monkeypatch.setattr(Path, "rename", _rename_like_windows)


systems = pytest.mark.parametrize("system", [links, no_links, windows])
System = Callable[[pytest.MonkeyPatch], None]


@systems
def test_a_file_that_appears_during_a_download_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: System
) -> None:
    def appears(connection: socket.socket) -> bool:
        path.write_bytes(b"somebody else's")
        return reply(A + B)(connection)

    system(monkeypatch)
    path = tmp_path / "r"
    with (
        scripted(appears, reply(A + B)) as served,
        client_of(served.base_url) as client,
    ):
        batch = ended(served.base_url, 2)
        with pytest.raises(InvalidInputError, match=r"appeared during .* holds all 2 results"):
            client.download(batch, path)
        assert path.read_bytes() == b"somebody else's"
        assert (tmp_path / "r.msgbatch_1.part").read_bytes() == A + B
        os.rename(path, tmp_path / "away")  # noqa: PTH104 - Path.rename is replaced here
        assert client.download(batch, path) == 2
    assert path.read_bytes() == A + B
    assert names(tmp_path) == ["away", "r"]


class _Crashed(BaseException):
    """The process ended here."""


@systems
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "step", ["os.fsync", "os.link", "os.close", "os.rename", "os.replace", "os.unlink"]
)
def test_after_a_crash_in_the_last_steps_the_same_call_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: System, step: str, when: str
) -> None:
    system(monkeypatch)
    path = tmp_path / "r"
    original: Any = getattr(os, step.removeprefix("os."))

    def crash(*args: Any, **options: Any) -> Any:
        if when == "after":
            original(*args, **options)
        raise _Crashed

    with scripted(*[reply(A + B)] * 2) as served, client_of(served.base_url) as client:
        batch = ended(served.base_url, 2)
        with monkeypatch.context() as patch:
            real = ResultsFile.finish

            def finish(self: ResultsFile) -> int:
                patch.setattr(os, step.removeprefix("os."), crash)
                try:
                    return real(self)
                finally:
                    patch.undo()

            patch.setattr(ResultsFile, "finish", finish)
            with contextlib.suppress(_Crashed):
                assert client.download(batch, path) == 2
        system(monkeypatch)
        assert (path.read_bytes() if path.exists() else A + B) == A + B
        assert client.download(batch, path) == 2
    assert path.read_bytes() == A + B
    assert names(tmp_path) == ["r"]


@every
def test_the_complete_file_of_a_batch_is_a_success(carrier: Carrier, tmp_path: Path) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, retry=RetryPolicy(initial_delay=0)) as client:
            assert await client.download(ended(served.base_url, 3), path) == 3

    path = tmp_path / "r"
    path.write_bytes(B + b"{\n" + A)
    with scripted(reply(A + b"{\n" + B, cut=len(A) + 1), reply(A + b"{\n" + B)) as served:
        carrier.run(job)
    assert path.read_bytes() == B + b"{\n" + A
    assert names(tmp_path) == ["r"]


@pytest.mark.parametrize(
    "content",
    [
        result_line("a", "monday") + result_line("b", "monday"),
        A,
        A + B + C,
        A + B + b"{\n",
        A + B + B,
        A + B[:-1],
        A + b"{\n",
        b"",
        b"\n",
    ],
)
def test_another_file_with_the_same_ids_is_no_success(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r"
    path.write_bytes(content)
    with scripted(reply(A + B)) as served, client_of(served.base_url) as client:
        batch = ended(served.base_url, 2)
        with pytest.raises(
            InvalidInputError, match=r"is not the complete results .* move it"
        ) as told:
            client.download(batch, path)
    assert not hasattr(told.value, "__notes__")
    assert path.read_bytes() == content
    assert names(tmp_path) == ["r"]


def test_what_has_the_name_and_is_no_file_is_left(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "there").write_bytes(A)
    (tmp_path / "link").symlink_to(tmp_path / "there")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    before = names(tmp_path)
    with scripted() as served, client_of(served.base_url) as client:
        for name in before:
            if name != "there":
                with pytest.raises(InvalidInputError, match="already exists"):
                    client.download(ended(served.base_url, 1), tmp_path / name)
    assert names(tmp_path) == before


def test_a_file_that_could_not_be_compared_is_told(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(A)
    with scripted(NOT_FOUND) as served, client_of(served.base_url) as client:
        with pytest.raises(NotFoundError) as caught:
            client.download("msgbatch_1", path)
        (note,) = caught.value.__notes__
        assert "r already exists and was left as it is" in note
    long = A + result_line("long", "x" * 2000)
    with scripted(reply(long)) as served:
        path.write_bytes(A)
        client = client_of(served.base_url, max_line=1000)
        with client, pytest.raises(MalformedResultError, match="over the limit"):
            client.download(ended(served.base_url, 2), path)
    path.write_bytes(A + b"{\n" * 9)
    assert names(tmp_path) == ["r"]


# --- others at work ----------------------------------------------------------------------


def test_another_writer_is_noticed_where_files_cannot_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locking, "fcntl", SimpleNamespace(flock=no_locks, LOCK_EX=2, LOCK_NB=4))
    with opened(tmp_path / "r") as first:
        second = opened(tmp_path / "r")
        first.write([RawResult(custom_id="a", raw=A[:-1])])
        with pytest.raises(InvalidInputError, match="another program changed it"), second:
            second.write([RawResult(custom_id="a", raw=A[:-1])])
        with (tmp_path / "r.msgbatch_1.part").open("ab") as other:
            other.write(B)
        with pytest.raises(InvalidInputError, match="another program changed it"):
            first.finish()
    assert (tmp_path / "r.msgbatch_1.part").read_bytes() == A + B


def test_a_part_that_is_taken_away_during_a_download_is_told(tmp_path: Path) -> None:
    with opened(tmp_path / "r") as file:
        file.write([RawResult(custom_id="a", raw=A[:-1])])
        (tmp_path / "r.msgbatch_1.part").unlink()
        with pytest.raises(InvalidInputError, match="was removed or replaced"):
            file.finish()
    assert names(tmp_path) == []


def test_a_part_that_was_given_its_name_while_its_lock_was_awaited_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked_late(file: io.FileIO) -> bool:
        part.rename(tmp_path / "r")
        return real(file)

    real = locking.lock
    part = tmp_path / "r.msgbatch_1.part"
    part.write_bytes(A)
    monkeypatch.setattr(part_module, "lock", locked_late)
    with pytest.raises(InvalidInputError, match="by another download"):
        opened(tmp_path / "r")
    assert (tmp_path / "r").read_bytes() == A


class _Windows:
    """Refuses to rename, link or remove what is open, and locks bytes as Windows does."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        self.locked: dict[int, os.stat_result] = {}

    def locking(self, fd: int, mode: int, count: int) -> None:
        assert (mode, count) == (self.LK_NBLCK, 1)
        assert os.lseek(fd, 0, os.SEEK_CUR) > 2**41, "what is locked cannot be read"
        here = os.fstat(fd)
        for other, info in self.locked.items():
            if other != fd and os.path.samestat(here, info) and _is_open(other, info):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        self.locked[fd] = here

    def refuse_open(self, call: Any) -> Any:
        def refusing(path: Any, *args: Any, **options: Any) -> Any:
            info = os.lstat(path)
            for fd in Path("/proc/self/fd").iterdir():
                if _is_open(int(fd.name), info):
                    raise PermissionError(errno.EACCES, "it is used by another process", str(path))
            return call(path, *args, **options)

        return refusing


def _is_open(fd: int, info: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), info)
    except OSError:
        return False


@pytest.mark.parametrize("system", [links, no_links, windows])
def test_nothing_that_is_open_is_renamed_or_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: System
) -> None:
    system(monkeypatch)
    double = _Windows()
    monkeypatch.setattr(locking, "fcntl", None)
    monkeypatch.setattr(locking, "msvcrt", double)
    for name in ("link", "rename", "replace", "unlink", "remove"):
        monkeypatch.setattr(os, name, double.refuse_open(getattr(os, name)))
    monkeypatch.delattr(os, "O_NOFOLLOW")
    monkeypatch.delattr(os, "O_NONBLOCK")
    path = tmp_path / "r"
    answers = [NOT_FOUND, reply(A + B, cut=len(A)), reply(A + B), reply(A + B)]
    with scripted(*answers) as served, client_of(served.base_url) as client:
        batch = ended(served.base_url, 2)
        with pytest.raises(NotFoundError):
            client.download("msgbatch_1", path)
        assert names(tmp_path) == []
        with pytest.raises(TransportError):
            client.download(batch, path)
        with opened(path), pytest.raises(InvalidInputError, match="by another download"):
            opened(path)
        assert client.download(batch, path) == 2
        assert client.download(batch, path) == 2
    assert path.read_bytes() == A + B
    assert names(tmp_path) == ["r"]


# --- interruptions -----------------------------------------------------------------------


def interrupt_handing_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise KeyboardInterrupt once, when a block was handed over and nobody has it yet."""
    left = [KeyboardInterrupt()]

    def interrupted(event: Any) -> Any:
        if isinstance(event, ResultsReceived) and left:
            raise left.pop()
        return event

    blocking, awaited = Driver[Any].next_event, AsyncDriver[Any].next_event

    def next_event(drive: Driver[Any]) -> Any:
        return interrupted(blocking(drive))

    async def async_next_event(drive: AsyncDriver[Any]) -> Any:
        return interrupted(await awaited(drive))

    monkeypatch.setattr(Driver, "next_event", next_event)
    monkeypatch.setattr(AsyncDriver, "next_event", async_next_event)


@every
def test_a_stream_that_lost_a_block_to_an_interruption_says_so(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def job() -> None:
        async with (
            carrier.client(served.base_url, retry=ONCE) as client,
            client.results_stream(ended(served.base_url, 2)) as stream,
        ):
            with pytest.raises(KeyboardInterrupt):
                await anext(stream)
            for _ in range(2):
                with pytest.raises(LocalProtocolError, match=r"some are missing: start it again"):
                    await anext(stream)

    interrupt_handing_over(monkeypatch)
    with scripted(reply(A + B)) as served:
        carrier.run(job)


@every
def test_a_download_that_lost_a_block_to_an_interruption_goes_on_with_the_same_call(
    carrier: Carrier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE) as client:
            batch = ended(served.base_url, 2)
            with pytest.raises(KeyboardInterrupt):
                await client.download(batch, tmp_path / "r")
            assert await client.download(batch, tmp_path / "r") == 2

    interrupt_handing_over(monkeypatch)
    with scripted(reply(A + B), reply(A + B)) as served:
        carrier.run(job)
    assert (tmp_path / "r").read_bytes() == A + B
    assert names(tmp_path) == ["r"]


async def _cancelled_on_asyncio(
    work: Callable[[], Awaitable[object]], at: threading.Event, release: threading.Event
) -> None:
    task = asyncio.ensure_future(work())
    assert await asyncio.to_thread(at.wait, 30)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.01)
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _cancelled_on_trio(
    work: Callable[[], Awaitable[object]], at: threading.Event, release: threading.Event
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        assert await trio.to_thread.run_sync(at.wait, 30)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.sleep(0.03)
        release.set()


@pytest.mark.parametrize("where", ["open", "write", "finish", "network"])
@pytest.mark.parametrize("carrier", ASYNC_CARRIERS, ids=lambda carrier: carrier.name)
def test_a_natively_cancelled_download_leaves_its_part_unlocked(
    carrier: Carrier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    at, release = threading.Event(), threading.Event()
    path = tmp_path / "r"
    cancelled = _cancelled_on_asyncio if carrier.name.endswith("asyncio") else _cancelled_on_trio

    def silent(connection: socket.socket) -> bool:
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(A + B)
        connection.sendall(head + A + B[:5])
        at.set()
        release.wait(30)
        return False

    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE) as client:
            batch = ended(served.base_url, 2)
            await cancelled(lambda: client.download(batch, path), at, release)
            if not path.exists():  # nothing of the first call is at work any more
                opened(path).__exit__(None, None, None)
            assert await client.download(batch, path) == 2

    if where != "network":
        real: Any = getattr(ResultsFile, where)

        def held(file: ResultsFile, *args: Any) -> Any:
            if not at.is_set():
                at.set()
                assert release.wait(30)
            return real(file, *args)

        monkeypatch.setattr(ResultsFile, where, held)
    # Where the first call is cancelled before it sends, one answer is not asked for.
    first = silent if where == "network" else reply(A + B, keep=False)
    with scripted(first, reply(A + B)) as served:
        carrier.run(job)
    assert path.read_bytes() == A + B
    assert names(tmp_path) == ["r"]
