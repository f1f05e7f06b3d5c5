"""Tests of ``run``, ``submit`` and ``resume`` in real processes."""

from __future__ import annotations

from pathlib import Path

from batches_core.emulator import Emulator

from .support import QUICK, batches, rows_of, served, sold, write_requests


def test_a_run_answers_each_row_and_the_same_again_rewrites_nothing(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 60)
    emulator = Emulator(speed=1000)
    with served(emulator) as base_url:
        first = batches(tmp_path, "run", "in.jsonl", "-o", "out/", *QUICK, base_url=base_url)
        info = (tmp_path / "out/results.jsonl").stat()
        again = batches(tmp_path, "run", "in.jsonl", "-o", "out/", *QUICK, base_url=base_url)
    assert (first.code, first.out) == (0, ""), first.err
    assert (again.code, again.out) == (0, ""), again.err
    assert "next: batches report out/job" in first.err
    rows = rows_of(tmp_path / "out/results.jsonl")
    assert [row["custom_id"] for row in rows] == [f"r{number}" for number in range(60)]
    assert sold(emulator) == {f"r{number}": 1 for number in range(60)}
    now = (tmp_path / "out/results.jsonl").stat()
    assert (now.st_ino, now.st_mtime_ns) == (info.st_ino, info.st_mtime_ns)
