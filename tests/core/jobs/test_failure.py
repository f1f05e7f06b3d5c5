"""Failures: what each error, and each failed row, means for a job."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_core import (
    APIStatusError,
    BatchesError,
    IncompleteResultsError,
    InvalidInputError,
    LocalProtocolError,
    MalformedResultError,
    OutcomeUnknownError,
    RemoteProtocolError,
    ResultsUnavailableError,
    TransportError,
    UntrustedHostError,
    WaitTimeoutError,
)
from batches_core.jobs import FailedRow, Failure, Outcome, describe, is_passing
from batches_core.jobs.failure import pause_of
from tests.support.job_playbook import (
    CREATED,
    batch,
    failed_row,
    marker,
    plans,
    status_error,
    unknown,
)

(PLAN,) = plans(10)
LIMIT = "You have reached your specified API usage limits. You regain access on 2026-06-01."
CREDIT = "Your credit balance is too low to access the Anthropic API."


def meaning(error: BatchesError) -> tuple[str, str | None]:
    failure = describe(error)
    if not isinstance(error, OutcomeUnknownError):
        assert failure.message == str(error)
    return failure.meaning, failure.pause


# --- errors of operations ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "type_", "expected"),
    [
        (400, "invalid_request_error", ("person", "refused")),
        (401, "authentication_error", ("person", "credential")),
        (402, "billing_error", ("person", "credit")),
        (403, "permission_error", ("person", "permission")),
        (404, "not_found_error", ("missing", None)),
        (405, None, ("person", "refused")),
        (408, None, ("passing", None)),
        (409, "conflict_error", ("passing", None)),
        (413, "request_too_large", ("person", "refused")),
        (422, None, ("person", "refused")),
        (425, None, ("passing", None)),
        (429, "rate_limit_error", ("busy", None)),
        (500, "api_error", ("passing", None)),
        (502, None, ("passing", None)),
        (503, None, ("passing", None)),
        (504, "timeout_error", ("passing", None)),
        (529, "overloaded_error", ("passing", None)),
    ],
)
def test_a_status_passes_or_means_a_full_queue_or_needs_a_person(
    status: int, type_: str | None, expected: tuple[str, str | None]
) -> None:
    assert meaning(status_error(status, type_)) == expected


@given(st.integers(300, 999))
def test_every_status_means_something(status: int) -> None:
    assert describe(status_error(status)).meaning in {"passing", "busy", "missing", "person"}


@pytest.mark.parametrize("status", [429, 400, 403])
def test_a_spend_limit_pauses_whatever_the_status(status: int) -> None:
    assert meaning(status_error(status, message=LIMIT)) == ("person", "spend_limit")
    code = status_error(status, error_code="enforced_spend_limit_reached")
    assert meaning(code) == ("person", "spend_limit")


@pytest.mark.parametrize("status", [400, 403, 429])
def test_missing_credit_pauses_whatever_the_status(status: int) -> None:
    assert meaning(status_error(status, message=CREDIT)) == ("person", "credit")


@pytest.mark.parametrize("status", [429, 500, 503, 529])
def test_the_delay_that_the_service_asks_for_is_kept(status: int) -> None:
    assert describe(status_error(status, retry_after=7.5)).retry_after == 7.5


OTHERS: list[tuple[BatchesError, tuple[str, str | None]]] = [
    (TransportError("reset", sent=True), ("passing", None)),
    (TransportError("refused", sent=False), ("passing", None)),
    (RemoteProtocolError("not JSON"), ("passing", None)),
    (MalformedResultError(line_number=1, raw=b"{", reason="cut"), ("passing", None)),
    (IncompleteResultsError(batch_id="b", received=1, expected=2), ("passing", None)),
    (WaitTimeoutError("b", timeout=1.0, batch=None), ("passing", None)),
    (LocalProtocolError("a bug"), ("person", "refused")),
    (InvalidInputError("line 3 is not JSON"), ("person", "input")),
    (UntrustedHostError("files.example", plain=False), ("person", "permission")),
    (ResultsUnavailableError(batch("b")), ("passing", None)),
    (ResultsUnavailableError(batch("b", status="ended")), ("passing", None)),
    (
        ResultsUnavailableError(
            msgspec.structs.replace(batch("b", status="ended"), archived_at=CREATED)
        ),
        ("gone", None),
    ),
    (unknown(PLAN), ("unknown", None)),
]


@pytest.mark.parametrize(("error", "expected"), OTHERS, ids=lambda case: type(case).__name__)
def test_any_other_error_passes_unless_it_says_that_waiting_is_of_no_use(
    error: BatchesError, expected: tuple[str, str | None]
) -> None:
    assert meaning(error) == expected


def test_a_doubt_says_what_a_job_does_about_it() -> None:
    assert describe(unknown(PLAN)).message == (
        "it is not known whether its create made a batch (read timeout); the next run looks again"
    )
    one, two = batch("msgbatch_a"), batch("msgbatch_b")
    assert "whether batch msgbatch_a is that of this chunk" in describe(unknown(PLAN, one)).message
    assert describe(unknown(PLAN, one, two)).message == (
        "it is not known whether one of the batches msgbatch_a, msgbatch_b is that of this chunk "
        "(read timeout): compare the custom_ids, and decide"
    )


def subclasses(kind: type[BatchesError]) -> set[type[BatchesError]]:
    return {kind}.union(*map(subclasses, kind.__subclasses__()))


def test_every_error_of_the_core_has_its_case_here() -> None:
    status = {
        kind for kind in subclasses(APIStatusError) if kind.__module__ == "batches_core.errors"
    }
    core = {kind for kind in subclasses(BatchesError) if kind.__module__ == "batches_core.errors"}
    tried = {type(error) for error, _ in OTHERS}
    assert core - status - {BatchesError} == tried


def test_an_unknown_outcome_keeps_its_marker_and_the_ids_of_its_candidates() -> None:
    failure = describe(unknown(PLAN, batch("b1"), batch("b2")))
    assert failure.marker == marker(PLAN)
    assert failure.candidates == ("b1", "b2")


def test_an_unknown_outcome_can_lack_a_marker() -> None:
    assert describe(OutcomeUnknownError("lost", requests=1)).marker is None


def test_a_failure_is_a_plain_value() -> None:
    failure = describe(unknown(PLAN, batch("b1")))
    assert msgspec.json.decode(msgspec.json.encode(failure), type=Failure) == failure


# --- failed rows -------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["expired", "rejected", "unreadable"])
def test_a_row_is_sent_again_if_it_expired_or_its_answer_is_of_no_use(outcome: Outcome) -> None:
    assert is_passing(FailedRow(row=1, outcome=outcome))


@pytest.mark.parametrize("outcome", ["errored", "canceled", "lost"])
def test_any_other_row_is_not_sent_again(outcome: Outcome) -> None:
    assert not is_passing(FailedRow(row=1, outcome=outcome))


def test_every_outcome_of_a_row_has_its_case_here() -> None:
    assert set(get_args(Outcome)) == {
        *("errored", "expired", "canceled", "rejected", "unreadable", "lost")
    }


@pytest.mark.parametrize(
    "type_", ["api_error", "overloaded_error", "timeout_error", "rate_limit_error"]
)
def test_an_errored_row_is_sent_again_if_its_error_passes(type_: str) -> None:
    assert is_passing(failed_row(1, type_))


@pytest.mark.parametrize(
    "type_",
    [
        "invalid_request_error",
        "authentication_error",
        "billing_error",
        "permission_error",
        "not_found_error",
        "request_too_large",
        "a type of tomorrow",
        "",
    ],
)
def test_an_errored_row_with_any_other_error_has_failed(type_: str) -> None:
    assert not is_passing(failed_row(1, type_))


@pytest.mark.parametrize(
    ("message", "expected"),
    [(CREDIT, "credit"), (LIMIT, "spend_limit"), ("max_tokens is too large", None), ("", None)],
)
def test_a_row_can_say_that_money_is_missing(message: str, expected: Any) -> None:
    assert pause_of(failed_row(1, "invalid_request_error", message)) == expected


@pytest.mark.parametrize("outcome", [each for each in get_args(Outcome) if each != "errored"])
def test_only_the_services_own_words_say_that_money_is_missing(outcome: Outcome) -> None:
    assert pause_of(failed_row(1, "", CREDIT, outcome)) is None
