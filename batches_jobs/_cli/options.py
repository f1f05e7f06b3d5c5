"""The options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from .console import Console

F = TypeVar("F", bound=Callable[..., Any])

_pass_console = click.make_pass_decorator(Console, ensure=True)


def pass_console(function: Callable[..., Any]) -> Callable[..., Any]:
    """Pass the `Console` of the command to a verb, as its first argument."""
    return _pass_console(function)


def _flag(name: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def remember(context: click.Context, parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - as click calls it
        del parameter
        if value:
            setattr(context.ensure_object(Console), name, True)

    return remember


def common(function: F) -> F:
    """Add the options that every verb has."""
    for names, attribute, words in (
        (("--debug",), "is_debug", "Show the traceback of an error."),
        (("-q", "--quiet"), "is_quiet", "Write no progress and no notes."),
        (("--json", "as_json"), "is_json", "Write JSON to stdout."),
    ):
        function = click.option(
            *names,
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_flag(attribute),
            help=words,
        )(function)
    return function


def job_argument(*, required: bool = True) -> Callable[[F], F]:
    """Add the argument JOB."""
    return click.argument("job", type=click.Path(), required=required)


progress_option = click.option(
    "--progress-every",
    type=click.FloatRange(min=0.01),
    default=60.0,
    metavar="SECONDS",
    help="Where there is no terminal, write a line of progress this often. [default: 60]",
)
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
