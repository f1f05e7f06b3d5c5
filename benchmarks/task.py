"""The values passed to and from a contender: its `Task`, and the `Sample` that it returns."""

from __future__ import annotations

from typing import Any

import msgspec


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """The work of one run of a contender.

    `parameters` are those of the case and of the contender, such as file paths and the server's
    base URL. With `verify` the contender also inspects what it produced, so that the digests of all
    contenders can be compared. A verification run is not timed.
    """

    parameters: dict[str, Any]
    verify: bool = False

    def text(self, name: str) -> str:
        """Return a parameter as a str."""
        return str(self.parameters[name])

    def number(self, name: str) -> int:
        """Return a parameter as an int."""
        return int(self.parameters[name])

    def seconds(self, name: str) -> float:
        """Return a parameter that is a time, in seconds."""
        return float(self.parameters[name])


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """The measurements of one run of a contender.

    `seconds` is elapsed time and `cpu` is CPU time in seconds. `peak` is how far memory rose above
    its level before the work, `process_peak` is the peak of the whole process, and `size` is the
    amount of data processed, all in bytes. Zero means that a figure was not measured. `digest`
    describes what was produced and must be equal for all contenders of a case. `metrics` holds any
    further figures, by name.
    """

    seconds: float
    cpu: float
    peak: int
    process_peak: int
    size: int
    digest: dict[str, Any]
    metrics: dict[str, float] = {}


class NotThereError(Exception):
    """The checkout under test does not have the feature that a contender uses."""
