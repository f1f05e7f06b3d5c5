"""Jobs made durable and visible: `run_job` runs one, and the same call resumes it.

`run_job` is for blocking clients, `run_job_async` for those on asyncio and trio. `read_status` says
how far a job is, and `JobReader` its results, both also while another process runs it.
`cancel_job`, `decide` and `buy_again` carry out what a person decides. `estimate` and `cost_of`
compute costs.

A name is imported when it is first used, so that a command that needs few of them starts fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batches_core.jobs import JobOptions, JobStatus

    from ._cost import Cost, PricedUsage, cost_of
    from ._decisions import buy_again, cancel_job, decide
    from ._errors import (
        InputChangedError,
        JobFolderError,
        JobLockedError,
        JournalError,
        ObjectStoreError,
        ResultsFileError,
        StorageError,
    )
    from ._estimate import Estimate, Estimator, ModelEstimate, estimate
    from ._inputs.parquet import ParquetSource
    from ._inputs.rows import open_rows
    from ._inputs.sources import CSVSource, LinesSource, Source
    from ._job_reader import JobReader
    from ._merge import MergedFile
    from ._prices import PriceList
    from ._results import AnsweredRow, JobResults, RowResult, UnansweredRow
    from ._runner._async.run import run_job_async
    from ._runner._sync.run import run_job
    from ._settled import RowCounts
    from ._status import read_status
    from ._table.output import WrittenTable
    from ._table.results_table import ResultsTable
    from ._template import Template
    from ._verify import Verification

__all__ = [
    "AnsweredRow",
    "CSVSource",
    "Cost",
    "Estimate",
    "Estimator",
    "InputChangedError",
    "JobFolderError",
    "JobLockedError",
    "JobOptions",
    "JobReader",
    "JobResults",
    "JobStatus",
    "JournalError",
    "LinesSource",
    "MergedFile",
    "ModelEstimate",
    "ObjectStoreError",
    "ParquetSource",
    "PriceList",
    "PricedUsage",
    "ResultsFileError",
    "ResultsTable",
    "RowCounts",
    "RowResult",
    "Source",
    "StorageError",
    "Template",
    "UnansweredRow",
    "Verification",
    "WrittenTable",
    "buy_again",
    "cancel_job",
    "cost_of",
    "decide",
    "estimate",
    "open_rows",
    "read_status",
    "run_job",
    "run_job_async",
]

#: The module of each name.
_MODULES = {
    "batches_core.jobs": ("JobOptions", "JobStatus"),
    "._cost": ("Cost", "PricedUsage", "cost_of"),
    "._decisions": ("buy_again", "cancel_job", "decide"),
    "._errors": (
        "InputChangedError",
        "JobFolderError",
        "JobLockedError",
        "JournalError",
        "ObjectStoreError",
        "ResultsFileError",
        "StorageError",
    ),
    "._estimate": ("Estimate", "Estimator", "ModelEstimate", "estimate"),
    "._inputs.parquet": ("ParquetSource",),
    "._inputs.sources": ("CSVSource", "LinesSource", "Source"),
    "._inputs.rows": ("open_rows",),
    "._job_reader": ("JobReader",),
    "._merge": ("MergedFile",),
    "._prices": ("PriceList",),
    "._results": ("AnsweredRow", "JobResults", "RowResult", "UnansweredRow"),
    "._runner._async.run": ("run_job_async",),
    "._runner._sync.run": ("run_job",),
    "._settled": ("RowCounts",),
    "._status": ("read_status",),
    "._table.output": ("WrittenTable",),
    "._table.results_table": ("ResultsTable",),
    "._template": ("Template",),
    "._verify": ("Verification",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    module = _HOMES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(module, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
