"""The verbs ``emulator`` and ``completion``."""

from __future__ import annotations

import click

from .console import Console
from .options import pass_console

#: The options of the emulator's own command that are passed on, and their help.
_SETTINGS = (
    ("--host", "ADDRESS", "The address to listen on. [default: 127.0.0.1]"),
    ("--port", "N", "The port to listen on. [default: 0, any free one]"),
    ("--speed", "FACTOR", "Process batches this many times faster. [default: 1]"),
    ("--errored", "SHARE", "The share of requests that end as errored, from 0 to 1."),
    ("--queue-limit", "N", "Refuse a batch if more than N requests would wait."),
    ("--requests-per-minute", "N", "Refuse HTTP requests beyond N per minute."),
    ("--fault-seed", "N", "Inject temporary faults; this number decides into which requests."),
    ("--fault-rate", "SHARE", "The share of requests with such a fault. [default: 0.1]"),
    ("--public-url", "URL", "The origin that clients use, if a proxy is in front."),
)


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
    metavar="RULE",
    help="Inject a fault, such as create:status=503,times=2. Can be repeated.",
)
@click.option("--verbose", is_flag=True, help="Write a line to stderr for each request.")
@pass_console
def emulator(
    console: Console, *, faults: tuple[str, ...], verbose: bool, **settings: str | None
) -> None:
    """Serve an emulator of the service until Ctrl-C. It invents all answers.

    The first line of stdout is its base URL. All batches are in memory, and are gone at its end.
    """
    from transports.emulator import main  # noqa: PLC0415 - `batches --help` must be fast

    del console
    arguments = [word for fault in faults for word in ("--fault", fault)]
    for name, value in settings.items():
        if value is not None:
            arguments += [f"--{name.replace('_', '-')}", value]
    raise SystemExit(main([*arguments, *(["--verbose"] if verbose else [])]))


for _name, _metavar, _help in _SETTINGS:
    emulator = click.option(_name, metavar=_metavar, help=_help)(emulator)


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
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - rarely needed

    from .main import cli  # noqa: PLC0415 - it imports the verbs by name

    found = get_completion_class(shell)
    assert found is not None, "click knows these shells"  # noqa: S101
    console.out(found(cli, {}, "batches", "_BATCHES_COMPLETE").source())
