"""The workflow of an account: it grants rows in flight to jobs, which share one queue.

A service lets an account have so many requests waiting, in all batches together. A job asks before
it creates a batch, and releases the rows when the batch has ended. Asks are granted in their order,
so that no job starves. A job that was terminated releases nothing: while others wait, the account
asks those that hold rows whether they still run.
"""

from __future__ import annotations

from typing import Any

from temporalio import workflow
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    import msgspec

    from .messages import AccountStart, AccountStatus, Ask
    from .payloads import pack, unpack
    from .waiting import wait_for


@workflow.defn(name="BatchesAccount")
class BatchesAccount:
    """Grants rows in flight, in the order in which jobs asked for them."""

    @workflow.init
    def __init__(self, packed: Any) -> None:
        start: AccountStart = unpack(packed, AccountStart)
        self._start = start
        self._rows = self._start.rows
        self._granted = {(each.workflow_id, each.key): each for each in self._start.granted}
        self._asked = {(each.workflow_id, each.key): each for each in self._start.asked}
        #: The jobs to which a grant is to be reported.
        self._to_report: list[Ask] = []
        self._is_woken = True

    @workflow.run
    async def run(self, packed: Any) -> None:
        """Grant rows for ever; `continue_as_new` keeps the history short."""
        del packed  # `__init__` has it
        while True:
            self._grant()
            while self._to_report:
                await self._report(self._to_report.pop(0))
            # All grants are reported: nothing is forgotten.
            if self._is_long():
                break
            await self._wait()
        workflow.continue_as_new(pack(self._next_start()))

    # --- what jobs and people say ------------------------------------------------------------

    @workflow.signal(name="ask")
    def ask(self, packed: Any) -> None:
        """Ask for rows. A repeated ask is answered again."""
        ask = unpack(packed, Ask)
        identity = ask.workflow_id, ask.key
        if identity in self._granted:
            self._to_report.append(ask)
        else:
            self._asked.setdefault(identity, ask)
        self._is_woken = True

    @workflow.signal(name="release")
    def release(self, packed: Any) -> None:
        """Release rows, or take an ask back."""
        ask = unpack(packed, Ask)
        self._granted.pop((ask.workflow_id, ask.key), None)
        self._asked.pop((ask.workflow_id, ask.key), None)
        self._is_woken = True

    @workflow.signal(name="set_rows")
    def set_rows(self, rows: int) -> None:
        """Change how many rows may be in flight."""
        self._rows = rows
        self._is_woken = True

    @workflow.query(name="status")
    def status(self) -> Any:
        """Return the `AccountStatus`."""
        return pack(
            AccountStatus(
                rows=self._rows,
                granted=_by_job(self._granted),
                asked=_by_job(self._asked),
            )
        )

    # --- for the loop ------------------------------------------------------------------------

    def _grant(self) -> None:
        in_flight = sum(each.rows for each in self._granted.values())
        for identity, ask in [*self._asked.items()]:
            # An ask for more than all rows is granted alone.
            if in_flight and in_flight + ask.rows > self._rows:
                return
            in_flight += ask.rows
            self._granted[identity] = self._asked.pop(identity)
            self._to_report.append(ask)

    async def _report(self, ask: Ask) -> None:
        if not await self._is_told(ask.workflow_id, "granted", ask.key):
            self._forget(ask.workflow_id)

    async def _wait(self) -> None:
        """Wait for a signal. While jobs wait for others, look whether those still run."""
        lease = self._start.lease if self._asked else None
        if not await wait_for(lambda: self._is_woken, lease):
            for workflow_id in dict.fromkeys(each for each, _ in self._granted):
                if not await self._is_told(workflow_id, "still_running", ""):
                    self._forget(workflow_id)
        self._is_woken = False

    async def _is_told(self, workflow_id: str, signal: str, key: str) -> bool:
        """Signal a job, and return whether it runs."""
        try:
            await workflow.get_external_workflow_handle(workflow_id).signal(signal, key)
        except FailureError:
            return False
        return True

    def _forget(self, workflow_id: str) -> None:
        for asks in (self._granted, self._asked):
            for identity in [each for each in asks if each[0] == workflow_id]:
                del asks[identity]
        self._is_woken = True

    def _is_long(self) -> bool:
        info = workflow.info()
        return (
            info.is_continue_as_new_suggested()
            or info.get_current_history_length() > self._start.most_events
        )

    def _next_start(self) -> AccountStart:
        return msgspec.structs.replace(
            self._start,
            rows=self._rows,
            granted=tuple(self._granted.values()),
            asked=tuple(self._asked.values()),
        )


def _by_job(asks: dict[tuple[str, str], Ask]) -> dict[str, int]:
    rows: dict[str, int] = {}
    for ask in asks.values():
        rows[ask.workflow_id] = rows.get(ask.workflow_id, 0) + ask.rows
    return rows
