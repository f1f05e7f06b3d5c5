"""Walks: whatever happens to a job, each row has one end, and is paid for once."""

from __future__ import annotations

import os
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from batches_core.jobs import Ending, Settle
from tests.support.job_service import QUALITIES
from tests.support.job_world import World

#: How many walks are made. More find more: `JOB_WALKS=100000 pytest tests/core/jobs/test_walks.py`.
WALKS = int(os.environ.get("JOB_WALKS", "300"))
FATES = ("made", "never", "late")
DEATHS = ("before", "after", "meanwhile")
SECONDS = (1.0, 30.0, 700.0, 4000.0)

# --- seeded walks ------------------------------------------------------------------------


def new_world(random: Random) -> World:
    chunk_rows = random.choice([1, 4, 10, 150])
    return World(
        rows=random.randrange(6 * chunk_rows),
        chunk_rows=chunk_rows,
        max_waiting=random.choice([1, chunk_rows, 2 * chunk_rows, 10 * chunk_rows]),
        rounds=random.randrange(3),
        parallel=random.choice([1, 4]),
        same_key=random.choice([None, True, False]),
    )


def go_on(world: World, random: Random, options: int) -> None:
    """The job and the service do what they should, or not quite."""
    match random.randrange(4):
        case 0:
            world.drive(random.choice([1, 2, 1000]))
        case 1:
            world.advance_any(random.randrange(100), 0)
        case 2:
            world.advance_any(random.randrange(100), random.randrange(options))
        case _:
            world.drive()
            if random.random() < 0.5:
                world.end_batch(random.randrange(100), random.choice(QUALITIES))


def trouble(world: World, random: Random) -> None:
    """Something happens that nobody counted on."""
    match random.randrange(7):
        case 0:
            world.crash(random.choice(FATES))
        case 1:
            world.death = random.choice(DEATHS)
        case 2 | 3:
            world.sleep(random.choice(SECONDS))
        case 4:
            world.make_stranger(random.randrange(100))
        case 5:
            random.choice([world.decide, world.buy_again, world.archive])()
        case _ if random.random() < 0.2:
            random.choice([world.cancel, world.pause])()


def walk(seed: int) -> World:
    random = Random(seed)
    world = new_world(random)
    # With four ways to go on, three of four creates are lost.
    options = random.choice([4, 8])
    often = random.choice([0.05, 0.2])
    for _ in range(random.choice([10, 100, 400])):
        if random.random() < often:
            trouble(world, random)
        else:
            go_on(world, random, options)
    world.check_end(world.calm_down(random.choice(["answered", "mixed", "expired"])))
    return world


@pytest.mark.parametrize("first", range(0, WALKS, 50))
def test_every_walk_ends_and_pays_for_each_row_once(first: int) -> None:
    for seed in range(first, first + 50):
        try:
            walk(seed)
        except BaseException as error:
            error.add_note(f"the walk was walk({seed})")
            raise


def test_a_job_without_any_trouble_is_finished_in_one_run() -> None:
    for rows in (0, 1, 10, 35):
        world = World(rows=rows, chunk_rows=10)
        ending = world.calm_down("mixed")
        world.check_end(ending)
        assert ending is Ending.FINISHED
        assert world.runs == 1


# --- a death at every point --------------------------------------------------------------


def small_world() -> World:
    """A job with chunks of two sizes, whose last one waits until there is room."""
    return World(rows=17, chunk_rows=5, max_waiting=10, rounds=1)


def test_a_job_can_die_before_and_after_every_write() -> None:
    calm = small_world()
    calm.calm_down("mixed")
    assert calm.writes > 20
    for write in range(1, calm.writes + 1):
        for death in ("before", "after"):
            world = small_world()
            world.dies_at_write = (write, death)
            world.check_end(world.calm_down("mixed"))
            assert world.runs == 2


@pytest.mark.parametrize("fate", FATES)
def test_a_job_can_die_at_every_step_also_while_a_create_is_sent(fate: str) -> None:
    calm = small_world()
    calm.calm_down("mixed")
    assert calm.steps > 40
    doubts = 0
    for step in range(1, calm.steps + 1):
        world = small_world()
        world.dies_at_step = (step, fate)
        world.check_end(world.calm_down("mixed"))
        assert world.runs == 2
        doubts += any(isinstance(spec, Settle) for spec in world.ran)
    assert doubts >= 5


# --- walks of hypothesis -----------------------------------------------------------------

NUMBERS = st.integers(0, 7)


class Walk(RuleBasedStateMachine):
    """The same world; hypothesis chooses what happens, and finds the shortest walk that fails."""

    @initialize(
        rows=st.integers(0, 25),
        chunk_rows=st.sampled_from([4, 10]),
        room=st.sampled_from([1, 10, 100]),
        rounds=st.integers(0, 2),
    )
    def begin(self, rows: int, chunk_rows: int, room: int, rounds: int) -> None:
        self.world = World(rows=rows, chunk_rows=chunk_rows, max_waiting=room, rounds=rounds)

    @rule(most=st.sampled_from([1, 2, 1000]))
    def drive(self, most: int) -> None:
        self.world.drive(most)

    @rule(number=NUMBERS, option=NUMBERS)
    def advance(self, number: int, option: int) -> None:
        self.world.advance_any(number, option)

    @rule(number=NUMBERS)
    def advance_well(self, number: int) -> None:
        self.world.advance_any(number, 0)

    @rule(number=NUMBERS, quality=st.sampled_from(QUALITIES))
    def end_batch(self, number: int, quality: str) -> None:
        self.world.end_batch(number, quality)

    @rule(seconds=st.sampled_from(SECONDS))
    def sleep(self, seconds: float) -> None:
        self.world.sleep(seconds)

    @rule(fate=st.sampled_from(FATES))
    def crash(self, fate: str) -> None:
        self.world.crash(fate)

    @rule(death=st.sampled_from(DEATHS))
    def die_at_the_next_persist(self, death: str) -> None:
        self.world.death = death

    @rule(number=NUMBERS)
    def make_stranger(self, number: int) -> None:
        self.world.make_stranger(number)

    @rule(
        act=st.sampled_from(
            [World.decide, World.buy_again, World.archive, World.pause, World.cancel]
        )
    )
    def somebody_acts(self, act: Callable[[World], object]) -> None:
        act(self.world)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.check_end(self.world.calm_down("mixed"))


Walk.TestCase.settings = settings(max_examples=100, stateful_step_count=50)
TestWalk = Walk.TestCase
