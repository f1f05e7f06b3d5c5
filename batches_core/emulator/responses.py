"""A response as a value, and the kinds of responses that the emulator makes.

`service` decides which response a request gets; a server sends it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from .fault_rules import End

#: Header pairs.
Headers: TypeAlias = tuple[tuple[str, str], ...]

_JSON = ("content-type", "application/json")
_JSON_LINES = ("content-type", "application/x-jsonl")
#: The size of the pieces of a results body, in bytes. They do not end where lines end.
_PIECE = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response of the emulator: a status, header pairs, and the chunks of a body.

    Two fields say how a server sends it, for injected faults. The server waits `delay` seconds
    before it sends anything. `end` is what follows the last chunk: the end of the message
    (``clean``), or instead of it a closed (``close``) or reset (``reset``) connection. A `status`
    of 0 means that nothing is sent, not even a head, before that end.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    chunks: Iterable[bytes]
    delay: float = 0.0
    end: End = "clean"


def json_response(status: int, body: Any, headers: Headers, more: Headers = ()) -> Response:
    """Build a response with a body of JSON; `more` headers come after its content type."""
    chunks = (msgspec.json.encode(body),)
    return Response(status=status, headers=(*headers, _JSON, *more), chunks=chunks)


def results_response(lines: Iterable[bytes], headers: Headers) -> Response:
    """Build a response with a body of JSON Lines."""
    return Response(status=200, headers=(*headers, _JSON_LINES), chunks=_pieces(lines))


def proxy_page(status: int, headers: Headers, more: Headers) -> Response:
    """Build the HTML page of a proxy, for a request that did not reach the service."""
    page = f"<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>\n"
    headers = (*headers, ("server", "proxy"), ("content-type", "text/html"), *more)
    return Response(status=status, headers=headers, chunks=(page.encode(),))


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for line in lines:
        held += line
        while len(held) >= _PIECE:
            yield bytes(held[:_PIECE])
            del held[:_PIECE]
    if held:
        yield bytes(held)
