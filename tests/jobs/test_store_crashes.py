"""Processes that plan a job and are killed at any moment: the next one goes on, nothing is lost."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path

import pytest

from batches_core.jobs import ChunkPlanned, InputEnded, JobState
from batches_jobs._folder import JobFolder
from batches_jobs._inputs.opening import open_input
from batches_jobs._journal import Journal

from .store_support import JOB_ID, body, line, names, python

ROWS = 3000

#: Plans a whole job in chunks of 50 rows, and prints what is durable.
PLANNER = """
    import sys
    from batches_core.jobs import *
    from batches_jobs._folder import JobFolder
    from batches_jobs._inputs import spool_file
    from batches_jobs._inputs.opening import open_input
    from batches_jobs._journal import Journal, new_salt

    path, requests, kind = sys.argv[1:]
    spool_file._GATHERED = 1000
    folder = JobFolder(path)
    folder.create()
    with folder.lock():
        source = requests if kind == "jsonl" else open(requests)
        input_ = open_input(source, folder, job_id="job_1")
        if not folder.has_job:
            opened = JobOpened(job_id="job_1", options=JobOptions(), source=input_.describe())
            Journal.create(folder.journal_path, opened, salt=new_salt()).close()
        with Journal.open(folder.journal_path) as journal:
            state = JobState()
            state.apply_all(journal.load())
            plans = [each.plan for each in state.chunks]
            input_.resume(state.opened.source, plans, ended=state.rows is not None)
            while state.rows is None:
                spec = Plan(
                    chunk=len(state.chunks),
                    first_row=state.planned_rows,
                    start=state.planned_bytes,
                    rows=50,
                )
                value = input_.plan(spec)
                records = [] if value.plan is None else [value.plan]
                if value.ended:
                    rows = state.planned_rows + sum(each.count for each in records)
                    records.append(InputEnded(rows=rows))
                journal.append(records)
                state.apply_all(records)
                print(state.planned_rows, flush=True)
    print("done", flush=True)
"""


@pytest.mark.parametrize("kind", ["jsonl", "iterable"])
def test_a_job_is_planned_completely_however_often_its_process_is_killed(
    tmp_path: Path, kind: str
) -> None:
    chance = random.Random(5)
    requests = tmp_path / "requests.jsonl"
    rows = [line(f"r{number}", system="x" * chance.randint(0, 500)) for number in range(ROWS)]
    requests.write_bytes(b"\n".join(rows))
    folder = JobFolder(tmp_path / "reviews.job")
    kills, confirmed = 0, 0
    while True:
        printed: list[str] = []
        with python(PLANNER, str(folder.path), str(requests), kind) as process:
            # It goes on for a moment after the last line that is read, so it dies anywhere.
            left = chance.randint(0, 12)
            while left and (text := process.stdout.readline()):  # type: ignore[union-attr]  # a pipe
                printed.append(text.strip())
                left -= 1
            time.sleep(chance.choice([0, 0.0003, 0.003]))
            process.kill()
        if printed[-1:] == ["done"] or process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, printed
        kills += 1
        confirmed = max([confirmed, *(int(each) for each in printed)])
        if folder.has_job:
            with Journal.open_read_only(folder.journal_path) as journal:
                state = JobState()
                state.apply_all(journal.load())
            assert state.planned_rows >= confirmed
    assert kills > 3
    with Journal.open_read_only(folder.journal_path) as journal:
        records = journal.load()
    assert records[-1] == InputEnded(rows=ROWS)
    plans = [each for each in records if isinstance(each, ChunkPlanned)]
    input_ = open_input(str(requests) if kind == "jsonl" else [], folder, job_id=JOB_ID)
    sent = [one for plan in plans for one in json.loads(body(input_, plan))["requests"]]
    assert sent == [json.loads(each) for each in rows]
    assert len(names(folder.spool(0).parent)) == (0 if kind == "jsonl" else len(plans))
