"""Opens the client of a command: of the service, or of the emulator inside the command."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .codes import ExitCode
from .console import CommandError, Console, is_interactive
from .endings import INVENTED
from .prompts import confirm
from .settings import EMULATOR

if TYPE_CHECKING:
    from transports.h11 import BatchesClient

#: How much faster than the service the emulator is.
_SPEED = 200.0
_KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")


def has_key() -> bool:
    """Whether the environment has a credential."""
    return any(os.environ.get(name) for name in _KEYS)


def destination(*, emulator: bool) -> str:
    """Return where requests go: ``emulator``, or the base URL."""
    if emulator:
        return EMULATOR
    from batches_core import BASE_URL

    return (os.environ.get("ANTHROPIC_BASE_URL") or BASE_URL).rstrip("/")


def choose_emulator(console: Console, *, emulator: bool) -> bool:
    """Return whether to use the emulator. Without a key, offer it on a terminal.

    Raises:
        CommandError: there is no key.
    """
    if emulator or has_key():
        return emulator
    missing = "there is no API key: set ANTHROPIC_API_KEY, or try it with --emulator"
    if is_interactive():
        console.say("There is no API key: ANTHROPIC_API_KEY is not set.")
        if confirm("Try it on the emulator, which invents the answers and costs nothing?"):
            return True
    raise CommandError(ExitCode.PERSON, missing, "export ANTHROPIC_API_KEY=…")


@contextlib.contextmanager
def open_client(console: Console, *, emulator: bool = False) -> Iterator[BatchesClient]:
    """Open a client. Inside the `with` statement the emulator runs, if it is used.

    Raises:
        CommandError: there is no key.
    """
    from transports.h11 import BatchesClient

    if not emulator:
        if not has_key():
            raise CommandError(
                ExitCode.PERSON,
                "there is no API key: set ANTHROPIC_API_KEY",
                "export ANTHROPIC_API_KEY=…",
            )
        with BatchesClient.from_env() as client:
            yield client
        return
    from batches_core.emulator import Emulator
    from transports.emulator import running_emulator

    console.note(f"emulator: {INVENTED}")
    with (
        running_emulator(Emulator(speed=_SPEED)) as base_url,
        BatchesClient(base_url=base_url, api_key="emulator") as client,
    ):
        yield client
