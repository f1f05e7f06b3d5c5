"""Carries out one operation of a job with a blocking client, in a thread of a worker.

`activities` wraps it for Temporal. Nothing here knows of Temporal.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from batches_core import (
    BatchCreated,
    BatchesError,
    Body,
    CreateMarker,
    Event,
    InvalidInputError,
    MessageBatch,
    PreparedRequests,
)
from batches_core.jobs import (
    Cancel,
    Collect,
    CollectResult,
    Create,
    Failure,
    Get,
    JobState,
    Plan,
    PlanRetry,
    Poll,
    PollResult,
    Settle,
    Value,
    describe,
)
from batches_core.lowlevel import CLOCK_SLACK, prepare
from batches_jobs._collect import collect
from batches_jobs._errors import ResultsFileError
from batches_jobs._folder import JobFolder
from batches_jobs._results import JobResults
from batches_jobs._runner._sync.client import JobClient
from batches_jobs._storage.input import SharedInput
from batches_jobs._storage.interface import Storage
from batches_jobs._storage.job_files import output_name, raw_name

from .fence import Fence, FencedError
from .messages import JobPlace, Output, Work, WriteWork

#: The size of a page of the list: one page shows all batches of most jobs.
_PAGE = 1000
#: How much of a file is hashed at once, in bytes.
_PIECE = 1024 * 1024


class Operations:
    """The operations of jobs, for one worker.

    - `client`: a blocking client, which many threads can use;
    - `storage`: the storage that all workers share;
    - `scratch`: a folder of this machine. Each operation has its own folder in it, which it
      removes; and downloads that were interrupted stay there, to be continued;
    - `accept`, `message_type`: as for `run_job`.
    """

    def __init__(
        self,
        client: JobClient,
        storage: Storage,
        scratch: Path,
        *,
        accept: Callable[[Any], bool] | None,
        message_type: type[Any],
    ) -> None:
        self._client = client
        self._storage = storage
        self._scratch = scratch
        self._accept = accept
        self._message_type = message_type

    def run(self, work: Work, fence: Fence) -> Value | Failure:
        """Carry out an operation; return its value, or why it failed."""
        try:
            return self._run(work, fence)
        except BatchesError as error:
            return describe(error)

    def mark(self, work: Work, fence: Fence) -> CreateMarker | Failure:
        """Read the marker of a create."""
        assert isinstance(work.spec, Create)  # noqa: S101 - only a create is marked
        try:
            operation = self._client.api.mark(work.spec.plan.count)
            return self._client.run(operation, _checking(fence))
        except BatchesError as error:
            return describe(error)

    def create(self, work: Work, fence: Fence) -> MessageBatch | Failure:
        """Create a batch, unless the fence closes before the create can have an effect.

        Every outcome is returned: the batch, that its existence is unknown, or that there is none.
        """
        spec, marker = work.spec, work.marker
        assert isinstance(spec, Create)  # noqa: S101 - the workflow knows its activities
        assert marker is not None  # noqa: S101 - likewise
        api = self._client.api
        if marker.scope != api.scope:
            # Another worker, with another key, has read the marker.
            return Failure(meaning="passing", message="the marker is that of another credential")
        try:
            with self._input(work.place) as input_:
                prepared = prepare(input_.requests(spec.plan))
                body = FencedBody(prepared.body, fence)
                operation = api.create(
                    PreparedRequests(body=body, count=prepared.count),
                    known_ids=spec.known_ids,
                    marker=marker,
                )
                return self._client.run(operation, _checking(fence, unless=BatchCreated))
        except BaseException as error:  # noqa: BLE001 - every outcome is returned
            return _outcome_of(error)

    def write(self, work: WriteWork, fence: Fence) -> Output:
        """Write the results of all rows to one file in the storage."""
        state = JobState()
        state.apply_all(work.records)
        with self._input(work.place) as input_, self._folder() as folder:
            files = SharedResults(self._storage, work.place, state, folder, fence)
            results: JobResults[Any] = JobResults(files, work.records, input_, self._message_type)
            merged = results.merge(folder.path / "output.jsonl")
            name = output_name(work.place.job, _digest_of(merged.path))
            fence.check()
            self._storage.put(name, merged.path)
        return Output(
            name=name, size=merged.size, answered=merged.answered, unanswered=merged.unanswered
        )

    # --- the operations of the machine -------------------------------------------------------

    def _run(self, work: Work, fence: Fence) -> Value | Failure:  # noqa: PLR0911 - one case an operation
        api, client, on_event = self._client.api, self._client, _checking(fence)
        match work.spec:
            case Plan() as spec:
                with self._input(work.place) as input_:
                    return input_.plan(spec)
            case PlanRetry() as spec:
                with self._input(work.place) as input_:
                    return input_.plan_and_store_retry(spec, work.chunks)
            case Settle() as spec:
                return self._settle(spec, on_event)
            case Poll() as spec:
                return self._poll(spec, fence)
            case Get(batch_id=batch_id):
                return client.run(api.get(batch_id), on_event)
            case Cancel(batch_id=batch_id):
                return client.run(api.cancel(batch_id), on_event)
            case Collect() as spec:
                return self._collect(work.place, spec, fence)
            case Create():
                raise InvalidInputError("a create is an activity of its own")

    def _settle(
        self, spec: Settle, on_event: Callable[[Event], None]
    ) -> MessageBatch | Failure | None:
        try:
            operation = self._client.api.settle(
                spec.marker, settle_time=spec.settle_time, known_ids=spec.known_ids
            )
            return self._client.run(operation, on_event)
        except InvalidInputError as error:
            # The create may still be under way in this process, or this worker has another
            # address: that passes, or another worker settles it.
            return Failure(meaning="passing", message=f"{error}")

    def _poll(self, spec: Poll, fence: Fence) -> PollResult:
        missing = set(spec.batch_ids)
        shown: list[MessageBatch] = []
        for batch in self._client.list_all(limit=_PAGE):
            fence.check()
            if batch.id in missing or batch.request_counts.total in spec.sizes:
                missing.discard(batch.id)
                shown.append(batch)
            is_past = spec.since is not None and spec.since - batch.created_at > CLOCK_SLACK
            if is_past or (not missing and not spec.sizes):
                break
        return PollResult(batches=tuple(shown))

    def _collect(self, place: JobPlace, spec: Collect, fence: Fence) -> CollectResult:
        name = raw_name(place.job, spec.plan.chunk, spec.batch_id)
        with self._input(place) as input_, self._folder() as folder:
            path = folder.raw(spec.plan.chunk)
            if self._storage.has(name):
                self._storage.fetch(name, path)
                return self._count(path, input_, spec)
            part = self._download(place, spec, path, fence)
            result = self._count(part, input_, spec)
            fence.check()
            if not self._storage.put_new(name, part):
                # Another worker has stored them meanwhile. Those are the ones that count.
                part.unlink(missing_ok=True)
                self._storage.fetch(name, path)
                result = self._count(path, input_, spec)
            part.unlink(missing_ok=True)
            return result

    def _download(self, place: JobPlace, spec: Collect, own: Path, fence: Fence) -> Path:
        """Download results, or continue a download that was interrupted on this machine.

        If another attempt still has that open, download all of them to the path `own`.
        """
        name = f"{place.job_id}-{spec.plan.chunk:06}-{spec.batch_id}.jsonl"
        path = self._scratch / "downloads" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        on_event = _checking(fence)
        if not path.exists():
            try:
                self._client.download(spec.batch_id, path, on_event=on_event)
            except InvalidInputError:
                self._client.download(spec.batch_id, own, on_event=on_event)
                return own
        return path

    def _count(self, path: Path, input_: SharedInput, spec: Collect) -> CollectResult:
        ids = input_.ids(spec.plan)
        try:
            if self._accept is None:
                return collect(path, ids, spec.counts)
            return collect(
                path, ids, spec.counts, accept=self._accept, message_type=self._message_type
            )
        except ResultsFileError:
            path.unlink(missing_ok=True)  # the next attempt downloads it anew
            raise

    @contextmanager
    def _folder(self) -> Iterator[JobFolder]:
        """Make a folder for one operation."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._scratch, prefix="operation-") as name:
            folder = JobFolder(name)
            for path in (folder.raw(0), folder.spool(0), folder.retry(0)):
                path.parent.mkdir()
            yield folder

    @contextmanager
    def _input(self, place: JobPlace) -> Iterator[SharedInput]:
        with self._folder() as folder:
            yield SharedInput(
                self._storage,
                place.job,
                place.input_name,
                folder,
                job_id=place.job_id,
                ids=place.options.ids,
            )


class FencedBody:
    """The body of a create, whose last bytes leave only while the fence is open."""

    def __init__(self, body: Body, fence: Fence) -> None:
        self._body = body
        self._fence = fence
        self.blocks = getattr(body, "blocks", False)

    @property
    def content_length(self) -> int:
        """The size in bytes."""
        return self._body.content_length

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.content_length} bytes>"

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._body:
            self._fence.check()
            yield piece


class SharedResults:
    """The results files of a job in shared storage, for `JobResults`."""

    def __init__(
        self, storage: Storage, place: JobPlace, state: JobState, folder: JobFolder, fence: Fence
    ) -> None:
        self._storage = storage
        self._place = place
        self._state = state
        self._folder = folder
        self._fence = fence

    @property
    def path(self) -> Path:
        """The folder of the copies."""
        return self._folder.path

    def raw(self, chunk: int) -> Path:
        """Copy a chunk's results to this machine, if they are not there, and return their path."""
        path = self._folder.raw(chunk)
        if not path.exists():
            self._fence.check()
            batch_id = self._state.chunks[chunk].batch_id
            self._storage.fetch(raw_name(self._place.job, chunk, batch_id), path)
        return path


def _outcome_of(error: BaseException) -> MessageBatch | Failure:
    """Return what is known of a create that ended with this error."""
    if isinstance(batch := getattr(error, "created_batch", None), MessageBatch):
        return batch
    if isinstance(error, FencedError):
        # It is raised before the last bytes of the request leave.
        return Failure(meaning="passing", message=f"nothing was created: {error}")
    if isinstance(error, InvalidInputError):
        # The same is true of an input that has changed.
        return describe(error)
    outcome = getattr(error, "create_outcome", error)
    if isinstance(outcome, BatchesError):
        return describe(outcome)
    return Failure(
        meaning="passing", message=f"nothing was created: {type(error).__name__}: {error}"
    )


def _checking(fence: Fence, unless: type[Event] | None = None) -> Callable[[Event], None]:
    """Check the fence at every event but those of one type."""

    def check(event: Event) -> None:
        if unless is None or not isinstance(event, unless):
            fence.check()

    return check


def _digest_of(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while data := file.read(_PIECE):
            digest.update(data)
    return digest.hexdigest()
