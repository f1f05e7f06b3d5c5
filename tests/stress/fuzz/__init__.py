"""Tests by arbitrary input: state machines, and bodies for a fuzzer that is led by coverage."""
