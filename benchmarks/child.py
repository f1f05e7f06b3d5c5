"""Runs one contender in this process and prints its outcome as one line of JSON.

python -m benchmarks.child benchmarks.contenders.core:decode '{"parameters": {…}}'
"""

from __future__ import annotations

import importlib
import sys

import msgspec

from .meter import NotThere, Outcome, Task


def main(where: str, task: str) -> None:
    """Run the contender that is named ``module:function``."""
    module, _, function = where.partition(":")
    answer: Outcome | str
    try:
        contender = getattr(importlib.import_module(module), function)
        answer = contender(msgspec.json.decode(task, type=Task))
    except NotThere as reason:
        answer = str(reason)
    sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
