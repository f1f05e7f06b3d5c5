"""The core does no I/O, reads no clock and draws no chance; its imports run one way."""

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
REFUSED = {
    *("socket", "ssl", "select", "selectors", "asyncio", "threading", "subprocess"),
    *("time", "random", "os", "secrets"),
    # Not needed either, and as impure.
    *("io", "pathlib", "logging", "tempfile", "multiprocessing", "signal", "sys", "uuid"),
}

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


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def run_guard(refused: set[str]) -> subprocess.CompletedProcess[str]:
    names = ",".join(dotted(path) for path in MODULES)
    return subprocess.run(  # noqa: S603 - this interpreter, our own words
        [sys.executable, "-c", GUARD, ",".join(sorted(refused)), names],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT.parent,
    )


def test_every_module_imports_where_io_clock_and_chance_are_refused() -> None:
    done = run_guard(REFUSED)
    assert (done.returncode, done.stdout) == (0, "imported\n"), done.stderr


def test_the_guard_sees_an_import() -> None:
    done = run_guard({"re"})
    assert done.returncode != 0
    assert "imports re" in done.stderr


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_no_function_imports_what_is_refused(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imports(path)} & REFUSED


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_no_call_opens_a_file_or_reads_the_wall_clock(path: Path) -> None:
    calls = [
        node.func
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]
    names = {func.id for func in calls if isinstance(func, ast.Name)}
    methods = {func.attr for func in calls if isinstance(func, ast.Attribute)}
    assert not names & {"open", "input", "print", "eval", "exec", "__import__"}
    assert not methods & {"now", "utcnow", "today"}


def test_the_core_depends_on_msgspec_and_the_standard_library_alone() -> None:
    tops = {name.partition(".")[0] for path in MODULES for name in imports(path)}
    assert tops - set(sys.stdlib_module_names) == {"msgspec", "batches_core"}
