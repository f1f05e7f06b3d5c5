"""Which failure is tried again, and after how long."""

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

LOST = TransportError("connection reset", sent=True)


def status(status_: int, **fields: Any) -> APIStatusError:
    return APIStatusError.for_response(status_, fields.pop("type", None), message="no", **fields)


class TestRetries:
    @pytest.mark.parametrize("code", [408, 409, 425, 429, 500, 502, 503, 504, 529])
    def test_statuses_that_may_pass(self, code: int) -> None:
        assert RetryPolicy().retries(status(code))
        assert code in RETRIED_STATUSES

    @pytest.mark.parametrize("code", [300, 307, 400, 401, 402, 403, 404, 410, 413, 422, 501, 505])
    def test_no_statuses_that_do_not_pass(self, code: int) -> None:
        assert not RetryPolicy().retries(status(code))

    @pytest.mark.parametrize("code", [400, 404, 429, 500, 529])
    def test_what_the_service_says_wins(self, code: int) -> None:
        for should in (True, False):
            for error_code in (None, "enforced_spend_limit_reached"):
                error = status(code, should_retry=should, error_code=error_code)
                assert RetryPolicy().retries(error) is should

    def test_no_spend_limit(self) -> None:
        assert not RetryPolicy().retries(status(429, error_code="enforced_spend_limit_reached"))
        assert RetryPolicy().retries(status(429, error_code="something_else"))

    @pytest.mark.parametrize(
        ("error", "again"),
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
    )
    def test_failures_of_the_network_alone(self, error: BatchesError, *, again: bool) -> None:
        assert RetryPolicy().retries(error) is again


class TestDelay:
    def test_is_doubled_up_to_the_cap(self) -> None:
        delays = [RetryPolicy().delay(retry, LOST, no_jitter) for retry in range(1, 10)]
        assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]

    @pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
    def test_is_a_share_of_the_whole(self, share: float) -> None:
        assert RetryPolicy().delay(2, LOST, lambda: share) == share * 1
        assert RetryPolicy().delay(99, LOST, lambda: share) == share * 30

    @pytest.mark.parametrize(
        ("asked", "waited"), [(0.25, 0.25), (7.5, 7.5), (300, 300), (301, 300)]
    )
    def test_that_the_service_asks_for_replaces_it_up_to_a_cap(
        self, asked: float, waited: float
    ) -> None:
        error = status(429, retry_after=asked)
        assert RetryPolicy().delay(5, error, no_jitter) == waited
        # A little later, by chance, so that those who were told the same come apart.
        for share in (0.0, 0.5):
            later = RetryPolicy().delay(5, error, [share].pop)
            assert later == min(asked * (1 + 0.2 * (1 - share)), 300)
        assert RetryPolicy(max_retry_after=2).delay(5, error, no_jitter) == min(asked, 2)

    def test_of_no_seconds_is_no_wait_and_the_policys_own_stands(self) -> None:
        error = status(429, retry_after=0.0)
        assert [RetryPolicy().delay(n, error, no_jitter) for n in (1, 2, 3)] == [0.5, 1, 2]

    @pytest.mark.parametrize("value", ["1e9", "9" * 20, "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
    def test_that_is_huge_is_cut_to_the_cap(self, value: str) -> None:
        error = status(503, retry_after=parse_retry_after({"retry-after": value, "date": DATE}))
        assert RetryPolicy().delay(1, error, no_jitter) == 300

    def test_of_a_status_that_asks_for_none_is_the_policys(self) -> None:
        assert RetryPolicy().delay(3, status(500), no_jitter) == 2

    @pytest.mark.parametrize("multiplier", [1.0, 1.01, 1.1, 2.0, 10.0, 1e6, 1e300])
    def test_grows_as_the_policy_says_however_often(self, multiplier: float) -> None:
        policy = RetryPolicy(initial_delay=0.5, multiplier=multiplier, max_delay=30)
        for retry in (1, 2, 10, 64, 65, 66, 500, 100_000):
            # The exact figure, by its logarithm: no power of it overflows.
            exponent = math.log(0.5) + (retry - 1) * math.log(multiplier)
            wanted = 30.0 if exponent >= math.log(30) else math.exp(exponent)
            assert policy.delay(retry, LOST, no_jitter) == pytest.approx(wanted)

    def test_of_nothing_is_nothing(self) -> None:
        assert RetryPolicy(initial_delay=0).delay(9, LOST, no_jitter) == 0
        assert RetryPolicy(initial_delay=0).delay(10_000, LOST, no_jitter) == 0
        assert RetryPolicy(max_delay=0).delay(9, LOST, no_jitter) == 0


class TestPolicy:
    def test_is_a_value_whose_fields_are_named(self) -> None:
        policy: Any = RetryPolicy()
        make: Any = RetryPolicy
        assert policy == RetryPolicy()
        assert not hasattr(policy, "__dict__")
        with pytest.raises(AttributeError):
            policy.attempts = 5
        with pytest.raises(TypeError):
            make(5)

    def test_has_the_documented_defaults(self) -> None:
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
    )
    def test_refuses_what_is_out_of_range(self, name: str, values: list[float]) -> None:
        for value in values:
            figures: dict[str, Any] = {name: value}
            with pytest.raises(InvalidInputError, match=f"^RetryPolicy.{name} "):
                RetryPolicy(**figures)

    @pytest.mark.parametrize(
        "figures", [{"attempts": 1}, {"initial_delay": 0}, {"max_delay": 0}, {"multiplier": 1}]
    )
    def test_takes_the_border(self, figures: dict[str, Any]) -> None:
        RetryPolicy(**figures)


DATE = "Fri, 01 May 2026 20:29:05 GMT"
#: What dates and numbers are made of, and what only looks like it.
PIECES = ["Mon,", "01", "1", "Jan", "2024", "0001", "9999", "00:00:00", "23:59:60", "GMT"]
PIECES += ["-0000", "+9999", ":", ",", ".", "-", "9" * 20, "٣", "²", "\0"]


class TestRetryAfter:
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
    )
    def test_is_read_in_every_form(self, headers: dict[str, str], seconds: float | None) -> None:
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
    def test_of_any_headers_is_none_or_a_number_of_seconds(self, headers: dict[str, str]) -> None:
        seconds = parse_retry_after(headers)
        assert seconds is None or 0 <= seconds <= LONGEST_RETRY_AFTER


@pytest.mark.parametrize(
    ("value", "should"),
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
def test_the_services_word_on_trying_again_is_read(value: str, *, should: bool | None) -> None:
    assert parse_should_retry({"x-should-retry": value}) is should
    assert parse_should_retry({}) is None
