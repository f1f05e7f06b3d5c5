"""Every package keeps to its layers, and outside code needs only doors."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tools import imports

OUTSIDE = sorted(
    path for folder in ("examples", "benchmarks") for path in (imports.ROOT / folder).rglob("*.py")
)

#: What each door of `transports` promises.
PROMISED = {
    "asyncio": ["BatchesClient", "Connect", "unix_socket"],
    "emulator": ["EmulatorServer", "main", "running_emulator"],
    "files": ["RequestsFile", "ResultsReader", "read_results"],
    "h11": ["BatchesClient", "Connect", "unix_socket"],
    "httpx": ["AsyncBatchesClient", "BatchesClient"],
    "trio": ["BatchesClient", "Connect", "unix_socket"],
}


def test_imports_run_downwards_and_through_doors() -> None:
    assert sorted(imports.problems()) == []


@pytest.mark.parametrize(
    "path", OUTSIDE, ids=lambda path: path.relative_to(imports.ROOT).as_posix()
)
def test_outside_code_imports_only_doors(path: Path) -> None:
    for package, doors in imports.DOORS.items():
        assert imports.imported_modules(path, package) <= doors


@pytest.mark.parametrize("door", sorted(imports.DOORS["transports"]))
def test_a_door_promises_its_names(door: str) -> None:
    module = importlib.import_module(f"transports.{door}")
    assert sorted(module.__all__) == PROMISED[door]
    for name in module.__all__:
        assert hasattr(module, name)


def test_an_import_that_runs_upwards_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = imports.LAYERS["batches_core"]
    monkeypatch.setitem(imports.LAYERS, "batches_core", [*reversed(rows)])
    assert "batches_core: api imports errors, which is not below it" in [*imports.problems()]


def test_an_import_through_a_wall_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(imports.DOORS, "batches_core", frozenset({"/"}))
    found = [*imports.problems()]
    assert "transports: files imports" not in "".join(found)
    assert any(problem.endswith("batches_core/lowlevel, which is private") for problem in found)
