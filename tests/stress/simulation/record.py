"""The record of one operation: what happened to it, and checks that hold for every operation.

From the record follows how early an operation may fail and how long it may take. The value that it
has to return is checked by the module of its kind: `creating`, `waiting`, `reading`, `scenarios`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from batches_core import (
    APIStatusError,
    BatchCreated,
    BatchesError,
    MessageBatch,
    OutcomeUnknownError,
    RemoteProtocolError,
    ResultsInterrupted,
    RetryPolicy,
    RetryScheduled,
    SettlingStarted,
    TransportError,
)

from .world import World

#: The rounding error between the clocks of the world and of a driver, in seconds.
EPSILON = 1e-3


class ItemSummary(NamedTuple):
    """The content of one delivered item, without a reference to the item itself."""

    type: str
    custom_id: str | None
    text: str


class OperationRecord:
    """What the driver and the network recorded about one operation.

    `name` is the kind of operation, such as "create", and `label` the batch that it is about. An
    operation has to survive as many failures as `policy` has attempts, less one. An `undisturbed`
    operation meets no hazards.
    """

    def __init__(self, world: World, name: str, label: str, policy: RetryPolicy) -> None:
        self.world = world
        self.name = name
        self.label = label
        self.policy = policy
        self.undisturbed = False
        #: The number of directives after which the process of this client dies.
        self.dies_after: int | None = None
        #: The number of events and directives after which the caller interrupts the operation, and
        #: the exception that did.
        self.interrupts_after: int | None = None
        self.interruption: BaseException | None = None
        #: What the process knew, at the end of this create, about creates that returned no batch.
        self.unfinished: list[OutcomeUnknownError | MessageBatch] = []
        self.events: list[Any] = []
        self.delivered: list[ItemSummary] = []
        self.value: Any = None
        self.error: BatchesError | None = None
        self.ended = False
        self.adopted = False
        #: Whether the outcome of another create with as many requests was unknown meanwhile.
        self.is_contested = False

        #: When the operation was first told the time. Its timeouts count from then.
        self.started = self.sent_at = world.now
        self.is_timed = False
        #: The credential in the current request, for peers that repeat it.
        self.credential = "nobody"
        self.exchanges = 0
        self.failures = 0
        self.failure_kinds: list[str] = []
        #: How many failures left open whether the create had an effect.
        self.ambiguous_failures = 0
        self.redirects = 0
        #: Whether a response pointed to a host that is not trusted.
        self.met_untrusted_host = False
        #: The error statuses that the peer sent, and those of them that no retry can change.
        self.statuses: set[int] = set()
        self.final_statuses: set[int] = set()
        self.longest_delay = max(policy.max_delay, 0.0)
        #: Seconds that the operation waited, and by which the driver woke too late.
        self.waited = self.late = 0.0
        #: Seconds that the current or last exchange took, and the longest one.
        self.exchange_time = self.longest_exchange_time = 0.0
        #: When the current outage began: the first of the latest failures in a row.
        self.failing_since: float | None = None
        #: For how many seconds the operation may retry during an outage.
        self.max_outage = float("inf")
        self.last_failure_at: float | None = None
        self.exchange_failed = False
        #: Whether the driver ends exchanges at the operation's deadlines.
        self.keeps_deadlines = False

    # --- called by the driver and the network ----------------------------------------------

    def start_clock(self) -> None:
        """Record that the operation is told the time for the first time."""
        self.started = self.world.now
        self.is_timed = True

    def begin_exchange(self) -> None:
        since = self.failing_since
        if since is not None and self.world.now - since > self.max_outage + self.late + EPSILON:
            self.report_violation("it retries in an outage that is longer than its max_outage")
        self.exchanges += 1
        self.world.exchanges += 1
        self.sent_at = self.world.now
        self.exchange_time = 0.0
        self.exchange_failed = False

    def count_failure(self, kind: str) -> None:
        """Count the current exchange as failed, once, and each kind of hazard that it met."""
        if not self.exchange_failed:
            self.failures += 1
            self.exchange_failed = True
        self.failure_kinds.append(kind)
        self.world.count_hazard(kind)

    def add_exchange_time(self, seconds: float) -> None:
        self.exchange_time += seconds
        self.longest_exchange_time = max(self.longest_exchange_time, self.exchange_time)

    def finish_exchange(self) -> None:
        if self.exchange_failed:
            now = self.world.now
            self.failing_since = now if self.failing_since is None else self.failing_since
            self.last_failure_at = now
        else:
            self.failing_since = None

    def add_event(self, event: Any) -> None:
        # The traceback of an error in these events would keep delivered items alive.
        if not isinstance(event, ResultsInterrupted | RetryScheduled | SettlingStarted):
            self.events.append(event)
        if isinstance(event, BatchCreated):
            self.adopted = event.adopted
        self.check_credential_hidden(event)
        if self.world.trace is not None:
            self.world.note(f"  {self.name} {self.label}: {event!r}")

    # --- how it ended ------------------------------------------------------------------------

    @property
    def outcome(self) -> str:
        if self.error is not None:
            return type(self.error).__name__
        if not self.ended:
            return "died" if self.interruption is None else "interrupted"
        return "adopted" if self.adopted else "none" if self.settled_to_none else "done"

    @property
    def settled_to_none(self) -> bool:
        return self.name == "settle" and self.value is None

    def finish(self) -> None:
        """Count the outcome, and check the error."""
        self.world.outcomes[f"{self.name}: {self.outcome}"] += 1
        self.world.note(f"  {self.name} {self.label}: {self.outcome} {self.error or ''}")
        if self.error is not None:
            for error in error_chain(self.error):
                self.check_credential_hidden(error)

    def check_credential_hidden(self, value: object) -> None:
        """Check that no text of an event, request or error contains the credential."""
        texts = (repr(value), str(value)) if isinstance(value, BaseException) else (repr(value),)
        if isinstance(value, BaseException):
            texts = (*texts, repr(value.args), repr(value.__dict__))
        if any(self.world.credential in text for text in texts):
            self.report_violation(f"the text of a {type(value).__name__} contains the credential")

    def report_violation(self, text: str) -> None:
        self.world.report_violation(f"{text}: {self._summary()}")

    def report_if_promised(self, text: str) -> None:
        self.world.report_if_promised(f"{text}: {self._summary()}")

    def _summary(self) -> str:
        return (
            f"{self.name} {self.label}, {self.failures} failures of {self.exchanges} exchanges, "
            f"{self.policy.attempts} attempts, ended with {self.outcome} {self.error or ''}"
        )

    # --- checks for several kinds of operations ------------------------------------------------

    @property
    def failed_too_early(self) -> bool:
        """Whether a retry that the policy allows could still have succeeded."""
        return self.failures < self.policy.attempts and not self.final_statuses

    def check_retried(self, *, needed: int) -> None:
        """Check an operation that needs `needed` exchanges and retries by its policy."""
        self.check_error()
        self.check_effort(needed=needed)

    def check_error(self) -> None:
        """Check that the network caused the error, and that it came after enough attempts."""
        error = self.error
        if error is None:
            return
        if isinstance(error, APIStatusError) and error.status not in self.statuses:
            self.report_violation("no response had the status of the error")
        if not isinstance(error, (APIStatusError, TransportError, RemoteProtocolError)):
            self.report_violation("nothing that happened can cause this kind of error")
        if self.failed_too_early:
            self.report_violation("it failed before its last attempt")

    def check_effort(self, *, needed: int, more_waiting: float = 0.0) -> None:
        """Check the number of exchanges and the time of waits.

        `needed` is the number of exchanges without a failure. `more_waiting` is the time, in
        seconds, that it may wait besides the delays of its retries.
        """
        if self.exchanges - self.failures > needed + self.redirects:
            self.report_violation(f"it made more exchanges than the {needed} that it needs")
        bound = self.failures * self.longest_delay + more_waiting + self.late + EPSILON
        if self.waited > bound:
            self.report_violation(f"it waited {self.waited:.3f} s, more than {bound:.3f} s")

    def check_outcome_unknown(self) -> None:
        """Check that an unknown outcome has a cause, and candidates only if there is a doubt."""
        if isinstance(self.error, OutcomeUnknownError):
            if not self.ambiguous_failures and self.name == "create":
                self.report_violation("nothing made the outcome unknown")
            if (
                self.error.candidates
                and not self.is_contested
                and not self.world.exceeds_clock_slack
            ):
                self.report_if_promised("it names candidates, and only one batch can be its own")


def error_chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, its causes and its contexts."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            left += [each.__cause__, each.__context__]


def repeated(ids: list[str]) -> list[str]:
    """Return the ids that are in a list more than once."""
    return [id_ for id_, times in Counter(ids).items() if times > 1]
