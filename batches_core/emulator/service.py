"""The emulator's HTTP face: authentication, routes, checks, pages and error bodies.

Knows the endpoints and their answers. What becomes of a batch is `EmulatedBatch`'s, and which
faults are injected `FaultPlan`'s.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from batches_core.decoding import UNDECODABLE
from batches_core.http import Request, fold_headers
from batches_core.request_checker import MAX_BYTES, MAX_REQUESTS

from .batch import EmulatedBatch, Owner, Pace
from .corruption import cut_off, drip, spoil_lines, with_unknown_fields
from .faults import End, FaultPlan, FaultRule
from .replies import Responder, answer, digest

_VERSIONS = frozenset({"2023-01-01", "2023-06-01", "2026-10-21"})
_LIMIT = re.compile(r"[0-9]{1,4}")
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]*")
_CUSTOM_ID_LENGTH = 64
_DEFAULT_LIMIT = 20
_MAX_LIMIT = 1000
#: Results are sent in pieces of this many bytes, which have nothing to do with where lines end.
_PIECE = 16 * 1024
_SERVER_ERRORS = 500
#: What the documentation says of each status; others are as their hundreds are.
_ERROR_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
#: Refusals that pass: no word against trying again goes with them.
_PASSING = frozenset({408, 409, 425, 429})
#: Header pairs.
_Headers: TypeAlias = tuple[tuple[str, str], ...]
_JSON = ("content-type", "application/json")
_JSON_LINES = ("content-type", "application/x-jsonl")
#: Which of two batches with equal stamps a list shows first; the service's rule is not documented.
Ties: TypeAlias = Literal["newest", "oldest", "id"]
_TIES = ("newest", "oldest", "id")
#: Of the keys for which nothing else is said.
_ORGANIZATION: Final = "00000000-0000-4000-8000-000000000000"
_WORKSPACE: Final = "wrkspc_01EmulatorDefault"
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What the emulator answers: a status, header pairs, and the pieces of a body.

    The rest is how it goes out, for faults. `delay` is for how many seconds nothing is sent. `end`
    is what follows the last chunk: the end of the message, a connection closed without that, or
    one that is reset. A `status` of 0 means no answer, not even a head: only that end.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    chunks: Iterable[bytes]
    delay: float = 0.0
    end: End = "clean"


class _Refused(Exception):  # noqa: N818 - the way out of a handler, not an error of the emulator
    def __init__(self, status: int, type_: str, message: str) -> None:
        self.status = status
        self.type = type_
        super().__init__(message)


def _bad_request(message: str) -> _Refused:
    return _Refused(400, "invalid_request_error", message)


def _not_found(message: str) -> _Refused:
    return _Refused(404, "not_found_error", message)


class Emulator:
    """A Message Batches service in memory.

    `parallel` requests of a batch are worked on at a time, each for `seconds_per_request` at
    most, divided by `speed`. `responder` writes the results of valid requests, by default
    `answer`; a share `errored` of them (0 to 1) fails instead with an ``api_error``, in each batch
    other ones. `api_keys` are those that are let in, sent as ``x-api-key`` or as a Bearer token; by
    default any. `faults` is what goes wrong on purpose, by default nothing; more can be added to
    the attribute at any time. All is in memory; not thread-safe.

    A list is in the order of ``created_at``, newest first. `ties` is the order of batches with
    equal stamps: the ``"newest"`` or the ``"oldest"`` of them first, or by ``"id"``, which
    follows neither. `date_skew` seconds are added to the ``Date`` header; the skew of one batch's
    ``created_at`` is a `FaultRule`'s.

    By default all keys share one workspace of one organization, and ``anthropic-workspace-id`` is
    ignored. `workspaces` maps a key to the id of its workspace, whose batches are all that it
    sees; to None if it can act on every workspace of its organization and so names one in that
    header. `organizations` maps a key to the organization id that its answers name in
    ``anthropic-organization-id``. A key that is in neither has the default of both.

    `handle` is given the time as seconds since the epoch.

    Raises:
        ValueError: a figure is not more than 0, `errored` is no share, `date_skew` is not finite,
            or `ties` is unknown.
        TypeError: `api_keys` is one str, or `responder` no function.
    """

    def __init__(
        self,
        *,
        parallel: int = 50,
        seconds_per_request: float = 2.0,
        speed: float = 1.0,
        responder: Responder = answer,
        api_keys: Collection[str] | None = None,
        errored: float = 0.0,
        faults: FaultPlan | None = None,
        ties: Ties = "newest",
        date_skew: float = 0.0,
        workspaces: Mapping[str, str | None] | None = None,
        organizations: Mapping[str, str] | None = None,
    ) -> None:
        if not (parallel > 0 and seconds_per_request > 0 and speed > 0):
            raise ValueError("parallel, seconds_per_request and speed are more than 0")
        if isinstance(api_keys, str) or not callable(responder):
            raise TypeError("api_keys is a list of keys, responder a function")
        if not 0 <= errored <= 1:
            raise ValueError("errored is a share from 0 to 1")
        if ties not in _TIES:
            raise ValueError(f"ties is newest, oldest or id, not {ties!r}")
        if not math.isfinite(date_skew):
            raise ValueError("date_skew is in seconds and finite")
        self.faults = FaultPlan() if faults is None else faults
        self._pace = Pace(parallel=parallel, seconds_per_request=seconds_per_request / speed)
        self._responder = responder
        self._api_keys = api_keys
        self._errored = errored
        self._ties = ties
        self._date_skew = date_skew
        self._workspaces = {} if workspaces is None else workspaces
        self._organizations = {} if organizations is None else organizations
        self._jobs: dict[str, EmulatedBatch] = {}
        self._created = 0
        self._handled = 0

    #: The largest request body, in bytes; a server may refuse a larger one unread, with
    #: `too_large`.
    max_body = MAX_BYTES

    def handle(self, request: Request, now: float) -> Response:
        """Answer one request, whose URL is absolute."""
        try:
            route, _ = _read_route(request)
        except _Refused:
            route = "other"
        rule = self.faults.for_request(route)
        if rule is None:
            return self._answer(request, now)
        if rule.drop is not None:
            if rule.drop == "after":
                self._answer(request, now)
            end = rule.end or "reset"
            return Response(status=0, headers=(), chunks=(), delay=rule.delay, end=end)
        if not rule.replaces_answer:
            response = self._answer(request, now, rule)
        else:
            if rule.taken:
                self._answer(request, now)
            response = self._answer_of_fault(rule, request, now)
        response = replace(response, delay=rule.delay)
        if rule.cut is not None:
            chunks = cut_off(response.chunks, rule.cut)
            response = replace(response, chunks=chunks, end=rule.end or "close")
        return replace(response, chunks=drip(response.chunks)) if rule.drip else response

    def _answer(self, request: Request, now: float, rule: FaultRule | None = None) -> Response:
        try:
            body = self._route(request, now)
        except _Refused as refused:
            return self._refusal(refused, now, request=request, rule=rule)
        if isinstance(body, list):
            headers = (*self._headers(now), *self._organization(request), _JSON_LINES)
            lines = body if rule is None else spoil_lines(body, rule)
            return Response(status=200, headers=headers, chunks=_pieces(lines))
        return self._json(200, _change(body, rule), now, request)

    def _answer_of_fault(self, rule: FaultRule, request: Request, now: float) -> Response:
        if rule.location is not None:
            origin, target = _origin(request), request.target
            to = rule.location.replace("{origin}", origin).replace("{target}", target)
            headers = (*self._headers(now), *self._organization(request), ("location", to))
            return Response(status=rule.status or 307, headers=headers, chunks=())
        more: _Headers = ()
        if rule.retry_after is not None:
            wait = rule.retry_after
            more = (("retry-after", wait if isinstance(wait, str) else f"{wait:g}"),)
        if rule.should_retry is not None:
            more = (*more, ("x-should-retry", str(rule.should_retry).lower()))
        if rule.status is None or rule.proxy_page:
            return self._proxy_page(rule.status or 502, now, more)
        refused = _Refused(rule.status, _error_type(rule.status), "A fault of the emulator's plan")
        return self._refusal(refused, now, more, request=request, error_code=rule.error_code)

    def too_large(self, now: float) -> Response:
        """Answer a request whose body is over `max_body`, as the service's edge does."""
        refused = self._too_large()
        error = {"message": str(refused), "type": refused.type}
        chunks = (msgspec.json.encode({"error": error}),)
        return Response(status=refused.status, headers=(self._date(now), _JSON), chunks=chunks)

    def _too_large(self) -> _Refused:
        message = f"Request exceeds the maximum size of {self.max_body} bytes"
        return _Refused(413, "request_too_large", message)

    def failed(self, now: float) -> Response:
        """Answer a request over which `handle` failed, as where a responder raised."""
        return self._refusal(_Refused(500, "api_error", "Internal server error"), now)

    # --- routes --------------------------------------------------------------------------

    def _route(self, request: Request, now: float) -> Any:
        headers = fold_headers(request.headers)
        owner = self._authenticate(headers)
        version = headers.get("anthropic-version")
        if version is None:
            raise _bad_request("anthropic-version: header is required")
        if version not in _VERSIONS:
            raise _bad_request(f'anthropic-version: "{version}" is not a valid version')
        route, id_ = _read_route(request)
        match route:
            case "create":
                profile = headers.get("anthropic-user-profile-id")
                return self._create(request, version, owner, profile, now)
            case "list":
                return self._list(request, owner, now)
        job = self._job(id_, owner, now)
        match route:
            case "get":
                return self._describe(job, request, now)
            case "delete":
                return self._delete(job, now)
            case "cancel":
                return self._cancel(job, request, now)
        return self._results(job, now)

    def _authenticate(self, headers: dict[str, str]) -> Owner:
        """Check the credential; return the organization and workspace that it acts on."""
        key = _read_key(headers)
        if not key:
            raise _Refused(401, "authentication_error", "x-api-key header is required")
        if not self._lets_in(key):
            raise _Refused(401, "authentication_error", "invalid x-api-key")
        return self._organizations.get(key, _ORGANIZATION), self._workspace(key, headers)

    def _lets_in(self, key: str) -> bool:
        return self._api_keys is None or key in self._api_keys

    def _workspace(self, key: str, headers: dict[str, str]) -> str:
        if key not in self._workspaces:
            return _WORKSPACE
        own = self._workspaces[key]
        named = headers.get("anthropic-workspace-id") or own
        # What the service answers in these two cases is not documented.
        if named is None:
            raise _bad_request("anthropic-workspace-id: header is required for this credential")
        if own not in {None, named}:
            message = f"This credential cannot act on workspace `{named}`."
            raise _Refused(403, "permission_error", message)
        return named

    def _job(self, id_: str, owner: Owner, now: float) -> EmulatedBatch:
        job = self._jobs.get(id_)
        if job is None or job.owner != owner or job.missing(now):
            raise _not_found(f"Batch `{id_}` was not found.")
        return job

    def _describe(self, job: EmulatedBatch, request: Request, now: float) -> dict[str, Any]:
        return job.describe(now, _origin(request))

    # --- endpoints -----------------------------------------------------------------------

    def _create(
        self, request: Request, version: str, owner: Owner, profile: str | None, now: float
    ) -> dict[str, Any]:
        body = b"" if request.body is None else b"".join(request.body)
        if len(body) > self.max_body:
            raise self._too_large()
        requests = _read_requests(body)
        self._created += 1
        job = EmulatedBatch(
            id_="msgbatch_01" + _base62(digest("batch", str(self._created)), 22),
            requests=requests,
            created_at=now,
            version=version,
            pace=self._pace,
            responder=self._responder,
            fault=self.faults.for_batch(),
            owner=owner,
            user_profile_id=profile,
            errored=self._errored,
        )
        self._jobs[job.id] = job
        return self._describe(job, request, now)

    def _list(self, request: Request, owner: Owner, now: float) -> dict[str, Any]:
        query = {k: v[-1] for k, v in parse_qs(urlsplit(request.url).query).items()}
        limit = query.get("limit", str(_DEFAULT_LIMIT))
        if not _LIMIT.fullmatch(limit) or not 1 <= int(limit) <= _MAX_LIMIT:
            raise _bad_request(f"limit: Input should be an integer from 1 to {_MAX_LIMIT}")
        newest_first = self._newest_first(owner, now)
        places = {job.id: place for place, job in enumerate(newest_first)}
        # What the service does with both, or with an id that it does not have, is not documented.
        if "after_id" in query and "before_id" in query:
            raise _bad_request("after_id and before_id cannot be used together")
        for name in ("after_id", "before_id"):
            if name in query and query[name] not in places:
                raise _bad_request(f"{name}: Batch `{query[name]}` was not found.")
        if "before_id" in query:
            end = places[query["before_id"]]
            start = max(0, end - int(limit))
            has_more = start > 0
        else:
            start = places[query["after_id"]] + 1 if "after_id" in query else 0
            end = start + int(limit)
            has_more = end < len(newest_first)
        data = [self._describe(job, request, now) for job in newest_first[start:end]]
        return {
            "data": data,
            "has_more": has_more,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
        }

    def _newest_first(self, owner: Owner, now: float) -> list[EmulatedBatch]:
        jobs = [job for job in self._jobs.values() if job.owner == owner and not job.unlisted(now)]
        if self._ties == "newest":
            jobs.reverse()
        elif self._ties == "id":
            jobs.sort(key=lambda job: job.id, reverse=True)
        # As they are written: stamps that differ by less than they show are equal. Sorting keeps
        # the order of equal ones.
        jobs.sort(key=lambda job: job.stamp, reverse=True)
        return jobs

    def _cancel(self, job: EmulatedBatch, request: Request, now: float) -> dict[str, Any]:
        # What the service answers for a batch that has ended is not documented.
        if job.ended(now):
            raise _bad_request(f"Batch `{job.id}` cannot be canceled: it has ended.")
        job.cancel(now)
        return self._describe(job, request, now)

    def _delete(self, job: EmulatedBatch, now: float) -> dict[str, Any]:
        if not job.ended(now):
            state = "processing" if job.canceled_at is None else "canceling"
            raise _bad_request(
                f"Batch `{job.id}` has not finished {state}. It can be deleted once it has ended."
            )
        del self._jobs[job.id]
        return {"id": job.id, "type": "message_batch_deleted"}

    def _results(self, job: EmulatedBatch, now: float) -> list[bytes]:
        # How the service answers here is not documented; it has no such resource then.
        if not job.ended(now):
            raise _not_found(f"Batch `{job.id}` has no results yet.")
        if job.archived_at(now) is not None:
            raise _not_found(f"The results of batch `{job.id}` have been archived.")
        return job.lines()

    # --- responses -----------------------------------------------------------------------

    def _headers(self, now: float) -> _Headers:
        self._handled += 1
        return (
            self._date(now),
            ("request-id", "req_01" + _base62(digest("request", str(self._handled)), 22)),
            ("vary", "Accept-Encoding"),
        )

    def _organization(self, request: Request | None) -> _Headers:
        # A key that is not let in is of no organization.
        key = "" if request is None else _read_key(fold_headers(request.headers))
        if not key or not self._lets_in(key):
            return ()
        return (("anthropic-organization-id", self._organizations.get(key, _ORGANIZATION)),)

    def _date(self, now: float) -> tuple[str, str]:
        moment = datetime.fromtimestamp(now + self._date_skew, UTC)
        return "date", format_datetime(moment, usegmt=True)

    def _proxy_page(self, status: int, now: float, more: _Headers) -> Response:
        # No request-id, for the request did not come as far as the service.
        headers = (self._date(now), ("server", "proxy"), ("content-type", "text/html"), *more)
        page = f"<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>\n"
        return Response(status=status, headers=headers, chunks=(page.encode(),))

    def _json(
        self, status: int, body: Any, now: float, request: Request | None, more: _Headers = ()
    ) -> Response:
        headers = (*self._headers(now), *self._organization(request), _JSON, *more)
        return Response(status=status, headers=headers, chunks=(msgspec.json.encode(body),))

    def _refusal(
        self,
        refused: _Refused,
        now: float,
        more: _Headers = (),
        *,
        request: Request | None = None,
        error_code: str | None = None,
        rule: FaultRule | None = None,
    ) -> Response:
        error: dict[str, Any] = {"message": str(refused), "type": refused.type}
        if error_code is not None:
            error["details"] = {"error_code": error_code}
        request_id = "req_01" + _base62(digest("request", str(self._handled + 1)), 22)
        body = {"error": error, "request_id": request_id, "type": "error"}
        # The live service says so of its refusals; of its own faults it was not seen to.
        is_final = refused.status < _SERVER_ERRORS and refused.status not in _PASSING
        if is_final and "x-should-retry" not in dict(more):
            more = (*more, ("x-should-retry", "false"))
        return self._json(refused.status, _change(body, rule), now, request, more)


def _read_key(headers: dict[str, str]) -> str:
    """Return the API key of a request, from either header that carries one, or ""."""
    key = headers.get("x-api-key")
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token if key is None and scheme.lower() == "bearer" else key or ""


def _read_route(request: Request) -> tuple[str, str]:
    """Tell which endpoint a request is for, and which batch, if it is about one."""
    try:
        url = urlsplit(request.url)
    except ValueError as error:
        raise _bad_request(f"The URL cannot be read: {error}") from None
    id_ = ""
    match [unquote(part) for part in url.path.split("/")]:
        case ["", "v1", "messages", "batches"]:
            routes = {"POST": "create", "GET": "list"}
        case ["", "v1", "messages", "batches", id_]:
            routes = {"GET": "get", "DELETE": "delete"}
        case ["", "v1", "messages", "batches", id_, "cancel"]:
            routes = {"POST": "cancel"}
        case ["", "v1", "messages", "batches", id_, "results"]:
            routes = {"GET": "results"}
        case _:
            raise _not_found("Not found")
    if request.method not in routes:
        raise _Refused(405, "invalid_request_error", "Method Not Allowed")
    return routes[request.method], id_


def _origin(request: Request) -> str:
    parts = urlsplit(request.url)
    return f"{parts.scheme}://{parts.netloc}"


def _error_type(status: int) -> str:
    usual = "api_error" if status >= _SERVER_ERRORS else "invalid_request_error"
    return _ERROR_TYPES.get(status, usual)


def _change(body: Any, rule: FaultRule | None) -> Any:
    return with_unknown_fields(body) if rule is not None and rule.unknown_fields else body


def _base62(number: int, length: int) -> str:
    letters = []
    for _ in range(length):
        number, letter = divmod(number, len(_BASE62))
        letters.append(_BASE62[letter])
    return "".join(letters)


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for line in lines:
        held += line
        while len(held) >= _PIECE:
            yield bytes(held[:_PIECE])
            del held[:_PIECE]
    if held:
        yield bytes(held)


def _read_requests(body: bytes) -> list[tuple[str, msgspec.Raw]]:
    """Read a create's body, with the checks that the service makes at once.

    Whether it tells a duplicate id at once or later is not documented; here it is at once.
    """
    try:
        fields = _object(body)
    except UNDECODABLE as error:
        raise _bad_request(f"The request body is not a valid JSON object: {error}") from None
    if "requests" not in fields:
        raise _bad_request("requests: Field required")
    try:
        wanted = msgspec.json.decode(fields["requests"], type=list[msgspec.Raw])
    except UNDECODABLE:
        raise _bad_request("requests: Input should be a valid list") from None
    if not wanted:
        raise _bad_request("requests: List should have at least 1 item after validation, not 0")
    if len(wanted) > MAX_REQUESTS:
        raise _bad_request(
            f"requests: List should have at most {MAX_REQUESTS} items after validation, not "
            f"{len(wanted)}"
        )
    read: dict[str, msgspec.Raw] = {}
    for index, raw in enumerate(wanted):
        try:
            custom_id, params = _read_request(raw)
        except _Fault as fault:
            raise _bad_request(f"requests.{index}{fault}") from None
        if custom_id in read:
            raise _bad_request(f"requests.{index}.custom_id: `{custom_id}` is used twice")
        read[custom_id] = params
    return list(read.items())


class _Fault(Exception):  # noqa: N818 - the way out of a check
    """Where in a request a fault is, and what it is."""


def _object(raw: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])


def _read_request(raw: msgspec.Raw) -> tuple[str, msgspec.Raw]:
    try:
        fields = _object(raw)
    except UNDECODABLE:
        raise _Fault(": Input should be an object") from None
    for name in ("custom_id", "params"):
        if name not in fields:
            raise _Fault(f".{name}: Field required")
    for name in fields:
        if name not in {"custom_id", "params"}:
            raise _Fault(f".{name}: Extra inputs are not permitted")
    custom_id = _read_custom_id(fields["custom_id"])
    try:
        # All of it, so that nothing is left to go wrong when it is decoded again at the end.
        msgspec.json.decode(fields["params"], type=dict[str, Any])
    except UNDECODABLE:
        raise _Fault(".params: Input should be an object") from None
    return custom_id, fields["params"]


def _read_custom_id(raw: msgspec.Raw) -> str:
    try:
        custom_id = msgspec.json.decode(raw, type=str)
    except UNDECODABLE:
        raise _Fault(".custom_id: Input should be a valid string") from None
    if not custom_id:
        raise _Fault(".custom_id: String should have at least 1 character")
    if len(custom_id) > _CUSTOM_ID_LENGTH:
        raise _Fault(f".custom_id: String should have at most {_CUSTOM_ID_LENGTH} characters")
    if not _CUSTOM_ID.fullmatch(custom_id):
        raise _Fault(".custom_id: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'")
    return custom_id
