"""A bad input, a bad folder, a full disk: each is a clear error, and nothing is lost."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batches_core import InvalidInputError
from batches_core.emulator import Emulator
from batches_jobs import (
    InputChangedError,
    JobFolderError,
    JobOptions,
    JobReader,
    JobStatus,
    JournalError,
    read_status,
    run_job,
)
from batches_jobs import _folder as folders
from transports.emulator import running_emulator
from transports.h11 import BatchesClient

from .test_run_job import OPTIONS, ROOT, SETTINGS, blocking, every_runner, sold, write_requests

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


@every_runner
def test_an_empty_input_is_refused_and_can_be_corrected(run: Any, tmp_path: Path) -> None:
    requests = tmp_path / "in.jsonl"
    requests.write_bytes(b"\n\n")
    emulator = Emulator(speed=1000)
    with running_emulator(emulator) as base_url:
        with pytest.raises(InvalidInputError, match=r"has no requests: a job has at least one"):
            run(base_url, requests, tmp_path / "a.job", options=OPTIONS)
        assert emulator.sales == []
        write_requests(requests, 5)
        assert run(base_url, requests, tmp_path / "a.job").answered == 5


@every_runner
def test_each_problem_of_the_input_names_its_line_and_nothing_of_it_is_sent(
    run: Any, tmp_path: Path
) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 50)
    lines = requests.read_bytes().splitlines(keepends=True)
    lines[7] = b"{torn\n"
    lines[31] = lines[30]
    requests.write_bytes(b"".join(lines))
    emulator = Emulator(speed=1000)
    with running_emulator(emulator) as base_url, pytest.raises(InvalidInputError) as caught:
        run(base_url, requests, tmp_path / "a.job", options=OPTIONS)
    assert [problem.line for problem in caught.value.problems] == [8, 32]
    assert emulator.sales == []


@every_runner
def test_an_input_that_was_changed_is_refused_and_nothing_more_is_sent(
    run: Any, tmp_path: Path
) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 250)
    before = requests.read_bytes()
    path = tmp_path / "a.job"
    emulator = Emulator(speed=1000)
    with running_emulator(emulator) as base_url:
        run(base_url, requests, path, options=OPTIONS, until="sent")
        requests.write_bytes(before.replace(b'"content": "3"', b'"content": "4"', 1))
        with pytest.raises(InputChangedError, match=r"chunk 0 \(lines 1 to"):
            run(base_url, requests, path)
        assert len(emulator.sales) == 3
        requests.write_bytes(before)
        assert run(base_url, requests, path).answered == 250
    assert set(sold(emulator).values()) == {1}


def test_an_input_that_has_grown_after_the_job_has_read_it_is_refused(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 50)
    path = tmp_path / "a.job"
    with running_emulator(Emulator(speed=1000)) as base_url:
        blocking(base_url, requests, path, options=OPTIONS)
        write_requests(requests, 60)
        with pytest.raises(InputChangedError, match=r"from line 51 on"):
            blocking(base_url, requests, path)
    assert read_status(path).answered == 50


def test_an_input_of_another_kind_is_refused(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 50)
    path = tmp_path / "a.job"
    with running_emulator(Emulator(speed=1000)) as base_url:
        blocking(base_url, requests, path, options=OPTIONS)
        with pytest.raises(InvalidInputError, match="an input of the kind 'jsonl'"):
            blocking(base_url, requests.read_bytes().splitlines(), path)


def test_a_journal_of_a_newer_format_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 50)
    path = tmp_path / "a.job"
    with running_emulator(Emulator(speed=1000)) as base_url:
        blocking(base_url, requests, path, options=OPTIONS)
        database = sqlite3.connect(path / "journal.db")
        with database:
            database.execute("UPDATE meta SET value = 99 WHERE name = 'format'")
        database.close()
        before = (path / "journal.db").read_bytes()
        with pytest.raises(JournalError, match=r"format 99.*upgrade"):
            blocking(base_url, requests, path)
    with pytest.raises(JournalError, match=r"format 99.*upgrade"):
        read_status(path)
    assert (path / "journal.db").read_bytes() == before
    assert (path / "raw" / "000000.jsonl").stat().st_size > 0


WORKSPACES = {"sk-of-a-job": "one", "sk-new": "one", "sk-other": "two"}


def with_key(base_url: str, key: str, requests: Path, path: Path, **more: Any) -> JobStatus:
    arguments = {**SETTINGS, "api_key": key}
    with BatchesClient(base_url=base_url, **arguments) as client:
        return run_job(client, requests, path, **more)


def test_the_key_of_another_workspace_is_noticed_at_once_and_buys_nothing(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 400)
    path = tmp_path / "a.job"
    options = JobOptions(chunk_rows=100, max_waiting=200, poll_interval=0.05, settle_time=0.5)
    emulator = Emulator(speed=1000, workspaces=WORKSPACES)
    with running_emulator(emulator) as base_url:
        with_key(base_url, "sk-of-a-job", requests, path, options=options, until="sent")
        bought = len(emulator.sales)
        status = with_key(base_url, "sk-other", requests, path)
        assert status.paused is not None
        assert "workspace" in status.paused.message
        assert len(emulator.sales) == bought
        assert with_key(base_url, "sk-of-a-job", requests, path).answered == 400
    assert set(sold(emulator).values()) == {1}


def test_a_new_key_of_the_same_workspace_goes_on_with_a_job(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 400)
    path = tmp_path / "a.job"
    options = JobOptions(chunk_rows=100, max_waiting=200, poll_interval=0.05, settle_time=0.5)
    emulator = Emulator(speed=1000, workspaces=WORKSPACES)
    with running_emulator(emulator) as base_url:
        with_key(base_url, "sk-of-a-job", requests, path, options=options, until="sent")
        assert with_key(base_url, "sk-new", requests, path).answered == 400
    assert set(sold(emulator).values()) == {1}


def test_a_folder_on_a_network_file_system_is_refused_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 50)
    monkeypatch.setattr(folders, "network_file_system", lambda *_: "nfs4")
    emulator = Emulator(speed=1000)
    with (
        running_emulator(emulator) as base_url,
        pytest.raises(JobFolderError, match=r"on a network file system \(nfs4\)"),
    ):
        blocking(base_url, requests, tmp_path / "a.job", options=OPTIONS)
    assert emulator.sales == []


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 50)
    with (
        BatchesClient(base_url="http://127.0.0.1:9", **SETTINGS) as client,
        pytest.raises(JobFolderError, match=r"contains other files \('in.jsonl'\)"),
    ):
        run_job(client, requests, tmp_path)


@pytest.mark.parametrize("left", ["raw/000000.jsonl", "spool/000000.jsonl", "cancel"])
def test_the_files_of_an_earlier_job_are_not_taken_for_those_of_a_new_one(
    left: str, tmp_path: Path
) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 50)
    path = tmp_path / "a.job"
    (path / left).parent.mkdir(parents=True)
    (path / left).touch()
    with (
        BatchesClient(base_url="http://127.0.0.1:9", **SETTINGS) as client,
        pytest.raises(JobFolderError, match=left),
    ):
        run_job(client, requests, path)


# A limit of the size of files acts as a full disk: writing fails. Python ignores the signal.
FULL = """
import resource, sys
from pathlib import Path
from batches_core import BatchesError
from tests.jobs.test_run_job import OPTIONS, blocking
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
try:
    blocking(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), options=OPTIONS)
except BatchesError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("limit", [0, 20_000, 45_000, 60_000, 200_000])
def test_a_full_disk_ends_the_run_and_costs_nothing(limit: int, tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 700)
    path = tmp_path / "a.job"
    emulator = Emulator(speed=1000)
    with running_emulator(emulator) as base_url:
        command = [sys.executable, "-c", FULL, base_url, str(requests), str(path), str(limit)]
        done = subprocess.run(  # noqa: S603 - this interpreter
            command, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        if done.stdout:
            assert done.stdout.startswith("StorageError ")
            assert "run the job again" in done.stdout
        assert blocking(base_url, requests, path, options=OPTIONS).answered == 700
    assert set(sold(emulator).values()) == {1}
    assert JobReader(path).results().verify().is_complete
