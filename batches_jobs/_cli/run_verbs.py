"""The verbs that run a job: ``run``, ``submit`` and ``resume``."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

import click

from .canary import try_first_rows, waits_for_consent
from .client import choose_emulator, destination, has_key
from .codes import ExitCode
from .console import CommandError, Console, command, stdin_bytes
from .endings import dollars
from .inputs import OpenedInput, TemplateOptions, open_input, template_options
from .options import common, job_argument, pass_console, progress_option, yes_option
from .places import Places, find_job, places_for
from .planning import InputPlan, plan_input, plan_lines, refuse_problems
from .prompts import consent
from .running import JobCommand
from .settings import EMULATOR, Settings, check_unchanged, read_settings, write_settings

Verb = TypeVar("Verb", bound=Callable[..., Any])

if TYPE_CHECKING:
    from batches_core.jobs import JobOptions

#: Above this many US dollars a job asks first.
_ASK_ABOVE = "1"
_JOB_OPTIONS = ("chunk_rows", "max_waiting", "rounds", "poll_interval", "settle_time")
#: How often a job polls the emulator, which is faster than the service, in seconds.
_EMULATOR_POLL = 0.5


def _dollars(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    del context
    if value is None:
        return None
    try:
        amount = Decimal(value.removeprefix("$"))
    except InvalidOperation:
        amount = Decimal("nan")
    if not amount.is_finite() or amount < 0:
        raise click.BadParameter(
            f"{value!r} is not an amount of US dollars, such as 12.50", param=parameter
        )
    return str(amount)


max_cost_option = click.option(
    "--max-cost",
    metavar="USD",
    callback=_dollars,
    help="Send nothing more when the job could cost more than this.",
)


def _new_job_options(*more: Any) -> Callable[[Verb], Verb]:
    """Return a decorator that adds the options of a new job, and `more` after those on costs."""
    options = (
        click.argument("input_", metavar="INPUT"),
        click.option(
            "-o",
            "--output",
            "out",
            metavar="OUT",
            help="Where the results go: a folder (out/) or a file (.jsonl, .csv, .parquet). Also "
            "a URL: s3://, gs://, az://.",
        ),
        click.option(
            "--format",
            "format_",
            type=click.Choice(["jsonl", "csv", "parquet"]),
            help="The format of the results. [default: by the suffix of OUT, or jsonl]",
        ),
        click.option(
            "--job",
            metavar="DIR",
            help="The folder of the job. [default: OUT/job, or NAME.job beside the output]",
        ),
        template_options,
        yes_option,
        click.option(
            "--ask-above",
            metavar="USD",
            default=_ASK_ABOVE,
            callback=_dollars,
            help="Ask before a job that can cost more than this. [default: 1]",
        ),
        max_cost_option,
        *more,
        click.option(
            "--map-ids",
            is_flag=True,
            help="Send ids of its own; yours may be missing, repeated or too long.",
        ),
        click.option(
            "--chunk-rows",
            type=click.IntRange(min=1, max=100_000),
            help="Rows of a batch. [default: 10000]",
        ),
        click.option(
            "--max-waiting",
            type=click.IntRange(min=1),
            help="Rows in the service's queue at most. [default: 100000]",
        ),
        click.option(
            "--rounds",
            type=click.IntRange(min=0),
            help="How often a failed row is sent again. [default: 3]",
        ),
        click.option(
            "--poll-interval",
            type=click.FloatRange(min=0.01),
            metavar="SECONDS",
            help="The time between two polls. [default: 30]",
        ),
        click.option(
            "--settle-time",
            type=click.FloatRange(min=0, min_open=True),
            metavar="SECONDS",
            help="How long a lost create is looked for. [default: 600]",
        ),
        click.option(
            "--emulator", is_flag=True, help="Use an emulator, which invents the answers."
        ),
        progress_option,
        common,
    )

    def add(function: Verb) -> Verb:
        for option in reversed(options):
            function = option(function)
        return function

    return add


@click.command(
    epilog="""\b
Where things are kept:
  -o out/            the job in out/job, the results in out/results.jsonl
  -o labels.parquet  the job in labels.job
  -o s3://bucket/x/  the job in x.job, the results in s3://bucket/x/results.jsonl
  without -o         the job in NAME.job; write the results with 'batches results'

\b
Examples:
  batches run reviews.jsonl -o reviews/
  batches run reviews.csv -o labels.parquet --model claude-haiku-4-5 \\
      --prompt 'Classify as positive or negative: {review}' --max-tokens 5 --id review_id
  batches run reviews.jsonl -o reviews/ --canary 500 --max-cost 40
  zcat reviews.jsonl.gz | batches run - -o reviews/ --yes
"""
)
@_new_job_options(
    click.option(
        "--canary",
        type=click.IntRange(min=1),
        metavar="N",
        help="Send the first N rows alone, show what came of them and what they cost, and ask "
        "before the others.",
    )
)
@pass_console
def run(console: Console, *, input_: str, canary: int | None, **options: Any) -> None:
    """Run a job to its end: check, ask, send, wait, collect, write.

    INPUT is a file of requests (JSONL), or a table (CSV, TSV, JSONL, Parquet) with --model and
    --prompt. A - is stdin. The same command resumes the job after Ctrl-C, a crash or a night.
    """
    if canary and options["emulator"]:
        # Its emulator ends with each of the two runs, and all batches with it.
        raise CommandError(
            ExitCode.INPUT,
            "--canary tries the service, and --emulator invents its answers: leave one of them "
            "out, or use the server of 'batches emulator'",
        )
    _begin(console, input_, options, until="finished", canary=canary)


@click.command(
    epilog="""\b
Example:
  batches submit reviews.jsonl -o reviews/    # exits 5 while there is more to send
  batches resume reviews/                     # waits, and writes the results
"""
)
@_new_job_options()
@pass_console
def submit(console: Console, *, input_: str, **options: Any) -> None:
    """Send what the service's queue takes, and leave.

    Exits with 0 when all rows are sent, and with 5 when the queue is full: submit again later.
    """
    _begin(console, input_, options, until="sent", canary=None)


@click.command(
    epilog="""\b
Examples:
  batches resume reviews/
  batches resume reviews.job --max-cost 80
"""
)
@job_argument(required=False)
@max_cost_option
@progress_option
@common
@pass_console
def resume(
    console: Console, *, job: str | None, max_cost: str | None, progress_every: float
) -> None:
    """Go on with a job, to its end.

    JOB is the folder of a job, or its output. By default it is the only job in this folder.
    """
    path = find_job(job)
    settings = read_settings(path)
    if settings is not None:
        here = destination(emulator=settings.destination == EMULATOR)
        _check_destination(path, settings, here)
        if max_cost is not None:
            settings = _with_max_cost(path, settings, max_cost)
    limit = max_cost or (None if settings is None else settings.max_cost)
    runner = JobCommand(console, path, settings, every=progress_every, max_cost=limit)
    _warn_of_output(runner, path)
    canary = 0 if settings is None else settings.options.get("canary_rows", 0)
    if canary and waits_for_consent(path):
        try_first_rows(
            console,
            runner,
            None,
            path,
            rows=None,
            options=None,
            max_cost=limit,
            yes=settings is not None and settings.destination == EMULATOR,
        )
    runner.finish(runner.run(None))


def _begin(
    console: Console,
    input_: str,
    options: dict[str, Any],
    *,
    until: Literal["finished", "sent"],
    canary: int | None,
) -> NoReturn:
    template = TemplateOptions.take(options)
    places = places_for(input_, options["out"], options["job"], options["format_"])
    kept = read_settings(places.job)
    is_new = not (places.job / "journal.db").exists()
    # A person who has a key wants real answers, and must not find invented ones.
    goes_on = kept is not None and kept.destination == EMULATOR and not has_key()
    emulator = options["emulator"] or goes_on
    if is_new and places.output is not None:
        places.output.check_new()
    opened: OpenedInput = open_input(input_, template, lambda suffix: _copy(places.job, suffix))
    if is_new:
        plan = _check(console, input_, opened, _job_options(options, emulator=emulator))
        # On a terminal, a person without a key can choose the emulator here.
        emulator = choose_emulator(console, emulator=options["emulator"])
    if is_new:
        canary = 0 if emulator else min(canary or 0, plan.requests)
    elif kept is not None:
        canary = kept.options.get("canary_rows", 0)
    job_options = _job_options(options, emulator=emulator, canary=canary or 0)
    settings = _settings(opened, places, job_options, options, emulator=emulator)
    if is_new:
        share = min(1.0, (canary or plan.requests) / plan.requests)
        _ask(plan, share, options, emulator=emulator)
        _make_folder(places.job)
        write_settings(places.job, settings)
    elif kept is not None:
        _check_destination(places.job, kept, settings.destination)
        check_unchanged(places.job, kept, settings)
        settings = _with_max_cost(places.job, kept, options["max_cost"])
    runner = JobCommand(
        console,
        places.job,
        settings,
        every=options["progress_every"],
        max_cost=settings.max_cost,
    )
    if not is_new:
        _warn_of_output(runner, places.job)
    requests = opened.requests
    if canary and waits_for_consent(places.job):
        try_first_rows(
            console,
            runner,
            requests,
            places.job,
            rows=plan.requests if is_new else None,
            options=job_options,
            max_cost=settings.max_cost,
            yes=options["yes"] or emulator,
        )
        requests = None  # a table is read once in a run; the journal names it
    status = runner.run(requests, options=job_options, until=until)
    if until == "sent" and not status.is_finished:
        runner.leave(status)
    runner.finish(status)


def _job_options(options: dict[str, Any], *, emulator: bool, canary: int = 0) -> JobOptions:
    from batches_core.jobs import Ids, JobOptions

    given = {name: options[name] for name in _JOB_OPTIONS if options[name] is not None}
    if emulator:
        given.setdefault("poll_interval", _EMULATOR_POLL)
    ids: Ids = "map" if options["map_ids"] else "keep"
    return JobOptions(ids=ids, canary_rows=canary, **given)


def _settings(
    opened: OpenedInput,
    places: Places,
    job_options: JobOptions,
    options: dict[str, Any],
    *,
    emulator: bool,
) -> Settings:
    import msgspec

    defaults = msgspec.to_builtins(type(job_options)())
    changed = {
        name: value
        for name, value in msgspec.to_builtins(job_options).items()
        if value != defaults[name]
    }
    return Settings(
        input=opened.path,
        format=opened.format,
        template=opened.template,
        output=None if places.output is None else places.output.text,
        output_format=None if places.output is None else places.output.format,
        options=changed,
        destination=destination(emulator=emulator),
        max_cost=options["max_cost"],
    )


def _with_max_cost(job: Path, settings: Settings, max_cost: str | None) -> Settings:
    import msgspec

    if max_cost is None or max_cost == settings.max_cost:
        return settings
    changed = msgspec.structs.replace(settings, max_cost=max_cost)
    write_settings(job, changed)
    return changed


def _check_destination(job: Path, settings: Settings, here: str) -> None:
    was = settings.destination
    if was == here:
        return
    if was == EMULATOR:
        raise CommandError(
            ExitCode.INPUT,
            f"the job in {job} was begun on the emulator, and its answers are invented: begin "
            "another job for the service with --job or another -o",
        )
    if here == EMULATOR:
        raise CommandError(
            ExitCode.INPUT,
            f"the job in {job} was begun at {was}, and --emulator would mix real answers and "
            "invented ones: leave it out, or begin another job with --job",
        )
    raise CommandError(
        ExitCode.INPUT,
        f"the job in {job} was begun at {was}, and this is {here}: set ANTHROPIC_BASE_URL to the "
        "first, or begin another job with --job",
    )


def _warn_of_output(runner: JobCommand, job: Path) -> None:
    from batches_jobs import read_status

    if (job / "journal.db").exists() and not read_status(job).is_finished:
        runner.warn_of_output()


def _check(
    console: Console, input_: str, opened: OpenedInput, job_options: JobOptions
) -> InputPlan:
    from batches_core import InvalidInputError

    try:
        plan = plan_input(opened.requests, job_options)
    except InvalidInputError as error:
        raise refuse_problems(console, input_, error) from error
    for line in plan_lines(plan):
        console.note(line)
    return plan


def _ask(plan: InputPlan, share: float, options: dict[str, Any], *, emulator: bool) -> None:
    """Ask for consent, if this share of the requests can cost more than `--ask-above`.

    Raises:
        CommandError: there is none.
    """
    limit = None if plan.cost_limit is None else plan.cost_limit * Decimal(share)
    is_cheap = limit is not None and limit <= Decimal(options["ask_above"])
    if emulator or options["yes"] or options["max_cost"] is not None or is_cheap:
        return
    cost = "an unknown amount" if limit is None else f"up to {dollars(limit)}"
    consent(
        f"This can cost {cost}. Send {round(plan.requests * share):,} requests?",
        remedy="pass --yes to agree, or --max-cost USD to set a limit",
        refused="nothing was sent",
    )


def _copy(job: Path, suffix: str) -> Path:
    """Copy stdin into the folder of the job, so that it can be resumed without stdin."""
    from batches_jobs import InputChangedError
    from batches_jobs._folder import JobFolder
    from batches_jobs._inputs.rows import copy_rows

    _make_folder(job)
    folder = JobFolder(job)
    path = folder.rows(suffix)
    if not folder.has_job:
        # The copy of a command that began no job.
        path.unlink(missing_ok=True)
    try:
        copy_rows(stdin_bytes(), path)
    except InputChangedError as error:
        raise CommandError(ExitCode.PERSON, str(error), command("status", job)) from error
    return path


def _make_folder(job: Path) -> None:
    from batches_jobs._folder import JobFolder

    job.parent.mkdir(parents=True, exist_ok=True)
    JobFolder(job).create()
