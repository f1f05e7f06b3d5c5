"""Cycles: clients that are opened, broken off and canceled thousands of times, and what they leak.

`python -m tests.stress.cycles --cycles 10000` runs the cycles on every transport.
`tests/stress/README.md` says what they check. `cycle` has one cycle and the emulator for it, and
`resources` counts what is open and alive.
"""
