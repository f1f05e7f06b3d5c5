"""One operation under any inputs, legal or not, in any order and on any clock.

Knows the contract of `Operation` as its documentation tells it, from the outside: what may be
passed when, and what can come out. Beside the operation there is a twin that is passed only
what is legal and in time; both have to say the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import event, note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from batches_core import (
    BatchCreated,
    BatchesError,
    BatchState,
    CreateMarked,
    Done,
    LocalProtocolError,
    MalformedResultError,
    Need,
    Operation,
    OutcomeUnknownError,
    PageReceived,
    Request,
    ResultsInterrupted,
    ResultsReceived,
    RetryScheduled,
    SendRequest,
    SettlingStarted,
    WaitUntil,
)

from .peer import HEADERS, KINDS, STATUSES, TIMEOUT, bodies_for, operation, shown

#: What may come for an exchange, by where it stands; what is not here is illegal.
LEGAL = {
    ("sent", "informational"): "sent",
    ("sent", "head"): "body",
    ("sent", "lost"): "lost",
    ("body", "data"): "body",
    ("body", "eof"): "complete",
    ("body", "lost"): "lost",
    ("complete", "lost"): "complete",
    ("lost", "lost"): "lost",
}
EVENTS = (
    *(BatchCreated, BatchState, CreateMarked, PageReceived, ResultsInterrupted),
    *(ResultsReceived, RetryScheduled, SettlingStarted),
)

#: Some whole answers: a status, headers, which of the bodies that fit, and how it ends.
ANSWERS = st.lists(
    st.tuples(
        st.one_of(st.just(200), st.just(200), st.sampled_from(STATUSES)),
        st.one_of(st.just(()), st.sampled_from(HEADERS)),
        st.integers(0, 12),
        st.sampled_from(["eof", "eof", "eof", "lost"]),
    ),
    max_size=8,
)

Input = Callable[[Operation[Any], int], None]
Headers = tuple[tuple[str, str], ...]
Answer = tuple[int, Headers, int, str]


class Sent:
    """What is known of one exchange: its request, where it stands, and what came for it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.state = "sent"
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.left = True
        self.body = bytearray()

    @property
    def surely_had_no_effect(self) -> bool:
        if self.status is None:
            return not self.left
        return self.status in {429, 529} or self.headers.get("x-should-retry") == "true"


def position(operation: Operation[Any]) -> list[int]:
    """Where an operation's script stands, and each script that it runs."""
    found = []
    script: Any = operation._flow
    while script is not None and script.gi_frame is not None:
        found.append(script.gi_frame.f_lasti)
        script = script.gi_yieldfrom
    return found


def inside(operation: Operation[Any]) -> object:
    """What inputs leave behind in an operation, but for the time."""
    exchange = operation._context._exchange
    return exchange and (exchange.number, exchange.state, list(exchange.inbox))


class OperationMachine(RuleBasedStateMachine):
    """Rules pass one thing each; `pull` asks what is next, and judges it."""

    @initialize(
        kind=st.sampled_from(sorted(KINDS)),
        attempts=st.integers(1, 4),
        jitter=st.sampled_from([0.0, 0.5, 1.0]),
        told=st.booleans(),
        pulls=st.sampled_from([3, 2, 1, 0]),
        answers=ANSWERS,
    )
    def start(
        self,
        *,
        kind: str,
        attempts: int,
        jitter: float,
        told: bool,
        pulls: int,
        answers: list[Answer],
    ) -> None:
        event(kind)
        self.kind = kind
        self.operation = operation(kind, attempts=attempts, jitter=lambda: jitter)
        self.twin = operation(kind, attempts=attempts, jitter=lambda: jitter)
        self.exchanges: list[Sent] = []
        self.now = -math.inf
        self.started = -math.inf
        self.deadline = 0.0
        self.end: object = None
        self.waiting: object = None
        self.delivered = {"a"} if kind == "raw results, going on" else set[str]()
        self.malformed: Counter[bytes] = Counter()
        self.pages: set[str] = set()
        self.created = False
        self.may_post = True
        if told:
            self.tell(1000.0)
        self.pull_so_often(pulls)
        self.play(answers)

    # --- inputs --------------------------------------------------------------------------

    def tell(self, now: float) -> None:
        self.operation.handle_timeout(now)
        self.twin.handle_timeout(now)
        self.take_time(now)

    def take_time(self, now: float) -> None:
        if self.now == -math.inf:
            self.started = now
        self.now = max(self.now, now)
        if isinstance(self.waiting, WaitUntil) and self.now >= self.waiting.deadline:
            self.waiting = None
        deadline = self.operation.deadline
        if self.waiting is Need.DATA and deadline is not None and self.now >= deadline:
            self.waiting = None

    def hand_in(self, number: int, now: float, what: str, input_: Input) -> bool:
        """Hand something in, legal or not; whether it was taken."""
        newest = len(self.exchanges)
        exchange = self.exchanges[-1] if 0 < number == newest else None
        is_known = newest > 0 and number <= newest
        is_told = is_known and not math.isnan(now)
        is_dropped = number < newest or (exchange is not None and exchange.state == "given up")
        is_legal = is_told and what != "nonsense"
        taken = False
        if is_legal and exchange is not None and not is_dropped:
            taken = is_legal = (exchange.state, what) in LEGAL
        # What is older is dropped unread.
        is_legal = is_legal or (is_told and number < newest)
        before, was = position(self.operation), inside(self.operation)
        refused: LocalProtocolError | None = None
        try:
            input_(self.operation, number)
        except LocalProtocolError as error:
            refused = error
        assert (refused is None) == is_legal, f"{what} for {number}: {refused and shown(refused)}"
        assert position(self.operation) == before, "an input moved the script"
        if taken and exchange is not None:
            self.waiting = None
            exchange.state = LEGAL[exchange.state, what]
            input_(self.twin, number)
        else:
            assert inside(self.operation) == was, "what is refused or stale left a trace"
            if is_told:
                self.twin.handle_timeout(now)
        if is_told:
            self.take_time(now)
        return taken

    def number(self, which: int) -> int:
        return len(self.exchanges) + which

    def time(self, when: str | float) -> float:
        if when == "deadline":
            return self.deadline
        base = 1000.0 if self.now == -math.inf else self.now
        return base + float(when)

    numbers = st.sampled_from([0, 0, 0, 0, 0, 0, -1, -1, -2, 1, 7])
    times = st.one_of(
        st.just(0.0),
        st.just("deadline"),
        st.floats(0, 100),
        st.floats(-5000, 0),
        st.sampled_from([0.5, 1.0, 30.0, 700.0, math.nan]),
    )
    #: How often is asked what is next, after an input.
    pulls = st.sampled_from([0, 0, 1, 2, 3, 4])

    @rule(
        which=numbers,
        status=st.one_of(st.sampled_from(STATUSES), st.integers(100, 199)),
        headers=st.sampled_from(HEADERS),
        when=times,
        pulls=pulls,
    )
    def head(
        self, *, which: int, status: int, headers: Headers, when: str | float, pulls: int
    ) -> None:
        now = self.time(when)
        what = "informational" if status < 200 else "head"
        taken = self.hand_in(
            self.number(which),
            now,
            what,
            lambda op, number: op.receive_head(number, status, headers, now),
        )
        if taken and what == "head":
            self.exchanges[-1].status = status
            self.exchanges[-1].headers = dict(headers)
        self.pull_so_often(pulls)

    @rule(
        which=numbers,
        body=st.integers(0, 40),
        cut=st.one_of(st.none(), st.integers(0, 400)),
        more=st.binary(max_size=6),
        when=times,
        pulls=pulls,
    )
    def data(
        self,
        *,
        which: int,
        body: int,
        cut: int | None,
        more: bytes,
        when: str | float,
        pulls: int,
    ) -> None:
        bodies = bodies_for(self.exchanges[-1].request) if self.exchanges else (b"{}",)
        piece = (bodies[body % len(bodies)][:cut] + more) or b"\n"
        now = self.time(when)
        taken = self.hand_in(
            self.number(which),
            now,
            "data",
            lambda op, number: op.receive_data(number, piece, now),
        )
        if taken:
            self.exchanges[-1].body += piece
        self.pull_so_often(pulls)

    @rule(which=numbers, when=times, pulls=pulls)
    def eof(self, *, which: int, when: str | float, pulls: int) -> None:
        now = self.time(when)
        self.hand_in(self.number(which), now, "eof", lambda op, number: op.receive_eof(number, now))
        self.pull_so_often(pulls)

    @rule(which=numbers, sent=st.booleans(), when=times, pulls=pulls)
    def lost(self, *, which: int, sent: bool, when: str | float, pulls: int) -> None:
        now = self.time(when)
        was = self.exchanges[-1].state if self.exchanges else ""
        taken = self.hand_in(
            self.number(which),
            now,
            "lost",
            lambda op, number: op.connection_lost(number, "reset", now, sent=sent),
        )
        if taken and was == "sent":
            self.exchanges[-1].left = sent
        self.pull_so_often(pulls)

    @rule(
        which=numbers,
        nonsense=st.sampled_from([0, 99, 1000, -200, "headers", "no bytes"]),
        when=times,
        pulls=pulls,
    )
    def nonsense(self, *, which: int, nonsense: int | str, when: str | float, pulls: int) -> None:
        now = self.time(when)
        headers: Any = [("a",)]

        def input_(op: Operation[Any], number: int) -> None:
            if nonsense == "no bytes":
                op.receive_data(number, b"", now)
            elif isinstance(nonsense, int):
                op.receive_head(number, nonsense, (), now)
            else:
                op.receive_head(number, 200, headers, now)

        self.hand_in(self.number(which), now, "nonsense", input_)
        self.pull_so_often(pulls)

    @rule(when=times, pulls=pulls)
    def timeout(self, *, when: str | float, pulls: int) -> None:
        now = self.time(when)
        before, was = position(self.operation), inside(self.operation)
        try:
            self.tell(now)
        except LocalProtocolError:
            assert math.isnan(now)
        assert (position(self.operation), inside(self.operation)) == (before, was)
        self.pull_so_often(pulls)

    @rule(now=st.sampled_from([math.inf, 1e300, 1e9]))
    def end_of_time(self, now: float) -> None:
        self.tell(now)

    @rule(pulls=st.integers(1, 9))
    def only_pull(self, pulls: int) -> None:
        self.pull_so_often(pulls)

    @rule(answers=ANSWERS)
    def play(self, answers: list[Answer]) -> None:
        """Driver it as a driver does for a while, so that scripts get far."""
        for status, headers, body, end in answers:
            self.pull_to_the_next_wait()
            if isinstance(self.waiting, WaitUntil):
                self.tell(self.waiting.deadline)
                self.pull_to_the_next_wait()
            if self.exchanges[-1].state == "sent":
                self.head(which=0, status=status, headers=headers, when=0.0, pulls=0)
                self.data(which=0, body=body, cut=None, more=b"", when=0.0, pulls=0)
            if end == "eof" and self.exchanges[-1].state == "body":
                self.eof(which=0, when=0.0, pulls=1)
            elif end == "lost":
                self.lost(which=0, sent=status == 200, when=0.0, pulls=2)

    # --- what comes out ------------------------------------------------------------------

    def pull_so_often(self, pulls: int) -> None:
        for _ in range(pulls):
            self.pull()

    def pull(self) -> None:
        got, also = (self.next_of(op) for op in (self.operation, self.twin))
        note(f"→ {got!r}")
        assert shown(got) == shown(also), "what is illegal or stale made a difference"
        if self.end is not None:
            assert got is self.end, "the end does not repeat"
            return
        if self.waiting is not None:
            assert got == self.waiting, "state moved without an input"
        self.judge(got)
        state = self.operation._context._exchange
        if self.exchanges and state is not None:
            newest = self.exchanges[-1]
            if state.state.value == "abandoned":
                newest.state = "given up"
            assert newest.state != "given up" or not state.inbox
        if isinstance(got, (WaitUntil, Done, BatchesError)) and self.exchanges:
            assert self.exchanges[-1].state == "given up"

    def pull_to_the_next_wait(self) -> None:
        for _ in range(50):
            self.pull()
            if self.end is not None or self.waiting is not None:
                return
        raise AssertionError("the operation does not come to rest")

    def next_of(self, operation: Operation[Any]) -> object:
        try:
            return operation.next_event()
        except BatchesError as error:
            return error

    def judge(self, got: object) -> None:
        self.waiting = None
        match got:
            case LocalProtocolError():
                raise AssertionError("the operation blames its driver for its own doing") from got
            case BatchesError():
                self.end = got
            case Done(value=value):
                self.end = got
                assert isinstance(value, KINDS[self.kind][1])
            case SendRequest(exchange=number, request=request):
                self.sends(number, request)
            case Need.DATA:
                exchange = self.exchanges[-1]
                # Otherwise nothing that it waits for could come.
                assert exchange.state in {"sent", "body"}
                inside = self.operation._context._exchange
                assert inside is None or not inside.inbox
                exchange_ends = self.operation.deadline
                assert exchange_ends is None or self.now < exchange_ends
                self.waiting = got
            case WaitUntil(deadline=deadline):
                assert deadline > self.now
                assert self.operation.deadline is None
                if self.kind == "wait_for, at most":
                    assert deadline <= self.started + TIMEOUT
                self.deadline = deadline
                self.waiting = got
            case _:
                assert isinstance(got, EVENTS), got
                self.takes(got)

    def sends(self, number: int, request: Request) -> None:
        assert number == len(self.exchanges) + 1
        is_create = request.method == "POST" and request.body is not None
        if is_create:
            assert self.may_post, "a create was sent again that may have had an effect"
            self.may_post = False
        elif self.kind.startswith("list_all"):
            assert request.target not in self.pages, "a page was read twice"
        self.exchanges.append(Sent(request))

    def takes(self, got: object) -> None:
        newest = self.exchanges[-1] if self.exchanges else None
        match got:
            case RetryScheduled(error=error, delay=delay):
                assert 0 <= delay < math.inf
                assert newest is not None
                if self.kind.startswith("create, ") and isinstance(error, OutcomeUnknownError):
                    self.may_post = True
                elif self.kind.startswith("create") and newest.request.body is not None:
                    self.may_post = newest.surely_had_no_effect
            case PageReceived():
                assert newest is not None
                self.pages.add(newest.request.target)
            case BatchCreated():
                assert not self.created, "a batch was created twice"
                self.created = True
            case ResultsReceived(items=items):
                assert items
                for item in items:
                    if isinstance(item, MalformedResultError):
                        self.malformed[item.raw] += 1
                        assert self.malformed[item.raw] <= self.most_in_a_reading(item.raw)
                    else:
                        assert item.custom_id not in self.delivered, "delivered twice"
                        self.delivered.add(item.custom_id)
            case ResultsInterrupted(delivered=delivered, delay=delay):
                assert delivered == len(self.delivered)
                assert 0 <= delay < math.inf

    def most_in_a_reading(self, line: bytes) -> int:
        """How often a line came in that reading in which it came most often."""
        return max(
            sum(
                each.removesuffix(b"\r") == line or each == line
                for each in bytes(exchange.body).removeprefix(b"\xef\xbb\xbf").split(b"\n")
            )
            for exchange in self.exchanges
        )
