"""The async sources, written by hand; `tools/unasync.py` makes the blocking ones from them."""
