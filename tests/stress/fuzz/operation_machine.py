"""The state machine for operations: any input, legal or not, in any order and at any time."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from batches_core import Operation, WaitUntil

from .operation_model import OperationModel
from .operations import KINDS
from .responses import HEADERS, STATUSES, bodies_for

Headers: TypeAlias = tuple[tuple[str, str], ...]
#: A response: its status, its headers, which of the bodies for its request, and how it ends.
Response: TypeAlias = tuple[int, Headers, int, str]

RESPONSES = st.lists(
    st.tuples(
        st.one_of(st.just(200), st.just(200), st.sampled_from(STATUSES)),
        st.one_of(st.just(()), st.sampled_from(HEADERS)),
        st.integers(0, 12),
        st.sampled_from(["eof", "eof", "eof", "lost"]),
    ),
    max_size=8,
)


class OperationMachine(RuleBasedStateMachine):
    """Each rule passes one input to the model, and then asks for some events."""

    @initialize(
        kind=st.sampled_from(sorted(KINDS)),
        attempts=st.integers(1, 4),
        jitter=st.sampled_from([0.0, 0.5, 1.0]),
        has_time=st.booleans(),
        pulls=st.sampled_from([3, 2, 1, 0]),
        responses=RESPONSES,
    )
    def begin(
        self,
        *,
        kind: str,
        attempts: int,
        jitter: float,
        has_time: bool,
        pulls: int,
        responses: list[Response],
    ) -> None:
        event(kind)
        self.model = OperationModel(kind, attempts=attempts, jitter=jitter)
        if has_time:
            self.model.handle_timeout(1000.0)
        self.model.pull(pulls)
        self.play(responses)

    def number(self, which: int) -> int:
        """Return the number of an exchange, counted from the newest."""
        return len(self.model.exchanges) + which

    def time(self, when: str | float) -> float:
        """Return a time, counted from now or at the deadline of the latest wait."""
        if when == "deadline":
            return self.model.wait_deadline
        base = 1000.0 if self.model.now == -math.inf else self.model.now
        return base + float(when)

    numbers = st.sampled_from([0, 0, 0, 0, 0, 0, -1, -1, -2, 1, 7])
    times = st.one_of(
        st.just(0.0),
        st.just("deadline"),
        st.floats(0, 100),
        st.floats(-5000, 0),
        st.sampled_from([0.5, 1.0, 30.0, 700.0, math.nan]),
    )
    #: How many events are asked for after an input.
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
        kind = "informational" if status < 200 else "head"
        is_used = self.model.pass_input(
            self.number(which),
            now,
            kind,
            lambda op, number: op.receive_head(number, status, headers, now),
        )
        if is_used and kind == "head":
            newest = self.model.exchanges[-1]
            newest.status = status
            newest.headers = dict(headers)
        self.model.pull(pulls)

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
        exchanges = self.model.exchanges
        bodies = bodies_for(exchanges[-1].request) if exchanges else (b"{}",)
        piece = (bodies[body % len(bodies)][:cut] + more) or b"\n"
        now = self.time(when)
        is_used = self.model.pass_input(
            self.number(which),
            now,
            "data",
            lambda op, number: op.receive_data(number, piece, now),
        )
        if is_used:
            exchanges[-1].body += piece
        self.model.pull(pulls)

    @rule(which=numbers, when=times, pulls=pulls)
    def eof(self, *, which: int, when: str | float, pulls: int) -> None:
        now = self.time(when)
        self.model.pass_input(
            self.number(which), now, "eof", lambda op, number: op.receive_eof(number, now)
        )
        self.model.pull(pulls)

    @rule(which=numbers, sent=st.booleans(), when=times, pulls=pulls)
    def lost(self, *, which: int, sent: bool, when: str | float, pulls: int) -> None:
        now = self.time(when)
        exchanges = self.model.exchanges
        was = exchanges[-1].state if exchanges else ""
        is_used = self.model.pass_input(
            self.number(which),
            now,
            "lost",
            lambda op, number: op.connection_lost(number, "reset", now, sent=sent),
        )
        if is_used and was == "sent":
            exchanges[-1].was_sent = sent
        self.model.pull(pulls)

    @rule(
        which=numbers,
        nonsense=st.sampled_from([0, 99, 1000, -200, "headers", "no bytes"]),
        when=times,
        pulls=pulls,
    )
    def nonsense(self, *, which: int, nonsense: int | str, when: str | float, pulls: int) -> None:
        """Pass an impossible status, malformed headers, or no bytes."""
        now = self.time(when)
        headers: Any = [("a",)]

        def input_(op: Operation[Any], number: int) -> None:
            if nonsense == "no bytes":
                op.receive_data(number, b"", now)
            elif isinstance(nonsense, int):
                op.receive_head(number, nonsense, (), now)
            else:
                op.receive_head(number, 200, headers, now)

        self.model.pass_input(self.number(which), now, "nonsense", input_)
        self.model.pull(pulls)

    @rule(when=times, pulls=pulls)
    def timeout(self, *, when: str | float, pulls: int) -> None:
        self.model.handle_timeout(self.time(when))
        self.model.pull(pulls)

    @rule(now=st.sampled_from([math.inf, 1e300, 1e9]))
    def end_of_time(self, now: float) -> None:
        self.model.handle_timeout(now)

    @rule(pulls=st.integers(1, 9))
    def only_pull(self, pulls: int) -> None:
        self.model.pull(pulls)

    @rule(responses=RESPONSES)
    def play(self, responses: list[Response]) -> None:
        """Behave as a driver does for some responses, so that flows get far."""
        for status, headers, body, end in responses:
            self.model.pull_until_it_waits()
            if isinstance(self.model.waits_for, WaitUntil):
                self.model.handle_timeout(self.model.waits_for.deadline)
                self.model.pull_until_it_waits()
            if self.model.exchanges[-1].state == "sent":
                self.head(which=0, status=status, headers=headers, when=0.0, pulls=0)
                self.data(which=0, body=body, cut=None, more=b"", when=0.0, pulls=0)
            if end == "eof" and self.model.exchanges[-1].state == "body":
                self.eof(which=0, when=0.0, pulls=1)
            elif end == "lost":
                self.lost(which=0, sent=status == 200, when=0.0, pulls=2)
