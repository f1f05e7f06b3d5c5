"""The state machines that hypothesis runs; each has a model of what it tests."""

from __future__ import annotations

from .emulator_machine import EmulatorMachine
from .jsonl_machine import JSONLinesMachine
from .operation_machine import OperationMachine

MACHINES = (OperationMachine, JSONLinesMachine, EmulatorMachine)
