"""From a user's requests to a checked, measured, replayable body.

Knows the limits of a batch and the three forms in which a request can be handed in; not where a
body goes. Every request is looked at before a byte is sent, and every fault is told with the
index of its request.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import msgspec

from .decoding import UNDECODABLE
from .errors import Fault, InvalidRequest
from .http import BytesBody

#: The service's limits of one batch. Whether its 256 MB are 10^6 or 2^20 bytes each is not
#: documented; the smaller reading is accepted either way.
MAX_REQUESTS = 100_000
MAX_BYTES = 256_000_000

#: How many faults are kept; a file with more of them has one mistake, made often.
_FAULTS_KEPT = 100
#: Requests are gathered into pieces of about this size: large enough that sending costs few
#: calls, small enough that no second copy of the whole body ever exists.
_PIECE = 256 * 1024

_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class BatchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a batch: the id to find its result by, and the params of a Messages call.

    `params` are passed on untouched, whether this version knows them or not.
    """

    custom_id: str
    params: Mapping[str, Any]


#: A request as it can be handed in: a mapping, a `BatchRequest`, or one request as JSON (a line
#: of a requests file), which is sent byte for byte.
RequestLike: TypeAlias = BatchRequest | Mapping[str, Any] | bytes | str


class _Params(msgspec.Struct):
    """The params that a batch does not support: named here, the service says the rest."""

    stream: Any = None
    speed: Any = None
    max_tokens: Any = None


class _Checked(msgspec.Struct):
    custom_id: Any = None
    params: msgspec.Raw = msgspec.Raw()


_request_decoder = msgspec.json.Decoder(_Checked)
_params_decoder = msgspec.json.Decoder(_Params)


def _as_dict(value: object) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise NotImplementedError(f"{type(value).__name__} has no form in JSON")


_encoder = msgspec.json.Encoder(enc_hook=_as_dict)


class _Faults:
    def __init__(self) -> None:
        self.kept: list[Fault] = []
        self.omitted = 0

    def add(self, message: str, index: int | None = None, field: str | None = None) -> None:
        if len(self.kept) < _FAULTS_KEPT:
            self.kept.append(Fault(message=message, index=index, field=field))
        else:
            self.omitted += 1


def _check_custom_id(custom_id: Any, index: int, ids: dict[str, int], faults: _Faults) -> None:
    if custom_id is None:
        faults.add("is missing", index, "custom_id")
    elif not isinstance(custom_id, str):
        faults.add(f"must be a str, not {type(custom_id).__name__}", index, "custom_id")
    elif not _CUSTOM_ID.fullmatch(custom_id):
        shown = f"{custom_id[:64]!r}"
        if len(custom_id) > 64:  # noqa: PLR2004 - the limit that the message names
            shown = f"{shown}… with {len(custom_id):,} characters"
        faults.add(f"{shown} is not 1 to 64 letters, digits, '_' or '-'", index, "custom_id")
    elif (first := ids.setdefault(custom_id, index)) != index:
        faults.add(f"{custom_id!r} is the id of requests.{first} already", index, "custom_id")


def _check_params(params: _Params, index: int, faults: _Faults) -> None:
    # stream=False and speed=None ask for nothing that a batch could not do.
    if params.stream not in (None, False):
        faults.add("a batch cannot stream: leave it out", index, "params.stream")
    if params.speed is not None:
        faults.add("a batch has one speed: leave it out", index, "params.speed")
    if params.max_tokens == 0 and params.max_tokens is not False:
        faults.add("a batch cannot be used for max_tokens=0", index, "params.max_tokens")


def _encoded(request: RequestLike, index: int, faults: _Faults) -> bytes | None:
    """Give the request as JSON; None where it has none, with the reason among the faults."""
    match request:
        case bytes():
            encoded = request.strip()
            if not index:
                encoded = encoded.removeprefix(b"\xef\xbb\xbf")  # a file's byte order mark
            if not encoded.isascii():
                # What the checks below pass over unread must not spoil the whole body.
                try:
                    encoded.decode()
                except UnicodeDecodeError as error:
                    faults.add(f"is not JSON: {error}", index)
                    return None
        case str():
            try:
                encoded = request.strip().encode()
            except UnicodeEncodeError as error:
                faults.add(f"is no JSON that can be sent: {error}", index)
                return None
        case BatchRequest() | Mapping():
            try:
                encoded = _encoder.encode(request)
                # The encoder writes null for a NaN or an infinity, which JSON has not.
                if b"null" in encoded and _holds_no_number(
                    msgspec.to_builtins(request, enc_hook=_as_dict)
                ):
                    raise ValueError("it holds a NaN or an infinity")  # noqa: TRY301 - one way out
            except (TypeError, ValueError, NotImplementedError, RecursionError) as error:
                faults.add(f"cannot be written as JSON: {error}", index)
                return None
        case _:
            faults.add(
                "must be a dict, a BatchRequest, or one request as JSON (bytes or str), not "
                f"{type(request).__name__}",
                index,
            )
            return None
    return encoded


def _holds_no_number(value: object) -> bool:
    match value:
        case float():
            return not math.isfinite(value)
        case dict():
            return any(map(_holds_no_number, value.values()))
        case list() | tuple():
            return any(map(_holds_no_number, value))
        case _:
            return False


def _check(encoded: bytes, index: int, ids: dict[str, int], faults: _Faults) -> None:
    try:
        checked = _request_decoder.decode(encoded)
    except UNDECODABLE as error:
        reason = str(error)
        if isinstance(error, msgspec.ValidationError):
            faults.add(f"must be a JSON object with custom_id and params ({reason})", index)
        else:
            faults.add(f"is not JSON: {reason}", index)
        return
    _check_custom_id(checked.custom_id, index, ids, faults)
    if not checked.params:
        faults.add("is missing", index, "params")
        return
    try:
        params = _params_decoder.decode(checked.params)
    except UNDECODABLE:
        faults.add("must be a JSON object", index, "params")
        return
    _check_params(params, index, faults)


def _check_iterable(requests: object) -> None:
    match requests:
        case bytes() | str():
            advice = "to send a file's lines hand in open(path, 'rb')"
        case Mapping() if "requests" in requests:
            advice = "hand in the list that it has under 'requests'"
        case Mapping() | BatchRequest():
            advice = "put a single request in a list"
        case Iterable():
            return
        case _:
            advice = "hand in a list"
    kind = type(requests).__name__
    raise InvalidRequest(f"requests must be an iterable of requests, not a {kind}: {advice}")


def prepare(requests: Iterable[RequestLike]) -> tuple[BytesBody, int]:
    """Check and encode the requests of one batch; give the body and their number.

    Each may be a mapping, a `BatchRequest`, or JSON; so ``open("requests.jsonl", "rb")`` will do.
    Blank lines of JSON are passed over. The requests are read once and in order; what is read is
    let go as soon as it is encoded, and reading stops once a limit of the batch is passed.

    Raises:
        InvalidRequest: with every fault found: no requests; a custom_id that is missing, not of
            the form ``[a-zA-Z0-9_-]{1,64}`` or not unique; no params; params that ask for
            ``stream``, ``speed`` or ``max_tokens: 0``; what is no JSON; more than 100,000
            requests or 256,000,000 bytes.
    """
    _check_iterable(requests)
    faults = _Faults()
    ids: dict[str, int] = {}
    pieces: list[bytes] = []
    piece = bytearray(b'{"requests":[')
    size = len(piece) + len(b"]}")
    count = 0
    for index, request in enumerate(requests):
        encoded = _encoded(request, index, faults)
        if encoded == b"":
            continue
        count += 1
        if count > MAX_REQUESTS:
            faults.add(
                f"there are more than {MAX_REQUESTS:,} requests, the limit of one batch: split "
                "them over several",
                index,
            )
            break
        if encoded is None:
            continue
        _check(encoded, index, ids, faults)
        separator = b"," if size > len(b'{"requests":[]}') else b""
        size += len(separator) + len(encoded)
        if size > MAX_BYTES:
            faults.add(
                f"up to here the batch has {size:,} bytes, over the limit of {MAX_BYTES:,}: split "
                "the requests over several batches",
                index,
            )
            break
        piece += separator
        piece += encoded
        if len(piece) >= _PIECE:
            pieces.append(bytes(piece))
            piece.clear()
    if not count:
        faults.add("there are no requests: a batch has at least one")
    if faults.kept:
        raise InvalidRequest(*faults.kept, omitted=faults.omitted)
    pieces.append(bytes(piece) + b"]}")
    return BytesBody(tuple(pieces)), count
