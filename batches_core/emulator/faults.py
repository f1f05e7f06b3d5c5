"""What goes wrong on purpose: rules of faults, and the plan that says when each one is met.

Knows which request meets which fault, not how a fault is carried out: that is `Emulator`'s, and
its server's. Nothing is left to chance. Rules count requests, and what a seed chooses depends on
the seed and on how many requests came before; so a run repeats itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal, TypeAlias

from .replies import digest

Route: TypeAlias = Literal["create", "get", "list", "cancel", "delete", "results", "any"]
End: TypeAlias = Literal["clean", "close", "reset"]

_ROUTES = ("create", "get", "list", "cancel", "delete", "results", "any")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_ERRORS = frozenset(range(400, 600))
_STATUSES = (
    "status is from 400 to 599, or 301, 302, 303, 307 or 308 with a location, or 200 with a "
    "proxy_page"
)
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
#: A comma that the name of another field follows: a date has commas, too.
_NEXT_FIELD = re.compile(r",(?=\s*[a-z_]+\s*(?:[=,]|$))")
#: How finely the rate of a seed is measured.
_GRAIN = 1_000_000
#: A cut that a seed chooses comes within so many bytes, more often early than late.
_CUT_BITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRule:
    """One fault, and the requests that meet it.

    `route` names the requests (``create``, ``get``, ``list``, ``cancel``, ``delete``, ``results``,
    or ``any``); the first `after` of them pass, the next `times` meet the fault, or all from then
    on where it is None. A rule is about answers or about batches, not both.

    In the place of an answer:

    - `status`: an API error. `retry_after` (seconds, or the header's text), `should_retry` and
      `error_code` go with it; `proxy_page` makes it the HTML page of a proxy, by default with 502.
      With `taken` the request has its effect all the same.
    - `location`: a redirect, by default a 307. ``{origin}`` in it is the emulator's,
      ``{target}`` the request's path and query.
    - `drop`: no answer, the connection is reset, ``before`` or ``after`` the request had its
      effect. With an `end` of ``close`` it is closed.

    Of an answer:

    - `delay`: it comes so many seconds later; what the request does is done at once.
    - `cut`: its body ends after so many bytes, or where it ends anyway, as `end` says: ``close``
      (the connection is closed in the middle of the message; the default), ``reset`` (the
      connection is reset, and bytes not read yet may be lost), ``clean`` (as if that were all).
    - `drip`: its body comes one byte at a time; of a large one this takes long.
    - `unknown_fields`: objects in it have a field more than they should.
    - `bad_lines`, `duplicate_lines`, `unknown_variants`: in a results file, so many lines are
      spoiled, come twice, or hold a result of an unknown type. Each is another line, as far as
      the file has as many.

    Of a batch, decided when it is created; the `route` is ``create``, or left out:

    - `missing_for`: for so many seconds each request for it is a 404.
    - `unlisted_for`: for so many seconds it is in no list.
    - `created_at_skew`: its ``created_at`` is so many seconds late, or early if negative, and so
      are its ``expires_at`` and its place in lists. When it is worked on does not change.
    - `expired`: such a share of its requests (1 is all) ends as expired. So that nobody has to
      wait a day it expires when it would have ended otherwise, and its ``expires_at`` says so.
    - `archived`: when it ends, its results are archived already.
    - `results_url`: what its ``results_url`` says; ``{origin}`` and ``{id}`` in it are filled in.

    The seconds are the emulator's and not divided by its speed.

    Raises:
        ValueError: a figure is out of its range, or fields do not go together.
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
        for is_right, what in (*self._ranges(), *self._combinations()):
            if not is_right:
                raise ValueError(what)

    def _ranges(self) -> list[tuple[bool, str]]:
        counts = ("after", "bad_lines", "duplicate_lines", "unknown_variants")
        spans = ("delay", "missing_for", "unlisted_for")
        wait = self.retry_after
        return [
            (self.route in _ROUTES, f"route is one of {', '.join(_ROUTES)}"),
            *((getattr(self, name) >= 0, f"{name} is a number of 0 or more") for name in counts),
            *(
                (0 <= getattr(self, name) < math.inf, f"{name} is in seconds, 0 or more and finite")
                for name in spans
            ),
            (math.isfinite(self.created_at_skew), "created_at_skew is in seconds and finite"),
            (self.times is None or self.times >= 1, "times is a number of 1 or more, or always"),
            (self.cut is None or self.cut >= 0, "cut is a number of bytes, 0 or more"),
            (self.drop in {None, "before", "after"}, "drop is before or after"),
            (self.end in {None, "clean", "close", "reset"}, "end is clean, close or reset"),
            (0 <= self.expired <= 1, "expired is a share from 0 to 1"),
            (
                _is_header(wait) if isinstance(wait, str) else 0 <= (wait or 0) < math.inf,
                "retry_after is in seconds, 0 or more and finite, or the text of a header",
            ),
            (self.location is None or _is_header(self.location), "location is printable ASCII"),
            (self.results_url != "", "results_url is not empty"),
        ]

    def _combinations(self) -> list[tuple[bool, str]]:
        is_error = self.status is not None or self.proxy_page
        is_redirect = self.location is not None
        details = ("retry_after", "should_retry", "error_code", "taken")
        statuses = _REDIRECTS if is_redirect else _ERRORS | ({200} if self.proxy_page else set())
        changed = self.unknown_fields or self.changes_lines
        sent = self.replaces_answer or changed or self.cut is not None or self.drip
        return [
            (self.is_of_answer or self.is_of_batch, "it says no fault; status=503 would be one"),
            (
                not (self.is_of_answer and self.is_of_batch),
                "one rule is about answers or about batches: make two of it",
            ),
            (
                not self.is_of_batch or self.route in {"any", "create"},
                "what is decided when a batch is created has the route create",
            ),
            (
                not self.changes_lines or self.route in {"any", "results"},
                "lines are in results alone: the route is results",
            ),
            (self.status is None or self.status in statuses, _STATUSES),
            *(
                (is_error or getattr(self, name) == _DEFAULTS[name], f"{name} goes with a status")
                for name in details
            ),
            (
                not (is_redirect and self.proxy_page) and not (is_redirect and self.error_code),
                "a location goes with neither proxy_page nor error_code",
            ),
            (not (self.proxy_page and self.error_code), "a proxy_page has no error_code"),
            (
                not (self.replaces_answer and changed),
                "a status or location leaves no answer whose fields or lines could be changed",
            ),
            (not (self.drop and sent), "drop leaves no answer to which anything could be done"),
            (
                self.end is None or self.cut is not None or self.drop is not None,
                "end goes with cut or drop",
            ),
            (not (self.drop and self.end == "clean"), "a drop ends with close or reset"),
        ]

    # --- what kind of fault it is --------------------------------------------------------

    @property
    def is_of_batch(self) -> bool:
        """Whether it is decided when a batch is created."""
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
        """Whether it is met by a request and its answer."""
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
        """Whether another answer comes in the place of the service's."""
        return self.status is not None or self.proxy_page or self.location is not None

    @property
    def changes_lines(self) -> bool:
        """Whether lines of a results file are changed."""
        return bool(self.bad_lines or self.duplicate_lines or self.unknown_variants)

    def matches(self, route: str) -> bool:
        """Whether it is about requests of this route."""
        return (route == "results") if self.changes_lines else self.route in {"any", route}

    # --- as text -------------------------------------------------------------------------

    @classmethod
    def parse(cls, text: str) -> FaultRule:
        """Read a rule such as ``create:status=503,retry_after=1,times=2``.

        That is a route (by default any), a colon, and fields with commas between them. A field
        that is true needs no value: ``results:drip``. ``times=always`` is without an end.

        Raises:
            ValueError: it is no rule; the message says what would be right.
        """
        route, colon, rest = text.partition(":")
        if not colon or "=" in route:
            route, rest = "any", text
        try:
            named = _read_fields(rest)
            named["route"] = route.strip()
            return cls(**named)
        except ValueError as error:
            raise ValueError(f"fault {text!r}: {error}") from None

    def __str__(self) -> str:
        return f"{self.route}:{self._fields()}"

    def told(self, route: str) -> str:
        """Write the fault that a request of this route met, without the counts."""
        return f"{route}:{replace(self, after=0, times=1)._fields()}"

    def _fields(self) -> str:
        # The counts come last, which is how one says it.
        names = [*list(_DEFAULTS)[2:], "after", "times"]
        values = {name: getattr(self, name) for name in names}
        return ",".join(
            name if value is True else f"{name}={_write(value)}"
            for name, value in values.items()
            if value != _DEFAULTS[name]
        )


def _read_fields(text: str) -> dict[str, Any]:
    read = [_read_field(part) for part in _NEXT_FIELD.split(text)]
    if len(dict(read)) < len(read):
        raise ValueError("a field is said twice")
    return dict(read)


def _read_field(text: str) -> tuple[str, Any]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if name in _ROUTES:
        raise ValueError(f"what is to go wrong is missing, as in {name}:status=503")
    if name not in _DEFAULTS:
        raise ValueError(f"no field is called {name!r}; there are {', '.join(_DEFAULTS)}")
    reader = _READERS.get(name, str)
    if not equals and reader is not _truth:
        raise ValueError(f"{name} needs a value, as in {name}=…")
    try:
        return name, reader(value if equals else "true")
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _is_header(text: str) -> bool:
    return _HEADER_VALUE.fullmatch(text) is not None


def _write(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return {"None": "always", "False": "false"}.get(str(value), str(value))


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is no whole number") from None


def _decimal(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number") from None


def _number_or_always(text: str) -> int | None:
    return None if text == "always" else _number(text)


def _decimal_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _truth(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError(f"{text!r} is neither true nor false")
    return text == "true"


#: How each field is read from a text; by default as it is.
_READERS: Final[dict[str, Callable[[str], Any]]] = {
    **dict.fromkeys(("after", "status", "cut"), _number),
    **dict.fromkeys(("bad_lines", "duplicate_lines", "unknown_variants"), _number),
    **dict.fromkeys(("delay", "missing_for", "unlisted_for", "expired"), _decimal),
    "created_at_skew": _decimal,
    **dict.fromkeys(("should_retry", "proxy_page", "taken", "drip"), _truth),
    **dict.fromkeys(("unknown_fields", "archived"), _truth),
    "times": _number_or_always,
    "retry_after": _decimal_or_text,
}
_DEFAULTS: Final = {field.name: field.default for field in fields(FaultRule)[1:]}

#: The faults that a seed chooses from: such as pass when the request is made again.
_PASSING: Final = (
    FaultRule(status=429, retry_after=0.0),
    FaultRule(status=500),
    FaultRule(status=503, proxy_page=True),
    FaultRule(status=529),
    FaultRule(drop="before"),
    FaultRule(drop="after"),
    FaultRule(cut=0, end="close"),
    FaultRule(cut=0, end="reset"),
    FaultRule(delay=0.05),
    FaultRule(drip=True),
)


@dataclass(slots=True)
class _Tally:
    """A rule, how many requests of its own came, and how many of them met it."""

    rule: FaultRule
    seen: int = 0
    met: int = 0

    def is_due(self) -> bool:
        times = self.rule.times
        return self.seen > self.rule.after and (times is None or self.met < times)


class FaultPlan:
    """The faults of an emulator: rules, as `FaultRule` or as text, and those that a seed chooses.

    A request meets the first rule that is due: each rule counts all requests of its own, and one
    that another rule was quicker on is left for it. A batch likewise, of the rules about batches.
    So two rules can be met by one create, one by its answer and one by its batch.

    With a `seed`, each request that no rule is due on meets, at a `rate` from 0 to 1, a fault that
    passes: 429 with ``retry-after: 0``, 500, 529, a proxy's 503, a drop before or after, a body
    cut off by a close or a reset, a delay of 0.05 s, or a body one byte at a time (never of a
    results file, for which that takes long). The same requests in the same order meet the same
    faults.

    A plan counts, so each emulator needs its own. `applied` tells what was met so far, in order,
    as in ``create:status=503``. `add` may be called while another thread serves.

    Raises:
        ValueError: a rule is none, or the rate is no share.
    """

    def __init__(self, *rules: FaultRule | str, seed: int | None = None, rate: float = 0.1) -> None:
        if not 0 <= rate <= 1:
            raise ValueError("rate is a share from 0 to 1")
        self.applied: list[str] = []
        self._tallies: list[_Tally] = []
        self._seed = seed
        self._rate = rate
        self._requests = 0
        self.add(*rules)

    def add(self, *rules: FaultRule | str) -> None:
        """Add rules after those that there are; they count from now on.

        Raises:
            ValueError: one is no rule; then none was added.
        """
        read = [FaultRule.parse(rule) if isinstance(rule, str) else rule for rule in rules]
        tallies = [_Tally(rule) for rule in read]
        # One step for other threads, which find all of them or none.
        self._tallies.extend(tallies)

    @property
    def unmet(self) -> list[FaultRule]:
        """The rules that were met less often than they say, or never where they say always."""
        return [tally.rule for tally in self._tallies if tally.met < (tally.rule.times or 1)]

    def for_request(self, route: str) -> FaultRule | None:
        """Count a request, and give the fault of its answer; a route may be one of no endpoint."""
        self._requests += 1
        rule = self._due(route, of_batch=False) or self._chosen(route)
        if rule is not None:
            self.applied.append(rule.told(route))
        return rule

    def for_batch(self) -> FaultRule | None:
        """Count a batch that is created, and give its fault."""
        rule = self._due("create", of_batch=True)
        if rule is not None:
            self.applied.append(rule.told("create"))
        return rule

    def _due(self, route: str, *, of_batch: bool) -> FaultRule | None:
        found = None
        for tally in self._tallies:
            if tally.rule.is_of_batch == of_batch and tally.rule.matches(route):
                tally.seen += 1
                if found is None and tally.is_due():
                    tally.met += 1
                    found = tally.rule
        return found

    def _chosen(self, route: str) -> FaultRule | None:
        if self._seed is None:
            return None
        chance = digest(str(self._seed), str(self._requests))
        chance, grain = divmod(chance, _GRAIN)
        if grain >= self._rate * _GRAIN:
            return None
        chance, place = divmod(chance, len(_PASSING))
        rule = _PASSING[place]
        if rule.cut is not None:
            chance, bits = divmod(chance, _CUT_BITS + 1)
            return replace(rule, cut=chance % 2**bits)
        # Of a results file one byte at a time would take long.
        return _PASSING[0] if rule.drip and route == "results" else rule
