"""The entry point of ``batches``: its verbs, and how each of them ends.

A verb's module is imported when the verb is called, so that ``batches --help`` is fast.
"""

from __future__ import annotations

import atexit
import difflib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

import click

from .codes import ExitCode
from .console import Console
from .failures import describe


class _PipeClosedError(Exception):
    """The reader of the output has gone."""


class _Verb(NamedTuple):
    """Where a verb is: its module, its name there, and its help in a few words."""

    module: str
    name: str
    help: str


_GROUPS: dict[str, dict[str, _Verb]] = {
    "Jobs": {
        "plan": _Verb("plan_verb", "plan", "Check an input and estimate its cost. No network."),
        "run": _Verb("run_verbs", "run", "Run a job to its end. The same again resumes it."),
        "submit": _Verb("run_verbs", "submit", "Send what the queue takes, and leave."),
        "resume": _Verb("run_verbs", "resume", "Go on with a job."),
        "status": _Verb("look_verbs", "status", "Show how far a job is. No network."),
        "watch": _Verb("look_verbs", "watch", "Follow a job that another process runs."),
        "cancel": _Verb("decide_verbs", "cancel", "Cancel a job, and collect what was answered."),
        "settle": _Verb("decide_verbs", "settle", "Show and decide what needs a person."),
    },
    "Results": {
        "results": _Verb("read_verbs", "results", "Write the results as JSONL, CSV or Parquet."),
        "failed": _Verb("read_verbs", "failed", "Write the failed requests, to mend and run."),
        "cost": _Verb("read_verbs", "cost", "Show what the answers cost."),
        "report": _Verb("read_verbs", "report", "Write a report as one HTML page."),
        "verify": _Verb("look_verbs", "verify", "Count all results again."),
    },
    "More": {
        "remote": _Verb("remote_verbs", "remote", "Handle single batches, without a job."),
        "temporal": _Verb("temporal_verbs", "temporal", "Run jobs on Temporal, on any machines."),
        "emulator": _Verb("other_verbs", "emulator", "Serve an emulator of the service."),
        "completion": _Verb("other_verbs", "completion", "Print the completion of a shell."),
    },
}
_VERBS = {name: verb for verbs in _GROUPS.values() for name, verb in verbs.items()}
_ISSUES = "please report it, with the output of the same command with --debug"

_EPILOG = """\b
Examples:
  batches plan reviews.jsonl
  batches run reviews.jsonl -o reviews/
  batches run reviews.csv -o labels.parquet --model claude-haiku-4-5 \\
      --prompt 'Classify as positive or negative: {review}' --max-tokens 5
  batches status reviews/

\b
Exit codes:
  0  every row was answered          4  a person is needed
  1  a bug of this program           5  not done yet: run the same again
  2  bad input, nothing was sent    11  another process runs the job
  3  done, but some rows failed    130, 143  interrupted, and safe
"""


class _Verbs(click.Group):
    """The verbs, by their groups."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return [*_VERBS]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # `click` would exit with 1, which is the code of a bug.
            raise _PipeClosedError from error

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        verb = _VERBS.get(cmd_name)
        if verb is None:
            return None
        module = import_module(f".{verb.module}", __package__)
        command: click.Command = getattr(module, verb.name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if args and args[0] == "help":
                raise click.UsageError("There is no command 'help': type --help.", ctx) from error
            close = difflib.get_close_matches(args[0], _VERBS, n=1) if args else []
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"There is no command {args[0]!r}.{hint}", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        for group, verbs in _GROUPS.items():
            with formatter.section(group):
                formatter.write_dl(
                    [(f"{name:<10}", verb.help) for name, verb in verbs.items()], col_max=12
                )


@click.command(
    cls=_Verbs,
    name="batches",
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=False,
    invoke_without_command=True,
)
@click.version_option(package_name="batches-core", message="batches %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Run any number of requests through the Message Batches API of Claude.

    A job is split into batches, kept in a folder, and resumed by the same command. Each row is
    answered once and paid for once, whatever happens to the process or the network.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its code."""
    code = run(arguments)
    _close_output()
    if "temporalio" in sys.modules:
        # A thread of its library can crash Python's own end, and with it the exit code: see issue
        # 300 of temporalio/sdk-python.
        atexit._run_exitfuncs()  # noqa: SLF001 - there is no public name for it
        os._exit(code)
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    console = Console()
    given = sys.argv[1:] if arguments is None else [*arguments]
    try:
        value = cli.main(given, prog_name="batches", standalone_mode=False, obj=console)
        code = value if isinstance(value, int) else ExitCode.OK
        if sys.stdout is not None:
            sys.stdout.flush()
    except SystemExit as ended:
        return _flushed(console, int(ended.code or 0))
    except click.ClickException as error:
        error.show()
        return ExitCode.INPUT
    except (click.Abort, KeyboardInterrupt):
        console.say("interrupted")
        return ExitCode.INTERRUPTED
    except BaseException as error:  # noqa: BLE001 - each error has an exit code
        return _fail(console, error)
    return code


def _flushed(console: Console, code: int) -> int:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        return _fail(console, error)
    return code


def _fail(console: Console, error: BaseException) -> int:
    if isinstance(error, (_PipeClosedError, BrokenPipeError)):
        return ExitCode.PIPE_CLOSED
    if console.is_debug:
        console.say("".join(traceback.format_exception(error)).rstrip())
    described = describe(error)
    if described is None:
        console.error(f"a bug in batches: {type(error).__name__}: {error}\n{_ISSUES}")
        return ExitCode.BUG
    code, message = described
    console.error(message)
    console.next(getattr(error, "next_command", None))
    return code


def _close_output() -> None:
    """Flush the output now, so that Python does not complain at its end about a closed pipe."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
