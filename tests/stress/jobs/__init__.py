"""The simulation of jobs: real jobs, a network that fails and the emulator, on a virtual clock.

Processes are killed at every step; only what they had made durable survives. A seed decides
everything in a run, so the same seed repeats the same run::

    python -m tests.stress.jobs --runs 10000
    python -m tests.stress.jobs --trace 4711
    python -m tests.stress.jobs --break intent

`tests/stress/README.md` says what it checks. The modules, each using only those before it:

- `rows`: the input of a job, and what the service makes of each row;
- `store`: what survives a crash;
- `service`, `world`: the emulator, and one run's clock and counts;
- `wire`: checks of every create where it leaves;
- `exchanges`: drives one operation over the network of `simulation`;
- `operations`: an operation of a job as a real operation of `BatchesAPI`;
- `process`: one process that runs a job;
- `sim`: one job with its processes and its owner;
- `plan`: what a seed decides;
- `checks`: what must be true at the end;
- `breaks`: mechanisms that can be broken on purpose;
- `runs`: runs seeds and adds up their figures.
"""
