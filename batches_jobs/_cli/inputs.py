"""Opens the input of a command: requests, or the rows of a table with a template."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from .codes import ExitCode
from .console import CommandError

F = TypeVar("F", bound=Callable[..., Any])

_TABLES = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".parquet": "parquet", ".pq": "parquet"}
_TEMPLATE_OPTIONS = ("model", "system", "max_tokens", "id_column", "params", "send_empty")


class TemplateOptions(NamedTuple):
    """The options that make requests from the rows of a table, as they were typed."""

    model: str | None
    prompt: str | None
    system: str | None
    max_tokens: int | None
    id_column: str | None
    params: str | None
    send_empty: bool
    input_format: str | None

    @classmethod
    def take(cls, options: dict[str, Any]) -> TemplateOptions:
        """Take these options out of those of a verb."""
        return cls(**{name: options.pop(name) for name in cls._fields})


def template_options(function: F) -> F:
    """Add the options that make requests from the rows of a table."""
    for option in reversed(
        (
            click.option("--model", metavar="NAME", help="The model of every request."),
            click.option(
                "--prompt",
                metavar="TEXT",
                help="The prompt; {review} is the row's value in the column review. @FILE reads it "
                "from a file.",
            ),
            click.option(
                "--system", metavar="TEXT", help="The system prompt. @FILE reads it from a file."
            ),
            click.option(
                "--max-tokens",
                type=click.IntRange(min=1),
                metavar="N",
                help="The limit of each answer. [default: 1024]",
            ),
            click.option(
                "--id",
                "id_column",
                metavar="COLUMN",
                help="The column that is the custom_id. [default: the number of the row]",
            ),
            click.option(
                "--params",
                metavar="JSON",
                help="Other parameters of every request, such as '{\"temperature\": 0}'.",
            ),
            click.option("--send-empty", is_flag=True, help="Send rows whose prompt has no data."),
            click.option(
                "--input-format",
                type=click.Choice(["csv", "tsv", "jsonl", "parquet"]),
                help="The format of a table. [default: by its suffix]",
            ),
        )
    ):
        function = option(function)
    return function


class OpenedInput(NamedTuple):
    """An input: what `run_job` takes, its absolute path, and the settings that name it."""

    requests: Any
    path: str
    format: str | None
    template: str | None


def open_input(given: str, options: TemplateOptions, copy_stdin: Callable[[str], Path]) -> Any:
    """Return an `OpenedInput`. `copy_stdin` copies stdin to a file with this suffix.

    Raises:
        CommandError, InvalidInputError: the input or its options are invalid.
    """
    if given == "-":
        return _open(_copy(options, copy_stdin), options, is_stdin=True)
    path = Path(given)
    if not path.exists():
        raise CommandError(ExitCode.INPUT, f"{given} does not exist: pass the path of an input")
    if path.is_dir():
        raise CommandError(ExitCode.INPUT, f"{given} is a folder: pass a file")
    return _open(path, options, is_stdin=False)


def template_text(options: TemplateOptions) -> str | None:
    """Return the template of the options as JSON; None if they are requests.

    Raises:
        CommandError, InvalidInputError: the options are invalid.
    """
    if options.prompt is None:
        for name in _TEMPLATE_OPTIONS:
            if getattr(options, name):
                shown = "--id" if name == "id_column" else f"--{name.replace('_', '-')}"
                raise CommandError(
                    ExitCode.INPUT,
                    f"{shown} is for the rows of a table: pass --prompt too, or leave it out for "
                    "requests",
                )
        return None
    if options.model is None:
        raise CommandError(ExitCode.INPUT, "--prompt needs --model: pass the name of a model")
    from batches_jobs import Template

    return Template(
        model=options.model,
        prompt=_text("--prompt", options.prompt),
        max_tokens=1024 if options.max_tokens is None else options.max_tokens,
        system=None if options.system is None else _text("--system", options.system),
        id_column=options.id_column,
        params=_params(options.params),
        if_empty="send" if options.send_empty else "error",
    ).encode()


def _open(path: Path, options: TemplateOptions, *, is_stdin: bool) -> OpenedInput:
    where = os.path.abspath(path)  # noqa: PTH100 - links stay
    template = template_text(options)
    if template is None:
        suffix = _TABLES.get(path.suffix.lower())
        if suffix is not None or options.input_format not in {None, "jsonl"}:
            raise _needs_prompt(path, suffix or options.input_format or "csv")
        return OpenedInput(os.fspath(path), where, None, None)
    from batches_jobs import Template, open_rows

    format_: Any = options.input_format
    table = open_rows(path, Template.decode(template), format=format_)
    return OpenedInput(table, where, format_ if is_stdin else options.input_format, template)


def _copy(options: TemplateOptions, copy_stdin: Callable[[str], Path]) -> Path:
    if sys.stdin is None or sys.stdin.isatty():
        raise CommandError(
            ExitCode.INPUT, "stdin is a terminal: pipe the input into the command, or pass a file"
        )
    if options.prompt is not None and options.input_format is None:
        raise CommandError(
            ExitCode.INPUT, "rows from stdin have no suffix: pass --input-format csv or another"
        )
    return copy_stdin(options.input_format or "jsonl")


def _needs_prompt(path: Path, format_: str) -> CommandError:
    columns = _columns(path, format_)
    example = columns[-1] if columns else "COLUMN"
    there = f"; its columns are {', '.join(columns)}" if columns else ""
    return CommandError(
        ExitCode.INPUT,
        f"{path} is a table: pass --model and --prompt, such as --prompt 'Classify: "
        f"{{{example}}}'{there}",
    )


def _columns(path: Path, format_: str) -> list[str]:
    from batches_core import InvalidInputError
    from batches_jobs._inputs.csv_rows import CSVRows

    if format_ not in {"csv", "tsv"}:
        return []
    try:
        return [*CSVRows(path, delimiter="\t" if format_ == "tsv" else ",").columns()][:20]
    except InvalidInputError:
        return []


def _text(option: str, value: str) -> str:
    if not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CommandError(
            ExitCode.INPUT, f"{option} {value}: the file cannot be read ({reason})"
        ) from error


def _params(text: str | None) -> dict[str, Any]:
    import json

    if text is None:
        return {}
    try:
        value = json.loads(_text("--params", text))
    except ValueError as error:
        raise CommandError(ExitCode.INPUT, f"--params is not JSON ({error})") from error
    if not isinstance(value, Mapping):
        raise CommandError(ExitCode.INPUT, "--params is not a JSON object: pass '{…}'")
    return {**value}
