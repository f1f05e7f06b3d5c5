"""`examples/h11_batches.py`: the requests of a file are sent once, whatever stops a run."""

from __future__ import annotations

import fcntl
import hashlib
import json
from pathlib import Path

import pytest

from batches_core.emulator import Emulator, FaultPlan
from transports.emulator import running_emulator

from .running import (
    FULL_DISK,
    REQUESTS,
    SETTLING_QUICKLY,
    assert_failed,
    batches_of,
    run,
    running,
    service,
    wait_for_line,
    wait_until,
)

SCRIPT = "h11_batches.py"
#: The exit status of a run that the same command continues.
TEMPFAIL = 75


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    """A file of three requests."""
    path = tmp_path / "three.jsonl"
    path.write_bytes(b"".join(REQUESTS.read_bytes().splitlines(keepends=True)[:3]))
    return path


def name_of(requests: Path) -> str:
    return f"{requests.stem}-{hashlib.sha256(requests.read_bytes()).hexdigest()[:12]}"


def state_of(requests: Path) -> dict[str, object]:
    path = requests.parent / f"{name_of(requests)}.state.json"
    state: dict[str, object] = json.loads(path.read_bytes())
    return state


def kill_during_create(requests: Path, emulator: Emulator, base_url: str) -> None:
    """Kill a run when its create has arrived at an emulator that is slow to answer it."""
    with running(SCRIPT, requests, cwd=requests.parent, **service(base_url)) as process:
        wait_until(lambda: not emulator.faults.unmet)
        process.kill()
    state = state_of(requests)
    assert state["marker"] is not None
    assert state["batch_id"] is None


def test_after_a_kill_during_a_create_the_next_run_adopts_the_batch(requests: Path) -> None:
    emulator = Emulator(speed=1e6, faults=FaultPlan("create:delay=60"))
    with running_emulator(emulator) as base_url:
        kill_during_create(requests, emulator, base_url)
        environment = service(base_url)
        done = run(SCRIPT, requests, cwd=requests.parent, before=SETTLING_QUICKLY, **environment)
        (batch,) = batches_of(base_url)
    assert done.returncode == 0, done.stderr
    assert "an earlier run stopped while it created a batch" in done.stderr
    assert f"adopted batch {batch.id}" in done.stderr
    assert state_of(requests)["batch_id"] == batch.id
    assert "3 results in" in done.stdout


def test_after_a_kill_during_a_create_that_made_no_batch_the_next_run_creates_it(
    requests: Path,
) -> None:
    emulator = Emulator(speed=1e6, faults=FaultPlan("create:status=503,delay=60"))
    with running_emulator(emulator) as base_url:
        kill_during_create(requests, emulator, base_url)
        environment = service(base_url)
        done = run(SCRIPT, requests, cwd=requests.parent, before=SETTLING_QUICKLY, **environment)
        (batch,) = batches_of(base_url)
    assert done.returncode == 0, done.stderr
    assert f"created batch {batch.id}" in done.stderr
    assert "3 results in" in done.stdout


def test_after_a_kill_during_the_wait_the_next_run_continues_it(requests: Path) -> None:
    emulator = Emulator(seconds_per_request=2.0)
    with running_emulator(emulator) as base_url:
        with running(SCRIPT, requests, cwd=requests.parent, **service(base_url)) as process:
            wait_for_line(process, "in_progress")
            process.kill()
        wait_until(lambda: batches_of(base_url)[0].ended)
        done = run(SCRIPT, requests, cwd=requests.parent, **service(base_url))
        assert len(batches_of(base_url)) == 1
    assert done.returncode == 0, done.stderr
    assert "an earlier run" not in done.stderr
    assert "3 results in" in done.stdout


def test_a_lost_answer_is_settled_by_the_next_run(requests: Path) -> None:
    emulator = Emulator(speed=1e6, faults=FaultPlan("create:drop=after"))
    with running_emulator(emulator) as base_url:
        lost = run(SCRIPT, requests, cwd=requests.parent, **service(base_url))
        environment = service(base_url)
        done = run(SCRIPT, requests, cwd=requests.parent, before=SETTLING_QUICKLY, **environment)
        assert len(batches_of(base_url)) == 1
    assert_failed(lost, "it is not known whether the batch of 3 requests was created")
    assert "run the same command again" in lost.stderr
    assert done.returncode == 0, done.stderr


def test_a_refused_create_is_sent_again_by_the_next_run(requests: Path) -> None:
    emulator = Emulator(speed=1e6, faults=FaultPlan("create:status=400"))
    with running_emulator(emulator) as base_url:
        refused = run(SCRIPT, requests, cwd=requests.parent, **service(base_url))
        environment = service(base_url)
        done = run(SCRIPT, requests, cwd=requests.parent, before=SETTLING_QUICKLY, **environment)
        assert len(batches_of(base_url)) == 1
    assert_failed(refused, "400 invalid_request_error")
    assert done.returncode == 0, done.stderr


def test_a_create_is_not_sent_if_its_marker_cannot_be_stored(requests: Path) -> None:
    with running_emulator(Emulator(speed=1e6)) as base_url:
        before = FULL_DISK % 0
        done = run(SCRIPT, requests, cwd=requests.parent, before=before, **service(base_url))
        assert not batches_of(base_url)
    assert_failed(done, "File too large")


def test_a_wait_that_runs_out_of_time_has_a_status_of_its_own_and_is_continued(
    requests: Path,
) -> None:
    with running_emulator(Emulator(seconds_per_request=3600)) as base_url:
        for _ in range(2):
            done = run(SCRIPT, requests, "--wait", 0, cwd=requests.parent, **service(base_url))
            assert done.returncode == TEMPFAIL
            assert "was still 'in_progress'" in done.stderr
            assert done.stdout == ""
        assert len(batches_of(base_url)) == 1


def test_a_second_run_at_the_same_time_does_nothing(requests: Path) -> None:
    with running_emulator(Emulator(speed=1e6)) as base_url, requests.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = run(SCRIPT, requests, cwd=requests.parent, **service(base_url))
        assert not batches_of(base_url)
    assert (done.returncode, done.stdout) == (TEMPFAIL, "")
    assert f"another run is working on {requests}" in done.stderr


def test_a_run_after_the_end_creates_nothing_and_says_the_same(requests: Path) -> None:
    with running_emulator(Emulator(speed=1e6)) as base_url:
        first = run(SCRIPT, requests, cwd=requests.parent, **service(base_url))
        again = run(SCRIPT, requests, cwd=requests.parent, **service(base_url))
        assert len(batches_of(base_url)) == 1
    assert (first.returncode, again.returncode) == (0, 0)
    assert again.stdout == first.stdout


def test_changed_requests_are_a_batch_of_their_own(requests: Path) -> None:
    with running_emulator(Emulator(speed=1e6)) as base_url:
        run(SCRIPT, requests, cwd=requests.parent, **service(base_url))
        requests.write_bytes(requests.read_bytes().splitlines(keepends=True)[0])
        done = run(SCRIPT, requests, cwd=requests.parent, **service(base_url))
        assert len(batches_of(base_url)) == 2
    assert "1 results in" in done.stdout
    assert len([*requests.parent.glob("three-*.results.jsonl")]) == 2


def test_results_of_unknown_origin_are_left_alone_and_nothing_is_created(requests: Path) -> None:
    results = requests.parent / f"{name_of(requests)}.results.jsonl"
    results.write_bytes(b"mine")
    with running_emulator(Emulator(speed=1e6)) as base_url:
        done = run(SCRIPT, requests, cwd=requests.parent, **service(base_url))
        assert not batches_of(base_url)
    assert_failed(done, f"{results.name} already exists")
    assert results.read_bytes() == b"mine"


def test_an_emulated_run_leaves_the_state_of_the_service_alone(requests: Path) -> None:
    with running_emulator(Emulator(speed=1e6)) as base_url:
        run(SCRIPT, requests, cwd=requests.parent, **service(base_url))
    files = {file: file.read_bytes() for file in requests.parent.iterdir()}
    done = run(SCRIPT, requests, cwd=requests.parent)
    assert done.returncode == 0, done.stderr
    for file, content in files.items():
        assert file.read_bytes() == content
    assert f"emulated-{name_of(requests)}.results.jsonl" in done.stdout


def test_a_second_emulated_run_leaves_the_results_of_the_first_alone(requests: Path) -> None:
    run(SCRIPT, requests, cwd=requests.parent)
    results = requests.parent / f"emulated-{name_of(requests)}.results.jsonl"
    was = results.read_bytes()
    done = run(SCRIPT, requests, cwd=requests.parent)
    assert_failed(done, f"{results.name} already exists: move it away")
    assert results.read_bytes() == was


def test_no_credential_is_stored(requests: Path) -> None:
    with running_emulator(Emulator(speed=1e6)) as base_url:
        run(SCRIPT, requests, cwd=requests.parent, **service(base_url, "sk-secret-key"))
    for file in requests.parent.iterdir():
        assert b"sk-secret" not in file.read_bytes()
