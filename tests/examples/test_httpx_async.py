"""`examples/httpx_async.py`: several batches at once, each on its own."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path

import pytest

from batches_core.emulator import Emulator
from tests.support.scripted import reply, scripted
from transports.emulator import running_emulator

from .running import (
    REQUESTS,
    assert_failed,
    batches_of,
    interrupt,
    run,
    running,
    service,
    wait_for_line,
    wait_until,
)

SCRIPT = "httpx_async.py"


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Three files of 10, 20 and 30 requests."""
    lines = REQUESTS.read_bytes().splitlines(keepends=True)
    for number in (1, 2, 3):
        (tmp_path / f"{number}.jsonl").write_bytes(b"".join(lines[: 10 * number]))
    return ["1.jsonl", "2.jsonl", "3.jsonl"]


def test_each_file_becomes_a_batch_and_a_file_of_results(tmp_path: Path, files: list[str]) -> None:
    with running_emulator(Emulator(speed=1e6)) as base_url:
        done = run(SCRIPT, *files, cwd=tmp_path, **service(base_url))
        sizes = {each.id: each.request_counts.total for each in batches_of(base_url)}
    assert done.returncode == 0, done.stderr
    assert sorted(sizes.values()) == [10, 20, 30]
    for batch_id, size in sizes.items():
        (results,) = tmp_path.glob(f"results-*-{batch_id}.jsonl")
        ids = [json.loads(line)["custom_id"] for line in results.read_bytes().splitlines()]
        assert len(ids) == size
        assert f"{size // 10}.jsonl: {size} results in {results.name}: " in done.stdout


def test_one_file_that_fails_does_not_stop_the_others(tmp_path: Path, files: list[str]) -> None:
    (tmp_path / "bad.jsonl").write_text("{oops", encoding="utf-8")
    with running_emulator(Emulator(speed=1e6)) as base_url:
        arguments = ["bad.jsonl", *files, "none.jsonl"]
        done = run(SCRIPT, *arguments, cwd=tmp_path, **service(base_url))
        assert len(batches_of(base_url)) == 3
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 3
    assert "bad.jsonl: error: line 1: is not JSON" in done.stderr
    assert "none.jsonl: error: [Errno 2] No such file" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_more_than_at_once_are_uploaded_at_a_time(tmp_path: Path) -> None:
    names = [f"{number}.jsonl" for number in range(6)]
    for name in names:
        (tmp_path / name).write_text('{"custom_id":"a","params":{}}', encoding="utf-8")
    lock, now, most = threading.Lock(), 0, 0

    def upload(_: socket.socket, __: bytearray) -> bool:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.3)
        with lock:
            now -= 1
        return True

    error = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}
    refused = reply(json.dumps(error).encode(), 400)
    with scripted(*[refused] * 6, upload=upload) as served:
        done = run(SCRIPT, "--at-once", 2, *names, cwd=tmp_path, **service(served.base_url))
    assert done.stderr.count("error: 400 invalid_request_error") == 6
    assert most == 2


def test_a_wait_does_not_keep_the_next_file_from_its_upload(
    tmp_path: Path, files: list[str]
) -> None:
    with running_emulator(Emulator(seconds_per_request=3600)) as base_url:
        arguments = ["--at-once", "1", *files]
        with running(SCRIPT, *arguments, cwd=tmp_path, **service(base_url)) as process:
            wait_until(lambda: len(batches_of(base_url)) == 3)
            interrupt(process)


def test_ctrl_c_tells_of_each_batch_how_to_continue_with_it(
    tmp_path: Path, files: list[str]
) -> None:
    with running_emulator(Emulator(seconds_per_request=3600)) as base_url:
        with running(SCRIPT, *files, cwd=tmp_path, **service(base_url)) as process:
            for _ in files:
                wait_for_line(process, "is in_progress")
            text = interrupt(process)
        batches = batches_of(base_url)
    assert process.returncode == 130
    assert len(batches) == 3
    for batch in batches:
        assert f"the batch is not lost: continue with {batch.id}" in text
    assert text.count(": interrupted") == 3


def test_files_and_existing_batches_can_be_mixed(tmp_path: Path, files: list[str]) -> None:
    with running_emulator(Emulator(speed=1e6)) as base_url:
        run(SCRIPT, files[0], cwd=tmp_path, **service(base_url))
        (batch,) = batches_of(base_url)
        done = run(SCRIPT, batch.id, files[1], cwd=tmp_path, **service(base_url))
        assert len(batches_of(base_url)) == 2
    assert done.returncode == 0, done.stderr
    assert f"{batch.id}: 10 results in " in done.stdout
    assert "2.jsonl: 20 results in " in done.stdout


def test_a_batch_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with running_emulator(Emulator()) as base_url:
        done = run(SCRIPT, "msgbatch_none", cwd=tmp_path, **service(base_url))
    assert_failed(done, "msgbatch_none: error: 404", "check the batch id")
    assert "not lost" not in done.stderr


def test_at_once_is_at_least_one(tmp_path: Path, files: list[str]) -> None:
    done = run(SCRIPT, "--at-once", 0, *files, cwd=tmp_path)
    assert done.returncode == 2
    assert "--at-once must be at least 1" in done.stderr
