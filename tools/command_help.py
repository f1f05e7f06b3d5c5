"""A hook of mkdocs: puts the help of each command of ``batches`` into the page that asks for it.

The help comes from the commands themselves, so the page cannot name an option that does not exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import click

#: The line of a page that is replaced.
MARKER = "{{ help of all commands }}"
_WIDTH = 90


def on_page_markdown(markdown: str, **_: object) -> str:
    """Return the text of a page, with the help of all commands if it asks for it."""
    return markdown.replace(MARKER, all_help()) if MARKER in markdown else markdown


def all_help() -> str:
    """Return the help of all commands as Markdown, each with a heading."""
    cli: click.Group = import_module("batches_jobs._cli.main").cli
    return "\n".join(_help_of(cli, _context(cli, "batches", None)))


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    return click.Context(command, info_name=name, parent=parent, **command.context_settings)


def _help_of(command: click.Command, context: click.Context) -> Iterator[str]:
    context.terminal_width = context.max_content_width = _WIDTH
    yield f"### {context.command_path}\n\n```text\n{command.get_help(context).strip()}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            verb = command.get_command(context, name)
            assert verb is not None, "the group has listed it"  # noqa: S101
            yield from _help_of(verb, _context(verb, name, context))
