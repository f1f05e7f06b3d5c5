"""What the tests of a job's folder, journal and inputs share."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from batches_core.jobs import ChunkPlanned, Plan, PlannedInput, PlanRetry
from batches_jobs._folder import JobFolder
from batches_jobs._inputs.interface import Input

ROOT = Path(__file__).parents[2]
JOB_ID = "job_1"
PARAMS = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "é?"}]}


def folder_in(tmp_path: Path) -> JobFolder:
    folder = JobFolder(tmp_path / "reviews.job", mounts=str)
    folder.create()
    return folder


def request(custom_id: object, **params: object) -> dict[str, Any]:
    return {"custom_id": custom_id, "params": {**PARAMS, **params}}


def line(custom_id: object, **params: object) -> bytes:
    return json.dumps(request(custom_id, **params), ensure_ascii=False).encode()


def lines(count: int, **params: object) -> list[bytes]:
    return [line(f"r{number}", **params) for number in range(count)]


def body(input_: Input, plan: ChunkPlanned) -> bytes:
    prepared = input_.requests(plan).prepare()
    sent = b"".join(prepared.body)
    assert len(sent) == prepared.body.content_length == plan.content_length
    assert prepared.count == plan.count
    return sent


def sent_requests(input_: Input, plan: ChunkPlanned) -> list[Any]:
    requests: list[Any] = json.loads(body(input_, plan))["requests"]
    return requests


def plan_next(input_: Input, chunks: Sequence[ChunkPlanned], rows: int) -> PlannedInput:
    """Plan the next chunk of the input, as the machine asks for it."""
    before = [each for each in chunks if not each.rows]
    return input_.plan(
        Plan(
            chunk=len(chunks),
            first_row=sum(each.count for each in before),
            start=before[-1].end if before else 0,
            rows=rows,
        )
    )


def plan_all(
    input_: Input, rows: int | Sequence[int], chunks: Iterable[ChunkPlanned] = ()
) -> list[ChunkPlanned]:
    """Plan the rest of the input, in chunks of these rows; the sizes are repeated."""
    sizes = [rows] if isinstance(rows, int) else rows
    planned = [*chunks]
    while True:
        value = plan_next(input_, planned, sizes[len(planned) % len(sizes)])
        planned += [] if value.plan is None else [value.plan]
        if value.ended:
            return planned


def gather(input_: Input, chunks: Sequence[ChunkPlanned], rows: Sequence[int]) -> ChunkPlanned:
    spec = PlanRetry(chunk=len(chunks), rows=tuple(rows), round=1)
    return input_.plan_retry(spec, chunks)


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def python(code: str, *args: str, **options: Any) -> subprocess.Popen[str]:
    """Start this interpreter with some code; its output is text."""
    return subprocess.Popen(  # noqa: S603 - this interpreter, our own words
        [sys.executable, "-c", textwrap.dedent(code), *args],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write a folder and its files, and everybody read them and the way to them."""
    way = [each for each in folder.parents if each.stat().st_uid == os.getuid()]
    for each in way:
        if each not in {Path("/"), Path(tempfile.gettempdir())}:
            each.chmod(0o755)
    modes = {each: each.stat().st_mode for each in (folder, *folder.rglob("*"))}
    for each in modes:
        each.chmod(0o555 if each.is_dir() else 0o444)
    try:
        yield
    finally:
        for each, mode in modes.items():
            each.chmod(mode)
