"""Stress tests: the simulation, the fuzz tests and the cycles. README.md says what they check."""
