"""The names that `batches_jobs` promises."""

from __future__ import annotations

import subprocess
import sys

import pytest

import batches_jobs

PROMISED = """
    AnsweredRow buy_again cancel_job Cost cost_of CSVSource decide Estimate estimate Estimator
    InputChangedError JobFolderError JobLockedError JobOptions JobReader JobResults JobStatus
    JournalError LinesSource MergedFile ModelEstimate ObjectStoreError open_rows ParquetSource
    PricedUsage PriceList read_status ResultsFileError ResultsTable RowCounts RowResult run_job
    run_job_async Source StorageError Template UnansweredRow Verification WrittenTable
"""


def test_batches_jobs_exports_the_promised_names() -> None:
    assert sorted(batches_jobs.__all__) == sorted(PROMISED.split())
    assert dir(batches_jobs) == batches_jobs.__all__
    for name in batches_jobs.__all__:
        assert getattr(batches_jobs, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    name = "run_jobs"
    with pytest.raises(AttributeError, match="module 'batches_jobs' has no attribute 'run_jobs'"):
        getattr(batches_jobs, name)


def test_importing_batches_jobs_imports_nothing_heavy() -> None:
    code = "import sys, batches_jobs; print(*(n for n in sys.modules if n.startswith('batches')))"
    done = subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["batches_jobs"]
