"""The tasks of a run: one batch or two from create to results, a list, or a stranger's batches."""

from __future__ import annotations

from batches_core import MessageBatch, PageReceived, RemoteProtocolError

from .client import Client
from .creating import create_batch
from .reading import read_results
from .waiting import wait_for_end
from .world import Task, World


def one_batch(client: Client, label: str, count: int, *, dies: bool = False) -> Task:
    """Create a batch of `count` requests, wait for its end and read its results."""
    batch = yield from create_batch(client, label, count, dies=dies)
    if batch is not None:
        yield from _finish(client, label, batch)


def two_batches(client: Client, count: int, *, dies: bool = False) -> Task:
    """Create two batches of one size: the second after the first ended, or right after its create.

    Batches of one size can be confused when an outcome is settled.
    """
    first = yield from create_batch(client, "B1", count, dies=dies)
    is_in_turn = client.world.rng.random() < 0.4
    if first is not None and is_in_turn:
        yield from _finish(client, "B1", first)
    yield from one_batch(client, "B2", count)
    if first is not None and not is_in_turn:
        yield from _finish(client, "B1", first)


def browse(client: Client, label: str) -> Task:
    """List all batches, in either direction, and get the newest one."""
    world, rng = client.world, client.world.rng
    before = world.service.list_ids(world.now)
    limit = rng.choice((None, 1, 2, 3, 1000))
    is_backwards = bool(before) and rng.random() < 0.4
    start = before[-1] if is_backwards else None
    operation = client.api.list_all(limit=limit, before_id=start)
    record = yield from client.run("list_all", label, operation)
    pages = [event.page for event in record.events if isinstance(event, PageReceived)]
    record.check_effort(needed=len(pages) + 1)
    listed = [batch.id for page in pages for batch in page.data]
    if world.service.repeats_first_page and isinstance(record.error, RemoteProtocolError):
        return
    record.check_error()
    if record.error is not None:
        return
    if not world.service.repeats_first_page and len(set(listed)) < len(listed):
        record.report_violation("a batch was listed twice")
    after = world.service.list_ids(world.now)
    due = [id_ for id_ in before if id_ in after and id_ != start]
    if not set(due) <= set(listed):
        record.report_violation("a batch was not listed")
    # If the service repeats pages, batches are listed again, which is not the client's fault.
    if not is_backwards and [id_ for id_ in dict.fromkeys(listed) if id_ in due] != due:
        record.report_violation("the batches were listed in another order")
    if before:
        yield from _get(client, label, before[0])


def stranger(world: World, old: list[str], count: int) -> Task:
    """Act as another user of the workspace: create batches of `count` requests, delete old ones."""
    rng = world.rng
    for turn in range(rng.randint(1, 4)):
        yield world.now + rng.expovariate(1 / 20)
        if old and rng.random() < 0.5:
            world.count_hazard("a stranger deleted a batch")
            world.service.delete(old.pop(), world.now)
        else:
            world.count_hazard("a stranger created a batch")
            world.service.create(f"S{turn}", count, world.now)


def _finish(client: Client, label: str, batch: MessageBatch) -> Task:
    """Wait for the end and read the results; sometimes cancel before, and delete afterwards."""
    rng = client.world.rng
    if rng.random() < 0.1:
        yield client.world.now + rng.random() * client.seconds_per_request * 2
        yield from _cancel(client, label, batch.id)
    ended = yield from wait_for_end(client, label, batch)
    if ended is None:
        return
    yield from read_results(client, label, ended)
    if rng.random() < 0.1:
        yield from _delete(client, label, batch.id)


def _get(client: Client, label: str, id_: str) -> Task:
    record = yield from client.run("get", label, client.api.get(id_))
    record.check_retried(needed=1)
    if record.error is None and record.value.id != id_:
        record.report_violation("it returned another batch")


def _cancel(client: Client, label: str, id_: str) -> Task:
    record = yield from client.run("cancel", label, client.api.cancel(id_))
    record.check_retried(needed=1)
    created = client.world.service.find(id_)
    if record.error is None and created is not None and created.batch.canceled_at is None:
        record.report_violation("it succeeded, and the batch is not canceled")


def _delete(client: Client, label: str, id_: str) -> Task:
    record = yield from client.run("delete", label, client.api.delete(id_))
    record.check_retried(needed=1)
    if record.error is None and client.world.service.exists(id_):
        record.report_violation("it succeeded, and the batch still exists")
