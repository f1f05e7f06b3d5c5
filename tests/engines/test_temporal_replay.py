"""Recorded histories: a change of the workflows must not break the jobs that run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from batches_jobs.engines import temporal

from .record import HISTORIES

PATHS = sorted(HISTORIES.glob("*.json"))


def test_histories_are_recorded() -> None:
    assert len(PATHS) >= 3


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_recorded_history_is_replayed(path: Path) -> None:
    history = WorkflowHistory.from_json(path.stem, path.read_text())
    replayer = Replayer(workflows=[temporal.BatchesJob, temporal.BatchesAccount])
    asyncio.run(replayer.replay_workflow(history))
