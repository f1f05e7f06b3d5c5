"""The simulated network: which exchanges it disturbs, and how.

It records in each operation's record which exchanges it disturbed, so that the end of the operation
can be checked. `delivery` carries every other exchange.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from batches_core import Request
from batches_core.exchange import END_OF_BODY, Head, Lost

from .delivery import MAX_DELAY, Delivery, TimedEvent, Timeline
from .error_responses import CONFLICTS, FINAL, TRANSIENT, ErrorResponse, error_body
from .record import OperationRecord
from .service import FOREIGN, ORIGIN
from .world import World

#: How long the client's transport waits for a byte, in seconds.
READ_TIMEOUT = 20.0

_ON_EVERY_ROUTE: Final = (
    "refused",
    "reset before effect",
    "reset after effect",
    "reset in the body",
    "reset in the body",
    "short body",
    "short body",
    "status",
    "status",
    "no answer in time",
    "unrelated page",
    "dripping error",
)
#: The hazards of each route. One that is listed twice is twice as likely.
_HAZARDS: Final = {
    "create": (*_ON_EVERY_ROUTE, "held", "status after effect", "status after effect"),
    "cancel": (*_ON_EVERY_ROUTE, "held", "status after effect"),
    "delete": (*_ON_EVERY_ROUTE, "held", "status after effect"),
    "get": (*_ON_EVERY_ROUTE, "dripping answer"),
    "list": _ON_EVERY_ROUTE,
    "results": (
        *_ON_EVERY_ROUTE,
        *("reset in the body", "short body", "short body", "redirect", "redirect"),
    ),
}
#: The share of hazards that are a final error status instead.
_SHARE_OF_FINAL = 0.03


@dataclass(slots=True)
class HazardPlan:
    """Which share of exchanges meets a hazard, how many at most, and on which routes.

    No connection succeeds during the `outages`, each from a start to an end in seconds.
    """

    rate: float = 0.0
    left: int = 0
    routes: frozenset[str] = frozenset()
    outages: tuple[tuple[float, float], ...] = ()


def route_of(request: Request) -> str:
    """Return the kind of request. A request to another host than the API is for results."""
    path = request.url.partition("?")[0]
    if not path.startswith(ORIGIN + "/") or path.endswith("/results"):
        return "results"
    if request.method == "GET":
        return "list" if path.endswith("/batches") else "get"
    if request.method == "DELETE":
        return "delete"
    return "cancel" if path.endswith("/cancel") else "create"


class Network:
    """Carries exchanges; disturbs some of them as its plan says.

    `trusted` are the origins besides the API's that the client trusts.
    """

    def __init__(self, world: World, plan: HazardPlan, trusted: frozenset[str]) -> None:
        self._world = world
        self._rng = world.rng
        self._delivery = Delivery(world)
        self._plan = plan
        self.trusted = trusted

    def carry(self, request: Request, record: OperationRecord) -> Timeline:
        """Return the timeline of one exchange."""
        route = route_of(request)
        hazard = None if record.undisturbed else self._choose_hazard(route)
        if hazard is None:
            return self._delivery.undisturbed(request, record)
        if hazard == "redirect":
            return self._redirect(request, record)
        if hazard in {"status", "status after effect", "final"}:
            return self._error_status(request, record, route, hazard)
        record.count_failure(f"{hazard} ({route})")
        record.ambiguous_failures += route == "create" and hazard != "refused"
        return self._TIMELINES[hazard](self, request, record)

    def _choose_hazard(self, route: str) -> str | None:
        plan, now, rng = self._plan, self._world.now, self._rng
        for begin, end in plan.outages:
            if begin <= now < end:
                return "refused" if rng.random() < 0.5 else "reset before effect"
        if not plan.left or route not in plan.routes or rng.random() >= plan.rate:
            return None
        plan.left -= 1
        if rng.random() < _SHARE_OF_FINAL:
            return "final"
        return rng.choice(_HAZARDS[route])

    # --- lost connections --------------------------------------------------------------------

    def _lost(self, reason: str, *, sent: bool = True) -> TimedEvent:
        return self._delivery.delay(), Lost(reason=reason, sent=sent)

    def _refused(self, request: Request, record: OperationRecord) -> Timeline:
        del request, record
        yield self._lost("connection refused", sent=False)

    def _reset_before_effect(self, request: Request, record: OperationRecord) -> Timeline:
        del request, record
        yield self._lost("connection reset")

    def _reset_after_effect(self, request: Request, record: OperationRecord) -> Timeline:
        yield self._delivery.delay(), None
        self._delivery.handle(request, record)
        if self._rng.random() < 0.2:
            yield 0.0, Head(status=103, headers={})
        yield self._lost("connection reset")

    def _reset_in_body(self, request: Request, record: OperationRecord) -> Timeline:
        return self._cut_body(request, record, Lost(reason="peer closed connection", sent=True))

    def _short_body(self, request: Request, record: OperationRecord) -> Timeline:
        return self._cut_body(request, record, END_OF_BODY)

    def _cut_body(self, request: Request, record: OperationRecord, end: bytes | Lost) -> Timeline:
        delivery = self._delivery
        yield delivery.delay(), None
        response = delivery.handle(request, record)
        body = b"".join(response.chunks)
        pieces = delivery.pieces(body[: delivery.cut_place(body)]) if body else []
        yield from delivery.respond(response.status, response.headers, pieces, end)

    # --- slow exchanges ----------------------------------------------------------------------

    def _no_answer(self, request: Request, record: OperationRecord) -> Timeline:
        if self._rng.random() < 0.5:
            self._delivery.handle(request, record)
        yield READ_TIMEOUT, Lost(reason="read timeout", sent=True)

    def _held(self, request: Request, record: OperationRecord) -> Timeline:
        """Deliver the request to the service only after its sender has timed out."""
        world = self._world
        # For so long it can be held, and its batch is still listed within the settle time.
        room = world.settle_time - world.list_lag
        if record.interrupts_after is not None:
            # If the caller interrupts the create at once, the settle time counts from then.
            room -= READ_TIMEOUT + MAX_DELAY
        room = max(0.0, room) * 0.9
        hold = self._rng.random() * room
        if world.is_outside_promise:
            hold += world.settle_time
        elif room < 1.0:
            # Too little time is left: the request never arrives.
            yield READ_TIMEOUT, Lost(reason="read timeout", sent=True)
            return
        world.held_creates[record.label] += 1
        world.call_later(READ_TIMEOUT + hold, partial(self._deliver_held, request, record))
        yield READ_TIMEOUT, Lost(reason="read timeout", sent=True)

    def _deliver_held(self, request: Request, record: OperationRecord) -> None:
        world = self._world
        world.held_creates[record.label] -= 1
        world.note(f"    held request of {record.name} {record.label} reaches the service")
        world.service.handle(request, world.now)

    def _dripping_error(self, request: Request, record: OperationRecord) -> Timeline:
        record.statuses.add(503)
        yield self._delivery.delay(), None
        if self._rng.random() < 0.5:
            self._delivery.handle(request, record)
        yield self._delivery.delay(), Head(status=503, headers={})
        yield from self._drip(b".", 3.0)

    def _dripping_answer(self, request: Request, record: OperationRecord) -> Timeline:
        del request, record
        yield self._delivery.delay(), Head(status=200, headers={})
        yield from self._drip(b" ", READ_TIMEOUT / 2)

    def _drip(self, piece: bytes, seconds: float) -> Timeline:
        # Longer than any limit on the time of a body.
        for _ in range(int(2000 / seconds)):
            yield self._rng.random() * seconds, piece
        yield 0.0, Lost(reason="peer closed connection", sent=True)

    # --- wrong responses ---------------------------------------------------------------------

    def _unrelated_page(self, request: Request, record: OperationRecord) -> Timeline:
        """Respond with status 200 and something else: a login page, or half an object."""
        yield self._delivery.delay(), None
        if self._rng.random() < 0.5:
            self._delivery.handle(request, record)
        # A peer may repeat the credential that it was sent.
        word = record.credential if self._rng.random() < 0.5 else "you"
        body = self._rng.choice(
            (
                f"<html>Log in, {word}</html>\n",
                f'{{"id": 7, "data": "{word}", "custom_id": 1}}\n',
                "",
                "null\n",
            )
        )
        yield from self._delivery.respond(200, (), self._delivery.pieces(body.encode()))

    def _error_status(
        self, request: Request, record: OperationRecord, route: str, hazard: str
    ) -> Timeline:
        rng, is_create = self._rng, route == "create"
        choices: tuple[ErrorResponse, ...] = TRANSIENT + (() if is_create else CONFLICTS)
        if hazard == "final":
            choices = FINAL + (CONFLICTS if is_create else ())
        elif hazard == "status after effect":
            choices = tuple(error for error in TRANSIENT if error.is_ambiguous)
        error = rng.choice(choices)
        record.count_failure(f"{hazard} {error.status} ({route})")
        record.statuses.add(error.status)
        record.ambiguous_failures += is_create and error.is_ambiguous
        # A client may add up to a fifth to the delay that it is asked for.
        delay = min(error.retry_after * 1.2, record.policy.max_retry_after)
        record.longest_delay = max(record.longest_delay, delay)
        if not error.is_retried or (is_create and error in CONFLICTS):
            record.final_statuses.add(error.status)
        # For results, a redirect is no error status: it is followed, or its host is not trusted.
        if route == "results" and error.status == 302:
            record.met_untrusted_host = True
        if hazard == "status after effect":
            yield self._delivery.delay(), None
            self._delivery.handle(request, record)
        yield from self._delivery.respond(
            error.status,
            error.headers,
            self._delivery.pieces(self._error_body(error, record)),
            Lost(reason="peer closed connection", sent=True) if rng.random() < 0.1 else END_OF_BODY,
        )

    def _error_body(self, error: ErrorResponse, record: OperationRecord) -> bytes:
        # A peer may repeat the credential that it was sent.
        text = f"not with {record.credential}" if self._rng.random() < 0.3 else "no"
        if error.type is None:
            return f"<html>{text}</html>".encode() if self._rng.random() < 0.8 else b""
        return error_body(error, text)

    def _redirect(self, request: Request, record: OperationRecord) -> Timeline:
        """Redirect a request for results to the same origin, a trusted host or an untrusted one."""
        rng = self._rng
        record.redirects += 1
        id_ = request.target.removesuffix("/results").rpartition("/")[2]
        chance = rng.random()
        if chance < 0.4:
            place, location = "the same origin", f"/v1/messages/batches/{id_}/results"
            if rng.random() < 0.5 or not request.url.startswith(ORIGIN + "/"):
                location = ORIGIN + location
        else:
            origin = rng.choice(FOREIGN)
            location = f"{origin}/files/{id_}"
            is_trusted = origin in self.trusted
            place = "a trusted host" if is_trusted else "an untrusted host"
            record.met_untrusted_host = record.met_untrusted_host or not is_trusted
        self._world.count_hazard(f"redirect to {place}")
        yield self._delivery.delay(), None
        status = rng.choice((301, 302, 303, 307, 308))
        pieces = self._delivery.pieces(b"moved")
        yield from self._delivery.respond(status, (("Location", location),), pieces)

    _TIMELINES: Final[dict[str, Callable[[Network, Request, OperationRecord], Timeline]]] = {
        "refused": _refused,
        "reset before effect": _reset_before_effect,
        "reset after effect": _reset_after_effect,
        "reset in the body": _reset_in_body,
        "short body": _short_body,
        "no answer in time": _no_answer,
        "held": _held,
        "unrelated page": _unrelated_page,
        "dripping error": _dripping_error,
        "dripping answer": _dripping_answer,
    }
