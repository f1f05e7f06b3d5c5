"""`examples/temporal_job.py`: a server, a worker and a job in one script."""

from __future__ import annotations

import re
from pathlib import Path

from .running import REQUESTS, run

SCRIPT = "temporal_job.py"


def test_it_runs_a_job_and_prints_what_became_of_its_rows(tmp_path: Path) -> None:
    count = len(REQUESTS.read_bytes().splitlines())
    done = run(SCRIPT, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    counts = re.match(r"(\d+) rows: (\d+) answered, (\d+) failed\n", done.stdout)
    assert counts is not None
    rows, answered, failed = map(int, counts.groups())
    assert rows == answered + failed == count
    assert "reviews/output-" in done.stdout
    assert done.stderr == ""
