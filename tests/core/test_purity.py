"""Tests of the purity of `batches_core`: no I/O, clock or randomness, and no other dependency."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import batches_core
from tools.imports import imports

ROOT = Path(batches_core.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in MODULES]
IMPURE = {
    *("socket", "ssl", "select", "selectors", "asyncio", "threading", "subprocess"),
    *("time", "random", "os", "secrets"),
    *("io", "pathlib", "logging", "tempfile", "multiprocessing", "signal", "sys", "uuid"),
}
#: A program that imports modules, and refuses the imports of `batches_core` that its first argument
#: names. Its second argument names the modules.
GUARD = """
import builtins, importlib, sys
refused = set(sys.argv[1].split(","))
original = builtins.__import__
def guarded(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__", "")
    if importer.startswith("batches_core") and not level and name.partition(".")[0] in refused:
        raise ImportError(f"{importer} imports {name}")
    return original(name, globals, locals, fromlist, level)
builtins.__import__ = guarded
for name in sys.argv[2].split(","):
    importlib.import_module(name)
print("imported")
"""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def import_without(refused: set[str]) -> subprocess.CompletedProcess[str]:
    """Import every module of `batches_core` in a new process that refuses these imports."""
    names = ",".join(module_name(path) for path in MODULES)
    return subprocess.run(  # noqa: S603 - this interpreter and fixed arguments
        [sys.executable, "-c", GUARD, ",".join(sorted(refused)), names],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT.parent,
    )


def test_every_module_can_be_imported_without_impure_modules() -> None:
    process = import_without(IMPURE)
    assert (process.returncode, process.stdout) == (0, "imported\n"), process.stderr


def test_the_import_guard_refuses_an_import() -> None:
    process = import_without({"re"})
    assert process.returncode != 0
    assert "imports re" in process.stderr


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_no_function_imports_an_impure_module(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imports(path)} & IMPURE


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_no_module_opens_a_file_or_reads_the_wall_clock(path: Path) -> None:
    calls = [
        node.func
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]
    names = {func.id for func in calls if isinstance(func, ast.Name)}
    methods = {func.attr for func in calls if isinstance(func, ast.Attribute)}
    assert not names & {"open", "input", "print", "eval", "exec", "__import__"}
    assert not methods & {"now", "utcnow", "today"}


def test_batches_core_depends_only_on_msgspec_and_the_standard_library() -> None:
    packages = {name.partition(".")[0] for path in MODULES for name in imports(path)}
    assert packages - set(sys.stdlib_module_names) == {"msgspec", "batches_core"}
