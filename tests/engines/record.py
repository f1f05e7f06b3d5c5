"""Records histories of jobs, which later versions of the workflows must replay.

``python -m tests.engines.record`` writes them to ``tests/engines/histories``. Run it only if the
workflows are to change in a way that running jobs cannot follow; say so in the changelog.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
from pathlib import Path

from temporalio.client import Client, WorkflowHistory

from batches_core.emulator import Emulator, FaultPlan
from batches_jobs.engines import temporal

from .running import Site, TemporalServer, site

HISTORIES = Path(__file__).parent / "histories"


async def record(here: Site) -> None:
    """Run a job with failures, a lost response, an account and several runs; keep its history."""
    client = await Client.connect(here.server.address)
    account = await temporal.open_account(client, "recorded", rows=60, task_queue=here.queue)
    job = await here.start(client, 100, name="recorded", account=account, most_events=130)
    await job.result()
    ids = [each async for each in client.list_workflows("WorkflowId = 'recorded'")]
    for number, each in enumerate(sorted(ids, key=lambda each: each.start_time)):
        handle = client.get_workflow_handle(each.id, run_id=each.run_id)
        keep(f"job-{number}", await handle.fetch_history())
    keep("account", await account.workflow.fetch_history())


def keep(name: str, history: WorkflowHistory) -> None:
    """Write a history on one line, without the name of this machine and its processes."""
    text = json.dumps(history.to_json_dict(), separators=(",", ":"))
    text = re.sub(r"\d+@[\w.-]+", "worker", text)
    (HISTORIES / f"{name}.json").write_text(text + "\n")


def main() -> int:
    HISTORIES.mkdir(exist_ok=True)
    for path in HISTORIES.glob("*.json"):
        path.unlink()
    faults = FaultPlan("create:drop=after", "list:status=500,after=6")
    emulator = Emulator(speed=200, errored=0.1, faults=faults)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with TemporalServer(folder / "server.db") as server, site(server, folder, emulator) as here:
            here.start_worker()
            asyncio.run(record(here))
    return 0


if __name__ == "__main__":
    sys.exit(main())
