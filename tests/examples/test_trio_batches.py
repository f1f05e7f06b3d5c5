"""`examples/trio_batches.py`: the results within a time limit, and the rest canceled."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from batches_core.emulator import Emulator
from tests.support.playbook import batch_json, result_line
from tests.support.scripted import Handler, reply, scripted
from transports.emulator import running_emulator

from .running import REQUESTS, assert_failed, batches_of, run, service

SCRIPT = "trio_batches.py"


def answer(status: str = "in_progress", **fields: Any) -> Handler:
    return reply(json.dumps(batch_json(status=status, **fields)).encode())


def refusal(status: int, type_: str) -> Handler:
    error = {"type": "error", "error": {"type": type_, "message": "no"}}
    return reply(json.dumps(error).encode(), status)


ENDED = answer("ended", results_url="/results", request_counts={"succeeded": 1})


@pytest.fixture
def one(tmp_path: Path) -> str:
    """A file of one request."""
    (tmp_path / "one.jsonl").write_text('{"custom_id":"a","params":{}}', encoding="utf-8")
    return "one.jsonl"


def test_a_batch_that_has_not_ended_within_the_limit_is_canceled(tmp_path: Path) -> None:
    done = run(SCRIPT, REQUESTS, "--within", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the time is up: canceling the batch" in done.stderr
    (results,) = tmp_path.glob("results-*.jsonl")
    items = [json.loads(line) for line in results.read_bytes().splitlines()]
    counts = Counter(item["result"]["type"] for item in items)
    assert counts.total() == 414
    assert counts["canceled"] > 0
    assert counts["succeeded"] > 0
    assert f"{counts['canceled']} canceled" in done.stdout


def test_a_batch_that_ends_within_the_limit_is_not_canceled(tmp_path: Path) -> None:
    with running_emulator(Emulator(speed=1e6)) as base_url:
        done = run(SCRIPT, REQUESTS, "--within", 60, cwd=tmp_path, **service(base_url))
        (batch,) = batches_of(base_url)
    assert batch.cancel_initiated_at is None
    assert "60 s left" in done.stderr
    assert "the time is up" not in done.stderr
    assert "0 canceled" in done.stdout


def test_a_batch_that_ends_before_its_cancel_arrives_keeps_its_results(
    tmp_path: Path, one: str
) -> None:
    late = refusal(400, "invalid_request_error")
    handlers = [answer(), answer(), late, ENDED, reply(result_line("a"))]
    with scripted(*handlers) as served:
        done = run(SCRIPT, one, "--within", 0.3, cwd=tmp_path, **service(served.base_url))
    assert done.returncode == 0, done.stderr
    assert b"POST /v1/messages/batches/msgbatch_1/cancel" in served.requests[2]
    assert "1 succeeded, 0 errored, 0 canceled" in done.stdout


def test_a_cancel_that_is_refused_for_another_reason_is_an_error(tmp_path: Path, one: str) -> None:
    with scripted(answer(), answer(), refusal(403, "permission_error")) as served:
        done = run(SCRIPT, one, "--within", 0.3, cwd=tmp_path, **service(served.base_url))
    assert_failed(done, "403 permission_error")
    assert "continue with --batch msgbatch_1" in done.stderr


def test_an_error_of_the_wait_is_reported_without_the_group_of_its_nursery(
    tmp_path: Path, one: str
) -> None:
    with scripted(answer(), refusal(401, "authentication_error")) as served:
        done = run(SCRIPT, one, cwd=tmp_path, **service(served.base_url))
    assert_failed(done, "error: 401 authentication_error")


@pytest.mark.parametrize("limit", ["-1", "nan"])
def test_a_limit_is_not_negative(tmp_path: Path, limit: str) -> None:
    done = run(SCRIPT, REQUESTS, f"--within={limit}", cwd=tmp_path)
    assert done.returncode == 2
    assert "--within must be 0 or more" in done.stderr
