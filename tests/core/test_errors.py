"""Tests of `errors`: the class of an error, its message, and that it can be pickled."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from batches_core import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    BatchesError,
    BillingError,
    ConflictError,
    IncompleteResultsError,
    InternalServerError,
    InvalidInputError,
    LocalProtocolError,
    MalformedResultError,
    MessageBatch,
    NotFoundError,
    OutcomeUnknownError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    RemoteProtocolError,
    RequestProblem,
    RequestTooLargeError,
    ResultsUnavailableError,
    ServerTimeoutError,
    TransportError,
    WaitTimeoutError,
)
from batches_core.errors import SPEND_LIMIT_REACHED, quote
from tests.support.ids import readable
from tests.support.playbook import batch_json

#: Text of a peer, with every kind of line break.
MULTILINE = "a\nb\r\nc\u2028d\x0be\x85f"


def batch(status: str = "in_progress", **changes: Any) -> MessageBatch:
    return msgspec.convert(batch_json(status=status, **changes), MessageBatch)


DOCUMENTED = [
    (400, "invalid_request_error", BadRequestError),
    (401, "authentication_error", AuthenticationError),
    (402, "billing_error", BillingError),
    (403, "permission_error", PermissionDeniedError),
    (404, "not_found_error", NotFoundError),
    (409, "conflict_error", ConflictError),
    (413, "request_too_large", RequestTooLargeError),
    (429, "rate_limit_error", RateLimitError),
    (500, "api_error", InternalServerError),
    (504, "timeout_error", ServerTimeoutError),
    (529, "overloaded_error", OverloadedError),
]
EXAMPLES: list[BatchesError] = [
    BatchesError("plain"),
    LocalProtocolError("a bug"),
    RemoteProtocolError("no JSON"),
    InvalidInputError("one", RequestProblem(message="two", index=1, field="custom_id"), omitted=3),
    ResultsUnavailableError(batch()),
    ResultsUnavailableError(batch("ended", archived_at="2026-06-01T00:00:00Z")),
    MalformedResultError(line_number=3, raw=b"{", reason="it is cut off", custom_id="a"),
    MalformedResultError(line_number=3, raw=b"{", reason="it is cut off"),
    IncompleteResultsError(batch_id="msgbatch_1", received=1, expected=2),
    TransportError("connection reset", sent=True),
    TransportError("no route", sent=False),
    OutcomeUnknownError("connection reset", requests=7),
    WaitTimeoutError("msgbatch_1", timeout=1.5, batch=batch()),
    WaitTimeoutError("msgbatch_1", timeout=1.5, batch=None),
    *(
        kind(
            status=status,
            type=type_,
            message="no",
            error_code="a_code",
            request_id="req_1",
            body=b"{}",
            retry_after=2.5,
            should_retry=False,
        )
        for status, type_, kind in [*DOCUMENTED, (418, "teapot_error", APIStatusError)]
    ),
]


# --- the class of a status error ---------------------------------------------------------


@pytest.mark.parametrize(("status", "type_", "kind"), DOCUMENTED)
def test_a_documented_type_decides_the_class_whatever_the_status(
    status: int, type_: str, kind: type[APIStatusError]
) -> None:
    for any_status in (status, 418, 400):
        error = APIStatusError.for_response(any_status, type_, message="no")
        assert type(error) is kind
        assert (error.status, error.type) == (any_status, type_)


@pytest.mark.parametrize(("status", "type_", "kind"), DOCUMENTED)
def test_the_status_decides_the_class_if_the_type_is_unknown(
    status: int, type_: str, kind: type[APIStatusError]
) -> None:
    del type_
    for unknown_type in (None, "", "brand_new_error"):
        error = APIStatusError.for_response(status, unknown_type, message="no")
        assert type(error) is kind
        assert error.type == unknown_type


@pytest.mark.parametrize("status", [300, 405, 418, 501, 503])
def test_an_undocumented_status_and_type_have_the_base_class(status: int) -> None:
    error = APIStatusError.for_response(status, "brand_new_error", message="no")
    assert type(error) is APIStatusError
    assert error.type == "brand_new_error"
    assert str(error).startswith(f"{status} brand_new_error: no; ")


# --- every error -------------------------------------------------------------------------


@pytest.mark.parametrize("error", EXAMPLES, ids=readable)
def test_an_error_survives_pickle_and_copy_with_all_its_attributes(error: BatchesError) -> None:
    for duplicate in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - our own
        assert type(duplicate) is type(error)
        assert str(duplicate) == str(error)
        assert duplicate.args == error.args
        assert duplicate.__dict__ == error.__dict__


@pytest.mark.parametrize("error", EXAMPLES, ids=readable)
def test_each_error_is_a_batches_error_with_a_message(error: BatchesError) -> None:
    assert isinstance(error, BatchesError)
    assert str(error)


def test_a_note_of_an_error_survives_pickle() -> None:
    error = TransportError("connection reset", sent=True)
    error.add_note("while reading")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["while reading"]  # noqa: S301 - our own


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (WaitTimeoutError, TimeoutError),
        (InvalidInputError, ValueError),
        (MalformedResultError, RemoteProtocolError),
        (IncompleteResultsError, RemoteProtocolError),
        (OutcomeUnknownError, TransportError),
    ],
    ids=readable,
)
def test_an_error_can_be_caught_by_each_of_its_bases(
    kind: type[BatchesError], base: type[Exception]
) -> None:
    assert issubclass(kind, base)
    assert issubclass(kind, BatchesError)


# --- messages ----------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "type_", "kind"), DOCUMENTED)
def test_a_status_error_shows_status_type_text_request_id_and_advice(
    status: int, type_: str, kind: type[APIStatusError]
) -> None:
    error = kind(status=status, type=type_, message="that is so.", request_id="req_1")
    assert str(error) == f"{status} {type_}: that is so. (request_id req_1); {kind.hint}"


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (404, "check base_url and any proxy in between"),
        (499, "check base_url and any proxy in between"),
        (500, "try again later"),
        (502, "try again later"),
    ],
)
def test_a_response_that_is_not_the_apis_has_its_own_advice(status: int, advice: str) -> None:
    error = APIStatusError.for_response(status, None, message="<html>\n<h1>No</h1>\n</html>")
    assert str(error).startswith(f"{status}: <html> <h1>No</h1> </html>; ")
    assert str(error).endswith(advice)


def test_a_reached_spend_limit_has_its_own_advice() -> None:
    error = RateLimitError(
        status=429, type="rate_limit_error", message="no", error_code=SPEND_LIMIT_REACHED
    )
    assert str(error).endswith("the spend limit is reached: raise it, or wait until next month")


@pytest.mark.parametrize(
    ("error", "problem", "advice"),
    [
        (
            ResultsUnavailableError(batch()),
            "no results yet (processing_status 'in_progress')",
            "wait",
        ),
        (
            ResultsUnavailableError(batch("ended", archived_at="2026-06-01T00:00:00Z")),
            "were archived at 2026-06-01T00:00:00+00:00",
            "29 days after a batch is created",
        ),
        (
            MalformedResultError(line_number=3, raw=b"{", reason="it is cut off", custom_id="a"),
            "line 3 of the results (custom_id 'a') could not be read: it is cut off",
            "`raw` holds the bytes of this one",
        ),
        (
            MalformedResultError(line_number=3, raw=b"{", reason="it is cut off"),
            "line 3 of the results could not be read",
            "`raw` holds the bytes of this one",
        ),
        (IncompleteResultsError(batch_id="b", received=1, expected=2), "1 of 2 results", "read"),
        (TransportError("reset", sent=True), "reset; ", "check the network and try again"),
        (
            TransportError("no route", sent=False),
            "no route; the request was not sent completely",
            "check base_url",
        ),
        (OutcomeUnknownError("reset", requests=7), "7 requests was created (reset)", "list_all()"),
        (
            WaitTimeoutError("b", timeout=90, batch=None),
            "not be read within 90 s",
            "wait_for() again",
        ),
        (
            WaitTimeoutError("b", timeout=0.5, batch=batch()),
            "within 0.5 s; the service continues",
            "again",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BatchesError) else value,
)
def test_the_message_of_an_error_says_what_happened_then_what_to_do(
    error: BatchesError, problem: str, advice: str
) -> None:
    assert problem in str(error)
    assert advice in str(error).partition(problem)[2]


@pytest.mark.parametrize(
    "build",
    [
        lambda: APIStatusError(
            status=500,
            type=MULTILINE,
            message=MULTILINE,
            request_id=MULTILINE,
        ),
        lambda: APIStatusError.for_response(502, None, message=MULTILINE),
        lambda: MalformedResultError(line_number=1, raw=b"", reason="no", custom_id=MULTILINE),
        lambda: MalformedResultError(line_number=1, raw=b"", reason=f"unknown field `{MULTILINE}`"),
        lambda: ResultsUnavailableError(batch(MULTILINE)),
        lambda: ResultsUnavailableError(batch(id_=MULTILINE)),
        lambda: IncompleteResultsError(batch_id=MULTILINE, received=1, expected=2),
        lambda: OutcomeUnknownError(f"the response was 500: {MULTILINE}", requests=1),
        lambda: WaitTimeoutError("b", timeout=1, batch=batch(MULTILINE)),
    ],
    ids=[
        "status error",
        "HTML",
        "custom_id",
        "reason of a malformed line",
        "processing_status",
        "id of an unready batch",
        "id of an incomplete batch",
        "response to a create",
        "status at a timeout",
    ],
)
def test_text_of_the_peer_does_not_break_a_message_into_lines(
    build: Callable[[], BatchesError],
) -> None:
    assert len(str(build()).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        (" a  b\t\r\n c ", "a b c"),
        ("nul\0 esc\x1b[2J", "nul\N{REPLACEMENT CHARACTER} esc\N{REPLACEMENT CHARACTER}[2J"),
        ("\u202eright to left", "\N{REPLACEMENT CHARACTER}right to left"),
        ("x" * 300, "x" * 300),
        ("x" * 301, "x" * 300 + "…"),
    ],
    ids=["empty", "white space", "control characters", "text direction", "300", "301"],
)
def test_a_quoted_text_is_one_short_printable_line(text: str, line: str) -> None:
    assert quote(text) == line


# --- problems of the caller's input ------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (RequestProblem(message="is wrong"), "is wrong"),
        (RequestProblem(message="is wrong", index=0), "requests.0: is wrong"),
        (RequestProblem(message="is wrong", field="limit"), "limit: is wrong"),
        (
            RequestProblem(message="is wrong", index=2, field="params.stream"),
            "requests.2.params.stream: is",
        ),
    ],
    ids=["no place", "index", "field", "index and field"],
)
def test_a_request_problem_names_its_place_as_the_service_does(
    problem: RequestProblem, text: str
) -> None:
    assert str(problem).startswith(text)


def test_an_invalid_input_error_shows_a_single_problem_alone() -> None:
    error = InvalidInputError("limit is 1 to 1,000")
    assert str(error) == "limit is 1 to 1,000"
    assert error.problems == (RequestProblem(message="limit is 1 to 1,000"),)
    assert error.omitted == 0


def test_an_invalid_input_error_counts_several_problems_and_lists_them() -> None:
    assert str(InvalidInputError("a", "b")).splitlines() == [
        "2 problems; nothing was sent",
        "  a",
        "  b",
    ]


@pytest.mark.parametrize(
    ("kept", "omitted", "counted"), [(10, 0, 0), (11, 0, 1), (10, 5, 5), (12, 5, 7), (1, 1, 1)]
)
def test_an_invalid_input_error_lists_ten_problems_and_counts_the_rest(
    kept: int, omitted: int, counted: int
) -> None:
    error = InvalidInputError(*(f"problem {n}" for n in range(kept)), omitted=omitted)
    first, *listed = str(error).splitlines()
    assert first == f"{kept + omitted} problems; nothing was sent"
    rest = [f"  … and {counted} more"] if counted else []
    assert listed == [f"  problem {n}" for n in range(min(kept, 10))] + rest
    assert (len(error.problems), error.omitted) == (kept, omitted)
