"""The core does no I/O, reads no clock and draws no chance; its imports run one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import batches_core

ROOT = Path(batches_core.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in MODULES]
REFUSED = {
    *("socket", "ssl", "select", "selectors", "asyncio", "threading", "subprocess"),
    *("time", "random", "os", "secrets"),
    # Not needed either, and as impure.
    *("io", "pathlib", "logging", "tempfile", "multiprocessing", "signal", "sys", "uuid"),
}

# From the ground up; each module imports only from rows above its own.
LAYERS = [
    ["errors"],
    ["redaction", "urls", "validation", "models/base", "batch_request"],
    ["http", "models/batch", "models/content", "models/result"],
    ["models/message"],
    ["models/__init__"],
    ["marker", "message_types", "retry"],
    ["decoding", "endpoint", "events", "exchange", "operations/__init__"],
    ["context", "jsonl", "operations/ledger", "wrong_inputs"],
    ["call", "operation", "operations/delivered", "request_checker"],
    ["operations/batch", "operations/listing", "operations/wait", "requests"],
    ["operations/results", "operations/settle"],
    ["operations/create"],
    ["api", "lowlevel"],
    ["__init__"],
    ["emulator/replies"],
    ["emulator/faults"],
    ["emulator/batch", "emulator/corruption"],
    ["emulator/service"],
    ["emulator/__init__"],
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

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


def imports(path: Path) -> set[str]:
    """Every module that is imported anywhere in a file, function bodies included, absolute."""
    found: set[str] = set()
    package = list(path.relative_to(ROOT.parent).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            # `from . import x` names modules; `from .m import x` names what is in one.
            found.update(f"{stem}.{a.name}" for a in node.names) if not node.module else found.add(
                stem
            )
    return found


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


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_imports_run_from_the_ground_up(path: Path) -> None:
    own = str(path.relative_to(ROOT).with_suffix(""))
    for name in imports(path):
        if name.startswith("batches_core"):
            imported = name.removeprefix("batches_core").strip(".").replace(".", "/")
            if (ROOT / imported).is_dir():
                imported = f"{imported}/__init__".lstrip("/")
            if imported == "errors" or own == "errors":
                # The ground: its only import is of a type, for the checker.
                continue
            assert RANK[imported] < RANK[own], f"{own} imports {imported}"


def test_the_core_depends_on_msgspec_and_the_standard_library_alone() -> None:
    tops = {name.partition(".")[0] for path in MODULES for name in imports(path)}
    assert tops - set(sys.stdlib_module_names) == {"msgspec", "batches_core"}
