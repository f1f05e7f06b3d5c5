"""The settings that all connections of a server share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from batches_core.emulator import Emulator


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """An emulator and how it is served; see `EmulatorServer` for the fields."""

    emulator: Emulator
    clock: Callable[[], float]
    public_url: str | None
    log: Callable[[str], object] | None
