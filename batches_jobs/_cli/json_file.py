"""Replaces small JSON files in the folder of a job."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec


def replace_file(path: Path, value: Any) -> None:
    """Write a value to a file as JSON, durably."""
    draft = path.with_name(path.name + ".new")
    with draft.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(value)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
