"""Twenty cycles on each transport; `python -m tests.stress.cycles` runs thousands."""

from __future__ import annotations

import pytest

from tests.support.carriers import CARRIERS, Carrier

from .cycle import resetting_emulator, run_cycles
from .resources import Resources


@pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)
@pytest.mark.usefixtures("nothing_left_behind")
def test_broken_and_canceled_clients_leak_nothing(carrier: Carrier) -> None:
    with resetting_emulator() as base_url:
        before, after = run_cycles(carrier, base_url, 20)
    assert not before.leaked_until(after), f"{before} -> {after}"


@pytest.mark.parametrize("leaked", ["sockets", "threads", "tasks"])
def test_one_more_socket_thread_or_task_is_a_leak_and_so_are_many_objects(leaked: str) -> None:
    counts = {"sockets": 1, "threads": 1, "tasks": 1, "objects": 100}
    before = Resources(**counts)
    assert not before.leaked_until(Resources(**counts))
    assert before.leaked_until(Resources(**{**counts, leaked: 2}))
    assert before.leaked_until(Resources(**{**counts, "objects": 10_000}))
