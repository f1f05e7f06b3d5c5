"""Downloads to a file: continued parts, files that are never replaced, crashes, interruptions."""

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

import pytest
import trio

from batches_core import (
    BatchesError,
    IncompleteResultsError,
    InvalidInputError,
    LocalProtocolError,
    MalformedResultError,
    NotFoundError,
    RawResult,
    ResultsReceived,
    ResultsUnavailableError,
    RetryPolicy,
    TransportError,
)
from batches_core.emulator import Emulator, FaultPlan
from tests.support.batches import ONE_ATTEMPT, ended_batch
from tests.support.carriers import Carrier
from tests.support.marks import async_carriers, every_carrier
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

A, B, C = result_line("a"), result_line("b"), result_line("c")
NOT_FOUND = reply(json.dumps(error_json("not_found_error")).encode(), status=404)


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


@every_carrier
def test_a_failed_download_is_continued_by_the_same_call(carrier: Carrier, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    part = tmp_path / "results.jsonl.msgbatch_1.part"

    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT) as client:
            batch = ended_batch(served.base_url, 3)
            with pytest.raises(BatchesError) as caught:
                await client.download(batch, path)
            assert any(
                "holds 2 results: download again to continue" in note
                for note in caught.value.__notes__
            )
            assert part.read_bytes() == A + B
            part.write_bytes(A + B + C[:20])  # a torn line, as after a crash
            assert await client.download(batch, path) == 3

    with scripted(reply(A + B + C, cut=len(A + B) + 5), reply(A + B + C)) as served:
        carrier.run(scenario)
    assert path.read_bytes() == A + B + C
    assert not part.exists()


@every_carrier
def test_an_incomplete_download_raises_the_missing_ids_and_keeps_its_part(
    carrier: Carrier, tmp_path: Path
) -> None:
    path = tmp_path / "results.jsonl"

    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT) as client:
            with pytest.raises(IncompleteResultsError) as caught:
                await client.download(
                    ended_batch(served.base_url, 3), path, expected=["a", "b", "c"]
                )
            assert caught.value.missing == ("c",)

    with scripted(reply(A + B)) as served:
        carrier.run(scenario)
    assert not path.exists()
    assert (tmp_path / "results.jsonl.msgbatch_1.part").read_bytes() == A + B


def client_of(base_url: str, **settings: Any) -> BatchesClient:
    return BatchesClient(api_key="k", base_url=base_url, **{"retry": ONE_ATTEMPT, **settings})


def test_a_download_writes_each_line_as_received_and_once(tmp_path: Path) -> None:
    path = tmp_path / "r"
    unusual = b'{"custom_id": "o",  "result": {"type":"new"}, "x": 1e5}'
    sent = A + unusual + b"\r\n\r\n{\nnonsense\n" + A + b'{"custom_id":"b"}'
    with scripted(reply(sent)) as served, client_of(served.base_url) as client:
        assert client.download(ended_batch(served.base_url, 5), path) == 5
    assert path.read_bytes() == A + unusual + b'\n{\nnonsense\n{"custom_id":"b"}\n'


def test_continuing_a_download_does_not_repeat_its_unreadable_lines(tmp_path: Path) -> None:
    path = tmp_path / "r"
    sent = A + b"{\n{\n" + B
    with (
        scripted(reply(sent, cut=len(A) + 4), reply(sent)) as served,
        client_of(served.base_url) as client,
    ):
        batch = ended_batch(served.base_url, 4)
        with pytest.raises(BatchesError):
            client.download(batch, path)
        assert client.download(batch, path) == 4
    assert path.read_bytes() == sent


def test_a_download_does_not_overwrite_an_existing_file(tmp_path: Path) -> None:
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


def test_a_second_download_to_the_same_file_is_rejected(tmp_path: Path) -> None:
    with opened(tmp_path / "r"), pytest.raises(InvalidInputError, match="by another download"):
        opened(tmp_path / "r")
    opened(tmp_path / "r").__exit__(None, None, None)


def test_a_line_over_the_limit_fails_a_download_that_keeps_the_other_lines(tmp_path: Path) -> None:
    path = tmp_path / "r"
    long = result_line("long", "x" * 2000)
    sent = A + long + B
    with scripted(*[reply(sent)] * 2) as served:
        batch = ended_batch(served.base_url, 3)
        client = client_of(served.base_url, max_line=1000)
        with (
            client,
            pytest.raises(MalformedResultError, match="over the limit max_line=1,000") as caught,
        ):
            client.download(batch, path)
        assert ["larger max_line adds this one" in note for note in caught.value.__notes__] == [
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


def test_a_full_disk_raises_and_leaves_a_part_to_continue(
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


def test_the_download_of_a_killed_process_is_continued_by_the_same_call(tmp_path: Path) -> None:
    path = tmp_path / "r"
    plan = FaultPlan("results:cut=200000,end=clean")
    emulator = Emulator(speed=1e6, faults=plan)
    requests = [{**REQUEST, "custom_id": f"r{n}"} for n in range(2000)]
    with running_emulator(emulator) as base_url, client_of(base_url) as client:
        batch = client.wait_for(client.create(requests).id, poll_interval=0.01)
        # The results are cut off, and the next attempt is so late that the process is killed first.
        plan.add("results:status=429,retry_after=300")
        arguments = [sys.executable, "-c", PROGRAM, base_url, batch.id, str(path)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:  # noqa: S603 - this interpreter
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


# --- part files --------------------------------------------------------------------


def test_a_part_file_belongs_to_one_batch(tmp_path: Path) -> None:
    path = tmp_path / "r"
    monday, tuesday = [[result_line(i, day) for i in "ab"] for day in ("monday", "tuesday")]
    handlers = [reply(b"".join(monday), cut=len(monday[0])), reply(b"".join(tuesday))]
    with scripted(*handlers) as served, client_of(served.base_url) as client:
        with pytest.raises(TransportError):
            client.download(ended_batch(served.base_url, 2, "msgbatch_monday"), path)
        assert client.download(ended_batch(served.base_url, 2, "msgbatch_tuesday"), path) == 2
    assert path.read_bytes() == b"".join(tuesday)
    assert (tmp_path / "r.msgbatch_monday.part").read_bytes() == monday[0]


def test_an_unrelated_file_with_the_suffix_part_is_not_touched(tmp_path: Path) -> None:
    other = tmp_path / "r.part"
    other.write_bytes(B + b'{"custom_id": "x')
    with scripted(reply(A)) as served, client_of(served.base_url) as client:
        assert client.download(ended_batch(served.base_url, 1), tmp_path / "r") == 1
    assert other.read_bytes() == B + b'{"custom_id": "x'
    assert (tmp_path / "r").read_bytes() == A


def test_a_batch_id_is_percent_encoded_in_the_name_of_its_part(tmp_path: Path) -> None:
    with opened(tmp_path / "r", "a/../b c") as file:
        assert names(tmp_path) == ["r.a%2F..%2Fb%20c.part"]
        file.write([RawResult(custom_id="a", raw=A[:-1])])
        assert file.finish() == 1
    with pytest.raises(InvalidInputError, match="batch must be a str, not int"):
        ResultsFile(tmp_path / "s", 7)  # type: ignore[arg-type]  # the mistake
    assert names(tmp_path) == ["r"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"some notes\n", "no results"),
        (b"without a line feed", "no results"),
        (b'{"a": 1}\n{"b": 2}\n', "no results"),
        (A + b"some notes", "no results"),
        (A + B + A, "two results with the same custom_id"),
        (A + result_line("long", "x" * 2000), "over the limit max_line=1,000"),
        (b"\n{\n" * 300, "more lines than the results of any batch"),
    ],
    ids=[
        "text",
        "no line feed",
        "other JSON",
        "result and text",
        "repeated custom_id",
        "long line",
        "too many lines",
    ],
)
def test_an_invalid_part_is_rejected_and_left_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, problem: str
) -> None:
    monkeypatch.setattr(part_module, "MAX_LINES", 200)
    part = tmp_path / "r.msgbatch_1.part"
    part.write_bytes(content)
    with (
        client_of("http://127.0.0.1:9", max_line=1000) as client,
        pytest.raises(InvalidInputError, match=problem) as caught,
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
@pytest.mark.parametrize("has_nofollow", [True, False], ids=["O_NOFOLLOW", "no O_NOFOLLOW"])
def test_a_link_pipe_or_folder_is_rejected_as_a_part(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path, Path], None],
    *,
    has_nofollow: bool,
) -> None:
    if not has_nofollow:  # as on Windows
        monkeypatch.delattr(os, "O_NOFOLLOW")
        monkeypatch.delattr(os, "O_NONBLOCK")
    target, part = tmp_path / "target", tmp_path / "r.msgbatch_1.part"
    make(target, part)
    before = target.read_bytes() if target.exists() else None
    with scripted(reply(A + B)) as served, client_of(served.base_url) as client:
        batch = ended_batch(served.base_url, 2)
        with pytest.raises(
            InvalidInputError, match=r"(not a regular file|hard link).* move it away"
        ) as caught:
            client.download(batch, tmp_path / "r")
        assert (target.read_bytes() if target.exists() else None) == before
        assert not hasattr(caught.value, "__notes__")
        # The advice in the error works.
        part.rename(tmp_path / "away")
        assert client.download(batch, tmp_path / "r") == 2


def test_unreadable_lines_of_a_part_that_the_batch_lacks_raise(
    tmp_path: Path,
) -> None:
    part = tmp_path / "r.msgbatch_1.part"
    part.write_bytes(A + b"garbage\n{\n")
    with scripted(*[reply(A + b"{\n" + B)] * 2) as served, client_of(served.base_url) as client:
        batch = ended_batch(served.base_url, 3)
        with pytest.raises(InvalidInputError, match="1 of its lines are unreadable and not among"):
            client.download(batch, tmp_path / "r")
        assert names(tmp_path) == [part.name]
        part.rename(tmp_path / "away")
        assert client.download(batch, tmp_path / "r") == 3
    assert (tmp_path / "r").read_bytes() == A + b"{\n" + B


def test_custom_ids_of_a_part_that_the_batch_lacks_raise_with_advice(tmp_path: Path) -> None:
    part = tmp_path / "r.msgbatch_1.part"
    part.write_bytes(C)
    with scripted(*[reply(A + B)] * 2) as served, client_of(served.base_url) as client:
        batch = ended_batch(served.base_url, 2)
        with pytest.raises(InvalidInputError, match=r"1 of the custom_ids") as caught:
            client.download(batch, tmp_path / "r")
        (note,) = caught.value.__notes__
        assert f"{part} was kept: if it holds results of another batch, move it away" in note
        assert part.read_bytes().startswith(C)
        part.rename(tmp_path / "away")
        assert client.download(batch, tmp_path / "r") == 2


# --- refused downloads ---------------------------------------------------------------


@every_carrier
def test_a_refused_download_leaves_no_empty_part(carrier: Carrier, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT) as client:
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
    in_progress = reply(json.dumps(batch_json("msgbatch_1", "in_progress")).encode())
    with scripted(in_progress, NOT_FOUND) as served:
        carrier.run(scenario)


def test_a_refused_download_leaves_a_part_and_its_torn_end_unchanged(tmp_path: Path) -> None:
    part = tmp_path / "r.msgbatch_1.part"
    part.write_bytes(A + B[:20])
    with scripted(NOT_FOUND, reply(A + B)) as served, client_of(served.base_url) as client:
        with pytest.raises(NotFoundError) as caught:
            client.download("msgbatch_1", tmp_path / "r")
        assert part.read_bytes() == A + B[:20]
        assert "holds 1 results" in caught.value.__notes__[0]
        assert client.download(ended_batch(served.base_url, 2), tmp_path / "r") == 2
    assert (tmp_path / "r").read_bytes() == A + B
    assert names(tmp_path) == ["r"]


def test_the_torn_end_of_a_complete_part_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "r.msgbatch_1.part").write_bytes(A + B + b'{"cus')
    with scripted(reply(A + B)) as served, client_of(served.base_url) as client:
        assert client.download(ended_batch(served.base_url, 2), tmp_path / "r") == 2
    assert (tmp_path / "r").read_bytes() == A + B


# --- the last steps -----------------------------------------------------------------------


def _no_links(*args: object, **options: object) -> None:
    del args, options
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))


def _rename_like_windows(self: Path, target: Path) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    os.rename(self, target)  # noqa: PTH104 - Path.rename is replaced here


def posix(monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch


def posix_without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", _no_links)


def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renaming, "_RENAME_REPLACES", False)
    monkeypatch.setattr(Path, "rename", _rename_like_windows)


systems = pytest.mark.parametrize("system", [posix, posix_without_links, windows])
System = Callable[[pytest.MonkeyPatch], None]


@systems
def test_a_file_that_appears_during_a_download_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: System
) -> None:
    def appears(connection: socket.socket) -> bool:
        path.write_bytes(b"of another program")
        return reply(A + B)(connection)

    system(monkeypatch)
    path = tmp_path / "r"
    with (
        scripted(appears, reply(A + B)) as served,
        client_of(served.base_url) as client,
    ):
        batch = ended_batch(served.base_url, 2)
        with pytest.raises(InvalidInputError, match=r"appeared during .* holds all 2 results"):
            client.download(batch, path)
        assert path.read_bytes() == b"of another program"
        assert (tmp_path / "r.msgbatch_1.part").read_bytes() == A + B
        os.rename(path, tmp_path / "away")  # noqa: PTH104 - Path.rename is replaced here
        assert client.download(batch, path) == 2
    assert path.read_bytes() == A + B
    assert names(tmp_path) == ["away", "r"]


class _Crashed(BaseException):
    """Simulates the end of the process."""


@systems
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "step", ["os.fsync", "os.link", "os.close", "os.rename", "os.replace", "os.unlink"]
)
def test_a_download_that_crashed_in_its_last_steps_succeeds_with_the_same_call(
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
        batch = ended_batch(served.base_url, 2)
        with monkeypatch.context() as patch:
            original_finish = ResultsFile.finish

            def finish(self: ResultsFile) -> int:
                patch.setattr(os, step.removeprefix("os."), crash)
                try:
                    return original_finish(self)
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


@every_carrier
def test_a_download_to_the_complete_results_of_its_batch_succeeds(
    carrier: Carrier, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=RetryPolicy(initial_delay=0)) as client:
            assert await client.download(ended_batch(served.base_url, 3), path) == 3

    path = tmp_path / "r"
    path.write_bytes(B + b"{\n" + A)
    with scripted(reply(A + b"{\n" + B, cut=len(A) + 1), reply(A + b"{\n" + B)) as served:
        carrier.run(scenario)
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
    ids=[
        "same ids",
        "too few",
        "too many",
        "unreadable line more",
        "repeated line",
        "torn end",
        "unreadable line",
        "empty",
        "empty line",
    ],
)
def test_a_download_to_a_file_of_other_content_raises_and_leaves_it(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "r"
    path.write_bytes(content)
    with scripted(reply(A + B)) as served, client_of(served.base_url) as client:
        batch = ended_batch(served.base_url, 2)
        with pytest.raises(
            InvalidInputError, match=r"is not the complete results .* move it"
        ) as caught:
            client.download(batch, path)
    assert not hasattr(caught.value, "__notes__")
    assert path.read_bytes() == content
    assert names(tmp_path) == ["r"]


def test_a_folder_link_or_pipe_with_the_target_name_is_left_unchanged(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "there").write_bytes(A)
    (tmp_path / "link").symlink_to(tmp_path / "there")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    before = names(tmp_path)
    with scripted() as served, client_of(served.base_url) as client:
        for name in before:
            if name != "there":
                with pytest.raises(InvalidInputError, match="is there already"):
                    client.download(ended_batch(served.base_url, 1), tmp_path / name)
    assert names(tmp_path) == before


def test_a_target_that_cannot_be_compared_is_left_and_named_in_a_note(tmp_path: Path) -> None:
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
            client.download(ended_batch(served.base_url, 2), path)
    path.write_bytes(A + b"{\n" * 9)
    assert names(tmp_path) == ["r"]


# --- other writers ----------------------------------------------------------------------


def test_another_writer_of_a_part_is_detected_without_file_locks(
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


def test_a_part_removed_during_a_download_raises(tmp_path: Path) -> None:
    with opened(tmp_path / "r") as file:
        file.write([RawResult(custom_id="a", raw=A[:-1])])
        (tmp_path / "r.msgbatch_1.part").unlink()
        with pytest.raises(InvalidInputError, match="was removed or replaced"):
            file.finish()
    assert names(tmp_path) == []


def test_a_part_renamed_while_its_lock_is_awaited_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename_and_lock(file: io.FileIO) -> bool:
        part.rename(tmp_path / "r")
        return lock(file)

    lock = module._lock
    part = tmp_path / "r.msgbatch_1.part"
    part.write_bytes(A)
    monkeypatch.setattr(module, "_lock", rename_and_lock)
    with pytest.raises(InvalidInputError, match="by another download"):
        opened(tmp_path / "r")
    assert (tmp_path / "r").read_bytes() == A


class _Windows:
    """Refuses to rename, link or remove open files, and locks bytes as Windows does."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        self.locked: dict[int, os.stat_result] = {}

    def locking(self, fd: int, mode: int, count: int) -> None:
        assert (mode, count) == (self.LK_NBLCK, 1)
        assert os.lseek(fd, 0, os.SEEK_CUR) > 2**41, "on Windows locked bytes cannot be read"
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


@pytest.mark.parametrize("system", [posix, posix_without_links, windows])
def test_a_download_renames_and_removes_only_closed_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: System
) -> None:
    system(monkeypatch)
    simulated = _Windows()
    monkeypatch.setattr(module, "fcntl", None)
    monkeypatch.setattr(module, "msvcrt", simulated)
    for name in ("link", "rename", "replace", "unlink", "remove"):
        monkeypatch.setattr(os, name, simulated.refuse_open(getattr(os, name)))
    monkeypatch.delattr(os, "O_NOFOLLOW")
    monkeypatch.delattr(os, "O_NONBLOCK")
    path = tmp_path / "r"
    handlers = [NOT_FOUND, reply(A + B, cut=len(A)), reply(A + B), reply(A + B)]
    with scripted(*handlers) as served, client_of(served.base_url) as client:
        batch = ended_batch(served.base_url, 2)
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


def interrupt_after_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise KeyboardInterrupt once, between the driver that returns a block and its caller."""
    interrupts = [KeyboardInterrupt()]

    def interrupt(event: Any) -> Any:
        if isinstance(event, ResultsReceived) and interrupts:
            raise interrupts.pop()
        return event

    original, async_original = Driver[Any].next_event, AsyncDriver[Any].next_event

    def next_event(driver: Driver[Any]) -> Any:
        return interrupt(original(driver))

    async def async_next_event(driver: AsyncDriver[Any]) -> Any:
        return interrupt(await async_original(driver))

    monkeypatch.setattr(Driver, "next_event", next_event)
    monkeypatch.setattr(AsyncDriver, "next_event", async_next_event)


@every_carrier
def test_a_results_stream_that_lost_a_block_to_an_interrupt_raises(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with (
            carrier.client(served.base_url, retry=ONE_ATTEMPT) as client,
            client.results_stream(ended_batch(served.base_url, 2)) as stream,
        ):
            with pytest.raises(KeyboardInterrupt):
                await anext(stream)
            for _ in range(2):
                with pytest.raises(LocalProtocolError, match=r"some are missing: start it again"):
                    await anext(stream)

    interrupt_after_a_block(monkeypatch)
    with scripted(reply(A + B)) as served:
        carrier.run(scenario)


@every_carrier
def test_a_download_interrupted_after_a_block_continues_with_the_same_call(
    carrier: Carrier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT) as client:
            batch = ended_batch(served.base_url, 2)
            with pytest.raises(KeyboardInterrupt):
                await client.download(batch, tmp_path / "r")
            assert await client.download(batch, tmp_path / "r") == 2

    interrupt_after_a_block(monkeypatch)
    with scripted(reply(A + B), reply(A + B)) as served:
        carrier.run(scenario)
    assert (tmp_path / "r").read_bytes() == A + B
    assert names(tmp_path) == ["r"]


async def _cancel_on_asyncio(
    call: Callable[[], Awaitable[object]], reached: threading.Event, release: threading.Event
) -> None:
    task = asyncio.ensure_future(call())
    assert await asyncio.to_thread(reached.wait, 30)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.01)
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _cancel_on_trio(
    call: Callable[[], Awaitable[object]], reached: threading.Event, release: threading.Event
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        assert await trio.to_thread.run_sync(reached.wait, 30)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.sleep(0.03)
        release.set()


@pytest.mark.parametrize("stage", ["open", "write", "finish", "network"])
@async_carriers
def test_a_cancelled_download_leaves_its_part_unlocked(
    carrier: Carrier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    reached, release = threading.Event(), threading.Event()
    path = tmp_path / "r"
    cancel = _cancel_on_asyncio if carrier.name.endswith("asyncio") else _cancel_on_trio

    def stop_within_the_body(connection: socket.socket) -> bool:
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(A + B)
        connection.sendall(head + A + B[:5])
        reached.set()
        release.wait(30)
        return False

    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT) as client:
            batch = ended_batch(served.base_url, 2)
            await cancel(lambda: client.download(batch, path), reached, release)
            if not path.exists():  # the first call has released its part
                opened(path).__exit__(None, None, None)
            assert await client.download(batch, path) == 2

    if stage != "network":
        original: Any = getattr(ResultsFile, stage)

        def hold(file: ResultsFile, *args: Any) -> Any:
            if not reached.is_set():
                reached.set()
                assert release.wait(30)
            return original(file, *args)

        monkeypatch.setattr(ResultsFile, stage, hold)
    # If the first call is cancelled before it sends, the second handler is not used.
    first = stop_within_the_body if stage == "network" else reply(A + B, keep=False)
    with scripted(first, reply(A + B)) as served:
        carrier.run(scenario)
    assert path.read_bytes() == A + B
    assert names(tmp_path) == ["r"]
