"""Injected faults as values: what goes wrong, for which requests, and which fields fit together.

`FaultPlan` decides when a rule applies; `Emulator` and its server carry out the fault.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from typing import Final, Literal, TypeAlias

from .fault_text import ROUTES, parse_rule, write_field

Route: TypeAlias = Literal["create", "get", "list", "cancel", "delete", "results", "any"]
End: TypeAlias = Literal["clean", "close", "reset"]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_ERRORS = frozenset(range(400, 600))
_STATUSES = (
    "status must be from 400 to 599, or 301, 302, 303, 307 or 308 with a location, or 200 with "
    "proxy_page"
)
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRule:
    """One fault to inject, and the requests that it is injected into.

    `route` selects the requests: ``create``, ``get``, ``list``, ``cancel``, ``delete``,
    ``results``, or ``any`` (the default). The first `after` of them (default 0) pass. The fault is
    injected into the next `times` (default 1), or into all later ones if `times` is None. A rule
    has faults of a response or faults of a batch, not both.

    Faults that replace the response:

    - `status`: an API error, 400 to 599. `retry_after` (seconds, or the text of the header),
      `should_retry` (the ``x-should-retry`` header) and `error_code` (in the error's details)
      add to it. With `taken` the request takes effect nevertheless.
    - `proxy_page`: the HTML page of a proxy, with the `status`, by default 502.
    - `location`: a redirect, with the `status`, by default 307. ``{origin}`` in it stands for the
      emulator's origin, ``{target}`` for the path and query of the request.
    - `drop`: no response. The connection is reset, ``before`` or ``after`` the request takes
      effect; with the `end` ``close`` it is closed instead.

    Faults that change the response:

    - `delay`: it is sent this many seconds later. The request takes effect at once.
    - `cut`: its body ends after this many bytes, or earlier if it is shorter. `end` says how:
      ``close`` (the default) closes the connection in the middle of the message, ``reset`` resets
      it, which can lose bytes that were not yet read, and ``clean`` ends the message as if it were
      complete.
    - `drip`: its body is sent one byte at a time. This takes long for a large body.
    - `unknown_fields`: each object in it has one unknown field.
    - `bad_lines`, `duplicate_lines`, `unknown_variants`: in a results file this many lines are
      corrupted, are repeated, or hold a result of an unknown type. No line is changed in two of
      these ways; if the file has too few lines, fewer are changed.

    Faults of a batch, which apply when it is created. The `route` is ``create`` or ``any``.

    - `missing_for`: each request for it is a 404 for this many seconds after its creation.
    - `unlisted_for`: it is in no list for this many seconds after its creation.
    - `created_at_skew`: its ``created_at`` is this many seconds late, or early if negative. So are
      its ``expires_at``, its archiving and its place in lists. It is processed at the same times.
    - `expired`: this share of its requests, from 0 to 1, expires. The batch expires when it would
      otherwise have ended, so no test waits for 24 hours.
    - `archived`: its results are archived as soon as it ends.
    - `results_url`: its ``results_url``, in which ``{origin}`` and ``{id}`` are filled in.

    The emulator's `speed` does not divide these seconds.

    Raises:
        ValueError: a value is out of range, or fields cannot be combined.
    """

    route: Route = "any"
    after: int = 0
    times: int | None = 1
    status: int | None = None
    retry_after: float | str | None = None
    should_retry: bool | None = None
    error_code: str | None = None
    proxy_page: bool = False
    taken: bool = False
    location: str | None = None
    drop: Literal["before", "after"] | None = None
    delay: float = 0.0
    cut: int | None = None
    end: End | None = None
    drip: bool = False
    unknown_fields: bool = False
    bad_lines: int = 0
    duplicate_lines: int = 0
    unknown_variants: int = 0
    missing_for: float = 0.0
    unlisted_for: float = 0.0
    created_at_skew: float = 0.0
    expired: float = 0.0
    archived: bool = False
    results_url: str | None = None

    def __post_init__(self) -> None:
        for name, is_allowed, allowed in self._ranges():
            if not is_allowed:
                raise ValueError(f"{name} must be {allowed}, not {getattr(self, name)!r}")
        for is_allowed, message in self._combinations():
            if not is_allowed:
                raise ValueError(message)

    def _ranges(self) -> list[tuple[str, bool, str]]:
        """Return for each field whether its value is allowed, and which values are."""
        counts = ("after", "bad_lines", "duplicate_lines", "unknown_variants")
        spans = ("delay", "missing_for", "unlisted_for")
        wait, location = self.retry_after, self.location
        is_wait = _is_header(wait) if isinstance(wait, str) else 0 <= (wait or 0) < math.inf
        is_end = self.end in {None, "clean", "close", "reset"}
        is_times = self.times is None or self.times >= 1
        return [
            ("route", self.route in ROUTES, f"one of {', '.join(ROUTES)}"),
            *((name, getattr(self, name) >= 0, "0 or more") for name in counts),
            *((name, 0 <= getattr(self, name) < math.inf, "0 or more seconds") for name in spans),
            ("created_at_skew", math.isfinite(self.created_at_skew), "a number of seconds"),
            ("times", is_times, "1 or more, or None (in text: always)"),
            ("cut", self.cut is None or self.cut >= 0, "0 or more bytes"),
            ("drop", self.drop in {None, "before", "after"}, "before or after"),
            ("end", is_end, "clean, close or reset"),
            ("expired", 0 <= self.expired <= 1, "a share from 0 to 1"),
            ("retry_after", is_wait, "0 or more seconds, or the text of a header"),
            ("location", location is None or _is_header(location), "printable ASCII"),
            ("results_url", self.results_url != "", "at least one character"),
        ]

    def _combinations(self) -> list[tuple[bool, str]]:
        """Return which combinations of fields are allowed, each with a message if it is not."""
        is_error = self.status is not None or self.proxy_page
        is_redirect = self.location is not None
        details = ("retry_after", "should_retry", "error_code", "taken")
        statuses = _REDIRECTS if is_redirect else _ERRORS | ({200} if self.proxy_page else set())
        changed = self.unknown_fields or self.changes_lines
        sent = self.replaces_answer or changed or self.cut is not None or self.drip
        is_cut = self.cut is not None or self.drop is not None
        return [
            (
                self.is_of_answer or self.is_of_batch,
                "the rule has no fault; add one, such as status=503",
            ),
            (
                not (self.is_of_answer and self.is_of_batch),
                "faults of a response and of a batch cannot be combined; make two rules",
            ),
            (
                not self.is_of_batch or self.route in {"any", "create"},
                f"a fault of a batch needs the route create, not {self.route}",
            ),
            (
                not self.changes_lines or self.route in {"any", "results"},
                f"a fault of result lines needs the route results, not {self.route}",
            ),
            (self.status is None or self.status in statuses, f"{_STATUSES}, not {self.status}"),
            *(
                (is_error or getattr(self, name) == _DEFAULTS[name], f"{name} needs a status")
                for name in details
            ),
            (
                not (is_redirect and (self.proxy_page or self.error_code)),
                "location cannot be combined with proxy_page or error_code",
            ),
            (
                not (self.proxy_page and self.error_code),
                "proxy_page cannot be combined with error_code",
            ),
            (
                not (self.replaces_answer and changed),
                "a rule that replaces the response cannot change fields or lines of it as well",
            ),
            (
                not (self.drop and sent),
                "drop cannot be combined with another fault of a response, except delay",
            ),
            (self.end is None or is_cut, "end needs cut or drop"),
            (
                not (self.drop and self.end == "clean"),
                "drop cannot be combined with the end clean; use close or reset",
            ),
        ]

    # --- kinds of faults ---------------------------------------------------------------

    @property
    def is_of_batch(self) -> bool:
        """Whether the fault is of a batch and applies when the batch is created."""
        return bool(
            self.missing_for
            or self.unlisted_for
            or self.created_at_skew
            or self.expired
            or self.archived
            or self.results_url is not None
        )

    @property
    def is_of_answer(self) -> bool:
        """Whether the fault is of a response."""
        return bool(
            self.replaces_answer
            or self.changes_lines
            or self.drop
            or self.delay
            or self.cut is not None
            or self.drip
            or self.unknown_fields
        )

    @property
    def replaces_answer(self) -> bool:
        """Whether another response replaces the service's."""
        return self.status is not None or self.proxy_page or self.location is not None

    @property
    def changes_lines(self) -> bool:
        """Whether lines of a results file are changed."""
        return bool(self.bad_lines or self.duplicate_lines or self.unknown_variants)

    def matches(self, route: str) -> bool:
        """Whether the rule selects requests of this route."""
        return (route == "results") if self.changes_lines else self.route in {"any", route}

    # --- as text -----------------------------------------------------------------------

    @classmethod
    def parse(cls, text: str) -> FaultRule:
        """Parse a rule such as ``create:status=503,retry_after=1,times=2``.

        The text is a route (default ``any``), a colon, and fields separated by commas. A field
        that is true needs no value, as in ``results:drip``. ``times=always`` means `times` None.

        Raises:
            ValueError: the text is not a rule; the message says what to change.
        """
        try:
            return cls(**parse_rule(text, _DEFAULTS))
        except ValueError as error:
            raise ValueError(f"invalid fault rule {text!r}: {error}") from None

    def __str__(self) -> str:
        return f"{self.route}:{self._fields()}"

    def told(self, route: str) -> str:
        """Return the text of the fault for `FaultPlan.applied`: with this route, without counts."""
        return f"{route}:{replace(self, after=0, times=1)._fields()}"

    def _fields(self) -> str:
        # The counts come last, as in the examples of the documentation.
        names = [*list(_DEFAULTS)[2:], "after", "times"]
        values = {name: getattr(self, name) for name in names}
        return ",".join(
            write_field(name, value) for name, value in values.items() if value != _DEFAULTS[name]
        )


def _is_header(text: str) -> bool:
    return _HEADER_VALUE.fullmatch(text) is not None


#: The fields of a rule but the route, with their defaults.
_DEFAULTS: Final = {field.name: field.default for field in fields(FaultRule)[1:]}
