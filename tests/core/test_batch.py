"""Tests of `operations.batch`: what a repeated delete means.

`test_call` tests reading, canceling and deleting a batch with one exchange.
"""

from __future__ import annotations

import pytest

from batches_core import APIStatusError, BadRequestError, NotFoundError, RetryScheduled
from tests.support.playbook import Playbook, api, error_json

BATCH = "/v1/messages/batches/msgbatch_1"


def test_a_404_after_a_delete_of_unknown_outcome_is_a_success() -> None:
    book = Playbook(api().delete("msgbatch_1"))
    book.expect_request("DELETE", BATCH)
    book.lose(sent=True)
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("DELETE", BATCH)
    book.respond(error_json("not_found_error"), 404)
    assert book.expect_done().id == "msgbatch_1"


@pytest.mark.parametrize("failure", ["unsent", 429])
def test_a_404_after_a_delete_without_effect_is_raised(failure: int | str) -> None:
    book = Playbook(api().delete("msgbatch_1"))
    book.expect_request("DELETE", BATCH)
    if failure == "unsent":
        book.lose(sent=False)
    else:
        book.respond(b"", 429)
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("DELETE", BATCH)
    book.respond(error_json("not_found_error"), 404)
    with pytest.raises(NotFoundError):
        book.next()


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refused_delete_is_raised_even_after_one_of_unknown_outcome(status: int) -> None:
    book = Playbook(api().delete("msgbatch_1"))
    book.expect_request("DELETE", BATCH)
    book.lose()
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("DELETE", BATCH)
    book.respond(error_json("some_error"), status)
    with pytest.raises(APIStatusError) as caught:
        book.next()
    assert caught.value.status == status


def test_a_batch_that_is_still_canceling_cannot_be_deleted() -> None:
    book = Playbook(api().delete("msgbatch_1"))
    book.expect_request("DELETE", BATCH)
    text = "Batch `msgbatch_1` has not finished canceling. Wait until it has ended."
    book.respond(
        {
            "error": {"message": text, "type": "invalid_request_error"},
            "request_id": "req_7",
            "type": "error",
        },
        400,
        [("x-should-retry", "false")],
    )
    with pytest.raises(BadRequestError, match="has not finished canceling") as caught:
        book.next()
    assert (caught.value.request_id, caught.value.should_retry) == ("req_7", False)
