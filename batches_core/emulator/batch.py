"""One batch of the emulator: its state at any time, and its results.

The state is computed from the time of each call; nothing happens between calls. `endpoints` keeps
the batches and serves them.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec

from .answers import Responder, Result, errored
from .digest import digest
from .fault_rules import FaultRule
from .params import check_params

#: When a batch expires and how long its results are kept, in seconds after its creation: 24 hours
#: and 29 days, as documented for the service.
_EXPIRES_AFTER = 24 * 3600.0
_ARCHIVED_AFTER = 29 * 24 * 3600.0
#: The resolution of the share of requests that fail: a millionth.
_GRAIN = 1_000_000
#: The owner of a batch: the ids of an organization and of a workspace in it.
Owner: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast the emulator processes a batch.

    It processes `parallel` requests at a time, each for at most `seconds_per_request`.
    """

    parallel: int
    seconds_per_request: float


def timestamp(moment: float) -> str:
    """Write seconds since the epoch as the live service does: microseconds and an offset."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds")


def _timestamp_or_none(moment: float | None) -> str | None:
    return None if moment is None else timestamp(moment)


class EmulatedBatch:
    """One batch: its requests, what was done to it, and its fault.

    `requests` are pairs of custom_id and encoded params. All times are seconds since the epoch;
    `now` is the time of the call. `version` and `user_profile_id` come from the create's headers;
    `check_params` uses them. `errored` is the share of the valid requests that fail. `fault` is a
    rule with faults of a batch; see `FaultRule`. The `owner` has no effect on the batch.
    """

    def __init__(
        self,
        *,
        id_: str,
        requests: list[tuple[str, msgspec.Raw]],
        created_at: float,
        version: str,
        pace: Pace,
        responder: Responder,
        fault: FaultRule | None = None,
        owner: Owner = ("", ""),
        user_profile_id: str | None = None,
        errored: float = 0.0,
    ) -> None:
        self.id = id_
        self.owner = owner
        #: When processing began. A fault can skew the time that the batch reports.
        self.created_at = created_at
        reported = created_at + (0.0 if fault is None else fault.created_at_skew)
        self.created_at_text = timestamp(reported)
        self._archived_at = reported + _ARCHIVED_AFTER
        self._expires_at = reported + _EXPIRES_AFTER
        self.canceled_at: float | None = None
        self._requests = requests
        self._version = version
        self._user_profile_id = user_profile_id
        self._errored = errored
        self._pace = pace
        self._responder = responder
        self._ends_at = min(self._expires_at, self._last_finish(len(requests)))
        self._lines: list[bytes] | None = None
        self._counts: Counter[str] = Counter()
        self._fault = fault
        self._expired: frozenset[int] = frozenset()
        if fault is not None and fault.expired:
            self._expired = self._choose_expired(fault.expired)
            self._expires_at = self._ends_at

    def _choose_expired(self, share: float) -> frozenset[int]:
        count = len(self._requests)
        order = sorted(range(count), key=lambda index: digest(self.id, str(index), "expired"))
        return frozenset(order[: math.ceil(share * count)])

    # --- time --------------------------------------------------------------------------

    def _start(self, index: int) -> float:
        return self.created_at + index // self._pace.parallel * self._pace.seconds_per_request

    def _finish(self, index: int) -> float:
        # A request takes between half and all of `seconds_per_request`, so each round of parallel
        # requests is over before the next one starts.
        share = 0.5 + digest(self.id, str(index)) % 1000 / 2000
        return self._start(index) + share * self._pace.seconds_per_request

    def _last_finish(self, count: int) -> float:
        last_round = range(max(0, count - self._pace.parallel), count)
        return max((self._finish(index) for index in last_round), default=self.created_at)

    def ended(self, now: float) -> bool:
        """Whether processing has ended."""
        return now >= self._ends_at

    def archived_at(self, now: float) -> float | None:
        """Return since when the results are archived, or None if they are still available."""
        if self._fault is not None and self._fault.archived and self.ended(now):
            return self._ends_at
        return self._archived_at if now >= self._archived_at else None

    def waiting(self, now: float) -> int:
        """Return how many requests are not processed yet."""
        if self.ended(now):
            return 0
        rounds = int((now - self.created_at) / self._pace.seconds_per_request)
        return max(0, len(self._requests) - rounds * self._pace.parallel)

    def succeeded(self, now: float) -> int:
        """Return how many requests were answered, and so are billed."""
        if not self.ended(now):
            return 0
        self.lines()
        return self._counts["succeeded"]

    def is_missing(self, now: float) -> bool:
        """Whether a fault makes every request for the batch a 404."""
        return self._fault is not None and now < self.created_at + self._fault.missing_for

    def is_unlisted(self, now: float) -> bool:
        """Whether a fault leaves the batch out of lists."""
        return self._fault is not None and now < self.created_at + self._fault.unlisted_for

    def cancel(self, now: float) -> None:
        """Start no more requests; those that have started are finished."""
        if self.canceled_at is None:
            self.canceled_at = now
            started = sum(self._start(index) <= now for index in range(len(self._requests)))
            self._ends_at = min(self._ends_at, max(now, self._last_finish(started)))

    # --- what a client sees ------------------------------------------------------------

    def describe(self, now: float, origin: str) -> dict[str, Any]:
        """Return the batch as a JSON object; `origin` is the start of its ``results_url``.

        Every count but ``processing`` stays 0 until the batch has ended.
        """
        counts = dict.fromkeys(("canceled", "errored", "expired", "processing", "succeeded"), 0)
        status = "in_progress" if self.canceled_at is None else "canceling"
        ended_at = results_url = archived_at = None
        if self.ended(now):
            status = "ended"
            ended_at = self._ends_at
            self.lines()
            counts.update(self._counts)
            archived_at = self.archived_at(now)
            if archived_at is None:
                results_url = self._results_url(origin)
        else:
            counts["processing"] = len(self._requests)
        return {
            "archived_at": _timestamp_or_none(archived_at),
            "cancel_initiated_at": _timestamp_or_none(self.canceled_at),
            "created_at": self.created_at_text,
            "ended_at": _timestamp_or_none(ended_at),
            "expires_at": timestamp(self._expires_at),
            "id": self.id,
            "processing_status": status,
            "request_counts": counts,
            "results_url": results_url,
            "type": "message_batch",
        }

    def _results_url(self, origin: str) -> str:
        template = "{origin}/v1/messages/batches/{id}/results"
        if self._fault is not None and self._fault.results_url is not None:
            template = self._fault.results_url
        return template.replace("{origin}", origin).replace("{id}", self.id)

    def lines(self) -> list[bytes]:
        """Return the results of an ended batch, one line each, not in the order of the requests."""
        if self._lines is None:
            order = sorted(range(len(self._requests)), key=lambda i: digest(self.id, str(i), "at"))
            lines = []
            counts: Counter[str] = Counter()
            for index in order:
                custom_id, _ = self._requests[index]
                result = self._result(index)
                counts[result["type"]] += 1
                line = msgspec.json.encode({"custom_id": custom_id, "result": result})
                lines.append(line + b"\n")
            # Store nothing before the loop is done: if the responder raises, the next call starts
            # again.
            self._counts, self._lines = counts, lines
            self._requests = []
        return self._lines

    def _fails(self, index: int) -> bool:
        # The batch's id is part of the digest, so the same request can succeed in another batch.
        return digest(self.id, str(index), "errored") % _GRAIN < self._errored * _GRAIN

    def _result(self, index: int) -> Result:
        if self.canceled_at is not None and self._start(index) > self.canceled_at:
            return {"type": "canceled"}
        if index in self._expired or self._finish(index) > self._expires_at:
            return {"type": "expired"}
        custom_id, encoded = self._requests[index]
        params = msgspec.json.decode(encoded)
        problem = check_params(params, self._version, self._user_profile_id)
        if problem is None and self._fails(index):
            problem = "api_error", "Internal server error"
        if problem is not None:
            return errored(*problem, f"req_01{digest(self.id, custom_id):032x}"[:28])
        return self._responder(custom_id, params)
