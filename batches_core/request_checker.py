"""Check the requests of one batch, and collect every problem with its place.

`batch_request` encodes a single request. `wrong_inputs` recognises inputs that contain no requests.
Only the service checks the params that every Messages call can have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from .batch_request import NotEncodableError, RequestLike, encode_request
from .decoding import UNDECODABLE
from .errors import InvalidInputError, RequestProblem
from .wrong_inputs import NO_JSON_OBJECTS, beginning_of, describe_input

#: The service's limits of one batch. It documents 256 MB, but not whether a MB is 10^6 or 2^20
#: bytes. A body within the smaller limit is accepted in either case.
MAX_REQUESTS = 100_000
MAX_BYTES = 256_000_000

#: How many problems are kept. An input with more of them probably repeats one mistake.
_MAX_PROBLEMS = 100
#: The size of a body without requests, as `requests.envelope` builds it.
_EMPTY_BODY = len(b'{"requests":[]}')

_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class _UnsupportedParams(msgspec.Struct):
    """The params that a batch does not support."""

    stream: Any = None
    speed: Any = None
    max_tokens: Any = None


class _WellFormedRequest(msgspec.Struct):
    """The fields to check, in a request that has them with the right types."""

    custom_id: str
    params: _UnsupportedParams


class _AnyRequest(msgspec.Struct):
    """The fields to check, in any JSON object."""

    custom_id: Any = None
    params: msgspec.Raw = msgspec.Raw()


_well_formed_decoder = msgspec.json.Decoder(_WellFormedRequest)
_any_decoder = msgspec.json.Decoder(_AnyRequest)
_params_decoder = msgspec.json.Decoder(_UnsupportedParams)


class RequestChecker:
    """Check the requests of one batch in order, and collect every problem.

    `lines` says whether the requests are the lines of a file: problems then name the line, from 1,
    instead of the index, from 0. Iterate over `check` to its end, then call `finish`.

    `first` is the position of the first request, from 0, if the batch is a later part of a larger
    input. Problems then name the position in that input. Only the beginning of an input, with
    `first=0`, can have a byte order mark, or show that the input contains no requests.

    `count` is the number of requests checked so far. `content_length` is the size of their body in
    bytes.
    """

    def __init__(self, *, lines: bool = False, first: int = 0) -> None:
        self.count = 0
        self.content_length = _EMPTY_BODY
        self._lines = lines
        self._first = first
        #: Each custom_id with the index of its first use.
        self._ids: dict[str, int] = {}
        self._problems: list[RequestProblem] = []
        self._omitted = 0
        #: How many requests are text that does not begin like a JSON object.
        self._non_objects = 0

    def check(self, requests: Iterable[RequestLike]) -> Iterator[bytes]:
        """Check each request and yield it as JSON, unless it cannot be sent.

        A request with another problem is still yielded; `finish` reports it. Iteration ends early
        if the batch exceeds a limit, or if its first request shows that the input contains no
        requests.
        """
        for index, request in enumerate(requests, self._first):
            encoded: bytes | None
            try:
                encoded = encode_request(request, index)
            except NotEncodableError as error:
                self.add(error.message, index, error.field)
                encoded = None
            if encoded == b"":
                continue
            self.count += 1
            if self.count > MAX_REQUESTS:
                self.add(
                    f"there are more than {MAX_REQUESTS:,} requests, the limit of one batch: split "
                    "them over several",
                    index,
                )
                return
            if encoded is None or not self._is_surely_valid(request, encoded, index):
                self._find_problems(encoded, index)
                if self._recognise_wrong_input(request, encoded):
                    return
                if encoded is None:
                    continue
            if len(encoded) + _EMPTY_BODY > MAX_BYTES:
                self.add(
                    f"this request alone has {len(encoded):,} bytes, over the limit of "
                    f"{MAX_BYTES:,} for a whole batch: make it smaller, or leave it out",
                    index,
                )
                continue
            comma = self.content_length > _EMPTY_BODY
            self.content_length += len(encoded) + comma
            if self.content_length > MAX_BYTES:
                self.add(
                    f"up to here the batch has {self.content_length:,} bytes, over the limit of "
                    f"{MAX_BYTES:,}: split the requests over several batches",
                    index,
                )
                return
            yield encoded

    def finish(self) -> None:
        """Report the problems of the batch after its last request.

        Raises:
            InvalidInputError: the requests have problems. It holds the first 100 of them.
        """
        if not self.count:
            self.add("there are no requests: a batch has at least one")
        elif self._non_objects == min(self.count, MAX_REQUESTS) and not self._first:
            self._replace_problems(NO_JSON_OBJECTS)
        if self._problems:
            raise InvalidInputError(*self._problems, omitted=self._omitted)

    def add(self, message: str, index: int | None = None, field: str | None = None) -> None:
        """Add a problem.

        `index` is the position of the request, from 0, and `field` is the field with the problem.
        Problems beyond the first 100 are only counted.
        """
        if len(self._problems) == _MAX_PROBLEMS:
            self._omitted += 1
        elif self._lines and index is not None:
            self._problems.append(RequestProblem(message=message, line=index + 1, field=field))
        else:
            self._problems.append(RequestProblem(message=message, index=index, field=field))

    def _replace_problems(self, message: str) -> None:
        """Report one problem instead of all those that follow from it."""
        self._problems = [RequestProblem(message=message)]
        self._omitted = 0

    def _recognise_wrong_input(self, request: RequestLike, encoded: bytes | None) -> bool:
        """Replace the problems of the first request if they show that the input has no requests.

        Return whether they do. For `finish`, also count the requests that do not begin like JSON
        objects.
        """
        beginning = beginning_of(request, encoded)
        is_text = isinstance(request, (bytes, str)) and not beginning.startswith(b"{")
        self._non_objects += is_text and beginning != b""
        if self.count > 1 or not self._problems or self._first:
            return False
        if (description := describe_input(beginning, encoded)) is None:
            return False
        self._replace_problems(description)
        self._non_objects = 0
        return True

    def _is_surely_valid(self, request: RequestLike, encoded: bytes, index: int) -> bool:
        """Recognise nearly every valid request at low cost; `_find_problems` checks the others.

        A valid custom_id is recorded, to find a second use of it.
        """
        if (fields := _fields_of(request, encoded)) is None:
            return False
        custom_id, stream, speed, max_tokens = fields
        return (
            type(custom_id) is str
            and (stream is None or stream is False)
            and speed is None
            and max_tokens != 0
            and _CUSTOM_ID.fullmatch(custom_id) is not None
            and self._ids.setdefault(custom_id, index) == index
        )

    def _find_problems(self, encoded: bytes | None, index: int) -> None:
        if encoded is None:
            return  # it could not be encoded, which is a problem already
        try:
            request = _any_decoder.decode(encoded)
        except UNDECODABLE as error:
            reason = str(error)
            if isinstance(error, msgspec.ValidationError):
                self.add(f"must be a JSON object with custom_id and params ({reason})", index)
            else:
                self.add(f"is not JSON: {reason}", index)
            return
        self._check_custom_id(request.custom_id, index)
        if not request.params:
            self.add("is missing", index, "params")
            return
        try:
            params = _params_decoder.decode(request.params)
        except UNDECODABLE:
            self.add("must be a JSON object", index, "params")
            return
        self._check_params(params, index)

    def _check_custom_id(self, custom_id: Any, index: int) -> None:
        if custom_id is None:
            self.add("is missing", index, "custom_id")
        elif not isinstance(custom_id, str):
            self.add(f"must be a str, not {type(custom_id).__name__}", index, "custom_id")
        elif not _CUSTOM_ID.fullmatch(custom_id):
            shown = f"{custom_id[:64]!r}"
            if len(custom_id) > 64:  # noqa: PLR2004 - the limit that the message names
                shown = f"{shown}… with {len(custom_id):,} characters"
            self.add(f"{shown} is not 1 to 64 letters, digits, '_' or '-'", index, "custom_id")
        elif (first := self._ids.setdefault(custom_id, index)) != index:
            where = f"line {first + 1}" if self._lines else f"requests.{first}"
            self.add(f"{custom_id!r} is already the id of {where}", index, "custom_id")

    def _check_params(self, params: _UnsupportedParams, index: int) -> None:
        # stream=False and speed=None request nothing that a batch cannot do.
        if params.stream not in (None, False):
            self.add("a batch cannot stream: leave it out", index, "params.stream")
        if params.speed is not None:
            self.add("speed cannot be chosen in a batch: leave it out", index, "params.speed")
        if params.max_tokens == 0 and params.max_tokens is not False:
            self.add(
                "a batch does not support max_tokens=0: pass 1 or more", index, "params.max_tokens"
            )


def _fields_of(request: RequestLike, encoded: bytes) -> tuple[Any, Any, Any, Any] | None:
    """Return custom_id, stream, speed and max_tokens; None if they are not where they belong.

    The fields of a dict are read from the dict: parsing its JSON takes as long as encoding it.
    """
    if type(request) is dict:
        params = request.get("params")
        if type(params) is not dict:
            return None
        get = params.get
        return request.get("custom_id"), get("stream"), get("speed"), get("max_tokens")
    try:
        decoded = _well_formed_decoder.decode(encoded)
    except UNDECODABLE:
        return None
    unsupported = decoded.params
    return decoded.custom_id, unsupported.stream, unsupported.speed, unsupported.max_tokens
