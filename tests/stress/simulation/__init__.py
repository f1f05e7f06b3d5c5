"""Whole runs in one process: clients, a network that fails, and the emulator on a virtual clock.

One seed decides one run: the work, the settings, and what the network does to each byte. So a run
that fails is repeated by its seed::

    python -m tests.stress.simulation --runs 100000 --seed 0
    python -m tests.stress.simulation --runs 1 --seed 4711 --trace

The modules, from the ground up:

- `world`: the clock, the tasks on it, the service with its truth, and what is counted;
- `calls`: what one operation went through, and when its end is right;
- `network`: what becomes of one exchange;
- `driver`: an operation driven over that network, as early, late and clumsy as a driver may be;
- `truth`: what the results of a batch have to be;
- `scripts`: what clients do, each step held against the service's truth;
- `runs`: seeds in, figures out.

The promises that are checked: no result is lost or given twice without an error; no batch is
bought twice, and none adopted that is another's; an error comes only after as many failures as it
takes, and what failed succeeds once the network is calm; the end comes in bounded time; credentials
reach the API's origin alone and no text; nothing that was handed out is held.

What the documentation excludes is not checked but counted, in a few runs of their own: a list that
shows a batch, or a network that delivers a create, only after the settle time.
"""
