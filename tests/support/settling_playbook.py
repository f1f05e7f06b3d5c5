"""Playbooks of creates whose response is lost, and of how their outcome is settled."""

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

BATCHES = "/v1/messages/batches"
LIST = BATCHES + "?limit=100"
ONCE = RetryPolicy(attempts=1)
#: A batch that exists before the create; it is an hour older than the list that shows it.
EXISTING = batch_json("old", created_at="2026-05-01T20:00:00Z")
SECOND_REQUEST = {**REQUEST, "custom_id": "b"}


def listed_batch(
    id_: str = "new", total: int = 2, at: str = "2026-05-01T21:00:00Z"
) -> dict[str, Any]:
    """Build a batch as the list shows it; by default it can be the create's own."""
    counts = {"processing": total, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    return batch_json(id_, created_at=at, request_counts=counts)


def page_json(*batches: dict[str, Any], has_more: bool = False) -> dict[str, Any]:
    """Build a page of the list."""
    last = batches[-1]["id"] if batches else None
    return {"data": batches, "has_more": has_more, "first_id": None, "last_id": last}


def lose_create(
    *newest: dict[str, Any],
    retry: RetryPolicy | None = None,
    settle_time: float = 60.0,
    has_more: bool = False,
    read_at: str | None = READ_AT,
    on: BatchesAPI | None = None,
) -> Playbook:
    """Start a create of two requests that settles by itself, and lose its response.

    `newest` are the batches in the list before the create. The next output is the first request for
    the list.
    """
    operation = (on or api(retry=retry)).create(
        [REQUEST, SECOND_REQUEST], if_unknown="settle", settle_time=settle_time
    )
    book = Playbook(operation)
    book.expect_marker(*newest, has_more=has_more, read_at=read_at)
    book.expect_request("POST", BATCHES)
    book.lose("read timeout")
    started = book.expect(SettlingStarted)
    assert (started.error.reason, started.settle_time) == ("read timeout", settle_time)
    return book


def unknown_outcome(*newest: dict[str, Any], on: BatchesAPI | None = None) -> OutcomeUnknownError:
    """Return the error of a create of two requests whose response was lost.

    `newest` are the batches in the list before the create.
    """
    book = Playbook((on or api()).create([REQUEST, SECOND_REQUEST]))
    book.expect_marker(*(newest or (EXISTING,)))
    book.expect_request("POST", BATCHES)
    book.lose("read timeout")
    with pytest.raises(OutcomeUnknownError, match=r"read timeout\); call settle\(\)") as caught:
        book.next()
    return caught.value


def expect_list(
    book: Playbook, *batches: dict[str, Any], headers: tuple[tuple[str, str], ...] = ()
) -> None:
    """Expect a request for the list, and respond with these batches."""
    book.expect_request("GET", LIST)
    book.respond(page_json(*batches), headers=headers)


def expect_adoption(book: Playbook, *listed: dict[str, Any], alone_for: float = 10.0) -> str:
    """Expect that a batch is adopted after `alone_for` seconds as the only candidate.

    `listed` is the list at the end of this time.

    Returns:
        The id of the batch.
    """
    book.expect_wait(alone_for)
    expect_list(book, *listed)
    created = book.expect(BatchCreated)
    assert created.adopted
    assert book.expect_done() == created.batch
    return created.batch.id


def expect_unknown(book: Playbook, match: str) -> OutcomeUnknownError:
    """Expect that the operation fails because the outcome stays unknown; return the error."""
    with pytest.raises(OutcomeUnknownError, match=match) as caught:
        book.next()
    return caught.value
