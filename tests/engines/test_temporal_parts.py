"""Parts of the engine that need no server: the fence, packed values, short records."""

from __future__ import annotations

import msgspec
import pytest

from batches_core import CreateMarker
from batches_core.jobs import (
    ChunkPlanned,
    CollectResult,
    CreateIntended,
    Doubted,
    FailedRow,
    JobOpened,
    JobOptions,
    JobState,
    Paused,
    Record,
    Refused,
    Resumed,
    job_status,
)
from batches_core.lowlevel import BytesBody
from batches_jobs.engines._temporal import fence as fence_module
from batches_jobs.engines._temporal.compact import compact
from batches_jobs.engines._temporal.fence import Fence, FencedError
from batches_jobs.engines._temporal.operations import FencedBody
from batches_jobs.engines._temporal.payloads import pack, size_of, unpack

MARKER = CreateMarker(requests=2, scope="of-a-key", listed_ids=tuple(map(str, range(100))))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the fence reads; a test changes it."""
    time = [100.0]
    monkeypatch.setattr(fence_module, "now", lambda: time[0])
    return time


def test_a_fence_is_open_for_half_the_heartbeat_timeout_after_a_confirmation(
    clock: list[float],
) -> None:
    fence = Fence(60.0)
    with pytest.raises(FencedError, match="confirmed no heartbeat"):
        fence.check()
    fence.confirm(100.0)
    clock[0] = 130.0
    fence.check()
    clock[0] = 130.1
    with pytest.raises(FencedError, match=r"for 30\.1 s"):
        fence.check()
    fence.confirm(130.0)
    fence.check()


def test_a_late_confirmation_of_an_early_heartbeat_does_not_shorten_the_opening(
    clock: list[float],
) -> None:
    fence = Fence(60.0)
    fence.confirm(100.0)
    fence.confirm(80.0)
    clock[0] = 125.0
    fence.check()


def test_a_closed_fence_stays_closed(clock: list[float]) -> None:
    fence = Fence(60.0)
    fence.close()
    fence.confirm(clock[0])
    with pytest.raises(FencedError, match="sends nothing more"):
        fence.check()


def test_the_last_bytes_of_a_body_leave_only_through_an_open_fence(clock: list[float]) -> None:
    fence = Fence(60.0)
    fence.confirm(100.0)
    body = FencedBody(BytesBody((b"first", b"last")), fence)
    pieces = iter(body)
    assert next(pieces) == b"first"
    clock[0] = 200.0
    with pytest.raises(FencedError):
        next(pieces)
    assert body.content_length == 9


def test_a_small_value_is_packed_as_json_that_people_can_read() -> None:
    plan = ChunkPlanned(chunk=3, count=2)
    packed = pack(plan)
    assert packed["kind"] == "planned"
    assert unpack(packed, ChunkPlanned) == plan


def test_a_large_value_is_compressed() -> None:
    message = "messages.0.content: this request cannot be answered as it stands"
    failed = tuple(
        FailedRow(row=row, outcome="errored", type="invalid_request_error", message=message)
        for row in range(10_000)
    )
    result = CollectResult(answered=0, failed=failed)
    assert size_of(pack(result)) < 100_000 < len(msgspec.json.encode(result))
    assert unpack(pack(result), CollectResult) == result


def test_short_records_say_the_same_of_a_job() -> None:
    records: list[Record] = [
        JobOpened(job_id="a", options=JobOptions()),
        Paused(reason="credit", message="first"),
        Resumed(),
        ChunkPlanned(chunk=0, count=2),
        CreateIntended(chunk=0, marker=MARKER),
        Refused(chunk=0, reason="busy"),
        ChunkPlanned(chunk=1, first_row=2, count=2),
        CreateIntended(chunk=1, marker=MARKER),
        Doubted(chunk=1, reason="lost", marker=MARKER.excluding(["x"])),
        Paused(reason="credit", message="second"),
    ]
    before, after = JobState(), JobState()
    before.apply_all(records)
    short = [*compact(records)]
    after.apply_all(short)
    assert job_status(after) == job_status(before)
    assert after.chunks == before.chunks
    markers = [each.marker for each in short if isinstance(each, (CreateIntended, Doubted))]
    assert [len(each.listed_ids) for each in markers if each is not None] == [0, 0, 100]
    assert [each.message for each in short if isinstance(each, Paused)] == ["second"]
