"""Runs one contender in this process and prints its sample as one line of JSON.

    python -m benchmarks.child FUNCTION TASK CHECKOUT

FUNCTION is ``module:function``, TASK is a `Task` as JSON, and CHECKOUT is the absolute path of the
folder from which the package is imported. If the contender cannot run there, the line is a JSON
string with the reason.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import msgspec

from .task import NotThereError, Sample, Task

_PACKAGES = ("batches_core", "batches_jobs", "transports")


def main(function: str, task: str, checkout: str) -> None:
    """Run a contender with the package of a checkout."""
    # `benchmarks` is imported already, so contenders still come from the checkout that runs this.
    sys.path.insert(0, checkout)
    # Processes that a contender starts with `python -c` import from the current folder.
    os.chdir(checkout)
    module, _, name = function.partition(":")
    result: Sample | str
    try:
        contender = getattr(importlib.import_module(module), name)
        result = contender(msgspec.json.decode(task, type=Task))
    except NotThereError as error:
        result = str(error)
    _check_origin(Path(checkout))
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")


def _check_origin(checkout: Path) -> None:
    """Raise RuntimeError if the package was imported from elsewhere, such as an installed copy."""
    for name in _PACKAGES:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None and not Path(file).is_relative_to(checkout):
            raise RuntimeError(
                f"{name} was imported from {file} instead of {checkout}. Look for a .pth file or a "
                "sitecustomize module that imports it when Python starts"
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
