"""The verb ``plan``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from .console import Console, stdin_bytes
from .inputs import TemplateOptions, open_input, template_options
from .options import common, pass_console
from .planning import plan_input, plan_json, plan_lines, refuse_problems


@click.command(
    epilog="""\b
Examples:
  batches plan reviews.jsonl
  batches plan reviews.csv --model claude-haiku-4-5 --prompt 'Classify: {review}' --json
"""
)
@click.argument("input_", metavar="INPUT")
@template_options
@click.option("--map-ids", is_flag=True, help="As for 'batches run'.")
@click.option("--chunk-rows", type=click.IntRange(min=1, max=100_000), help="Rows of a batch.")
@click.option("--max-waiting", type=click.IntRange(min=1), help="Rows in the queue at most.")
@common
@pass_console
def plan(
    console: Console,
    *,
    input_: str,
    map_ids: bool,
    chunk_rows: int | None,
    max_waiting: int | None,
    **options: Any,
) -> None:
    """Check every line of an input, and say what it comes to. Nothing is sent.

    Shows the batches, bytes, tokens, cost and hours. Tokens of input are an estimate from bytes;
    those of output are the sum of max_tokens, which is a limit.
    """
    from batches_core import InvalidInputError
    from batches_core.jobs import JobOptions

    given = {"chunk_rows": chunk_rows, "max_waiting": max_waiting}
    job_options = JobOptions(
        ids="map" if map_ids else "keep",
        **{name: value for name, value in given.items() if value is not None},
    )
    with tempfile.TemporaryDirectory(prefix="batches-") as folder:
        opened = open_input(input_, TemplateOptions.take(options), lambda s: _copy(folder, s))
        try:
            planned = plan_input(opened.requests, job_options)
        except InvalidInputError as error:
            raise refuse_problems(console, input_, error) from error
    if console.is_json:
        console.out_json(plan_json(planned))
        return
    for line in plan_lines(planned):
        console.out(line)


def _copy(folder: str, suffix: str) -> Path:
    from batches_jobs._inputs.rows import copy_rows

    path = Path(folder) / f"rows.{suffix}"
    copy_rows(stdin_bytes(), path)
    return path
