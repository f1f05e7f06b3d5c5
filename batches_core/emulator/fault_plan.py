"""The faults of an emulator, and which request or batch each of them is injected into.

`FaultRule` says what a fault is; `Emulator` and its server carry it out. Nothing is random: rules
count requests, and a seed's choice depends on the seed and the number of requests before. So a run
with the same requests in the same order has the same faults.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from .digest import digest
from .fault_rules import FaultRule

#: The resolution of the rate of a seed: a millionth.
_GRAIN = 1_000_000
#: A seed cuts a body within its first 2**16 bytes, more often early than late.
_CUT_BITS = 16
#: The faults that a seed chooses from. Each is temporary: the same request can succeed later.
_TEMPORARY: Final = (
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
    """A rule, the number of requests that it matched, and how often its fault was injected."""

    rule: FaultRule
    seen: int = 0
    met: int = 0

    def is_due(self) -> bool:
        times = self.rule.times
        return self.seen > self.rule.after and (times is None or self.met < times)


class FaultPlan:
    """The faults that an emulator injects: rules, and faults that a seed chooses.

    `rules` are `FaultRule` objects or their texts, such as ``"create:status=503"``. A request gets
    the fault of the first rule that is due. A second rule that is due then stays due for the next
    request. Every rule counts all requests that it matches, also those that got the fault of
    another rule. Rules with faults of a batch count batches in the same way. So one create can get
    two faults, one of its response and one of its batch.

    With a `seed`, a share `rate` (0 to 1, default 0.1) of the requests for which no rule is due get
    a temporary fault: a 429 with ``retry-after: 0``, a 500, a 529, a proxy's 503, a drop before or
    after the effect, a body cut by a close or a reset, a delay of 0.05 s, or a body sent one byte
    at a time. Results get a 429 instead of the last of these, which would take long. The same
    requests in the same order get the same faults.

    A plan counts requests, so each emulator needs its own. Another thread may call `add` while the
    emulator serves.

    Raises:
        ValueError: a text is not a rule, or the rate is out of range.
    """

    def __init__(self, *rules: FaultRule | str, seed: int | None = None, rate: float = 0.1) -> None:
        if not 0 <= rate <= 1:
            raise ValueError(f"rate must be a share from 0 to 1, not {rate!r}")
        #: The faults injected so far, in order, each as in ``create:status=503``.
        self.applied: list[str] = []
        self._tallies: list[_Tally] = []
        self._seed = seed
        self._rate = rate
        self._requests = 0
        self.add(*rules)

    def add(self, *rules: FaultRule | str) -> None:
        """Add rules after the existing ones; they count requests from now on.

        Raises:
            ValueError: a text is not a rule; no rule was added.
        """
        parsed = [FaultRule.parse(rule) if isinstance(rule, str) else rule for rule in rules]
        tallies = [_Tally(rule) for rule in parsed]
        # One step, so that another thread sees all of the rules or none.
        self._tallies.extend(tallies)

    @property
    def unmet(self) -> list[FaultRule]:
        """The rules whose fault was injected fewer than `times` times.

        A rule whose `times` is None is one of them if its fault was never injected.
        """
        return [tally.rule for tally in self._tallies if tally.met < (tally.rule.times or 1)]

    def for_request(self, route: str) -> FaultRule | None:
        """Count a request and return the rule whose fault its response gets, if any.

        `route` is the request's route, or another word such as ``"other"`` if it has none.
        """
        self._requests += 1
        rule = self._due(route, of_batch=False) or self._chosen(route)
        if rule is not None:
            self.applied.append(rule.told(route))
        return rule

    def for_batch(self) -> FaultRule | None:
        """Count a new batch and return the rule whose fault it gets, if any."""
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
        chance, place = divmod(chance, len(_TEMPORARY))
        rule = _TEMPORARY[place]
        if rule.cut is not None:
            chance, bits = divmod(chance, _CUT_BITS + 1)
            return replace(rule, cut=chance % 2**bits)
        # A results file sent one byte at a time would take long.
        return _TEMPORARY[0] if rule.drip and route == "results" else rule
