"""Prepare the requests of a batch: check them all and build the body of the create.

`request_checker` finds the problems of requests. Transports send the body.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .batch_request import RequestLike
from .errors import InvalidInputError
from .http import Body, BytesBody
from .request_checker import RequestChecker
from .wrong_inputs import check_is_iterable_of_requests, describe_file

#: The least size of the body's pieces in bytes, except the last. It is large enough to send a body
#: in few calls, and small enough that a second copy of the whole body is never in memory.
_PIECE_SIZE = 256 * 1024

_OPENING, _CLOSING = b'{"requests":[', b"]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRequests:
    """The checked requests of one batch: the body of the create, and the number of requests."""

    body: Body
    count: int


@runtime_checkable
class RequestsSource(Protocol):
    """A source of requests with a body of its own, such as a file that is never loaded whole."""

    def prepare(self) -> PreparedRequests:
        """Check the requests and return them with their body.

        Raises:
            InvalidInputError: the requests have problems. It holds the first 100 of them.
        """
        ...


def envelope(encoded: Iterable[bytes]) -> Iterator[bytes]:
    """Build the body of a create from requests as JSON, and yield it in pieces of about 256 KiB.

    After a check of the same requests, `RequestChecker.content_length` is the size of this body.
    """
    gathered: list[bytes] = []
    size = 0
    before = _OPENING
    for request in encoded:
        gathered.append(request if gathered else before + request)
        size += len(request)
        if size >= _PIECE_SIZE:
            yield b",".join(gathered)
            gathered.clear()
            size = 0
            before = b","
    yield b",".join(gathered) + _CLOSING if gathered or before != _OPENING else _OPENING + _CLOSING


def prepare(
    requests: Iterable[RequestLike] | RequestsSource | PreparedRequests,
) -> PreparedRequests:
    """Check and encode the requests of one batch.

    Each request is a mapping, a `BatchRequest`, or JSON text, so an open file of JSON lines works
    as well: ``open("requests.jsonl", "rb")``. Blank lines are skipped. The requests are read once,
    in order. Each is released as soon as it is encoded. Reading stops when a limit of the batch is
    exceeded.

    A `RequestsSource` checks and encodes its requests itself. `PreparedRequests` are returned
    unchanged.

    Raises:
        InvalidInputError: the requests have problems. It holds the first 100 of them. A problem is:
            there are no requests; a custom_id is missing, does not match
            ``[a-zA-Z0-9_-]{1,64}``, or is not unique; params are missing, or set ``stream``,
            ``speed`` or ``max_tokens: 0``; a request is not valid JSON; there are more than
            100,000 requests or 256,000,000 bytes.
    """
    if isinstance(requests, PreparedRequests):
        return requests
    if isinstance(requests, RequestsSource):
        return requests.prepare()
    check_is_iterable_of_requests(requests)
    checker = RequestChecker()
    try:
        pieces = tuple(envelope(checker.check(requests)))
    except UnicodeDecodeError as error:
        # A compressed file that was opened as text raises this while it is read.
        if (description := describe_file(error.object)) is None:
            raise
        raise InvalidInputError(description) from None
    checker.finish()
    return PreparedRequests(body=BytesBody(pieces), count=checker.count)
