"""The settings of a command, kept in the folder of its job, so that ``resume`` needs nothing else.

No credential is among them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from .codes import ExitCode
from .console import CommandError, command, shown_path
from .json_file import replace_file
from .outputs import Output, kept_output

#: The file in the folder of a job.
FILE = "command.json"
#: The destination of a job on the emulator inside the command.
EMULATOR = "emulator"


class Settings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a job was begun with.

    - `input`: the absolute path of the input, or that of the copy of stdin;
    - `format`: that of a table; None for requests;
    - `template`: makes requests from the rows of a table, as JSON;
    - `output`, `output_format`: where the results are written, an absolute path or a URL;
    - `options`: those of the job;
    - `destination`: the base URL, or ``emulator``;
    - `max_cost`: the limit in US dollars.
    """

    input: str
    format: str | None = None
    template: str | None = None
    output: str | None = None
    output_format: str | None = None
    options: dict[str, Any] = {}
    destination: str = ""
    max_cost: str | None = None


class Settled(NamedTuple):
    """How many rows of a job have which end. A row that was lost can be answered later."""

    answered: int
    failed: int
    lost: int


class Written(msgspec.Struct, frozen=True):
    """The output that was written last, its version, and the rows that were settled."""

    output: str
    version: str
    settled: Settled


_WRITTEN = "written.json"
#: The options that are not called as their parameters.
_OPTIONS = {"id_column": "--id", "if_empty": "--send-empty", "ids": "--map-ids"}
#: How much of a value an error shows, in characters.
_SHOWN = 80


def read_settings(job: Path) -> Settings | None:
    """Return the settings of a job; None if no command of this program has begun it.

    Raises:
        CommandError: the file cannot be understood.
    """
    try:
        return msgspec.json.decode((job / FILE).read_bytes(), type=Settings)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CommandError(
            ExitCode.INPUT, f"{job / FILE} cannot be read ({error}): put it back, or remove it"
        ) from error


def write_settings(job: Path, settings: Settings) -> None:
    """Keep the settings of a job, durably."""
    replace_file(job / FILE, settings)


def output_of(settings: Settings | None) -> Output | None:
    """Return where the results of a job are written; None if nowhere."""
    if settings is None or settings.output is None:
        return None
    return kept_output(settings.output, settings.output_format)


def check_unchanged(job: Path, kept: Settings, given: Settings) -> None:
    """Check that a job is run again as it was begun. Only `max_cost` can change.

    Raises:
        CommandError: a setting differs.
    """
    was, now = _values(kept), _values(given)
    for name in [*was, *(name for name in now if name not in was)]:
        if was.get(name) != now.get(name):
            raise CommandError(
                ExitCode.INPUT,
                f"the job in {job} was begun {_shown(name, was.get(name))}, and this command is "
                f"{_shown(name, now.get(name))}: resume the job as it was, or begin another one "
                "with --job",
                command("resume", job),
            )


def is_written(job: Path, output: Output, settled: Settled) -> bool:
    """Whether the output was written from rows with these ends, and has not changed since."""
    try:
        written = msgspec.json.decode((job / _WRITTEN).read_bytes(), type=Written)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return False
    is_same = (written.output, written.settled) == (output.text, settled)
    return is_same and written.version == output.version()


def remember_written(job: Path, output: Output, settled: Settled) -> None:
    """Remember that the output was written."""
    version = output.version()
    if version is not None:
        replace_file(job / _WRITTEN, Written(output.text, version, settled))


def _values(settings: Settings) -> dict[str, object]:
    """Return each setting by its name on the command line. Those without a value are left out."""
    template: dict[str, object] = {}
    if settings.template is not None:
        template = msgspec.json.decode(settings.template)
    output = output_of(settings)
    values = {
        "the input": shown_path(settings.input),
        "--input-format": settings.format,
        "-o": None if output is None else output.shown,
        "--format": settings.output_format,
        **{_OPTIONS.get(name) or option(name): value for name, value in template.items()},
        **{_OPTIONS.get(name) or option(name): value for name, value in settings.options.items()},
    }
    return {name: value for name, value in values.items() if value is not None}


def option(name: str) -> str:
    """Return the option for a parameter."""
    return f"--{name.replace('_', '-')}"


def _shown(name: str, value: object) -> str:
    if value is None:
        return f"without {name}"
    text = str(value)
    text = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return f"with {name} {text!r}" if isinstance(value, str) else f"with {name} {text}"
