"""The generated blocking sources are up to date, and the check finds those that are not."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import unasync


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the transports for a test that changes them, and return the copy."""
    copy = tmp_path / "transports"
    shutil.copytree(unasync.PACKAGES[0], copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(unasync.ROOT / "pyproject.toml", tmp_path)
    # ruff sorts imports by whether it finds their modules in the project.
    (tmp_path / "batches_core").symlink_to(unasync.ROOT / "batches_core")
    monkeypatch.setattr(unasync, "ROOT", tmp_path)
    monkeypatch.setattr(unasync, "PACKAGES", (copy,))
    return copy


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["unasync", *arguments])
    return unasync.main()


def contents(package: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in package.rglob("*.py")}


def test_the_blocking_sources_are_up_to_date(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--check") == 0
    assert capsys.readouterr().out == ""


def make_stale(package: Path) -> Path:
    twin = package / "_client" / "_sync" / "driver.py"
    twin.write_text(twin.read_text("utf-8").replace("interrupted", "stopped"), "utf-8")
    return twin


def change_source(package: Path) -> Path:
    source = package / "_client" / "_async" / "driver.py"
    source.write_text(source.read_text("utf-8").replace("interrupted", "stopped"), "utf-8")
    return package / "_client" / "_sync" / "driver.py"


def remove_twin(package: Path) -> Path:
    twin = package / "_http11" / "_sync" / "stream.py"
    twin.unlink()
    return twin


def leave_twin_over(package: Path) -> Path:
    twin = package / "_httpx" / "_sync" / "removed.py"
    twin.write_text("# Its async source was removed.\n", "utf-8")
    return twin


@pytest.mark.parametrize(
    "damage",
    [make_stale, change_source, remove_twin, leave_twin_over],
    ids=["stale twin", "changed source", "missing twin", "left-over twin"],
)
def test_unasync_check_names_an_outdated_twin_and_unasync_repairs_it(
    package: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], Path],
) -> None:
    intact = contents(package)
    twin = damage(package)
    name = twin.relative_to(package.parent)
    damaged = contents(package)
    assert run(monkeypatch, "--check") == 1
    assert capsys.readouterr().out == f"stale: {name}\n"
    assert contents(package) == damaged, "a check must write nothing"
    assert run(monkeypatch) == 0
    assert capsys.readouterr().out == f"wrote: {name}\n"
    assert run(monkeypatch, "--check") == 0
    assert capsys.readouterr().out == ""
    if damage is change_source:
        assert b"stopped" in twin.read_bytes()
    else:
        assert contents(package) == intact


@pytest.mark.parametrize(
    ("source", "twin"),
    [
        ("async def send() -> None:", "def send() -> None:"),
        ("async with a, b:", "with a, b:"),
        ("[item async for item in items]", "[item for item in items]"),
        ("await stream.aclose()", "stream.close()"),
        ("raise StopAsyncIteration", "raise StopIteration"),
        ("async def __anext__(self)", "def __next__(self)"),
        ("work: Awaitable[bytes]", "work: bytes"),
        ("class AsyncDriver(AsyncBase):", "class Driver(Base):"),
        ("from .._async.driver import AsyncDriver", "from .._sync.driver import Driver"),
        ('"""An async client."""', '"""A blocking client."""'),
        ("asyncio.sleep(0)", "asyncio.sleep(0)"),
    ],
    ids=lambda text: text,
)
def test_unasync_removes_async_syntax_and_prefixes(source: str, twin: str) -> None:
    assert unasync.unasync(source) == twin
