"""Each fuzz target with some fixed inputs; `python -m tests.stress.fuzz` finds new ones."""

from __future__ import annotations

import random

import pytest

from .head_target import response, tunnel
from .jsonl_reference import PIECES
from .targets import SEEDS, TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_a_fuzz_target_accepts_its_seeds_and_changed_seeds(target: str) -> None:
    rng = random.Random(7)
    for seed in SEEDS[target]:
        TARGETS[target](seed)
        for _ in range(6):
            place = rng.randrange(len(seed) + 1)
            word = rng.choice((*PIECES, bytes([rng.randrange(256)])))
            TARGETS[target](seed[:place] + word + seed[place + rng.randrange(3) :])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("data", [b"", b"\0", b"\xff" * 40, bytes(range(256)) * 3], ids=len)
def test_a_fuzz_target_accepts_any_bytes(target: str, data: bytes) -> None:
    TARGETS[target](data)


def test_http11_responses_and_proxy_tunnels_accept_each_others_bytes() -> None:
    rng = random.Random(7)
    for seed in SEEDS["head"]:
        response(seed[2:], rng)
        tunnel(seed[2:], rng)
