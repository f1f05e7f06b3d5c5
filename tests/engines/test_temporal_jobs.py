"""Jobs on Temporal: shared by workers, with long histories, full queues and decisions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from temporalio.client import Client, WorkflowUpdateFailedError

from batches_core.emulator import Emulator, FaultPlan, FaultRule
from batches_core.jobs import JobStatus
from batches_jobs.engines import temporal

from .running import OPTIONS, PATIENCE, TemporalServer, site

ROWS = 150


def once(rows: int = ROWS) -> dict[str, int]:
    return {f"r{number}": 1 for number in range(rows)}


def run(server: TemporalServer, scenario: Callable[[Client], Awaitable[Any]]) -> Any:
    async def connect_and_run() -> Any:
        return await scenario(await Client.connect(server.address))

    return asyncio.run(asyncio.wait_for(connect_and_run(), PATIENCE))


async def until(job: temporal.JobHandle, is_so: Callable[[JobStatus], bool]) -> JobStatus:
    while True:
        if is_so(status := await job.status()):
            return status
        await asyncio.sleep(0.05)


def test_two_workers_share_a_job(server: TemporalServer, tmp_path: Path) -> None:
    with site(server, tmp_path, Emulator(speed=1000)) as here:
        here.start_worker()
        here.start_worker()
        status, output = here.run(400)
        assert here.answered(output) == here.sold == once(400)
        assert (status.answered, status.is_finished) == (400, True)


def test_a_job_survives_the_kill_of_the_server(tmp_path: Path) -> None:
    with (
        TemporalServer(tmp_path / "server.db") as server,
        site(server, tmp_path, Emulator(speed=20)) as here,
    ):
        here.start_worker()

        async def scenario() -> tuple[JobStatus, temporal.Output]:
            client = await Client.connect(server.address)
            job = await here.start(client, ROWS, name="reviews")
            await until(job, lambda status: status.in_flight > 0)
            server.kill()
            await asyncio.sleep(0.5)
            await asyncio.to_thread(server.start)
            again = temporal.get_job(await Client.connect(server.address), "reviews")
            return await again.result()

        status, output = asyncio.run(asyncio.wait_for(scenario(), PATIENCE))
        assert here.answered(output) == here.sold == once()
        assert status.answered == here.emulator.billed(time.time()) == ROWS


def test_a_storm_of_429_costs_time_and_nothing_else(server: TemporalServer, tmp_path: Path) -> None:
    storm = FaultRule(route="any", status=429, retry_after=0.0, after=3, times=6)
    with site(server, tmp_path, Emulator(speed=1000, faults=FaultPlan(storm))) as here:
        here.start_worker()
        status, output = here.run(ROWS)
        assert len(here.emulator.faults.applied) == 6
        assert here.answered(output) == here.sold == once()
        assert status.answered == ROWS


def test_failed_rows_are_sent_again_as_often_as_allowed(
    server: TemporalServer, tmp_path: Path
) -> None:
    with site(server, tmp_path, Emulator(speed=1000, errored=0.3)) as here:
        here.start_worker()
        status, output = here.run(ROWS)
        assert status.answered + status.failed == output.answered + output.unanswered == ROWS
        assert set(here.answered(output).values()) <= {0, 1}
        assert 1 < max(here.sold.values()) <= 1 + OPTIONS.rounds


def test_a_long_job_continues_in_new_runs(server: TemporalServer, tmp_path: Path) -> None:
    with site(server, tmp_path, Emulator(speed=1000)) as here:
        here.start_worker()

        async def scenario(client: Client) -> tuple[JobStatus, temporal.Output]:
            job = await here.start(client, 300, most_events=60)
            result: tuple[JobStatus, temporal.Output] = await job.result()
            description = await client.get_workflow_handle(job.workflow.id).describe()
            assert description.run_id != job.workflow.result_run_id
            assert description.history_length < 150
            return result

        status, output = run(server, scenario)
        assert here.answered(output) == here.sold == once(300)
        assert status.answered == 300


def test_a_cancel_collects_what_was_paid_for(server: TemporalServer, tmp_path: Path) -> None:
    with site(server, tmp_path, Emulator(speed=2)) as here:
        here.start_worker()

        async def scenario(client: Client) -> tuple[JobStatus, temporal.Output]:
            job = await here.start(client, 400)
            await until(job, lambda status: status.in_flight > 80)
            await job.cancel()
            result: tuple[JobStatus, temporal.Output] = await job.result()
            return result

        status, output = run(server, scenario)
        assert status.is_canceled
        assert status.answered == here.emulator.billed(time.time())
        assert max(here.sold.values()) == 1
        assert sum(here.answered(output).values()) == status.answered


def test_a_paused_job_stays_paused_in_a_new_run_until_a_person_resumes_it(
    server: TemporalServer, tmp_path: Path
) -> None:
    broke = FaultRule(route="create", status=402, after=1, times=1)
    emulator = Emulator(seconds_per_request=5, faults=FaultPlan(broke))
    with site(server, tmp_path, emulator) as here:
        here.start_worker()

        async def scenario(client: Client) -> tuple[JobStatus, temporal.Output]:
            job = await here.start(client, ROWS, most_events=30)
            status = await until(job, lambda status: status.paused is not None)
            # The batch in flight is polled, and the history grows.
            workflow = client.get_workflow_handle(job.workflow.id)
            first_run = (await workflow.describe()).run_id
            status = await until(job, lambda status: status.answered > 0)
            assert (await workflow.describe()).run_id != first_run
            assert status.paused is not None
            assert status.paused.reason == "credit"
            assert len(here.sold) < ROWS
            await job.resume()
            result: tuple[JobStatus, temporal.Output] = await job.result()
            return result

        status, output = run(server, scenario)
        assert here.answered(output) == here.sold == once()
        assert status.answered == ROWS


def test_a_person_settles_a_doubt(server: TemporalServer, tmp_path: Path) -> None:
    with site(server, tmp_path, Emulator(speed=1000)) as here:
        here.emulator.faults.add(FaultRule(route="create", drop="after", times=1))
        here.emulator.faults.add(FaultRule(route="list", status=400, after=1, times=8))
        here.start_worker()

        async def scenario(client: Client) -> tuple[JobStatus, temporal.Output]:
            job = await here.start(client, 30)
            status = await until(job, lambda status: bool(status.doubts))
            (doubt,) = status.doubts
            with pytest.raises(WorkflowUpdateFailedError):
                await job.decide(7, None)
            with pytest.raises(WorkflowUpdateFailedError):
                await job.decide(doubt.chunk, "msgbatch_of_nobody")
            (sale,) = here.emulator.sales
            status = await job.decide(doubt.chunk, sale.batch_id)
            assert not status.doubts
            result: tuple[JobStatus, temporal.Output] = await job.result()
            return result

        status, output = run(server, scenario)
        assert here.answered(output) == here.sold == once(30)
        assert status.answered == 30


def test_jobs_of_one_account_share_its_queue_and_never_pass_it(
    server: TemporalServer, tmp_path: Path
) -> None:
    with site(server, tmp_path, Emulator(speed=3, queue_limit=100)) as here:
        here.start_worker()

        async def scenario(client: Client) -> list[tuple[JobStatus, temporal.Output]]:
            account = await temporal.open_account(
                client, here.queue, rows=100, task_queue=here.queue
            )
            options = msgspec.structs.replace(OPTIONS, max_waiting=100)
            jobs = [
                await here.start(client, ROWS, account=account, options=options, most_events=40)
                for _ in range(2)
            ]
            results = await asyncio.gather(*(job.result() for job in jobs))
            status = await account.status()
            assert (status.granted, status.asked) == ({}, {})
            await account.workflow.terminate()
            return results

        results = run(server, scenario)
        assert [status.answered for status, _ in results] == [ROWS, ROWS]
        assert here.sold == {f"r{number}": 2 for number in range(ROWS)}
        assert not [line for line in here.log if " 429" in line]


def test_a_job_that_was_terminated_releases_its_rows(
    server: TemporalServer, tmp_path: Path
) -> None:
    with site(server, tmp_path, Emulator(seconds_per_request=3600)) as here:
        here.start_worker()

        async def scenario(client: Client) -> None:
            account = await temporal.open_account(
                client, here.queue, rows=50, task_queue=here.queue, lease=0.5
            )
            first = await here.start(client, ROWS, account=account)
            await until(first, lambda status: status.in_flight > 0)
            second = await here.start(client, ROWS, account=account)
            while True:
                if second.workflow.id in (await account.status()).asked:
                    break
                await asyncio.sleep(0.05)
            await first.workflow.terminate()
            await until(second, lambda status: status.in_flight > 0)
            await second.workflow.terminate()
            await account.workflow.terminate()

        run(server, scenario)
