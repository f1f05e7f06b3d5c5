"""The bodies of the fuzz targets, with a handful of fixed inputs."""

from __future__ import annotations

import random

import pytest

from .jsonl_machine import PIECES
from .targets import SEEDS, TARGETS, tunnel, wire


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_takes_its_seeds_and_what_they_can_become(target: str) -> None:
    chance = random.Random(7)
    for seed in SEEDS[target]:
        TARGETS[target](seed)
        for _ in range(6):
            place = chance.randrange(len(seed) + 1)
            word = chance.choice((*PIECES, bytes([chance.randrange(256)])))
            TARGETS[target](seed[:place] + word + seed[place + chance.randrange(3) :])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("data", [b"", b"\0", b"\xff" * 40, bytes(range(256)) * 3], ids=len)
def test_a_target_takes_anything(target: str, data: bytes) -> None:
    TARGETS[target](data)


def test_a_wire_and_a_tunnel_take_anything() -> None:
    chance = random.Random(7)
    for seed in SEEDS["head"]:
        wire(seed[2:], chance)
        tunnel(seed[2:], chance)
