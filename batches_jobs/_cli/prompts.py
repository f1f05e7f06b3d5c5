"""Asks a person, only on a terminal. Each question has an option that answers it."""

from __future__ import annotations

import click

from .codes import ExitCode
from .console import CommandError, is_interactive


def confirm(question: str) -> bool:
    """Ask a question whose default answer is no."""
    return click.confirm(question, default=False, err=True)


def consent(question: str, *, remedy: str, refused: str) -> None:
    """Ask a question. `remedy` says how to answer it without a terminal.

    Raises:
        CommandError: the answer is no, or nobody can be asked.
    """
    if not is_interactive():
        raise CommandError(ExitCode.PERSON, f"{question} Nobody can be asked here: {remedy}")
    if not confirm(question):
        raise CommandError(ExitCode.PERSON, refused)
