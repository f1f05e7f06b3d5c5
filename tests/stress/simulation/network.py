"""What becomes of one exchange on its way: the faults of the network and of what stands between.

Knows bytes, delays and HTTP's answers, and tells each call which of its exchanges it spoiled, so
that its end can be judged. An exchange is a sequence of steps: so many seconds, and then what the
client's transport gets, or nothing but the time that passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from itertools import pairwise
from typing import Final, TypeAlias

from batches_core import RawHeaders, Request
from batches_core.emulator import Response
from batches_core.exchange import END_OF_BODY, Head, Lost, ResponseEvent

from .calls import Call
from .world import EPOCH, FOREIGN, ORIGIN, World

Step: TypeAlias = tuple[float, ResponseEvent | None]
Steps: TypeAlias = Iterator[Step]

#: How long a transport waits for a byte.
READ_TIMEOUT = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An error that comes in the place of an answer.

    `passes` tells whether a later try may better it, `unsure` whether a create may have been
    taken all the same; `wait` is what it asks for, in seconds, to which a client may add a fifth.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    type: str | None = "api_error"
    code: str | None = None
    passes: bool = True
    unsure: bool = False
    wait: float = 0.0


_REFUSALS: Final = (
    Refusal(status=429),
    Refusal(status=429, headers=(("Retry-After", "0"),)),
    Refusal(status=429, headers=(("Retry-After", "3"),), wait=3.0),
    Refusal(
        status=429,
        headers=(
            ("retry-after-ms", "250"),
            ("retry-after", "9"),
        ),
        wait=0.25,
    ),
    Refusal(status=429, headers=(("retry-after", "86400"),), wait=86400.0),
    Refusal(status=529, headers=(("retry-after", "soon"),)),
    Refusal(
        status=529,
        headers=(
            ("Date", formatdate(EPOCH)),
            ("retry-after", formatdate(EPOCH + 4)),
        ),
        wait=4.0,
    ),
    Refusal(status=500, headers=(("x-should-retry", "true"),), unsure=True),
    Refusal(
        status=503,
        headers=(
            ("x-should-retry", "TRUE"),
            ("retry-after", "1"),
        ),
        unsure=True,
        wait=1.0,
    ),
    Refusal(status=408, headers=(("x-should-retry", "true"),), unsure=True),
    Refusal(status=500, unsure=True),
    Refusal(status=502, type=None, unsure=True),
    Refusal(status=503, type=None, headers=(("retry-after", "2"),), unsure=True, wait=2.0),
    Refusal(status=504, type="timeout_error", unsure=True),
    Refusal(status=408, type=None, unsure=True),
)
#: Such as a create does not try again, for they are refusals of it.
_CONFLICTS: Final = (Refusal(status=409), Refusal(status=425))
_FINAL: Final = (
    Refusal(status=400, type="invalid_request_error", passes=False),
    Refusal(status=401, type="authentication_error", passes=False),
    Refusal(status=403, type=None, passes=False),
    Refusal(status=413, type=None, passes=False),
    Refusal(status=429, code="enforced_spend_limit_reached", passes=False),
    Refusal(status=429, headers=(("x-should-retry", "false"),), passes=False),
    Refusal(status=302, headers=(("location", "https://login.sim.test/?q=1"),), passes=False),
    Refusal(status=503, headers=(("x-should-retry", "false"),), passes=False, unsure=True),
)

_ALWAYS: Final = (
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
    "another page",
    "dripping error",
)
#: The faults that a route can meet, as often as they stand here.
_KINDS: Final = {
    "create": (*_ALWAYS, "held", "status after effect", "status after effect"),
    "cancel": (*_ALWAYS, "held", "status after effect"),
    "delete": (*_ALWAYS, "held", "status after effect"),
    "get": (*_ALWAYS, "dripping answer"),
    "list": _ALWAYS,
    "results": (*_ALWAYS, "reset in the body", "short body", "short body", "redirect", "redirect"),
}
#: How often a fault is one that does not pass.
_SHARE_OF_FINAL = 0.03
#: The longest that a request is under way where nothing holds it.
LONGEST_WAY = 5.0


def route_of(request: Request) -> str:
    """Tell what a request asks for; of another host only results are asked."""
    path = request.url.partition("?")[0]
    if not path.startswith(ORIGIN + "/") or path.endswith("/results"):
        return "results"
    if request.method == "GET":
        return "list" if path.endswith("/batches") else "get"
    if request.method == "DELETE":
        return "delete"
    return "cancel" if path.endswith("/cancel") else "create"


@dataclass(slots=True)
class Weather:
    """How often and how many faults come, on which routes, and when nobody gets through."""

    rate: float = 0.0
    left: int = 0
    routes: frozenset[str] = frozenset()
    outages: tuple[tuple[float, float], ...] = ()


class Network:
    """Carries exchanges to the service and to other hosts, through the weather."""

    def __init__(self, world: World, weather: Weather, trusted: frozenset[str]) -> None:
        self._world = world
        self._rng = world.rng
        self._weather = weather
        #: Origins that the client trusts.
        self.trusted = trusted

    def carry(self, request: Request, call: Call) -> Steps:
        """Give the steps of one exchange; effects come while the steps are taken."""
        route = route_of(request)
        kind = None if call.calm else self._fault(route)
        if kind is None:
            return self._through(request, call)
        if kind == "redirect":
            return self._redirect(request, call)
        unsure = route == "create" and kind != "refused"
        if kind in {"status", "status after effect", "final"}:
            return self._status(request, call, route, kind)
        call.fail(f"{kind} ({route})")
        call.ambiguous += unsure
        return self._PLAYS[kind](self, request, call)

    def _fault(self, route: str) -> str | None:
        weather, now, rng = self._weather, self._world.now, self._rng
        for begin, end in weather.outages:
            if begin <= now < end:
                return "refused" if rng.random() < 0.5 else "reset before effect"
        if not weather.left or route not in weather.routes or rng.random() >= weather.rate:
            return None
        weather.left -= 1
        if rng.random() < _SHARE_OF_FINAL:
            return "final"
        return rng.choice(_KINDS[route])

    # --- ways through ----------------------------------------------------------------------------

    def _way(self) -> float:
        chance = self._rng.random()
        return chance * 0.2 if chance < 0.9 else chance * LONGEST_WAY

    def _handle(self, request: Request, call: Call) -> Response:
        world = self._world
        if request.url.startswith(ORIGIN + "/"):
            response = world.service.handle(request, world.now)
            if request.method == "GET" and not call.calm and self._rng.random() < 0.03:
                # What stands between may ask twice for what can be asked twice.
                world.fault("request delivered twice")
                response = world.service.handle(request, world.now)
        else:
            response = self._foreign(request)
        status = response.status
        if status >= 300:
            # The service's own refusals: a 404 can pass, others do not.
            call.fail(f"the service's own {status}")
            call.statuses.add(status)
            if status != 404 or call.name != "wait":
                call.final.add(status)
        return response

    def _foreign(self, request: Request) -> Response:
        """Answer as another host does, which has the files by the ids in their paths."""
        made = self._world.service.find(request.target.rpartition("/")[2])
        if made is None or not self._world.service.ended(made.job, self._world.now):
            return Response(status=404, headers=(), chunks=(b"no such file",))
        return Response(status=200, headers=(), chunks=made.job.lines())

    def _through(self, request: Request, call: Call) -> Steps:
        yield self._way(), None
        response = self._handle(request, call)
        body = b"".join(response.chunks)
        yield from self._answer(response.status, response.headers, self._pieces(body))

    def _answer(
        self,
        status: int,
        headers: tuple[tuple[str, str], ...],
        pieces: list[bytes],
        end: bytes | Lost = END_OF_BODY,
    ) -> Steps:
        rng = self._rng
        if rng.random() < 0.03:
            self._world.fault("informational head")
            yield 0.0, Head(status=rng.choice((100, 102, 103)), headers={"link": "</a>"})
        yield self._way(), Head(status=status, headers=dict(headers))
        slow = rng.random() < 0.2 and len(pieces) < 10
        for piece in pieces:
            yield self._way() if slow else 0.0, piece
        yield 0.0, end
        if rng.random() < 0.1:
            # A connection may well go after a whole message, or a second time.
            yield 0.0, Lost(reason="closed afterwards", sent=rng.random() < 0.5)

    def _pieces(self, body: bytes) -> list[bytes]:
        """Cut a body anywhere, or nowhere, or at every byte."""
        rng = self._rng
        chance = rng.random()
        if not body:
            return []
        if chance < 0.5:
            return [body]
        if chance < 0.6:
            return body.splitlines(keepends=True)
        if chance < 0.603 and len(body) < 2000:
            self._world.fault("byte by byte")
            return [body[place : place + 1] for place in range(len(body))]
        self._world.fault("cut into pieces")
        places = sorted({0, len(body), *(self._place(body) for _ in range(rng.randint(1, 5)))})
        return [body[begin:end] for begin, end in pairwise(places)]

    def _place(self, body: bytes) -> int:
        """Choose a byte of a body, more often one next to the end of a line than chance would."""
        place = int(self._rng.random() * len(body))
        if self._rng.random() < 0.4 and (line_end := body.find(b"\n", place)) >= 0:
            place = min(len(body) - 1, line_end + self._rng.randint(-1, 2))
        return place

    # --- faults ------------------------------------------------------------------------------

    def _lost(self, reason: str, *, sent: bool = True) -> Step:
        # Before a head, a loss may be told in any words, by any transport.
        return self._way(), Lost(reason=reason, sent=sent)

    def _refused(self, request: Request, call: Call) -> Steps:
        del request, call
        yield self._lost("connection refused", sent=False)

    def _reset_before(self, request: Request, call: Call) -> Steps:
        del request, call
        yield self._lost("connection reset")

    def _reset_after(self, request: Request, call: Call) -> Steps:
        yield self._way(), None
        self._handle(request, call)
        if self._rng.random() < 0.2:
            yield 0.0, Head(status=103, headers={})
        yield self._lost("connection reset")

    def _reset_in_body(self, request: Request, call: Call) -> Steps:
        return self._cut(request, call, Lost(reason="peer closed connection", sent=True))

    def _short(self, request: Request, call: Call) -> Steps:
        return self._cut(request, call, END_OF_BODY)

    def _cut(self, request: Request, call: Call, end: bytes | Lost) -> Steps:
        yield self._way(), None
        response = self._handle(request, call)
        body = b"".join(response.chunks)
        pieces = self._pieces(body[: self._place(body)]) if body else []
        yield from self._answer(response.status, response.headers, pieces, end)

    def _no_answer(self, request: Request, call: Call) -> Steps:
        if self._rng.random() < 0.5:
            self._handle(request, call)
        yield READ_TIMEOUT, Lost(reason="read timeout", sent=True)

    def _held(self, request: Request, call: Call) -> Steps:
        """The request comes to the service after its sender gave up."""
        world = self._world
        room = world.settle_time - world.lag
        if call.interrupts_after is not None:
            # Its caller may stop it at once, and what the network holds counts from then.
            room -= READ_TIMEOUT + LONGEST_WAY
        room = max(0.0, room) * 0.9
        hold = self._rng.random() * room
        if world.is_beyond:
            hold += world.settle_time
        elif room < 1.0:
            # There is no moment left at which it could come and still be seen.
            yield READ_TIMEOUT, Lost(reason="read timeout", sent=True)
            return
        world.held[call.label] += 1
        world.later(READ_TIMEOUT + hold, partial(self._let_go, request, call))
        yield READ_TIMEOUT, Lost(reason="read timeout", sent=True)

    def _let_go(self, request: Request, call: Call) -> None:
        world = self._world
        world.held[call.label] -= 1
        world.note(f"    held request of {call.name} {call.label} comes to the service")
        world.service.handle(request, world.now)

    def _another_page(self, request: Request, call: Call) -> Steps:
        """Something else answers with a success: a portal, or the service with half a thought."""
        yield self._way(), None
        if self._rng.random() < 0.5:
            self._handle(request, call)
        shown = call.credential if self._rng.random() < 0.5 else "you"
        body = self._rng.choice(
            (
                f"<html>Log in, {shown}</html>\n",
                f'{{"id": 7, "data": "{shown}", "custom_id": 1}}\n',
                "",
                "null\n",
            )
        )
        yield from self._answer(200, (), self._pieces(body.encode()))

    def _dripping_error(self, request: Request, call: Call) -> Steps:
        call.statuses.add(503)
        yield self._way(), None
        if self._rng.random() < 0.5:
            self._handle(request, call)
        yield self._way(), Head(status=503, headers={})
        yield from self._drip(b".", 3.0)

    def _dripping_answer(self, request: Request, call: Call) -> Steps:
        del request, call
        yield self._way(), Head(status=200, headers={})
        yield from self._drip(b" ", READ_TIMEOUT / 2)

    def _drip(self, piece: bytes, seconds: float) -> Steps:
        # Longer than any bound, and at last the peer is tired of it.
        for _ in range(int(2000 / seconds)):
            yield self._rng.random() * seconds, piece
        yield 0.0, Lost(reason="peer closed connection", sent=True)

    def _status(self, request: Request, call: Call, route: str, kind: str) -> Steps:
        rng = self._rng
        choices: tuple[Refusal, ...] = _REFUSALS + (() if route == "create" else _CONFLICTS)
        if kind == "final":
            choices = _FINAL + (_CONFLICTS if route == "create" else ())
        elif kind == "status after effect":
            choices = tuple(refusal for refusal in _REFUSALS if refusal.unsure)
        refusal = rng.choice(choices)
        call.fail(f"{kind} {refusal.status} ({route})")
        call.statuses.add(refusal.status)
        call.ambiguous += route == "create" and refusal.unsure
        call.longest_wait = max(
            call.longest_wait, min(refusal.wait * 1.2, call.policy.max_retry_after)
        )
        if not refusal.passes or (route == "create" and refusal in _CONFLICTS):
            call.final.add(refusal.status)
        # With results a redirect is followed, or not; there it is no error status.
        call.untrusted = call.untrusted or (route == "results" and refusal.status == 302)
        if kind == "status after effect":
            yield self._way(), None
            self._handle(request, call)
        yield from self._answer(
            refusal.status,
            refusal.headers,
            self._pieces(self._error_body(refusal, call)),
            Lost(reason="peer closed connection", sent=True) if rng.random() < 0.1 else END_OF_BODY,
        )

    def _error_body(self, refusal: Refusal, call: Call) -> bytes:
        # A peer may well repeat what it was sent.
        shown = f"not with {call.credential}" if self._rng.random() < 0.3 else "no"
        if refusal.type is None:
            return f"<html>{shown}</html>".encode() if self._rng.random() < 0.8 else b""
        details = f',"details":{{"error_code":"{refusal.code}"}}' if refusal.code else ""
        error = f'{{"type":"{refusal.type}","message":"{shown}"{details}}}'
        return f'{{"type":"error","error":{error},"request_id":"req_1"}}'.encode()

    def _redirect(self, request: Request, call: Call) -> Steps:
        """Results are elsewhere: at the same origin, at a host that is trusted, or at another."""
        rng = self._rng
        call.redirects += 1
        id_ = request.target.removesuffix("/results").rpartition("/")[2]
        chance = rng.random()
        if chance < 0.4:
            place, to = "the same origin", f"/v1/messages/batches/{id_}/results"
            if rng.random() < 0.5 or not request.url.startswith(ORIGIN + "/"):
                to = ORIGIN + to
        else:
            origin = rng.choice(FOREIGN)
            to = f"{origin}/files/{id_}"
            place = "a trusted host" if origin in self.trusted else "an untrusted host"
            call.untrusted = call.untrusted or origin not in self.trusted
        self._world.fault(f"redirect to {place}")
        yield self._way(), None
        status = rng.choice((301, 302, 303, 307, 308))
        yield from self._answer(status, (("Location", to),), self._pieces(b"moved"))

    _PLAYS: Final[dict[str, Callable[[Network, Request, Call], Steps]]] = {
        "refused": _refused,
        "reset before effect": _reset_before,
        "reset after effect": _reset_after,
        "reset in the body": _reset_in_body,
        "short body": _short,
        "no answer in time": _no_answer,
        "held": _held,
        "another page": _another_page,
        "dripping error": _dripping_error,
        "dripping answer": _dripping_answer,
    }


def as_sent(headers: dict[str, str], form: int) -> RawHeaders:
    """Give headers in one of the forms that transports have them in."""
    if form == 0:
        return headers
    if form == 1:
        return [(name.upper(), value) for name, value in headers.items()]
    return [(name.title().encode(), value.encode()) for name, value in headers.items()]
