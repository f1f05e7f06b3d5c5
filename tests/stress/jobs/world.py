"""One simulated run of jobs: the world of `simulation`, with a longer life and its jobs."""

from __future__ import annotations

from tests.stress.simulation.world import World

from .service import JobService

_DAY = 86400.0
#: A run that takes longer than this, in virtual seconds or in steps, is endless.
_MAX_TIME = 400 * _DAY
_MAX_STEPS = 60_000


class JobWorld(World):
    """The state that all jobs of one run share."""

    def __init__(self, seed: int, *, traced: bool = False) -> None:
        super().__init__(seed, traced=traced)
        self.max_time, self.max_steps = _MAX_TIME, _MAX_STEPS
        self.is_outside_promise = False
        self.job_service: JobService

    def use(self, service: JobService) -> None:
        """Let this service answer all requests."""
        self.service = self.job_service = service
