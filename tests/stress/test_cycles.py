"""A few cycles of what `cycles` runs by the thousand."""

from __future__ import annotations

import pytest

from tests.stress.cycles import Count, breaking_emulator, run
from tests.support.carriers import CARRIERS, Carrier


@pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)
@pytest.mark.usefixtures("nothing_left_behind")
def test_cycles_leave_nothing_behind(carrier: Carrier) -> None:
    with breaking_emulator() as base_url:
        before, after = run(carrier, base_url, 20)
    assert not before.grew_to(after), f"{before} -> {after}"


@pytest.mark.parametrize("grown", ["sockets", "threads", "tasks"])
def test_a_count_sees_what_was_left(grown: str) -> None:
    few = {"sockets": 1, "threads": 1, "tasks": 1, "objects": 100}
    assert not Count(**few).grew_to(Count(**few))
    assert Count(**few).grew_to(Count(**{**few, grown: 2}))
    assert Count(**few).grew_to(Count(**{**few, "objects": 10_000}))
