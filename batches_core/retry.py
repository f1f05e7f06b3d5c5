"""Which failures are retried, and after what delay.

`RetryPolicy` decides from an error alone: it has no clock and no randomness. `call` repeats the
attempts, and the driver waits.
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

#: Returns a number from 0 to 1, both included, by which `RetryPolicy` varies a delay.
Jitter = Callable[[], float]

#: Statuses after which a later attempt may succeed: those of the Rust crate ``claude-api``, and 504
#: and 529.
RETRIED_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})

#: How much the jitter adds at most to a delay that the service asks for, as a share of that delay.
_RETRY_AFTER_SPREAD = 0.2

#: The longest delay that is read from a response, in seconds (31 years). Longer ones are cut to it.
LONGEST_RETRY_AFTER = 1e9

_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?(e[+-]?[0-9]+)?", re.IGNORECASE)


def no_jitter() -> float:
    """Return 1.0, so that each delay is waited in full. The core itself has no randomness."""
    return 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a failed exchange is retried, and after what delays.

    - `attempts`: how many attempts are made, the first included; 3 by default, 1 for no retries.
    - `initial_delay`: the delay before the first retry in seconds, 0.5 by default.
    - `multiplier`: the factor by which the delay grows with each further retry, 2.0 by default.
    - `max_delay`: the longest such delay in seconds, 30 by default.
    - `max_retry_after`: the limit in seconds of a delay that the service asks for, 300 by default.
      A longer one is cut to it.

    The policy's own delays are multiplied by the jitter, a number from 0 to 1. A delay that the
    service asks for replaces them, unless it is 0. It is never shortened, except by
    `max_retry_after`: a jitter of 1 leaves it as it is, and a smaller one adds up to 20 %.

    Raises:
        InvalidInputError: a value is out of range.
    """

    attempts: int = 3
    initial_delay: float = 0.5
    multiplier: float = 2.0
    max_delay: float = 30.0
    max_retry_after: float = 300.0

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or self.attempts < 1:
            raise InvalidInputError(
                "RetryPolicy.attempts must be an int, 1 or more (the first attempt counts), not "
                f"{self.attempts!r}"
            )
        for name in ("initial_delay", "max_delay", "max_retry_after"):
            seconds = getattr(self, name)
            if not 0 <= seconds < math.inf:
                raise InvalidInputError(
                    f"RetryPolicy.{name} must be a number of seconds, 0 or more and finite, not "
                    f"{seconds!r}"
                )
        if not 1 <= self.multiplier < math.inf:
            raise InvalidInputError(
                f"RetryPolicy.multiplier must be 1 or more and finite, not {self.multiplier!r}"
            )

    def retries(self, error: BatchesError) -> bool:
        """Return whether a request that is harmless to repeat is retried after this failure.

        If the response advises for or against it (``x-should-retry``), that decides. A response
        that breaks the protocol is retried like a network failure, because it usually is one.
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
        """Return the delay before the `retry`-th retry, in seconds; `retry` counts from 1."""
        asked = error.retry_after if isinstance(error, APIStatusError) else None
        if asked:  # not 0: an immediate retry would be too soon, so the policy decides
            # Up to 20 % later and never sooner, so that clients with the same delay spread out.
            return min(asked * (1 + _RETRY_AFTER_SPREAD * (1 - jitter())), self.max_retry_after)
        try:
            grown = self.initial_delay * self.multiplier ** (retry - 1)
        except OverflowError:
            grown = self.max_delay if self.initial_delay else 0.0
        return min(grown, self.max_delay) * jitter()


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Parse the delay that a response asks for, in seconds; return None if it asks for none.

    ``retry-after-ms`` has priority over ``retry-after``, which is a number of seconds or a date. A
    date counts from the response's own ``date``, so that the local clock does not matter; without
    that header it is ignored. A date in the past means 0 seconds. The result is at most
    `LONGEST_RETRY_AFTER`.
    """
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _SECONDS.fullmatch(milliseconds):
        return min(float(milliseconds) / 1000, LONGEST_RETRY_AFTER)
    value = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return min(float(value), LONGEST_RETRY_AFTER)
    now = parse_http_date(headers.get("date", ""))
    if now is not None and _exceeds_datetime(value):
        return LONGEST_RETRY_AFTER
    until = parse_http_date(value)
    if until is None or now is None:
        return None
    return min(max(0.0, (until - now).total_seconds()), LONGEST_RETRY_AFTER)


def parse_should_retry(headers: Mapping[str, str]) -> bool | None:
    """Parse ``x-should-retry``; return None if it is neither ``true`` nor ``false``."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())


def _exceeds_datetime(value: str) -> bool:
    """Return whether this is a date in a year after the last one that `datetime` can hold."""
    parts = parsedate_tz(value)
    return parts is not None and parts[0] > MAXYEAR


def parse_http_date(value: str) -> datetime | None:
    """Parse a date in an HTTP header; return None if it is not one."""
    try:
        moment = parsedate_to_datetime(value)
        # HTTP dates are in GMT, so a date without a zone is too.
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        moment.timestamp()
    except (ValueError, OverflowError):
        return None
    return moment
