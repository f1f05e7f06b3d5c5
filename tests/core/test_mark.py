"""Tests of `mark`, and of a create that is sent with the marker of an earlier operation."""

from __future__ import annotations

from typing import Any

import pytest

from batches_core import (
    BatchCreated,
    BatchesAPI,
    CreateMarked,
    CreateMarker,
    InvalidInputError,
    OutcomeUnknownError,
    TransportError,
)
from tests.support.playbook import READ_AT, REQUEST, Playbook, api, batch_json
from tests.support.settling_playbook import (
    BATCHES,
    EXISTING,
    LIST,
    ONCE,
    SECOND_REQUEST,
    expect_adoption,
    expect_list,
    listed_batch,
    page_json,
)

REQUESTS = [REQUEST, SECOND_REQUEST]
DATE = (("date", READ_AT),)


def read_marker(client: BatchesAPI, *listed: dict[str, Any]) -> CreateMarker:
    book = Playbook(client.mark(len(REQUESTS)))
    book.expect_request("GET", LIST)
    book.respond(page_json(*listed), headers=DATE)
    marker: CreateMarker = book.expect_done()
    return marker


def send(client: BatchesAPI, marker: CreateMarker) -> Playbook:
    """Start a create with this marker; the operation waits for the response to it."""
    book = Playbook(client.create(REQUESTS, marker=marker))
    assert book.expect(CreateMarked).marker == marker
    book.expect_request("POST", BATCHES)
    return book


def test_a_marker_names_the_newest_batches_and_the_number_of_requests() -> None:
    client = api()
    marker = read_marker(client, EXISTING)
    assert (marker.requests, marker.listed_ids) == (2, ("old",))
    assert (marker.scope, marker.arrives_within) == (client.scope, None)
    assert marker.read_at is not None


def test_a_marker_that_cannot_be_read_is_an_error_that_advises_nothing() -> None:
    book = Playbook(api(retry=ONCE).mark(2))
    book.expect_request("GET", LIST)
    book.lose("no route")
    with pytest.raises(TransportError) as caught:
        book.next()
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("requests", [0, -1, True, 2.0, "2"])
def test_a_marker_is_of_one_request_or_more(requests: Any) -> None:
    with pytest.raises(InvalidInputError, match="requests must be an int, 1 or more, not"):
        api().mark(requests)


def test_a_create_with_a_marker_does_not_read_the_list() -> None:
    client = api()
    book = send(client, read_marker(client, EXISTING))
    book.respond(batch_json())
    book.expect(BatchCreated)
    assert book.expect_done().id == "msgbatch_1"


def test_a_lost_create_is_settled_with_its_marker_in_another_process() -> None:
    book = send(api(), read_marker(api(), EXISTING))
    book.lose("read timeout")
    with pytest.raises(OutcomeUnknownError) as caught:
        book.next()
    book = Playbook(api().settle(caught.value))
    expect_list(book, listed_batch(), EXISTING)
    assert expect_adoption(book, listed_batch(), EXISTING) == "new"


def test_no_date_excludes_the_batch_of_a_create_whose_marker_was_stored() -> None:
    # Nobody knows how long the marker was stored before the create was sent.
    book = send(api(), read_marker(api(), EXISTING))
    book.lose("read timeout")
    with pytest.raises(OutcomeUnknownError) as caught:
        book.next()
    assert caught.value.marker is not None
    assert caught.value.marker.arrives_within is None
    late = listed_batch(at="2026-05-02T21:00:00Z")
    book = Playbook(api().settle(caught.value))
    expect_list(book, late, EXISTING)
    with pytest.raises(OutcomeUnknownError, match="clocks disagree") as unsure:
        book.next()
    assert [each.id for each in unsure.value.candidates] == ["new"]


@pytest.mark.parametrize("is_lost", [True, False])
def test_a_marker_is_not_used_again_if_its_create_may_have_made_a_batch(is_lost: Any) -> None:
    client = api(retry=ONCE)
    marker = read_marker(client, EXISTING)
    book = send(client, marker)
    if is_lost:
        book.lose("read timeout")
        with pytest.raises(OutcomeUnknownError):
            book.next()
    else:
        book.respond(batch_json())
        book.expect(BatchCreated)
    with pytest.raises(InvalidInputError, match=r"before, and may have made its batch: .*settle"):
        client.create(REQUESTS, marker=marker)


def test_a_marker_can_be_used_again_if_its_create_had_no_effect() -> None:
    client = api(retry=ONCE)
    marker = read_marker(client, EXISTING)
    book = send(client, marker)
    book.lose("no route", sent=False)
    with pytest.raises(TransportError):
        book.next()
    send(client, marker)


def test_a_marker_of_another_number_of_requests_is_refused() -> None:
    client = api()
    with pytest.raises(InvalidInputError, match=r"of 2 requests, and these are 1: .*mark\(\)"):
        client.create([REQUEST], marker=read_marker(client, EXISTING))


def test_a_marker_of_another_credential_is_refused() -> None:
    marker = read_marker(api(), EXISTING)
    other = api(api_key="sk-another")
    with pytest.raises(InvalidInputError, match="with another credential: read a new one"):
        other.create(REQUESTS, marker=marker)


def test_a_marker_of_another_destination_is_refused() -> None:
    marker = read_marker(api(), EXISTING)
    other = BatchesAPI(api_key="sk-another", base_url="https://other.test")
    with pytest.raises(InvalidInputError, match=r"not to https://other\.test"):
        other.create(REQUESTS, marker=marker)
