"""Measures decoding results from chunks to typed items, without a network."""

from __future__ import annotations

from .data import GeneratedResults, write_once
from .measure import Case, Contender, Goal, Measure, Setup, min_speed

_LINES = 50_000
_CHUNK = 64 * 1024
_WHOLE, _DECLARED = "whole messages", "only the fields that message_type= declares"
_UNKNOWN = "a block of an unknown type in every message"


def _contenders() -> list[Contender]:
    def project(name: str, function: str, *cases: str) -> Contender:
        function = f"benchmarks.contenders.core:{function}"
        return Contender(name=name, function=function, cases=frozenset(cases))

    whole = frozenset({_WHOLE})
    sdk, limit = "benchmarks.contenders.sdk:decode", "benchmarks.contenders.limits:decode"
    return [
        Contender(name="anthropic", function=sdk, role="peer", cases=whole),
        Contender(name="msgspec", function=limit, role="limit", cases=whole),
        project("batches_core", "decode", _WHOLE, _DECLARED, _UNKNOWN),
        project("usage alone", "decode_usage", _DECLARED),
        project("msgspec.Raw", "decode_raw", _DECLARED),
        project("unknown blocks", "decode_unknown", _UNKNOWN),
    ]


def _prepare(setup: Setup) -> list[Case]:
    lines = setup.scaled(_LINES)
    path = write_once(setup.folder / f"results-{lines}.jsonl", GeneratedResults(lines).lines())
    goals: dict[str, dict[str, tuple[Goal, ...]]] = {
        _WHOLE: {
            "batches_core": (
                min_speed(_WHOLE, "batches_core", "anthropic", 25),
                min_speed(_WHOLE, "batches_core", "msgspec", 0.9),
            )
        },
        _DECLARED: {},
        _UNKNOWN: {
            "unknown blocks": (min_speed(_UNKNOWN, "unknown blocks", "batches_core", 0.33),)
        },
    }
    parameters = {"results": str(path), "chunk": _CHUNK, "lines": lines}
    return [
        # In the other cases the contenders produce different items from the same lines.
        Case(name=name, parameters=parameters, goals=goals[name], verify=name == _WHOLE)
        for name in (_WHOLE, _DECLARED, _UNKNOWN)
    ]


MEASURE = Measure(
    title="Decode results, in chunks of 64 KiB, fully typed",
    contenders=_contenders,
    prepare=_prepare,
)
