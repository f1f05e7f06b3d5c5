"""Written by hand as async code. `tools/unasync.py` generates the blocking code from it."""
