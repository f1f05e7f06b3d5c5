"""From a user's requests to a checked, measured, replayable body.

Knows the limits of a batch and the three forms in which a request can be passed; not where a
body goes. Every request is looked at before a byte is sent, and every fault is told with the
index of its request.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import msgspec

from .decoding import UNDECODABLE
from .errors import InvalidInputError, RequestProblem
from .http import Body, BytesBody

#: The service's limits of one batch. Whether its 256 MB are 10^6 or 2^20 bytes each is not
#: documented; the smaller reading is accepted either way.
MAX_REQUESTS = 100_000
MAX_BYTES = 256_000_000

#: How many faults are kept; a file with more of them has one mistake, made often.
_FAULTS_KEPT = 100
#: Requests are gathered into pieces of about this size: large enough that sending costs few
#: calls, small enough that no second copy of the whole body ever exists.
_PIECE = 256 * 1024

_OPENING, _CLOSING = b'{"requests":[', b"]}"
_EMPTY = len(_OPENING) + len(_CLOSING)

#: What is no float and holds none, or has been through a parser.
_NO_FLOATS = frozenset({int, bool, type(None), msgspec.Raw})

_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class BatchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a batch: the id to find its result by, and the params of a Messages call.

    `params` are passed on untouched, whether this version knows them or not.
    """

    custom_id: str
    params: Mapping[str, Any]


#: A request as it can be passed: a mapping, a `BatchRequest`, or one request as JSON (a line
#: of a requests file), which is sent byte for byte.
RequestLike: TypeAlias = BatchRequest | Mapping[str, Any] | bytes | str


class _Params(msgspec.Struct):
    """The params that a batch does not support: named here, the service says the rest."""

    stream: Any = None
    speed: Any = None
    max_tokens: Any = None


class _Looked(msgspec.Struct):
    """The fields that are looked at, of a request that has them where they belong."""

    custom_id: str
    params: _Params


class _Checked(msgspec.Struct):
    custom_id: Any = None
    params: msgspec.Raw = msgspec.Raw()


class _ResultLine(msgspec.Struct):
    """What tells a line of results from a request."""

    params: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()


_looked_decoder = msgspec.json.Decoder(_Looked)
_request_decoder = msgspec.json.Decoder(_Checked)
_params_decoder = msgspec.json.Decoder(_Params)
_result_decoder = msgspec.json.Decoder(_ResultLine)

_AS_LINES = 'write one request as JSON on each line, {"custom_id": …, "params": {…}}'
#: How the first line of a file that holds no requests begins: what it is then, and what to do.
_OTHER_FILES = (
    (b"\x1f\x8b", "a gzip file: open it with gzip.open(path, 'rb')"),
    (b"BZh", "a bzip2 file: open it with bz2.open(path, 'rb')"),
    (b"\xfd7zXZ\x00", "an xz file: open it with lzma.open(path, 'rb')"),
    (b"\x28\xb5\x2f\xfd", "a zstandard file: decompress it first"),
    (b"PK\x03\x04", f"a zip or Excel file: {_AS_LINES}"),
    (b"PAR1", f"a Parquet file: {_AS_LINES}"),
    (b"\xff\xfe", "UTF-16 text: open it with open(path, encoding='utf-16')"),
    (b"\xfe\xff", "UTF-16 text: open it with open(path, encoding='utf-16')"),
    (b"{\x00", "UTF-16 text: open it with open(path, encoding='utf-16-le')"),
    (b"\x00{", "UTF-16 text: open it with open(path, encoding='utf-16-be')"),
)
#: The same where the first line is JSON, or the beginning of it.
_OTHER_JSON = (
    (re.compile(rb"\["), "a JSON array: pass the list that json.load(file) returns"),
    (
        re.compile(rb'\{\s*"requests"\s*:'),
        "the body of a create: pass the list json.load(file)['requests']",
    ),
    (re.compile(rb"\{$"), f"JSON over several lines: {_AS_LINES}"),
)
_TEXT = (
    f"this looks like a CSV file or other text: {_AS_LINES}, or pass a list of requests that you "
    "make from the rows of csv.DictReader(file)"
)
#: How much of a first line is looked at, in bytes.
_LOOKED_AT = 100


class _NoJSONError(NotImplementedError):
    """A value has no form in JSON."""

    def __init__(self, value: object) -> None:
        self.value = value
        super().__init__(_remedy(value))


def _remedy(value: object) -> str:
    """Say what has no form in JSON, and what of the same value has."""
    kind = type(value)
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    ways = ["x.item()"] if hasattr(kind, "item") else []
    # Known by their methods: NumPy and its like are not imported for that.
    if hasattr(kind, "tolist") and getattr(value, "ndim", False):
        ways = ["x.tolist()"]
    elif isinstance(value, str):
        ways.append("str(x)")
    elif hasattr(kind, "__index__"):
        ways.append("int(x)")
    elif hasattr(kind, "__float__"):
        ways.append("float(x)")
    remedy = f"pass {' or '.join(ways)}" if ways else "leave it out or convert it"
    return f"a value of type {name} cannot be written as JSON: {remedy}"


def _field_of(request: object, value: object) -> str | None:
    """Find the field that holds a value, named as the service names fields."""
    left: list[tuple[str, object]] = [("", request)]
    seen: set[int] = set()
    while left:
        path, holder = left.pop()
        if holder is value:
            return path.removeprefix(".")
        if id(holder) in seen:
            continue  # it refers to itself
        seen.add(id(holder))
        inner: Iterable[tuple[object, object]] = ()
        if isinstance(holder, BatchRequest):
            inner = (("custom_id", holder.custom_id), ("params", holder.params))
        elif isinstance(holder, Mapping):
            inner = holder.items()
        elif isinstance(holder, (list, tuple)):
            inner = enumerate(holder)
        left.extend((f"{path}.{name}", held) for name, held in inner)
    return None


def _looks_like_a_file(beginning: bytes) -> str | None:
    """Say what a file is that begins so, if it cannot be one of requests."""
    for begins, what in _OTHER_FILES:
        if beginning.startswith(begins):
            return f"this looks like {what}"
    return None


def _looks_like(beginning: bytes, encoded: bytes | None) -> str | None:
    """Say what the first request looks like that is none, and begins so."""
    for pattern, what in _OTHER_JSON:
        if pattern.match(beginning):
            return f"this looks like {what}"
    try:
        line = _result_decoder.decode(encoded or b"")
    except UNDECODABLE:
        return _looks_like_a_file(beginning)
    if line.result and not line.params:
        return "this looks like a file of results: pass the requests, not the results"
    return None


def _as_dict(value: object) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise _NoJSONError(value)


_encoder = msgspec.json.Encoder(enc_hook=_as_dict)


class RequestChecker:
    """Looks at the requests of one batch, one after the other, and keeps every fault.

    `count` and `content_length` (bytes of the whole body) are those of what was looked at so far.
    Where the requests are the lines of a file, faults name the line.
    """

    def __init__(self, *, lines: bool = False) -> None:
        self.count = 0
        self.content_length = _EMPTY
        self._lines = lines
        self._ids: dict[str, int] = {}
        self._kept: list[RequestProblem] = []
        self._omitted = 0
        #: How many of the requests are text that no JSON object begins with.
        self._texts = 0

    def checked(self, requests: Iterable[RequestLike]) -> Iterator[bytes]:
        """Give each request as JSON, as long as it is one and the batch is within its limits."""
        for index, request in enumerate(requests):
            encoded = _encoded(request, index, self)
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
            if encoded is None or not self._is_good(request, encoded, index):
                if encoded is not None:
                    self._check(encoded, index)
                if self._is_of_another_kind(request, encoded):
                    return
                if encoded is None:
                    continue
            if len(encoded) + _EMPTY > MAX_BYTES:
                self.add(
                    f"this request alone has {len(encoded):,} bytes, over the limit of "
                    f"{MAX_BYTES:,} for a whole batch: no batch can hold it, so make it smaller, "
                    "or leave it out",
                    index,
                )
                continue
            self.content_length += len(encoded) + (self.content_length > _EMPTY)  # and a comma
            if self.content_length > MAX_BYTES:
                self.add(
                    f"up to here the batch has {self.content_length:,} bytes, over the limit of "
                    f"{MAX_BYTES:,}: split the requests over several batches",
                    index,
                )
                return
            yield encoded

    def finish(self) -> None:
        """End the batch.

        Raises:
            InvalidInputError: with every fault that was found.
        """
        if not self.count:
            self.add("there are no requests: a batch has at least one")
        elif self._texts == min(self.count, MAX_REQUESTS):
            self._tell_alone(_TEXT)
        if self._kept:
            raise InvalidInputError(*self._kept, omitted=self._omitted)

    def add(self, message: str, index: int | None = None, field: str | None = None) -> None:
        """Keep a fault of the request at this place."""
        if len(self._kept) == _FAULTS_KEPT:
            self._omitted += 1
        elif self._lines and index is not None:
            self._kept.append(RequestProblem(message=message, line=index + 1, field=field))
        else:
            self._kept.append(RequestProblem(message=message, index=index, field=field))

    def _tell_alone(self, message: str) -> None:
        """Let one fault stand for all that follow from it."""
        self._kept = [RequestProblem(message=message)]
        self._omitted = 0

    def _is_of_another_kind(self, request: RequestLike, encoded: bytes | None) -> bool:
        """Whether a faulty request shows that the whole file is not one of requests."""
        beginning = request if encoded is None and isinstance(request, bytes) else encoded
        beginning = (beginning or b"")[:_LOOKED_AT]
        is_text = isinstance(request, (bytes, str)) and not beginning.startswith(b"{")
        self._texts += is_text and beginning != b""
        if self.count > 1 or not self._kept:
            return False
        if (looks := _looks_like(beginning, encoded)) is None:
            return False
        self._tell_alone(looks)
        self._texts = 0
        return True

    def _is_good(self, request: RequestLike, encoded: bytes, index: int) -> bool:
        """Tell at little cost of nearly every good request that it is one; `_check` of the rest."""
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

    def _check(self, encoded: bytes, index: int) -> None:
        try:
            checked = _request_decoder.decode(encoded)
        except UNDECODABLE as error:
            reason = str(error)
            if isinstance(error, msgspec.ValidationError):
                self.add(f"must be a JSON object with custom_id and params ({reason})", index)
            else:
                self.add(f"is not JSON: {reason}", index)
            return
        self._check_custom_id(checked.custom_id, index)
        if not checked.params:
            self.add("is missing", index, "params")
            return
        try:
            params = _params_decoder.decode(checked.params)
        except UNDECODABLE:
            self.add("must be a JSON object", index, "params")
            return
        _check_params(params, index, self)

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
            self.add(f"{custom_id!r} is the id of {where} already", index, "custom_id")


def _fields_of(request: RequestLike, encoded: bytes) -> tuple[Any, Any, Any, Any] | None:
    """Read custom_id, stream, speed and max_tokens; None where they are not simply there.

    Of a dict they are read as they are: to read them of its JSON takes as long as to write it.
    """
    if type(request) is dict:
        params = request.get("params")
        if type(params) is not dict:
            return None
        get = params.get
        return request.get("custom_id"), get("stream"), get("speed"), get("max_tokens")
    try:
        looked = _looked_decoder.decode(encoded)
    except UNDECODABLE:
        return None
    asked = looked.params
    return looked.custom_id, asked.stream, asked.speed, asked.max_tokens


def _check_params(params: _Params, index: int, faults: RequestChecker) -> None:
    # stream=False and speed=None ask for nothing that a batch could not do.
    if params.stream not in (None, False):
        faults.add("a batch cannot stream: leave it out", index, "params.stream")
    if params.speed is not None:
        faults.add("a batch has one speed: leave it out", index, "params.speed")
    if params.max_tokens == 0 and params.max_tokens is not False:
        faults.add("a batch cannot be used for max_tokens=0", index, "params.max_tokens")


def as_sent(line: bytes, index: int) -> bytes:
    """Take off a line what is not sent: white space around it, and a file's byte order mark."""
    return line.strip() if index else line.removeprefix(b"\xef\xbb\xbf").strip()


def _encoded(request: RequestLike, index: int, faults: RequestChecker) -> bytes | None:
    """Give the request as JSON; None where it has none, with the reason among the faults."""
    match request:
        case bytes():
            encoded = as_sent(request, index)
            if not encoded.isascii():
                # What the checks below pass over unread must not spoil the whole body.
                try:
                    encoded.decode()
                except UnicodeDecodeError as error:
                    faults.add(f"is not JSON: {error}", index)
                    return None
        case str():
            try:
                text = request if index else request.removeprefix("\ufeff")
                encoded = text.strip().encode()
            except UnicodeEncodeError as error:
                faults.add(f"is no JSON that can be sent: {error}", index)
                return None
        case dict() | BatchRequest() | Mapping():  # the first alone is quick to tell
            try:
                encoded = _encoder.encode(request)
                # The encoder writes null for a NaN or an infinity, which JSON has not.
                if _holds_no_number(request, encoded):
                    raise ValueError("it holds a NaN or an infinity")  # noqa: TRY301 - one way out
            except _NoJSONError as error:
                faults.add(str(error), index, _field_of(request, error.value))
                return None
            except (TypeError, ValueError, RecursionError) as error:
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


def _holds_no_number(request: object, encoded: bytes) -> bool:
    """Whether a NaN or an infinity became a null."""
    left: list[Iterable[Any]] = [(request,)]
    while left:
        for value in left.pop():
            kind = type(value)
            if kind is str:
                continue
            if kind is dict:
                left.append(value.values())
            elif kind is list or kind is tuple:
                left.append(value)
            elif kind is float:
                if not math.isfinite(value):
                    return True
            elif kind not in _NO_FLOATS:
                if b"null" not in encoded:
                    return False
                left.append((msgspec.to_builtins(value, enc_hook=_as_dict),))
    return False


_A_FILE = "to send a file pass RequestsFile(path) (from transports.files) or open(path, 'rb')"


def _check_iterable(requests: object) -> None:
    match requests:
        case bytes() | str():
            advice = _A_FILE
        case _ if hasattr(requests, "__fspath__"):
            advice = _A_FILE
        case Mapping() if "requests" in requests:
            advice = "pass the list that it has under 'requests'"
        case Mapping() | BatchRequest():
            advice = "put a single request in a list"
        case Iterable():
            return
        case _:
            advice = "pass a list"
    kind = type(requests).__name__
    raise InvalidInputError(f"requests must be an iterable of requests, not a {kind}: {advice}")


def envelope(encoded: Iterable[bytes]) -> Iterator[bytes]:
    """Put requests that are JSON into the body of a create, in pieces of a convenient size."""
    gathered: list[bytes] = []
    size = 0
    before = _OPENING
    for request in encoded:
        gathered.append(request if gathered else before + request)
        size += len(request)
        if size >= _PIECE:
            yield b",".join(gathered)
            gathered.clear()
            size = 0
            before = b","
    yield b",".join(gathered) + _CLOSING if gathered or before != _OPENING else _OPENING + _CLOSING


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRequests:
    """The requests of one batch, checked: the body of the create, and their number."""

    body: Body
    count: int


@runtime_checkable
class RequestsSource(Protocol):
    """Requests that bring their own body along, such as a file that is never in memory whole."""

    def prepare(self) -> PreparedRequests:
        """Check the requests.

        Raises:
            InvalidInputError: with every fault that was found.
        """
        ...


def prepare(
    requests: Iterable[RequestLike] | RequestsSource | PreparedRequests,
) -> PreparedRequests:
    """Check and encode the requests of one batch; return prepared ones as they are.

    Each may be a mapping, a `BatchRequest`, or JSON; so ``open("requests.jsonl", "rb")`` will do.
    Blank lines of JSON are passed over. The requests are read once and in order; what is read is
    let go as soon as it is encoded, and reading stops once a limit of the batch is passed.

    Raises:
        InvalidInputError: with every fault found: no requests; a custom_id that is missing, not of
            the form ``[a-zA-Z0-9_-]{1,64}`` or not unique; no params; params that ask for
            ``stream``, ``speed`` or ``max_tokens: 0``; what is no JSON; more than 100,000
            requests or 256,000,000 bytes.
    """
    if isinstance(requests, PreparedRequests):
        return requests
    if isinstance(requests, RequestsSource):
        return requests.prepare()
    _check_iterable(requests)
    checker = RequestChecker()
    try:
        pieces = tuple(envelope(checker.checked(requests)))
    except UnicodeDecodeError as error:
        # As of a compressed file that was opened as text.
        if (looks := _looks_like_a_file(error.object)) is None:
            raise
        raise InvalidInputError(looks) from None
    checker.finish()
    return PreparedRequests(body=BytesBody(pieces), count=checker.count)
