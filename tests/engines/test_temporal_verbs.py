"""The verbs of ``batches temporal``, in processes of their own."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from batches_core.emulator import Emulator
from tests.cli.support import batches, started, write_requests
from transports.emulator import running_emulator

from .running import TemporalServer, free_port, wait_until


def test_a_job_is_started_shown_followed_and_its_results_are_copied(
    server: TemporalServer, tmp_path: Path
) -> None:
    write_requests(tmp_path / "in.jsonl", 30)
    where = ("--address", server.address)
    files = ("--storage", tmp_path / "storage", "--task-queue", f"verbs-{free_port()}")
    run = ("temporal", "run", "in.jsonl", "--name", "verbs", *files, *where)
    emulator = Emulator(speed=1000)
    with running_emulator(emulator) as base_url:
        ended = batches(tmp_path, *run, "--detach")
        assert (ended.code, ended.err) == (0, "next: batches temporal status verbs\n")
        with started(tmp_path, "temporal", "worker", *files, *where, base_url=base_url) as worker:
            shown = batches(tmp_path, "temporal", "status", "verbs", "--json", *where)
            assert shown.code == 0, shown.err
            assert shown.json["job"] == "verbs"
            ended = batches(tmp_path, *run, "-o", "out.jsonl")
            assert (ended.code, ended.err) == (0, "")
            assert ended.out.startswith("verbs: finished\n")
            again = batches(tmp_path, *run)
            assert again.code == 0
            worker.send_signal(signal.SIGTERM)
            wait_until(lambda: worker.poll() is not None)
            assert worker.returncode == 0
    answered = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["result"]["type"] for line in answered] == ["succeeded"] * 30
    assert len(emulator.sales) == 1


def test_a_job_is_canceled(server: TemporalServer, tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 30)
    where = ("--address", server.address)
    files = ("--storage", tmp_path / "storage", "--task-queue", f"verbs-{free_port()}")
    run = ("temporal", "run", "in.jsonl", "--name", "canceled", *files, *where)
    with running_emulator(Emulator()) as base_url:
        batches(tmp_path, *run, "--detach")
        ended = batches(tmp_path, "temporal", "cancel", "canceled", *where)
        assert (ended.code, ended.err) == (0, "next: batches temporal status canceled\n")
        with started(tmp_path, "temporal", "worker", *files, *where, base_url=base_url):
            ended = batches(tmp_path, *run)
    assert ended.code == 3
    assert ended.out.startswith("canceled: canceled\n")


def test_errors_say_what_to_do(server: TemporalServer, tmp_path: Path) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    ended = batches(tmp_path, "temporal", "status", "reviews", "--address", nobody)
    assert (ended.code, "start it, or pass --address" in ended.err) == (5, True)
    ended = batches(tmp_path, "temporal", "status", "reviews", "--address", server.address)
    assert (ended.code, "there is no running job 'reviews'" in ended.err) == (2, True)
    ended = batches(tmp_path, "temporal", "worker", "--storage", tmp_path)
    assert (ended.code, "there is no API key" in ended.err) == (4, True)
