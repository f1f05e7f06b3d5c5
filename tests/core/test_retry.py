"""Tests of `retry`: which failures are retried, and after how long."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_core import (
    APIStatusError,
    BatchesError,
    IncompleteResultsError,
    InvalidInputError,
    LocalProtocolError,
    OutcomeUnknownError,
    RemoteProtocolError,
    RetryPolicy,
    TransportError,
    WaitTimeoutError,
)
from batches_core.retry import (
    LONGEST_RETRY_AFTER,
    RETRIED_STATUSES,
    no_jitter,
    parse_retry_after,
    parse_should_retry,
)
from tests.support.ids import readable

LOST = TransportError("connection reset", sent=True)
DATE = "Fri, 01 May 2026 20:29:05 GMT"
#: Parts of dates and numbers, and characters that resemble them.
PIECES = ["Mon,", "01", "1", "Jan", "2024", "0001", "9999", "00:00:00", "23:59:60", "GMT"]
PIECES += ["-0000", "+9999", ":", ",", ".", "-", "9" * 20, "٣", "²", "\0"]


def status_error(status_: int, **fields: Any) -> APIStatusError:
    return APIStatusError.for_response(status_, fields.pop("type", None), message="no", **fields)


# --- which failures ----------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
def test_a_status_error_that_may_pass_is_retried(status: int) -> None:
    assert RetryPolicy().retries(status_error(status))
    assert status in RETRIED_STATUSES


@pytest.mark.parametrize("status", [300, 307, 400, 401, 402, 403, 404, 410, 413, 422, 501, 505])
def test_a_status_error_that_does_not_pass_is_not_retried(status: int) -> None:
    assert not RetryPolicy().retries(status_error(status))


@pytest.mark.parametrize("status", [400, 404, 429, 500, 529])
def test_the_advice_of_the_service_overrides_the_status(status: int) -> None:
    for should_retry in (True, False):
        for error_code in (None, "enforced_spend_limit_reached"):
            error = status_error(status, should_retry=should_retry, error_code=error_code)
            assert RetryPolicy().retries(error) is should_retry


def test_a_reached_spend_limit_is_not_retried() -> None:
    assert not RetryPolicy().retries(status_error(429, error_code="enforced_spend_limit_reached"))
    assert RetryPolicy().retries(status_error(429, error_code="something_else"))


@pytest.mark.parametrize(
    ("error", "is_retried"),
    [
        (TransportError("no route", sent=False), True),
        (LOST, True),
        (RemoteProtocolError("no JSON"), True),
        (IncompleteResultsError(batch_id="b", received=1, expected=2), True),
        (OutcomeUnknownError("connection reset", requests=1), False),
        (LocalProtocolError("a bug"), False),
        (InvalidInputError("a problem"), False),
        (WaitTimeoutError("b", timeout=1, batch=None), False),
        (BatchesError("anything"), False),
    ],
    ids=readable,
)
def test_only_failures_of_the_network_or_the_peer_are_retried(
    error: BatchesError, *, is_retried: bool
) -> None:
    assert RetryPolicy().retries(error) is is_retried


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        ("true", True),
        (" TRUE ", True),
        ("false", False),
        ("False", False),
        ("", None),
        ("1", None),
        ("true, false", None),
    ],
)
def test_x_should_retry_is_parsed_to_a_bool_or_none(value: str, *, parsed: bool | None) -> None:
    assert parse_should_retry({"x-should-retry": value}) is parsed
    assert parse_should_retry({}) is None


# --- the delay ---------------------------------------------------------------------------


def test_the_delay_doubles_up_to_max_delay() -> None:
    delays = [RetryPolicy().delay(retry, LOST, no_jitter) for retry in range(1, 10)]
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_jitter_is_the_share_of_the_delay(share: float) -> None:
    assert RetryPolicy().delay(2, LOST, lambda: share) == share * 1
    assert RetryPolicy().delay(99, LOST, lambda: share) == share * 30


@pytest.mark.parametrize("multiplier", [1.0, 1.01, 1.1, 2.0, 10.0, 1e6, 1e300])
def test_the_delay_grows_by_the_multiplier_for_any_number_of_retries(multiplier: float) -> None:
    policy = RetryPolicy(initial_delay=0.5, multiplier=multiplier, max_delay=30)
    for retry in (1, 2, 10, 64, 65, 66, 500, 100_000):
        # By its logarithm, because a power of the multiplier can overflow.
        exponent = math.log(0.5) + (retry - 1) * math.log(multiplier)
        expected = 30.0 if exponent >= math.log(30) else math.exp(exponent)
        assert policy.delay(retry, LOST, no_jitter) == pytest.approx(expected)


def test_a_policy_of_zero_delay_has_no_delay() -> None:
    assert RetryPolicy(initial_delay=0).delay(9, LOST, no_jitter) == 0
    assert RetryPolicy(initial_delay=0).delay(10_000, LOST, no_jitter) == 0
    assert RetryPolicy(max_delay=0).delay(9, LOST, no_jitter) == 0


@pytest.mark.parametrize(
    ("retry_after", "delay"), [(0.25, 0.25), (7.5, 7.5), (300, 300), (301, 300)]
)
def test_retry_after_replaces_the_delay_up_to_max_retry_after(
    retry_after: float, delay: float
) -> None:
    error = status_error(429, retry_after=retry_after)
    assert RetryPolicy().delay(5, error, no_jitter) == delay
    # The jitter adds up to a fifth, so that clients with an equal retry-after spread.
    for share in (0.0, 0.5):
        spread = RetryPolicy().delay(5, error, [share].pop)
        assert spread == min(retry_after * (1 + 0.2 * (1 - share)), 300)
    assert RetryPolicy(max_retry_after=2).delay(5, error, no_jitter) == min(retry_after, 2)


def test_a_retry_after_of_zero_leaves_the_delay_to_the_policy() -> None:
    error = status_error(429, retry_after=0.0)
    assert [RetryPolicy().delay(n, error, no_jitter) for n in (1, 2, 3)] == [0.5, 1, 2]


@pytest.mark.parametrize(
    "value", ["1e9", "9" * 20, "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"], ids=readable
)
def test_a_huge_retry_after_is_cut_to_max_retry_after(value: str) -> None:
    error = status_error(503, retry_after=parse_retry_after({"retry-after": value, "date": DATE}))
    assert RetryPolicy().delay(1, error, no_jitter) == 300


def test_a_status_without_retry_after_leaves_the_delay_to_the_policy() -> None:
    assert RetryPolicy().delay(3, status_error(500), no_jitter) == 2


# --- the policy --------------------------------------------------------------------------


def test_a_retry_policy_is_an_immutable_value_with_named_fields() -> None:
    policy: Any = RetryPolicy()
    make: Any = RetryPolicy
    assert policy == RetryPolicy()
    assert not hasattr(policy, "__dict__")
    with pytest.raises(AttributeError):
        policy.attempts = 5
    with pytest.raises(TypeError):
        make(5)


def test_a_retry_policy_has_the_documented_defaults() -> None:
    assert RetryPolicy() == RetryPolicy(
        attempts=3, initial_delay=0.5, multiplier=2, max_delay=30, max_retry_after=300
    )


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("attempts", [0, -1]),
        ("initial_delay", [-0.1, math.inf, math.nan]),
        ("max_delay", [-0.1, math.inf, math.nan]),
        ("max_retry_after", [-0.1, math.inf, math.nan]),
        ("multiplier", [0.99, -2, math.inf, math.nan]),
    ],
    ids=readable,
)
def test_a_retry_policy_refuses_a_value_out_of_range(name: str, values: list[float]) -> None:
    for value in values:
        fields: dict[str, Any] = {name: value}
        with pytest.raises(InvalidInputError, match=f"^RetryPolicy.{name} "):
            RetryPolicy(**fields)


@pytest.mark.parametrize(
    "fields",
    [{"attempts": 1}, {"initial_delay": 0}, {"max_delay": 0}, {"multiplier": 1}],
    ids=readable,
)
def test_a_retry_policy_accepts_the_least_value_of_a_field(fields: dict[str, Any]) -> None:
    RetryPolicy(**fields)


# --- parsing retry-after -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 7.25 "}, 7.25),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "9999"}, 9999.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "Fri, 01 May 2026 20:30:00 GMT", "date": DATE}, 55.0),
        ({"retry-after": "Fri, 01 May 2026 20:30:00 -0000", "date": DATE}, 55.0),
        ({"retry-after": "Fri, 01 May 2026 22:30:00 +0200", "date": DATE}, 55.0),
        ({"retry-after": "Friday, 01-May-26 20:30:00 GMT", "date": DATE}, 55.0),
        ({"retry-after": "Fri, 01 May 2026 20:00:00 GMT", "date": DATE}, 0.0),
        ({"retry-after": "Fri, 01 May 2026 20:30:00 GMT"}, None),
        ({"retry-after": "Fri, 01 May 2026 20:30:00 GMT", "date": "today"}, None),
        ({"retry-after": "Fri, 32 May 2026 20:30:00 GMT", "date": DATE}, None),
        ({"retry-after": "", "date": DATE}, None),
        ({"retry-after": "soon", "date": DATE}, None),
        ({"retry-after": "-5", "date": DATE}, None),
        ({"retry-after": "Fri, 01 May 99999 20:30:00 GMT", "date": DATE}, LONGEST_RETRY_AFTER),
        (
            {"retry-after": f"Fri, 01 May {'9' * 30} 20:30:00 GMT", "date": DATE},
            LONGEST_RETRY_AFTER,
        ),
        ({"retry-after": "Fri, 01 May 99999 20:30:00 GMT"}, None),
        ({"retry-after": "Fri, 01 May -5 20:30:00 GMT", "date": DATE}, None),
        ({"retry-after": "1e3"}, 1000.0),
        ({"retry-after": "1E+3"}, 1000.0),
        ({"retry-after": "1.5e1"}, 15.0),
        ({"retry-after": "7."}, 7.0),
        ({"retry-after": "0.0000000000001"}, 1e-13),
        ({"retry-after": "1e-3"}, 0.001),
        ({"retry-after": "1e9"}, LONGEST_RETRY_AFTER),
        ({"retry-after": "1e999"}, LONGEST_RETRY_AFTER),
        ({"retry-after": "9" * 20}, LONGEST_RETRY_AFTER),
        ({"retry-after": "9" * 400}, LONGEST_RETRY_AFTER),
        ({"retry-after-ms": "9" * 400}, LONGEST_RETRY_AFTER),
        ({"retry-after": "-9999999999999999999"}, None),
        ({"retry-after": "1_000"}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after": "e3"}, None),
        ({"retry-after": "1e"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "5, 5"}, None),
    ],
    ids=readable,
)
def test_retry_after_is_parsed_in_every_form(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert parse_retry_after(headers) == seconds


@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ["retry-after", "retry-after-ms", "date"],
            st.text() | st.just(DATE) | st.lists(st.sampled_from(PIECES)).map(" ".join),
        ),
    )
)
def test_any_headers_have_no_retry_after_or_a_number_of_seconds(headers: dict[str, str]) -> None:
    seconds = parse_retry_after(headers)
    assert seconds is None or 0 <= seconds <= LONGEST_RETRY_AFTER
