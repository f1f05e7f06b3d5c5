"""Tests of the layers: packages import downwards, and other code imports only public modules.

`tools.imports` has the plan. A *door* is a module that other packages may import.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tools import imports

OUTSIDE = sorted(
    path for folder in ("examples", "benchmarks") for path in (imports.ROOT / folder).rglob("*.py")
)

#: The names that each door of `transports` promises.
PROMISED = {
    "asyncio": ["BatchesClient", "Connect", "unix_socket"],
    "emulator": ["EmulatorServer", "main", "running_emulator"],
    "files": ["RequestsFile", "ResultsReader", "read_results"],
    "h11": ["BatchesClient", "Connect", "unix_socket"],
    "httpx": ["AsyncBatchesClient", "BatchesClient"],
    "trio": ["BatchesClient", "Connect", "unix_socket"],
}


def test_each_import_runs_downwards_and_through_a_door() -> None:
    assert sorted(imports.problems()) == []


@pytest.mark.parametrize(
    "path", OUTSIDE, ids=lambda path: path.relative_to(imports.ROOT).as_posix()
)
def test_examples_and_benchmarks_import_only_doors(path: Path) -> None:
    for package, doors in imports.DOORS.items():
        assert imports.imported_modules(path, package) <= doors


@pytest.mark.parametrize("door", sorted(imports.DOORS["transports"]))
def test_each_door_of_transports_exports_the_promised_names(door: str) -> None:
    module = importlib.import_module(f"transports.{door}")
    assert sorted(module.__all__) == PROMISED[door]
    for name in module.__all__:
        assert hasattr(module, name)


def test_an_import_that_runs_upwards_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = imports.LAYERS["batches_core"]
    monkeypatch.setitem(imports.LAYERS, "batches_core", [*reversed(rows)])
    assert "batches_core: api imports errors, which is not below it" in [*imports.problems()]


def test_an_import_of_a_private_module_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(imports.DOORS, "batches_core", frozenset({"/"}))
    problems = [*imports.problems()]
    assert "transports: files imports" not in "".join(problems)
    assert any(problem.endswith("batches_core/lowlevel, which is private") for problem in problems)
