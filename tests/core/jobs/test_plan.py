"""Plans: how large each chunk is, where it ends, and what its requests are called."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_core import MAX_REQUESTS, PreparedRequests
from batches_core.jobs import ChunkFiller, chunk_size, job_tag, row_of, wire_id
from batches_core.lowlevel import prepare

IDS = st.text(min_size=1, max_size=20)
ROWS = st.integers(min_value=0, max_value=10**12)

# --- sizes -------------------------------------------------------------------------------


@given(IDS, st.integers(0, 10**6), st.integers(1, 100_000))
def test_a_chunk_is_at_most_one_per_cent_smaller_than_asked(
    job_id: str, chunk: int, chunk_rows: int
) -> None:
    size = chunk_size(job_id, chunk, chunk_rows)
    assert chunk_rows * 0.99 <= size <= chunk_rows
    assert size > 0


def test_the_size_of_a_chunk_is_the_same_in_every_process() -> None:
    assert [chunk_size("job", chunk, 10_000) for chunk in range(4)] == [9971, 9938, 9900, 9910]


def test_the_chunks_of_a_job_have_different_sizes() -> None:
    sizes = Counter(chunk_size("job", chunk, 10_000) for chunk in range(1000))
    assert set(sizes) == set(range(9900, 10_001))
    assert max(sizes.values()) < 30


def test_two_jobs_have_chunks_of_different_sizes() -> None:
    one, other = ([chunk_size(job, chunk, 10_000) for chunk in range(50)] for job in "ab")
    assert sum(map(int.__eq__, one, other)) < 5


# --- where a chunk ends ------------------------------------------------------------------


def body_length(*requests: bytes) -> int:
    prepared: PreparedRequests = prepare(requests)
    return len(b"".join(prepared.body))


def request_json(number: int, size: int) -> bytes:
    params = {"model": "m", "max_tokens": 9, "messages": [], "metadata": {"user_id": "u" * size}}
    return json.dumps({"custom_id": f"r{number}", "params": params}).encode()


@given(st.lists(st.integers(0, 300), min_size=1, max_size=8))
def test_the_size_of_the_body_is_counted_to_the_byte(sizes: list[int]) -> None:
    requests = [request_json(number, size) for number, size in enumerate(sizes)]
    filler = ChunkFiller(rows=100)
    assert all(filler.add(len(request)) for request in requests)
    assert filler.count == len(requests)
    assert filler.content_length == body_length(*requests)


def test_a_request_that_just_fits_is_added_and_one_byte_more_is_not() -> None:
    first, second = request_json(0, 5), request_json(1, 7)
    exact = body_length(first, second)

    filler = ChunkFiller(rows=10, max_bytes=exact)
    assert filler.add(len(first))
    assert filler.add(len(second))

    filler = ChunkFiller(rows=10, max_bytes=exact - 1)
    assert filler.add(len(first))
    assert not filler.add(len(second))
    assert (filler.count, filler.content_length) == (1, body_length(first))


def test_a_chunk_ends_at_its_number_of_rows() -> None:
    filler = ChunkFiller(rows=2)
    assert [filler.add(10) for _ in range(4)] == [True, True, False, False]
    assert filler.count == 2


def test_a_chunk_has_at_most_as_many_rows_as_a_batch_can_have() -> None:
    assert ChunkFiller(rows=MAX_REQUESTS + 1).rows == MAX_REQUESTS
    assert ChunkFiller(rows=MAX_REQUESTS - 1).rows == MAX_REQUESTS - 1


def test_a_request_that_is_too_large_for_any_batch_is_a_chunk_of_its_own() -> None:
    filler = ChunkFiller(rows=10, max_bytes=100)
    assert filler.add(1000)
    assert not filler.add(1)


def test_a_chunk_has_at_most_as_many_bytes_as_a_batch_can_have() -> None:
    filler = ChunkFiller(rows=10)
    assert filler.add(255_999_980)
    assert filler.content_length == 255_999_995
    assert filler.add(4)
    assert filler.content_length == 256_000_000
    assert not filler.add(0)


# --- wire ids ----------------------------------------------------------------------------


@given(IDS, ROWS)
def test_a_wire_id_leads_back_to_its_row(job_id: str, row: int) -> None:
    tag = job_tag(job_id)
    assert row_of(tag, wire_id(tag, row)) == row


@given(IDS, ROWS)
def test_the_service_accepts_every_wire_id(job_id: str, row: int) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", wire_id(job_tag(job_id), row))


def test_a_wire_id_is_the_tag_and_the_row_in_base_36() -> None:
    assert [wire_id("tag", row) for row in (0, 9, 10, 35, 36, 36**3)] == [
        *("tag-0", "tag-9", "tag-a", "tag-z", "tag-10", "tag-1000"),
    ]


def test_the_tag_of_a_job_is_the_same_in_every_process() -> None:
    assert job_tag("job") == "9ff6537a"
    assert len({job_tag(f"job {number}") for number in range(1000)}) == 1000


@pytest.mark.parametrize(
    "custom_id",
    ["", "tag", "tag-", "other-1", "tag-01", "tag-00", "tag-A", "tag-1_", "tag-1-1", "tag--1"],
)
def test_any_other_id_leads_to_no_row(custom_id: str) -> None:
    assert row_of("tag", custom_id) is None


@given(st.text(alphabet="tag-0123456789zA", max_size=8))
def test_no_two_ids_lead_to_one_row(custom_id: str) -> None:
    row = row_of("tag", custom_id)
    assert row is None or wire_id("tag", row) == custom_id
