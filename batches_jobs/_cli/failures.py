"""Turns every error into an exit code and a message."""

from __future__ import annotations

import errno
import os

from .codes import ExitCode
from .console import CommandError

#: What the messages of the library call by the names of Python: the options of the command.
_OPTIONS = {
    "pass ids='map'": "pass --map-ids",
    'need ``JobOptions(ids="map")``': "need --map-ids",
    "pass if_empty='send'": "pass --send-empty",
    "or pass a list of requests that you make from the rows of csv.DictReader(file)": (
        "or run it as a table: batches run FILE --model NAME --prompt TEXT"
    ),
    "raise max_cost": "raise --max-cost",
    "without max_cost": "without --max-cost",
    "max_cost is": "--max-cost is",
    "pass format, one of csv, tsv": "pass --input-format, one of csv, tsv",
    "pass format, one of jsonl": "pass --format, one of jsonl",
    "(the id_column)": "(--id)",
    "(named in the prompt)": "(named in --prompt)",
}
#: The errors of a system that has no room left, and of a limit on the size of a file.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: Statuses of the service that mean that a person is needed, and those that pass.
_PERSON = frozenset({401, 402, 403})
_PASSING = frozenset({408, 409, 425, 429})


def in_options(message: str) -> str:
    """Return a message of the library with the options of the command in place of arguments."""
    for argument, option in _OPTIONS.items():
        message = message.replace(argument, option)
    return message


def describe(error: BaseException) -> tuple[int, str] | None:
    """Return the exit code and the message for an error; None if it is a bug."""
    if isinstance(error, CommandError):
        return error.code, str(error)
    if isinstance(error, OSError) and not isinstance(error, TimeoutError):
        return _of_system(error)
    if isinstance(error, ModuleNotFoundError) and "batches-core[" in str(error):
        return ExitCode.INPUT, str(error)
    return _of_library(error)


def _of_system(error: OSError) -> tuple[int, str]:
    name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else "the output"
    reason = error.strerror or str(error)
    if error.errno in FULL:
        return (
            ExitCode.AGAIN,
            f"{name} cannot be written ({reason}): free some space, then run the same again",
        )
    return (
        ExitCode.INPUT,
        f"{name} cannot be used ({reason}): correct that, then run the same again",
    )


def _of_library(error: BaseException) -> tuple[int, str] | None:  # noqa: PLR0911 - one case an error
    from batches_core import (
        APIStatusError,
        BatchesError,
        InvalidInputError,
        LocalProtocolError,
        OutcomeUnknownError,
        ResultsUnavailableError,
        UntrustedHostError,
    )
    from batches_jobs import (
        JobFolderError,
        JobLockedError,
        JournalError,
        ResultsFileError,
    )

    message = in_options(str(error))
    match error:
        case LocalProtocolError():
            return None
        case JobLockedError():
            return ExitCode.LOCKED, message
        case InvalidInputError() if "there is no credential" in message:
            return ExitCode.PERSON, message
        case InvalidInputError() | JobFolderError():
            return ExitCode.INPUT, message
        case JournalError() | ResultsFileError() | OutcomeUnknownError() | UntrustedHostError():
            return ExitCode.PERSON, message
        case ResultsUnavailableError():
            return ExitCode.AGAIN, message
        case APIStatusError(status=status):
            if status in _PERSON:
                return ExitCode.PERSON, message
            passes = status in _PASSING or status >= 500  # noqa: PLR2004 - server errors
            return (ExitCode.AGAIN if passes else ExitCode.INPUT), message
        case BatchesError():
            return ExitCode.AGAIN, message
        case _:
            return None
