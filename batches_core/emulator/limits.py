"""The limits of an account: requests per minute, and rows that wait in the queue.

`service` and `endpoints` ask; `access` decides which account a request belongs to.
"""

from __future__ import annotations

from collections import deque

from .refusals import RefusedError

_MINUTE = 60.0
#: What a full queue suggests to wait, in seconds. What the service suggests is not documented.
_QUEUE_WAIT = 30.0


class Limits:
    """The limits of every account of an emulator; None means no limit.

    - `queue_limit`: requests of batches that are not processed yet, per organization;
    - `requests_per_minute`: HTTP requests, per organization.
    """

    def __init__(self, queue_limit: int | None, requests_per_minute: int | None) -> None:
        for name, limit in (
            ("queue_limit", queue_limit),
            ("requests_per_minute", requests_per_minute),
        ):
            if limit is not None and limit < 1:
                raise ValueError(f"{name} must be 1 or more, not {limit!r}")
        self._queue_limit = queue_limit
        self._requests_per_minute = requests_per_minute
        self._recent: dict[str, deque[float]] = {}

    def check_rate(self, organization: str, now: float) -> None:
        """Count an HTTP request.

        Raises:
            RefusedError: there were too many in the last minute (429).
        """
        if self._requests_per_minute is None:
            return
        recent = self._recent.setdefault(organization, deque())
        while recent and recent[0] <= now - _MINUTE:
            recent.popleft()
        if len(recent) >= self._requests_per_minute:
            raise RefusedError(
                429,
                "rate_limit_error",
                f"This organization may send {self._requests_per_minute} requests per minute",
                retry_after=recent[0] + _MINUTE - now,
            )
        recent.append(now)

    def check_queue(self, waiting: int, requests: int) -> None:
        """Check that a batch of so many requests fits into the queue, in which others wait.

        Raises:
            RefusedError: it does not (429).
        """
        if self._queue_limit is not None and waiting + requests > self._queue_limit:
            raise RefusedError(
                429,
                "rate_limit_error",
                f"{waiting} requests wait to be processed, and {self._queue_limit} may",
                retry_after=_QUEUE_WAIT,
            )
