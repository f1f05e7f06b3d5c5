"""Tests with arbitrary input: state machines for hypothesis, and targets for a coverage fuzzer.

`tests/stress/README.md` says what they check. The modules:

- `responses`, `operations`: what a fuzzed peer sends, and every kind of operation;
- `jsonl_reference`: a simple reader that `JSONLines` is compared with;
- `operation_model`: the contract of an operation, as checks of its inputs and outputs;
- `jsonl_machine`, `operation_machine`, `emulator_machine`, `machines`: the state machines;
- `source`: a fuzzer's bytes as choices;
- `jsonl_target`, `head_target`, `operation_target`, `targets`: the fuzz targets.
"""
