"""A short run of each state machine; `python -m tests.stress.fuzz machines` runs them longer."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from .emulator_machine import EmulatorMachine
from .jsonl_machine import JSONLinesMachine
from .operation_machine import OperationMachine


def test_an_operation_keeps_its_contract_under_any_inputs() -> None:
    run_state_machine_as_test(
        OperationMachine, settings=settings(max_examples=80, stateful_step_count=40)
    )


def test_jsonlines_reads_what_a_simple_reader_reads_however_the_body_is_cut() -> None:
    run_state_machine_as_test(
        JSONLinesMachine, settings=settings(max_examples=80, stateful_step_count=25)
    )


def test_the_emulator_behaves_as_its_model_under_any_calls() -> None:
    run_state_machine_as_test(
        EmulatorMachine, settings=settings(max_examples=60, stateful_step_count=30)
    )
