"""One call of one operation: what it went through, and when its end is right.

Knows what the network and the driver did to the call, and so how soon it may give up and how long
it may take; not what its value has to be, which is the scripts' to say.
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

#: Rounding of the two clocks, in seconds.
EPSILON = 1e-3


class Told(NamedTuple):
    """What one delivered item said, without the objects that the core handed out."""

    type: str
    custom_id: str | None
    text: str


class Call:
    """One operation under way.

    `attempts` is how many failures it has to bear; an error that passes is right only after as
    many. A `calm` one meets no faults at all.
    """

    def __init__(self, world: World, name: str, label: str, policy: RetryPolicy) -> None:
        self.world = world
        self.name = name
        self.label = label
        self.policy = policy
        self.calm = False
        #: After how many directives the process of this client dies.
        self.dies_after: int | None = None
        #: After how many events and directives its caller stops it, and the error that did.
        self.interrupts_after: int | None = None
        self.interruption: BaseException | None = None
        #: What the process knew at the end of this create of those that returned no batch.
        self.unfinished: list[OutcomeUnknownError | MessageBatch] = []
        self.events: list[Any] = []
        self.delivered: list[Told] = []
        self.value: Any = None
        self.error: BatchesError | None = None
        self.ended = False
        self.adopted = False
        #: Whether another create of as many requests was in doubt at the same time.
        self.is_contested = False

        #: When the operation was first told the time, which it counts its timeouts from.
        self.started = self.sent_at = world.now
        self.is_timed = False
        #: The credential that the present exchange carries, for peers that repeat it.
        self.credential = "nobody"
        self.exchanges = 0
        self.failures = 0
        self.kinds: list[str] = []
        self.ambiguous = 0
        self.redirects = 0
        self.untrusted = False
        #: The statuses that the peer sent and that no later try would better.
        self.final: set[int] = set()
        self.statuses: set[int] = set()
        self.longest_wait = max(policy.max_delay, 0.0)
        #: Seconds in exchanges, in waits, and by which the driver was late.
        self.busy = self.waited = self.late = 0.0
        self.last_exchange = self.longest_exchange = 0.0
        self.failing_since: float | None = None
        #: For how long failures in a row may be waited out, where that has a limit.
        self.max_outage = float("inf")
        self.last_failure: float | None = None
        self.is_failing = False
        #: Whether the driver keeps the deadlines of the operation.
        self.keeps_deadlines = False

    # --- told by the network and the driver ------------------------------------------------

    def start(self) -> None:
        self.started = self.world.now
        self.is_timed = True

    def begin_exchange(self) -> None:
        since = self.failing_since
        if since is not None and self.world.now - since > self.max_outage + self.late + EPSILON:
            self.violate("goes on in an outage that is too long")
        self.exchanges += 1
        self.world.exchanges += 1
        self.sent_at = self.world.now
        self.last_exchange = 0.0
        self.is_failing = False

    def fail(self, kind: str) -> None:
        """Count a failure of this exchange, of whatever kind."""
        if not self.is_failing:
            self.failures += 1
            self.is_failing = True
        self.kinds.append(kind)
        self.world.fault(kind)

    def finish_exchange(self) -> None:
        if self.is_failing:
            now = self.world.now
            self.failing_since = now if self.failing_since is None else self.failing_since
            self.last_failure = now
        else:
            self.failing_since = None

    def take(self, event: Any) -> None:
        # The error in an event of a failure holds the frames that it went through.
        if not isinstance(event, ResultsInterrupted | RetryScheduled | SettlingStarted):
            self.events.append(event)
        if isinstance(event, BatchCreated):
            self.adopted = event.adopted
        self.check_text(event)
        if self.world.trace is not None:
            self.world.note(f"  {self.name} {self.label}: {event!r}")

    # --- how it ended ------------------------------------------------------------------------

    @property
    def outcome(self) -> str:
        if self.error is not None:
            return type(self.error).__name__
        if not self.ended:
            return "died" if self.interruption is None else "interrupted"
        return "adopted" if self.adopted else "none" if self.found_none else "done"

    @property
    def found_none(self) -> bool:
        return self.name == "settle" and self.value is None

    def close(self) -> None:
        """Hold the end against what every operation promises."""
        self.world.outcomes[f"{self.name}: {self.outcome}"] += 1
        self.world.note(f"  {self.name} {self.label}: {self.outcome} {self.error or ''}")
        if self.error is not None:
            for error in chain_of(self.error):
                self.check_text(error)

    def check_text(self, shown: object) -> None:
        """No text of an event or error may show the credential."""
        texts = (repr(shown), str(shown)) if isinstance(shown, BaseException) else (repr(shown),)
        if isinstance(shown, BaseException):
            texts = (*texts, repr(shown.args), repr(shown.__dict__))
        if any(self.world.secret in text for text in texts):
            self.violate(f"credential in the text of {type(shown).__name__}")

    def violate(self, what: str) -> None:
        self.world.violate(f"{what}: {self._told()}")

    def doubt(self, what: str) -> None:
        self.world.doubt(f"{what}: {self._told()}")

    def _told(self) -> str:
        return (
            f"{self.name} {self.label}, {self.failures} failures of {self.exchanges} exchanges, "
            f"{self.policy.attempts} attempts, ended with {self.outcome} {self.error or ''}"
        )

    # --- what is right for many ----------------------------------------------------------------

    def check_retried(self, *, needed: int, more_waiting: float = 0.0) -> None:
        """Judge an operation that takes so many good exchanges and is given up by its policy."""
        self.check_patience()
        self.check_effort(needed=needed, more_waiting=more_waiting)

    def check_patience(self) -> None:
        """An error is right that says what was met, and that a further try would not have met."""
        error = self.error
        if error is None:
            return
        if isinstance(error, APIStatusError) and error.status not in self.statuses:
            self.violate("error of an answer that nobody gave")
        passes = isinstance(error, (APIStatusError, TransportError, RemoteProtocolError))
        if not passes:
            self.violate("error of a kind that nothing gave cause for")
        if self.failures < self.policy.attempts and not self.final:
            self.violate("gave up too early")

    def check_effort(self, *, needed: int, more_waiting: float = 0.0) -> None:
        """The end comes in bounded exchanges and bounded virtual time."""
        if self.exchanges - self.failures > needed + self.redirects:
            self.violate(f"more exchanges than the {needed} that it takes")
        bound = self.failures * self.longest_wait + more_waiting + self.late + EPSILON
        if self.waited > bound:
            self.violate(f"waited {self.waited:.3f} s, more than {bound:.3f} s")

    def check_unknown(self) -> None:
        """A create's outcome is unknown only where its answer was lost."""
        if isinstance(self.error, OutcomeUnknownError):
            if not self.ambiguous and self.name == "create":
                self.violate("outcome unknown that nothing made unknown")
            if self.error.candidates and not self.is_contested and not self.world.is_skewed:
                self.doubt("candidates where only one batch can be it")


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Give an error and all errors behind it."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            left += [each.__cause__, each.__context__]


def counted(ids: list[str]) -> list[str]:
    """Give what is in a list more than once."""
    return [id_ for id_, times in Counter(ids).items() if times > 1]
