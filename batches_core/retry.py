"""Which failure is tried again, and after how long.

Knows errors and the headers that speak of trying again; no clock and no randomness: the jitter
is passed, and a delay is a number of seconds that somebody else waits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime
from email.utils import parsedate_to_datetime, parsedate_tz

from .errors import (
    SPEND_LIMIT_REACHED,
    APIStatusError,
    BatchesError,
    InvalidInputError,
    OutcomeUnknownError,
    RemoteProtocolError,
    TransportError,
)

#: A number from 0 (included) to 1: the share of a delay that is really waited.
Jitter = Callable[[], float]

#: Answers that a later try may better: the crate's list, 504 and 529 included.
RETRIED_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})

#: By how much of itself a wait that the service asks for can be longer.
_RETRY_AFTER_SPREAD = 0.2

#: The longest wait that an answer is taken to ask for, in seconds: any longer one says no more.
LONGEST = 1e9

_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?(e[+-]?[0-9]+)?", re.IGNORECASE)


def no_jitter() -> float:
    """Wait the whole delay, every time: what a core without randomness does by itself."""
    return 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a failed exchange is tried again, and how long before.

    `attempts` counts the first try: 1 means no retries. Before the n-th retry the wait is a
    random share (the jitter) of `initial_delay` * `multiplier` ** (n - 1), at most `max_delay`;
    all in seconds. A wait that the service asks for replaces it, up to `max_retry_after`; 0 seconds
    are no wait.

    Raises:
        InvalidInputError: a figure is out of its range.
    """

    attempts: int = 3
    initial_delay: float = 0.5
    multiplier: float = 2.0
    max_delay: float = 30.0
    max_retry_after: float = 300.0

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or self.attempts < 1:
            raise InvalidInputError(
                "RetryPolicy.attempts counts the first try: it is an int, 1 or more"
            )
        for name in ("initial_delay", "max_delay", "max_retry_after"):
            seconds = getattr(self, name)
            if not 0 <= seconds < math.inf:
                raise InvalidInputError(f"RetryPolicy.{name} is in seconds, 0 or more and finite")
        if not 1 <= self.multiplier < math.inf:
            raise InvalidInputError("RetryPolicy.multiplier is 1 or more and finite")

    def retries(self, error: BatchesError) -> bool:
        """Whether an operation that may be sent twice is tried again after this failure.

        What the service says of it (``x-should-retry``) is believed. An answer that is not the
        protocol is tried again like a network failure: more often than not it is one.
        """
        match error:
            case APIStatusError(should_retry=bool(should)):
                return should
            case APIStatusError(error_code=code, status=status):
                return code != SPEND_LIMIT_REACHED and status in RETRIED_STATUSES
            case OutcomeUnknownError():
                return False
            case _:
                return isinstance(error, (TransportError, RemoteProtocolError))

    def delay(self, retry: int, error: BatchesError, jitter: Jitter) -> float:
        """Give the seconds to wait before the `retry`-th retry, counted from 1."""
        asked = error.retry_after if isinstance(error, APIStatusError) else None
        if asked:  # 0 asks for no wait, and so leaves it to the policy: at once would be too soon
            # A little later, and never sooner, so that those who were told the same come apart.
            return min(asked * (1 + _RETRY_AFTER_SPREAD * (1 - jitter())), self.max_retry_after)
        try:
            grown = self.initial_delay * self.multiplier ** (retry - 1)
        except OverflowError:
            grown = self.max_delay if self.initial_delay else 0.0
        return min(grown, self.max_delay) * jitter()


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read the wait that an answer asks for, in seconds, or None where it asks for none.

    ``retry-after-ms`` comes before ``retry-after``, which is a number of seconds or a date; a
    date counts from the answer's own ``date``, so that the local clock does not matter. A date
    that is past is 0, and whatever is longer than `LONGEST` is that.
    """
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _SECONDS.fullmatch(milliseconds):
        return min(float(milliseconds) / 1000, LONGEST)
    value = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return min(float(value), LONGEST)
    now = http_date(headers.get("date", ""))
    if now is not None and _is_beyond_dates(value):
        return LONGEST
    until = http_date(value)
    if until is None or now is None:
        return None
    return min(max(0.0, (until - now).total_seconds()), LONGEST)


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """Read ``x-should-retry``: True, False, or None where the answer does not say."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())


def _is_beyond_dates(value: str) -> bool:
    """Whether this is a date of a year that no `datetime` can hold."""
    parts = parsedate_tz(value)
    return parts is not None and parts[0] > MAXYEAR


def http_date(value: str) -> datetime | None:
    """Read a date as HTTP's headers have it, or None where it is none."""
    try:
        moment = parsedate_to_datetime(value)
        # A date without a zone is one in GMT, as HTTP's dates are.
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        moment.timestamp()
    except (ValueError, OverflowError):
        return None
    return moment
