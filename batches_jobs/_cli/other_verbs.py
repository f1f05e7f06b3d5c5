"""The verbs ``emulator`` and ``completion``."""

from __future__ import annotations

from typing import Any

import click

from .console import Console
from .options import pass_console

_SHARE = click.FloatRange(0, 1)
_COUNT = click.IntRange(min=1)
#: The options of the emulator's own command that are passed on, their types, and their help.
_SETTINGS: tuple[tuple[str, str, Any, str], ...] = (
    ("--host", "ADDRESS", str, "The address to listen on. [default: 127.0.0.1]"),
    ("--port", "N", click.IntRange(0, 65535), "The port to listen on. [default: 0, any free one]"),
    (
        "--speed",
        "FACTOR",
        click.FloatRange(min=0, min_open=True),
        "Process batches this many times faster. [default: 1]",
    ),
    ("--errored", "SHARE", _SHARE, "The share of requests that end as errored."),
    ("--queue-limit", "N", _COUNT, "Refuse a batch if more than N requests would wait."),
    ("--requests-per-minute", "N", _COUNT, "Refuse HTTP requests beyond N per minute."),
    ("--fault-seed", "N", int, "Inject temporary faults; N decides into which requests."),
    ("--fault-rate", "SHARE", _SHARE, "The share of requests with such a fault. [default: 0.1]"),
    ("--public-url", "URL", str, "The origin that clients use, if a proxy is in front."),
)


def _check_faults(
    _context: click.Context, _parameter: click.Parameter, faults: tuple[str, ...]
) -> tuple[str, ...]:
    from batches_core.emulator import FaultPlan

    try:
        FaultPlan(*faults)
    except ValueError as error:
        raise click.BadParameter(f"{error}") from error
    return faults


@click.command(
    epilog="""\b
Example, in two terminals:
  batches emulator --port 8000 --speed 100
  ANTHROPIC_BASE_URL=http://127.0.0.1:8000 ANTHROPIC_API_KEY=any batches run in.jsonl -o out/
"""
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    callback=_check_faults,
    metavar="RULE",
    help="Inject a fault, such as create:status=503,times=2. Can be repeated.",
)
@click.option("--verbose", is_flag=True, help="Write a line to stderr for each request.")
@pass_console
def emulator(
    console: Console, *, faults: tuple[str, ...], verbose: bool, **settings: object
) -> None:
    """Serve an emulator of the service until Ctrl-C. It invents all answers.

    The first line of stdout is its base URL. All batches are in memory, and are gone at its end.
    """
    from transports.emulator import main

    del console
    arguments = [word for fault in faults for word in ("--fault", fault)]
    for name, value in settings.items():
        if value is not None:
            arguments += [f"--{name.replace('_', '-')}", str(value)]
    raise SystemExit(main([*arguments, *(["--verbose"] if verbose else [])]))


for _name, _metavar, _type, _help in _SETTINGS:
    emulator = click.option(_name, metavar=_metavar, type=_type, help=_help)(emulator)


@click.command(
    epilog="""\b
Examples:
  batches completion bash > ~/.local/share/bash-completion/completions/batches
  batches completion zsh > "${fpath[1]}/_batches"
  batches completion fish > ~/.config/fish/completions/batches.fish
"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@pass_console
def completion(console: Console, *, shell: str) -> None:
    """Print the completion of a shell, to be saved where the shell looks for it."""
    from click.shell_completion import get_completion_class

    from .main import cli

    found = get_completion_class(shell)
    assert found is not None, "click knows these shells"  # noqa: S101
    console.out(found(cli, {}, "batches", "_BATCHES_COMPLETE").source())
