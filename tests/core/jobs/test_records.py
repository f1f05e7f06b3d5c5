"""Records: what a journal keeps can be read again, and nothing else can."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given

from batches_core import InvalidInputError
from batches_core.jobs import (
    FORMAT,
    Collected,
    Counts,
    FailedRow,
    JobOpened,
    JobOptions,
    Paused,
    Record,
    decode_record,
    encode_record,
)
from tests.support.job_records import KINDS, records


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_record_can_be_read_again(kind: type[Record]) -> None:
    @given(records(kind))
    def check(record: Record) -> None:
        written = encode_record(record)
        assert decode_record(written) == record
        assert type(decode_record(written.decode())) is kind

    check()


def test_every_record_names_its_kind_and_no_two_share_one() -> None:
    infos: list[Any] = [msgspec.inspect.type_info(kind) for kind in KINDS]
    kinds = {info.tag for info in infos}
    assert kinds == {
        *("opened", "planned", "input_ended", "intended", "submitted", "refused", "doubted"),
        *("cancel_sent", "ended", "collected", "lost", "bought_again", "paused", "resumed"),
        *("cancel_asked", "finished"),
    }
    assert len(KINDS) == 16


def test_a_record_is_one_line_of_json() -> None:
    record = Paused(reason="credit", message="line 1\nline 2")
    assert encode_record(record) == (
        b'{"kind":"paused","reason":"credit","message":"line 1\\nline 2"}'
    )


@pytest.mark.parametrize(
    "data",
    [
        b'{"kind":"exported","chunk":1}',
        b'{"chunk":1}',
        b'{"kind":"lost","chunk":1}',
        b'{"kind":"lost","chunk":"1","reason":"archived"}',
        b'{"kind":"paused","reason":"boredom","message":""}',
        b'{"kind":"lost","chunk":1,"reason":"arch',
        b"[]",
        b"",
    ],
    ids=["unknown", "untagged", "field missing", "field wrong", "reason", "cut", "list", "empty"],
)
def test_anything_but_a_record_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_record(data)


def test_a_record_without_its_optional_fields_has_their_defaults() -> None:
    read: Any = decode_record(b'{"kind":"opened","job_id":"j","options":{}}')
    assert read == JobOpened(job_id="j", options=JobOptions())
    assert read.format == FORMAT == 1
    assert read.options == JobOptions(
        chunk_rows=10_000,
        max_waiting=100_000,
        rounds=3,
        ids="keep",
        poll_interval=30.0,
        settle_time=600.0,
        parallel=4,
    )


def test_counts_add_up_to_the_rows_of_a_chunk() -> None:
    assert Counts(succeeded=1, errored=20, canceled=300, expired=4000).total == 4321


def test_records_cannot_be_changed() -> None:
    record: Any = Collected(chunk=0, answered=1, failed=(FailedRow(row=0, outcome="expired"),))
    with pytest.raises(AttributeError):
        record.answered = 2


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("chunk_rows", (0, -5, 100_001, True, 2.0, None), "a whole number, 1 to 100,000"),
        ("max_waiting", (0, "9"), "a whole number, 1 or more"),
        ("rounds", (-1, 101), "a whole number, 0 to 100"),
        ("parallel", (0, 101), "a whole number, 1 to 100"),
        ("canary_rows", (-1, 100_001), "a whole number, 0 to 100,000"),
        ("poll_interval", (0, -5, float("nan"), float("inf")), "a number of seconds, more than 0"),
        ("settle_time", (0, float("nan")), "a number of seconds, more than 0"),
        ("ids", ("drop", None), "'keep' or 'map'"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(
    name: str, values: tuple[Any, ...], words: str
) -> None:
    for value in values:
        with pytest.raises(InvalidInputError, match=f"JobOptions.{name} must be {words}"):
            JobOptions(**{name: value})
