"""The verbs that read the results of a job: ``results``, ``failed``, ``cost`` and ``report``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .codes import ExitCode
from .console import CommandError, Console, command, stdout_bytes
from .endings import dollars
from .options import common, job_argument, pass_console
from .outputs import FileOutput, Output, is_url, stored_output
from .places import find_job

if TYPE_CHECKING:
    from batches_jobs import JobReader, WrittenTable

input_option = click.option(
    "--input",
    "input_path",
    type=click.Path(),
    metavar="FILE",
    help="Where the input of the job is now, if it was moved.",
)
output_option = click.option(
    "-o",
    "--output",
    "out",
    metavar="FILE|URL",
    default="-",
    help="Where to write. [default: -, which is stdout]",
)


@click.command(
    epilog="""\b
Examples:
  batches results reviews/ -o reviews.parquet
  batches results reviews/ -o s3://bucket/reviews.parquet
  batches results reviews/ --select custom_id,text --format csv | head
  batches results reviews/ --failed --select row,error_type,error_message
"""
)
@job_argument(required=False)
@output_option
@click.option(
    "--format",
    "format_",
    type=click.Choice(["jsonl", "csv", "parquet"]),
    help="The format. [default: by the suffix of FILE, or jsonl]",
)
@click.option(
    "--order",
    type=click.Choice(["input", "any"]),
    default="input",
    help="The order of the rows; 'any' is faster. [default: input]",
)
@click.option("--failed", is_flag=True, help="Only rows without an answer.")
@click.option("--answered", is_flag=True, help="Only rows with an answer.")
@click.option(
    "--select", metavar="COLUMNS", help="Only these columns, by their names, with commas between."
)
@input_option
@common
@pass_console
def results(
    console: Console,
    *,
    job: str | None,
    out: str,
    format_: str | None,
    order: Any,
    failed: bool,
    answered: bool,
    select: str | None,
    input_path: str | None,
) -> None:
    """Write the results of a job: one row for each row of the input that is settled.

    Works also while the job runs. The columns are row, custom_id, those of the input, type, text,
    content, stop_reason, model, the tokens, error_type, error_message, batch_id and round.
    """
    if failed and answered:
        raise click.UsageError("--failed and --answered exclude each other: pass one of them")
    path = find_job(job)
    reader = _reader(path, input_path)
    table = reader.table(
        order=order,
        include="failed" if failed else "answered" if answered else "all",
        select=None if select is None else [each.strip() for each in select.split(",")],
    )
    output = _output(out, f"results.{format_ or 'jsonl'}")
    if output is not None and format_ is None:
        from batches_jobs._table.output import table_format

        format_ = table_format(output.given)
    _write(
        console,
        path,
        output,
        "rows",
        lambda target: reader.write_table(table, target, format_),
        is_binary=format_ == "parquet",
    )
    if not reader.status.is_finished:
        console.note("the job is not finished: these are the results so far")
        console.next(command("resume", path))


@click.command(
    epilog="""\b
Example:
  batches failed reviews/ -o mended.jsonl
  # correct the requests in mended.jsonl, then
  batches run mended.jsonl -o mended/
"""
)
@job_argument(required=False)
@output_option
@input_option
@common
@pass_console
def failed(console: Console, *, job: str | None, out: str, input_path: str | None) -> None:
    """Write the requests that failed for good, as JSONL, to mend and run again.

    Why they failed, row by row, is in 'batches results JOB --failed'.
    """
    path = find_job(job)
    reader = _reader(path, input_path)
    output = _output(out, "failed.jsonl")
    written = _write(console, path, output, "requests", reader.write_failed_requests)
    if not written.rows:
        console.note("no row has failed for good")
    if isinstance(output, FileOutput) and written.rows:
        console.next(command("run", out, "-o", f"{Path(out).stem}/"))


@click.command(
    epilog="""\b
Examples:
  batches cost reviews/
  batches cost reviews/ --json
"""
)
@job_argument(required=False)
@common
@pass_console
def cost(console: Console, *, job: str | None) -> None:
    """Show what the answers of a job cost, by model and by round.

    The tokens are those that the answers report. Prices are those of batches, in US dollars, of
    the library genai-prices. Tools such as web search are not included.
    """
    import msgspec

    from batches_jobs import PriceList, cost_of
    from batches_jobs._report.facts import gather_facts

    path = find_job(job)
    reader = _reader(path)
    facts = gather_facts(reader.records, reader.times)
    prices = PriceList()
    whole = cost_of(facts.status.usage, prices)
    by_round = {number: cost_of(usages, prices) for number, usages in facts.usage.items()}
    if console.is_json:
        value = {
            "job": os.fspath(path),
            **msgspec.to_builtins(whole),
            "by_round": {
                str(number): msgspec.to_builtins(each.total) for number, each in by_round.items()
            },
        }
        console.out_json(value)
        return
    answers = sum(usage.answers for usage in facts.status.usage)
    console.out(f"{path}: {dollars(whole.total)} for {answers:,} answers")
    for model, amount in whole.by_model.items():
        usages = [each for each in facts.status.usage if each.model == model]
        console.out(
            f"  {model}: {dollars(amount)} for {sum(each.answers for each in usages):,} answers, "
            f"{sum(each.input_tokens for each in usages):,} tokens of input, "
            f"{sum(each.output_tokens for each in usages):,} of output"
        )
    for number, each in by_round.items() if len(by_round) > 1 else ():
        console.out(f"  round {number}: {dollars(each.total)}")
    for warning in whole.warnings:
        console.warn(warning)


@click.command(
    epilog="""\b
Example:
  batches report reviews/ -o reviews.html
"""
)
@job_argument(required=False)
@click.option(
    "-o",
    "--output",
    "out",
    metavar="FILE|URL",
    help="Where to write; - is stdout. [default: report.html in the job's folder]",
)
@click.option("--no-answers", is_flag=True, help="Do not read the results, which is faster.")
@input_option
@common
@pass_console
def report(
    console: Console, *, job: str | None, out: str | None, no_answers: bool, input_path: str | None
) -> None:
    """Write a report of a job: one HTML page that needs nothing else.

    It shows the batches over time, the output tokens against max_tokens, the outcomes, the
    commonest errors, and the cost.
    """
    path = find_job(job)
    reader = _reader(path, input_path)
    output = _output(os.fspath(path / "report.html") if out is None else out, "report.html")
    if output is None:
        reader.write_report(stdout_bytes(), read_answers=not no_answers)
        return
    output.write(path, lambda target: reader.write_report(target, read_answers=not no_answers))
    if console.is_json:
        console.out_json({"job": os.fspath(path), "report": output.given})
    else:
        console.say(f"report: {output.given}")


def _reader(path: Path, input_path: str | None = None) -> JobReader:
    from batches_jobs import JobReader

    return JobReader(path, input_path=input_path)


def _output(out: str, default_name: str) -> Output | None:
    """Return where to write; None is stdout. `default_name` is for a URL that is a folder."""
    if out == "-":
        return None
    return stored_output(out, default_name) if is_url(out) else FileOutput(Path(out))


def _write(
    console: Console,
    job: Path,
    output: Output | None,
    what: str,
    write: Callable[[Any], WrittenTable],
    *,
    is_binary: bool = False,
) -> WrittenTable:
    """Write to the output, and show how many rows of what were written."""
    if output is None:
        stream = stdout_bytes()
        if is_binary and stream.isatty():
            raise CommandError(
                ExitCode.INPUT, "Parquet is not for a terminal: pass -o FILE, or pipe it"
            )
        return write(stream)
    written = output.write(job, write)
    if console.is_json:
        value = {"output": output.given, "rows": written.rows, "bytes": written.size}
        console.out_json(value)
    else:
        console.note(f"{output.given}: {written.rows:,} {what}")
    return written
