"""The delivery of one exchange: the request to the service, and the response in delayed pieces.

`network` decides which exchanges are disturbed, and how.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import TypeAlias

from batches_core import RawHeaders, Request
from batches_core.emulator import Response
from batches_core.exchange import END_OF_BODY, Head, Lost, ResponseEvent

from .record import OperationRecord
from .service import ORIGIN
from .world import World

#: Seconds that pass, and then what the client's transport receives. None: nothing, only time.
TimedEvent: TypeAlias = tuple[float, ResponseEvent | None]
#: Everything that happens in one exchange. Effects on the service happen while it is iterated.
Timeline: TypeAlias = Iterator[TimedEvent]

#: How long a request can be under way if no hazard holds it back, in seconds.
MAX_DELAY = 5.0


def headers_in_form(headers: dict[str, str], form: int) -> RawHeaders:
    """Return headers in one of the three forms in which transports pass them."""
    if form == 0:
        return headers
    if form == 1:
        return [(name.upper(), value) for name, value in headers.items()]
    return [(name.title().encode(), value.encode()) for name, value in headers.items()]


class Delivery:
    """Delivers requests to the service or another host, and responses to the client."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng: Random = world.rng

    def delay(self) -> float:
        """Choose how long a request or a response is under way, in seconds."""
        chance = self._rng.random()
        return chance * 0.2 if chance < 0.9 else chance * MAX_DELAY

    def undisturbed(self, request: Request, record: OperationRecord) -> Timeline:
        """Deliver a request and its response."""
        yield self.delay(), None
        response = self.handle(request, record)
        body = b"".join(response.chunks)
        yield from self.respond(response.status, response.headers, self.pieces(body))

    def handle(self, request: Request, record: OperationRecord) -> Response:
        """Let the request take effect, and record an error status that the service responds."""
        world = self._world
        if request.url.startswith(ORIGIN + "/"):
            response = world.service.handle(request, world.now)
            if request.method == "GET" and not record.undisturbed and self._rng.random() < 0.03:
                # A proxy may repeat an idempotent request.
                world.count_hazard("request delivered twice")
                response = world.service.handle(request, world.now)
        else:
            response = self._handle_elsewhere(request)
        status = response.status
        if status >= 300:
            record.count_failure(f"the service's own {status}")
            record.statuses.add(status)
            # A wait treats a 404 as temporary; every other error status of the service is final.
            if status != 404 or record.name != "wait":
                record.final_statuses.add(status)
        return response

    def _handle_elsewhere(self, request: Request) -> Response:
        """Answer as a file host does, which has results under the ids in its paths."""
        created = self._world.service.find(request.target.rpartition("/")[2])
        if created is None or not self._world.service.has_ended(created, self._world.now):
            return Response(status=404, headers=(), chunks=(b"no such file",))
        return Response(status=200, headers=(), chunks=created.batch.lines())

    def respond(
        self,
        status: int,
        headers: tuple[tuple[str, str], ...],
        pieces: list[bytes],
        end: bytes | Lost = END_OF_BODY,
    ) -> Timeline:
        """Deliver a response whose body ends with `END_OF_BODY` or a lost connection."""
        rng = self._rng
        if rng.random() < 0.03:
            self._world.count_hazard("informational head")
            yield 0.0, Head(status=rng.choice((100, 102, 103)), headers={"link": "</a>"})
        yield self.delay(), Head(status=status, headers=dict(headers))
        slow = rng.random() < 0.2 and len(pieces) < 10
        for piece in pieces:
            yield self.delay() if slow else 0.0, piece
        yield 0.0, end
        if rng.random() < 0.1:
            # A connection may be lost after a whole message, or be reported lost a second time.
            yield 0.0, Lost(reason="closed afterwards", sent=rng.random() < 0.5)

    def pieces(self, body: bytes) -> list[bytes]:
        """Cut a body into pieces: at any places, at line ends, at every byte, or not at all."""
        rng = self._rng
        chance = rng.random()
        if not body:
            return []
        if chance < 0.5:
            return [body]
        if chance < 0.6:
            return body.splitlines(keepends=True)
        if chance < 0.603 and len(body) < 2000:
            self._world.count_hazard("byte by byte")
            return [body[place : place + 1] for place in range(len(body))]
        self._world.count_hazard("cut into pieces")
        places = sorted({0, len(body), *(self.cut_place(body) for _ in range(rng.randint(1, 5)))})
        return [body[begin:end] for begin, end in pairwise(places)]

    def cut_place(self, body: bytes) -> int:
        """Choose where to cut a body. Places next to a line end are preferred."""
        place = int(self._rng.random() * len(body))
        if self._rng.random() < 0.4 and (line_end := body.find(b"\n", place)) >= 0:
            place = min(len(body) - 1, line_end + self._rng.randint(-1, 2))
        return place
