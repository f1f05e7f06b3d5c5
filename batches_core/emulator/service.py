"""The emulator: from a request and the time to a response.

This module authenticates, dispatches and injects faults. `Endpoints` does what a request asks
for, and `FaultPlan` chooses the faults.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import msgspec

from batches_core.http import Request, fold_headers
from batches_core.request_checker import MAX_BYTES

from .access import Access
from .answers import Responder, answer
from .batch import Pace
from .corruption import corrupt_lines, cut_off, drip, with_unknown_fields
from .create_body import read_requests
from .digest import request_id
from .endpoints import Endpoints, Sale
from .fault_plan import FaultPlan
from .fault_rules import FaultRule
from .limits import Limits
from .pages import TIES, Ties
from .refusals import RefusedError, bad_request, error_type
from .responses import Headers, Response, json_response, proxy_page, results_response
from .routes import origin_of, read_route

_VERSIONS = frozenset({"2023-01-01", "2023-06-01", "2026-10-21"})


class Emulator:
    """A Message Batches service in memory.

    How it processes batches:

    - `parallel`: the number of requests of a batch that are processed at a time, default 50.
    - `seconds_per_request`: the most that one request takes, default 2.0; it takes at least half
      of that.
    - `speed`: divides `seconds_per_request`, default 1.0.
    - `responder`: a function that returns the result of a valid request, default `answer`.
    - `errored`: the share of the valid requests, from 0 to 1, that fail with an ``api_error``
      instead, default 0. Different requests fail in each batch.
    - `faults`: a `FaultPlan`, default one without faults. Rules can be added to the attribute of
      this name at any time.

    Who sees what:

    - `api_keys`: the keys that are accepted, as ``x-api-key`` or as a Bearer token; default any.
    - `workspaces`: maps a key to the id of its workspace. The key sees only the batches of that
      workspace. A key mapped to None can act on every workspace of its organization and must name
      one in the header ``anthropic-workspace-id``. All other keys share one workspace, and that
      header of their requests is ignored.
    - `organizations`: maps a key to the id of its organization, which responses name in the header
      ``anthropic-organization-id``. All other keys share one organization.

    Clocks and order:

    - `ties`: lists are sorted by ``created_at``, the newest first. Among batches with the same
      ``created_at``, the ``"newest"`` (default) or the ``"oldest"`` comes first, or they are sorted
      by ``"id"``, which follows neither order.
    - `date_skew`: seconds added to the ``Date`` header, default 0. `FaultRule` can skew the
      ``created_at`` of a batch.

    Limits of an organization, each answered with a 429 (default: none):

    - `queue_limit`: the number of requests that may wait to be processed, in all batches.
    - `requests_per_minute`: the number of HTTP requests.

    An emulator is not thread-safe.

    Raises:
        ValueError: a number is out of range, or `ties` is unknown.
        TypeError: `api_keys` is a str, or `responder` is not callable.
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
        queue_limit: int | None = None,
        requests_per_minute: int | None = None,
    ) -> None:
        for name, value in (
            ("parallel", parallel),
            ("seconds_per_request", seconds_per_request),
            ("speed", speed),
        ):
            if not value > 0:
                raise ValueError(f"{name} must be more than 0, not {value!r}")
        if isinstance(api_keys, str):
            raise TypeError("api_keys must be a collection of keys, not one str")
        if not callable(responder):
            raise TypeError(f"responder must be a function, not {responder!r}")
        if not 0 <= errored <= 1:
            raise ValueError(f"errored must be a share from 0 to 1, not {errored!r}")
        if ties not in TIES:
            raise ValueError(f"ties must be newest, oldest or id, not {ties!r}")
        if not math.isfinite(date_skew):
            raise ValueError(f"date_skew must be a number of seconds, not {date_skew!r}")
        self.faults = FaultPlan() if faults is None else faults
        self._access = Access(
            api_keys,
            workspaces={} if workspaces is None else workspaces,
            organizations={} if organizations is None else organizations,
        )
        pace = Pace(parallel=parallel, seconds_per_request=seconds_per_request / speed)
        self._limits = Limits(queue_limit, requests_per_minute)
        self._endpoints = Endpoints(
            pace=pace, responder=responder, errored=errored, ties=ties, limits=self._limits
        )
        self._date_skew = date_skew
        self._handled = 0

    #: The largest request body, in bytes (the service's limit). A server may refuse a larger one
    #: with `too_large` before it has received it.
    max_body = MAX_BYTES

    def handle(self, request: Request, now: float) -> Response:
        """Return the response to a request whose URL is absolute.

        `now` is the emulator's time in seconds since the epoch.
        """
        try:
            route, _ = read_route(request)
        except RefusedError:
            route = "other"
        rule = self.faults.for_request(route)
        if rule is None:
            return self._respond(request, now)
        if rule.drop is not None:
            if rule.drop == "after":
                self._respond(request, now)
            end = rule.end or "reset"
            return Response(status=0, headers=(), chunks=(), delay=rule.delay, end=end)
        if not rule.replaces_answer:
            response = self._respond(request, now, rule)
        else:
            if rule.taken:
                self._respond(request, now)
            response = self._replacement(rule, request, now)
        response = replace(response, delay=rule.delay)
        if rule.cut is not None:
            chunks = cut_off(response.chunks, rule.cut)
            response = replace(response, chunks=chunks, end=rule.end or "close")
        return replace(response, chunks=drip(response.chunks)) if rule.drip else response

    @property
    def sales(self) -> list[Sale]:
        """Every batch that was ever accepted, in order: what a client has bought."""
        return [sale for _, sale in self._endpoints.accepted]

    def billed(self, now: float) -> int:
        """Return how many requests were answered so far; these are billed."""
        return sum(batch.succeeded(now) for batch, _ in self._endpoints.accepted)

    def too_large(self, now: float) -> Response:
        """Return the response to a request whose body is over `max_body`.

        It is the response of the service's edge, which knows neither the key nor a request id.
        """
        return json_response(413, self._too_large().edge_body(), (self._date(now),))

    def failed(self, now: float) -> Response:
        """Return the 500 for a request if `handle` raised an error, as a responder can."""
        return self._refuse(RefusedError(500, "api_error", "Internal server error"), now)

    # --- what the request asks for -----------------------------------------------------

    def _respond(self, request: Request, now: float, rule: FaultRule | None = None) -> Response:
        try:
            body = self._carry_out(request, now)
        except RefusedError as error:
            return self._refuse(error, now, request=request, rule=rule)
        headers = (*self._headers(now), *self._organization(request))
        if isinstance(body, list):
            return results_response(body if rule is None else corrupt_lines(body, rule), headers)
        return json_response(200, _change(body, rule), headers)

    def _carry_out(self, request: Request, now: float) -> Any:
        headers = fold_headers(request.headers)
        owner = self._access.authenticate(headers)
        self._limits.check_rate(owner[0], now)
        version = headers.get("anthropic-version")
        if version is None:
            raise bad_request("anthropic-version: header is required")
        if version not in _VERSIONS:
            raise bad_request(f'anthropic-version: "{version}" is not a valid version')
        route, id_ = read_route(request)
        origin = origin_of(request)
        match route:
            case "create":
                requests = self._read_create(request)
                return self._endpoints.create(
                    requests,
                    owner=owner,
                    version=version,
                    user_profile_id=headers.get("anthropic-user-profile-id"),
                    fault=self.faults.for_batch(),
                    now=now,
                    origin=origin,
                )
            case "list":
                return self._endpoints.list_page(request.url, owner, now, origin)
        batch = self._endpoints.find(id_, owner, now)
        match route:
            case "get":
                return batch.describe(now, origin)
            case "delete":
                return self._endpoints.delete(batch, now)
            case "cancel":
                return self._endpoints.cancel(batch, now, origin)
        return self._endpoints.results(batch, now)

    def _read_create(self, request: Request) -> list[tuple[str, msgspec.Raw]]:
        body = b"" if request.body is None else b"".join(request.body)
        if len(body) > self.max_body:
            raise self._too_large()
        return read_requests(body)

    def _too_large(self) -> RefusedError:
        message = f"Request exceeds the maximum size of {self.max_body} bytes"
        return RefusedError(413, "request_too_large", message)

    # --- responses ---------------------------------------------------------------------

    def _replacement(self, rule: FaultRule, request: Request, now: float) -> Response:
        if rule.location is not None:
            origin, target = origin_of(request), request.target
            location = rule.location.replace("{origin}", origin).replace("{target}", target)
            headers = (*self._headers(now), *self._organization(request), ("location", location))
            return Response(status=rule.status or 307, headers=headers, chunks=())
        more: Headers = ()
        if rule.retry_after is not None:
            wait = rule.retry_after
            more = (("retry-after", wait if isinstance(wait, str) else f"{wait:g}"),)
        if rule.should_retry is not None:
            more = (*more, ("x-should-retry", str(rule.should_retry).lower()))
        if rule.status is None or rule.proxy_page:
            # A proxy that does not reach the service knows no request id.
            return proxy_page(rule.status or 502, (self._date(now),), more)
        error = RefusedError(rule.status, error_type(rule.status), "A fault of the emulator's plan")
        return self._refuse(error, now, more, request=request, error_code=rule.error_code)

    def _refuse(
        self,
        error: RefusedError,
        now: float,
        more: Headers = (),
        *,
        request: Request | None = None,
        error_code: str | None = None,
        rule: FaultRule | None = None,
    ) -> Response:
        # The body repeats the request id that `_headers` is about to use.
        body = error.body(request_id(self._handled + 1), error_code)
        if error.retry_after is not None:
            more = (*more, ("retry-after", f"{math.ceil(error.retry_after)}"))
        if error.is_final and "x-should-retry" not in dict(more):
            more = (*more, ("x-should-retry", "false"))
        headers = (*self._headers(now), *self._organization(request))
        return json_response(error.status, _change(body, rule), headers, more)

    def _headers(self, now: float) -> Headers:
        self._handled += 1
        return (
            self._date(now),
            ("request-id", request_id(self._handled)),
            ("vary", "Accept-Encoding"),
        )

    def _date(self, now: float) -> tuple[str, str]:
        moment = datetime.fromtimestamp(now + self._date_skew, UTC)
        return "date", format_datetime(moment, usegmt=True)

    def _organization(self, request: Request | None) -> Headers:
        if request is None:
            return ()
        id_ = self._access.organization(fold_headers(request.headers))
        return () if id_ is None else (("anthropic-organization-id", id_),)


def _change(body: Any, rule: FaultRule | None) -> Any:
    return with_unknown_fields(body) if rule is not None and rule.unknown_fields else body
