"""The state machines, a few seconds each; `python -m tests.stress.fuzz machines` runs longer."""

from __future__ import annotations

from hypothesis import settings

from .emulator_machine import EmulatorMachine
from .jsonl_machine import JSONLinesMachine
from .operation_machine import OperationMachine

MACHINES = (OperationMachine, JSONLinesMachine, EmulatorMachine)

TestOperation = OperationMachine.TestCase
TestOperation.settings = settings(max_examples=80, stateful_step_count=40)

TestJSONLines = JSONLinesMachine.TestCase
TestJSONLines.settings = settings(max_examples=80, stateful_step_count=25)

TestEmulator = EmulatorMachine.TestCase
TestEmulator.settings = settings(max_examples=60, stateful_step_count=30)
