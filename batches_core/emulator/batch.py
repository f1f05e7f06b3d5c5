"""One batch of the emulator and its life in time.

Knows when each request is worked on and what becomes of the batch; not HTTP. Nothing happens
between two looks at it: its state is worked out from the time of the look.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec

from .faults import FaultRule
from .replies import Responder, Result, check_params, digest, errored

#: The service's figures: a batch expires after a day, its results are kept for 29.
EXPIRES_AFTER = 24 * 3600.0
ARCHIVED_AFTER = 29 * 24 * 3600.0
#: How finely the share of the requests that fail is measured.
_GRAIN = 1_000_000
#: Whose a batch is: an organization's, and there of a workspace.
Owner: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast the emulator works: so many requests at a time, each so long on average."""

    parallel: int
    seconds_per_request: float


def timestamp(moment: float) -> str:
    """Write a time as the live service does, with microseconds and an offset."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds")


def _timestamp_or_none(moment: float | None) -> str | None:
    return None if moment is None else timestamp(moment)


class EmulatedBatch:
    """One batch: its requests as (custom_id, params as JSON), what was done to it, and its fault.

    A `fault` is a rule about batches; what its fields mean is documented there. Nothing here
    depends on the `owner`. `errored` is the share of its valid requests that fail.
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
        self.created_at = created_at
        #: When it says that it was created, which is another time if that clock is skewed.
        self.stamped_at = created_at + (0.0 if fault is None else fault.created_at_skew)
        self.stamp = timestamp(self.stamped_at)
        self.expires_at = self.stamped_at + EXPIRES_AFTER
        self.canceled_at: float | None = None
        self._requests = requests
        self._version = version
        self._user_profile_id = user_profile_id
        self._errored = errored
        self._pace = pace
        self._responder = responder
        self._ends_at = min(self.expires_at, self._last_finish(len(requests)))
        self._lines: list[bytes] | None = None
        self._counts: Counter[str] = Counter()
        self._fault = fault
        self._expired: frozenset[int] = frozenset()
        if fault is not None and fault.expired:
            self._expired = self._chosen_to_expire(fault.expired)
            self.expires_at = self._ends_at

    def _chosen_to_expire(self, share: float) -> frozenset[int]:
        count = len(self._requests)
        order = sorted(range(count), key=lambda index: digest(self.id, str(index), "expired"))
        return frozenset(order[: math.ceil(share * count)])

    # --- time ----------------------------------------------------------------------------

    def _started(self, index: int) -> float:
        return self.created_at + index // self._pace.parallel * self._pace.seconds_per_request

    def _finished(self, index: int) -> float:
        # Between a half and the whole of the average's span, so that a round is over before the
        # next one starts.
        share = 0.5 + digest(self.id, str(index)) % 1000 / 2000
        return self._started(index) + share * self._pace.seconds_per_request

    def _last_finish(self, count: int) -> float:
        last_round = range(max(0, count - self._pace.parallel), count)
        return max((self._finished(index) for index in last_round), default=self.created_at)

    def ended(self, now: float) -> bool:
        """Whether processing is over."""
        return now >= self._ends_at

    def archived_at(self, now: float) -> float | None:
        """Give the time since which the results are gone, if they are."""
        if self._fault is not None and self._fault.archived and self.ended(now):
            return self._ends_at
        moment = self.stamped_at + ARCHIVED_AFTER
        return moment if now >= moment else None

    def missing(self, now: float) -> bool:
        """Whether a fault still hides the batch from those who ask for it."""
        return self._fault is not None and now < self.created_at + self._fault.missing_for

    def unlisted(self, now: float) -> bool:
        """Whether a fault still keeps the batch out of lists."""
        return self._fault is not None and now < self.created_at + self._fault.unlisted_for

    def cancel(self, now: float) -> None:
        """Stop taking up requests; those under way are finished."""
        if self.canceled_at is None:
            self.canceled_at = now
            begun = sum(self._started(index) <= now for index in range(len(self._requests)))
            self._ends_at = min(self._ends_at, max(now, self._last_finish(begun)))

    # --- what a client sees --------------------------------------------------------------

    def describe(self, now: float, origin: str) -> dict[str, Any]:
        """Give the batch as JSON; all counts but one stay 0 until it has ended."""
        counts = dict.fromkeys(("canceled", "errored", "expired", "processing", "succeeded"), 0)
        status = "in_progress" if self.canceled_at is None else "canceling"
        ended_at = results_url = archived_at = None
        if self.ended(now):
            status = "ended"
            ended_at = self._ends_at
            self._work_off()
            counts.update(self._counts)
            archived_at = self.archived_at(now)
            if archived_at is None:
                results_url = self._results_url(origin)
        else:
            counts["processing"] = len(self._requests)
        return {
            "archived_at": _timestamp_or_none(archived_at),
            "cancel_initiated_at": _timestamp_or_none(self.canceled_at),
            "created_at": self.stamp,
            "ended_at": _timestamp_or_none(ended_at),
            "expires_at": timestamp(self.expires_at),
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
        """Give the results of an ended batch, a line each, in an order of the service's own."""
        return self._work_off()

    def _work_off(self) -> list[bytes]:
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
            # Kept only now: a responder may have failed before, and is asked again then.
            self._counts, self._lines = counts, lines
            self._requests = []
        return self._lines

    def _fails(self, index: int) -> bool:
        # By the batch's id, too: what failed may succeed in the next batch.
        return digest(self.id, str(index), "errored") % _GRAIN < self._errored * _GRAIN

    def _result(self, index: int) -> Result:
        if self.canceled_at is not None and self._started(index) > self.canceled_at:
            return {"type": "canceled"}
        if index in self._expired or self._finished(index) > self.expires_at:
            return {"type": "expired"}
        custom_id, encoded = self._requests[index]
        params = msgspec.json.decode(encoded)
        fault = check_params(params, self._version, self._user_profile_id)
        if fault is None and self._fails(index):
            fault = "api_error", "Internal server error"
        if fault is not None:
            return errored(*fault, f"req_01{digest(self.id, custom_id):032x}"[:28])
        return self._responder(custom_id, params)
