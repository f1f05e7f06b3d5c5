"""Longer runs, and short forms of them for every test run; README.md says what each finds."""
