"""Playbooks of creates whose answer is lost, and of the looks that follow."""

from __future__ import annotations

from typing import Any

import pytest

from batches_core import (
    BatchCreated,
    BatchesAPI,
    OutcomeUnknownError,
    RetryPolicy,
    SettlingStarted,
)
from tests.support.playbook import READ_AT, REQUEST, Playbook, api, batch_json

PATH = "/v1/messages/batches"
LIST = PATH + "?limit=100"
ONCE = RetryPolicy(attempts=1)
#: The batch that was there before the create, an hour older than the look at the list.
BEFORE = batch_json("old", created_at="2026-05-01T20:00:00Z")
SECOND = {**REQUEST, "custom_id": "b"}


def made(id_: str = "new", total: int = 2, at: str = "2026-05-01T21:00:00Z") -> dict[str, Any]:
    """A batch as the list shows it, by default one that fits."""
    counts = {"processing": total, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    return batch_json(id_, created_at=at, request_counts=counts)


def page(*batches: dict[str, Any], has_more: bool = False) -> dict[str, Any]:
    last = batches[-1]["id"] if batches else None
    return {"data": batches, "has_more": has_more, "first_id": None, "last_id": last}


def lost(
    *newest: dict[str, Any],
    retry: RetryPolicy | None = None,
    settle_time: float = 60.0,
    has_more: bool = False,
    read_at: str | None = READ_AT,
    on: BatchesAPI | None = None,
) -> Playbook:
    """A create of two requests that is to be settled, and whose answer is lost."""
    operation = (on or api(retry=retry)).create(
        [REQUEST, SECOND], if_unknown="settle", settle_time=settle_time
    )
    book = Playbook(operation)
    book.mark(*newest, has_more=has_more, read_at=read_at)
    book.expect_request("POST", PATH)
    book.lose("read timeout")
    started = book.expect(SettlingStarted)
    assert (started.error.reason, started.settle_time) == ("read timeout", settle_time)
    return book


def unknown(*newest: dict[str, Any], on: BatchesAPI | None = None) -> OutcomeUnknownError:
    """The outcome of a create of two requests whose answer was lost at once."""
    book = Playbook((on or api()).create([REQUEST, SECOND]))
    book.mark(*(newest or (BEFORE,)))
    book.expect_request("POST", PATH)
    book.lose("read timeout")
    with pytest.raises(OutcomeUnknownError, match=r"read timeout\); call settle\(\)") as caught:
        book.next()
    return caught.value


def looks(
    book: Playbook, *batches: dict[str, Any], headers: tuple[tuple[str, str], ...] = ()
) -> None:
    book.expect_request("GET", LIST)
    book.answer(page(*batches), headers=headers)


def adopted(book: Playbook, *shown: dict[str, Any], alone_for: float = 10.0) -> str:
    """It is the only one that fits for a while, at the second look as at the first."""
    book.expect_wait(alone_for)
    looks(book, *shown)
    created = book.expect(BatchCreated)
    assert created.adopted
    assert book.expect_done() == created.batch
    return created.batch.id


def undecided(book: Playbook, why: str) -> OutcomeUnknownError:
    with pytest.raises(OutcomeUnknownError, match=why) as caught:
        book.next()
    return caught.value
