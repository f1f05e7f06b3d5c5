"""A simulated client: its API object, its network, its settings, and how it runs an operation."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from batches_core import (
    BatchesAPI,
    CreateLedger,
    CreateMarker,
    CreateOperation,
    Operation,
    RetryPolicy,
)
from batches_core.operations.ledger import PendingCreate

from .driver import Driver
from .network import Network
from .record import OperationRecord
from .world import World


class RecordingLedger(CreateLedger):
    """A ledger that records which creates had a rival: a pending one with as many requests."""

    def __init__(self, first_serial: int) -> None:
        super().__init__(first_serial)
        self.contested_serials: set[int] = set()

    def rivals(self, marker: CreateMarker) -> list[PendingCreate]:
        rivals = super().rivals(marker)
        if any(rival.requests == marker.requests for rival in rivals):
            self.contested_serials.add(marker.serial)
        return rivals


@dataclass(slots=True)
class Client:
    """One client process. After its death it is restarted with the same settings.

    `skew` is added to its clock, in seconds. `max_line` is the limit of `api`, in bytes.
    """

    world: World
    network: Network
    api: BatchesAPI
    policy: RetryPolicy
    skew: float
    max_line: int
    #: The seconds that the service needs for a request.
    seconds_per_request: float
    #: What the service does to results; see `plan`.
    corrupts_lines: bool = False
    sends_unknown_types: bool = False
    archives_results: bool = False
    #: Whether every `results_url` points to a host that is not trusted.
    results_at_untrusted_host: bool = False

    def run(
        self,
        name: str,
        label: str,
        operation: Operation[Any],
        *,
        undisturbed: bool = False,
        dies_after: int | None = None,
        max_outage: float = float("inf"),
        interrupts_after: int | None = None,
    ) -> Generator[float, None, OperationRecord]:
        """Run an operation to its end; return its record."""
        record = OperationRecord(self.world, name, label, self.policy)
        record.undisturbed = undisturbed
        record.dies_after = dies_after
        record.interrupts_after = interrupts_after
        record.max_outage = max_outage
        yield from Driver(self.world, self.network, operation, record, self.skew).run()
        return record

    def run_create(
        self, label: str, operation: CreateOperation, **options: Any
    ) -> Generator[float, None, OperationRecord]:
        """Run a create; its process may die, and its caller may interrupt it."""
        # If the process dies in another task meanwhile, this task keeps its ledger.
        ledger = self.ledger
        record = yield from self.run("create", label, operation, **options)
        record.is_contested = operation._pending.serial in ledger.contested_serials
        record.unfinished = ledger.unfinished()
        if not record.ended and record.interruption is None:
            self.restart()
        return record

    @property
    def ledger(self) -> RecordingLedger:
        ledger = self.api.ledger
        assert isinstance(ledger, RecordingLedger)
        return ledger

    def restart(self) -> None:
        """Continue as a new process, whose ledger is empty."""
        self.api.ledger = RecordingLedger(self.world.rng.getrandbits(32))
