"""Tests of README and docs: each code block runs as it stands, and passes the type checker."""
