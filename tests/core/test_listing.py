"""Tests of `operations.listing`: which page of the list follows, and when the list ends."""

from __future__ import annotations

from typing import Any

import pytest

from batches_core import PageReceived, RemoteProtocolError, RetryScheduled, TransportError
from tests.support.playbook import Playbook, api, batch_json

BATCHES = "/v1/messages/batches"


def page_json(*ids: str, has_more: bool = True, **changes: Any) -> dict[str, Any]:
    """Build a page of the list, with cursors; `changes` replace or add fields."""
    cursors = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
    return {"data": [batch_json(i) for i in ids], "has_more": has_more, **cursors, **changes}


def ids_of(event: PageReceived) -> list[str]:
    return [batch.id for batch in event.page.data]


def test_list_all_reads_each_page_when_it_is_asked_for() -> None:
    book = Playbook(api().list_all(limit=2))
    book.expect_request("GET", f"{BATCHES}?limit=2")
    book.respond(page_json("e", "d"))
    assert ids_of(book.expect(PageReceived)) == ["e", "d"]
    book.expect_request("GET", f"{BATCHES}?limit=2&after_id=d")
    book.respond(page_json("c", "b"))
    assert ids_of(book.expect(PageReceived)) == ["c", "b"]
    book.expect_request("GET", f"{BATCHES}?limit=2&after_id=b")
    book.respond(page_json("a", has_more=False))
    assert ids_of(book.expect(PageReceived)) == ["a"]
    assert book.expect_done() is None


def test_list_all_reads_backwards_from_before_id() -> None:
    book = Playbook(api().list_all(before_id="b"))
    book.expect_request("GET", f"{BATCHES}?before_id=b")
    book.respond(page_json("d", "c"))
    book.expect(PageReceived)
    book.expect_request("GET", f"{BATCHES}?before_id=d")
    book.respond(page_json("e", has_more=False))
    book.expect(PageReceived)
    book.expect_done()


def test_list_all_continues_after_after_id() -> None:
    book = Playbook(api().list_all(after_id="c"))
    book.expect_request("GET", f"{BATCHES}?after_id=c")
    book.respond(page_json("b", has_more=False))
    book.expect(PageReceived)
    book.expect_done()


@pytest.mark.parametrize(
    ("start", "first_query", "second_query"),
    [
        ({}, "", "&after_id=z"),
        ({"after_id": "m"}, "&after_id=m", "&after_id=z"),
        ({"before_id": "m"}, "&before_id=m", "&before_id=a"),
    ],
    ids=["newest first", "after an id", "before an id"],
)
def test_list_all_keeps_its_direction_and_limit_on_each_page(
    start: dict[str, str], first_query: str, second_query: str
) -> None:
    book = Playbook(api().list_all(limit=2, **start))
    for query, has_more in ((first_query, True), (second_query, False)):
        book.expect_request("GET", f"{BATCHES}?limit=2{query}")
        book.respond(page_json("a", "z", has_more=has_more))
        assert len(book.expect(PageReceived).page.data) == 2
    assert book.expect_done() is None


def test_list_all_follows_any_cursor_of_the_service_except_an_empty_one() -> None:
    book = Playbook(api().list_all())
    book.expect_request("GET", BATCHES)
    book.respond({"data": [batch_json("a")], "has_more": True, "first_id": "a", "last_id": ".."})
    book.expect(PageReceived)
    book.expect_request("GET", f"{BATCHES}?after_id=..")
    book.respond({"data": [batch_json("b")], "has_more": True, "first_id": "b", "last_id": ""})
    book.expect(PageReceived)
    book.expect_done()


@pytest.mark.parametrize(
    "last",
    [
        page_json(),
        page_json("a", last_id=None),
        page_json("a", has_more=False),
        {"data": []},
    ],
    ids=["empty page", "null cursor", "no more pages", "only empty data"],
)
def test_list_all_ends_at_an_empty_page_a_null_cursor_or_no_more_pages(
    last: dict[str, Any],
) -> None:
    book = Playbook(api().list_all())
    book.expect_request("GET", BATCHES)
    book.respond(page_json("c", "b"))
    book.expect(PageReceived)
    book.expect_request("GET", f"{BATCHES}?after_id=b")
    book.respond(last)
    book.expect(PageReceived)
    book.expect_done()


def test_a_repeated_cursor_is_an_error_and_not_an_endless_loop() -> None:
    book = Playbook(api().list_all())
    book.expect_request("GET", BATCHES)
    book.respond(page_json("c", "b"))
    book.expect(PageReceived)
    book.expect_request("GET", f"{BATCHES}?after_id=b")
    book.respond(page_json("c", "b"))
    assert ids_of(book.expect(PageReceived)) == ["c", "b"]
    with pytest.raises(RemoteProtocolError, match="repeats its cursor"):
        book.next()


def test_a_cursor_equal_to_the_first_one_is_a_repeated_cursor() -> None:
    book = Playbook(api().list_all(after_id="b"))
    book.expect_request("GET", f"{BATCHES}?after_id=b")
    book.respond(page_json("c", "b"))
    book.expect(PageReceived)
    with pytest.raises(RemoteProtocolError, match="repeats its cursor"):
        book.next()


def test_each_page_of_the_list_has_its_own_attempts() -> None:
    book = Playbook(api().list_all())
    cursor = ""
    for name in ("c", "b", "a"):
        for delay in (0.5, 1.0):
            book.expect_request("GET", BATCHES + cursor)
            book.lose()
            book.expect(RetryScheduled)
            book.expect_wait(delay)
        book.expect_request("GET", BATCHES + cursor)
        book.respond(page_json(name, has_more=name != "a"))
        book.expect(PageReceived)
        cursor = f"?after_id={name}"
    book.expect_done()


def test_a_failed_page_is_raised_after_the_pages_before_it() -> None:
    book = Playbook(api().list_all())
    book.expect_request("GET", BATCHES)
    book.respond(page_json("c"))
    book.expect(PageReceived)
    for delay in (0.5, 1.0):
        book.expect_request("GET", f"{BATCHES}?after_id=c")
        book.lose()
        book.expect(RetryScheduled)
        book.expect_wait(delay)
    book.expect_request("GET", f"{BATCHES}?after_id=c")
    book.lose()
    with pytest.raises(TransportError):
        book.next()
