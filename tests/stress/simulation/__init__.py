"""The simulation: clients, a network that fails and the emulator, on a virtual clock.

A seed decides everything in a run, so the same seed repeats the same run::

    python -m tests.stress.simulation --runs 100000
    python -m tests.stress.simulation --runs 1 --seed 4711 --trace

`tests/stress/README.md` says what it checks. The modules, each using only those before it:

- `service`: the emulator, and the record of every batch that it created;
- `world`: one run's clock, tasks, random numbers and counts;
- `record`: what happened to one operation, and checks for every kind of operation;
- `error_responses`, `delivery`, `network`: what happens to one exchange;
- `driver`: drives one operation over the network;
- `client`: a client process;
- `result_checks`, `creating`, `waiting`, `reading`: what a client does, and checks of each step;
- `scenarios`: whole tasks of these steps;
- `plan`: what a seed decides;
- `runs`: runs seeds and adds up their figures.
"""
