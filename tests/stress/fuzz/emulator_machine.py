"""The state machine for the emulator: any calls at any time, compared with a model of its batches.

The emulator chooses when a batch ends. The model computes the earliest and the latest time at which
it can. Once the emulator has shown a batch as ended, it must stay ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from batches_core.emulator import Emulator
from tests.support.emulator_client import ABSENT, DAY, HOUR, Client, request

ZEROS = {"canceled": 0, "errored": 0, "expired": 0, "succeeded": 0}
UNKNOWN = "msgbatch_01unknown"


@dataclass(kw_only=True)
class ModelBatch:
    """One batch of the model. Times are seconds since 1970; lists are by the index of a request."""

    id: str
    created_at: float
    #: Whether the params are valid.
    valid: list[bool]
    #: When the emulator begins the request.
    begins: list[float]
    #: How long a request takes at most.
    seconds: float
    canceled_at: float | None = None
    was_seen_ended: bool = False
    #: The results body, once it was read.
    results: bytes | None = None

    @property
    def expires_at(self) -> float:
        return self.created_at + DAY

    @property
    def count(self) -> int:
        return len(self.valid)

    def begins_before_cancel(self, index: int) -> bool:
        return self.canceled_at is None or self.begins[index] <= self.canceled_at

    def end_bounds(self) -> tuple[float, float]:
        """Return the earliest and the latest time at which the batch can end."""
        begins = [
            begin for index, begin in enumerate(self.begins) if self.begins_before_cancel(index)
        ]
        last = max(begins, default=self.created_at)
        early, late = last + self.seconds / 2, last + self.seconds
        if self.canceled_at is not None:
            early, late = max(early, self.canceled_at), max(late, self.canceled_at)
        return min(early, self.expires_at), min(late, self.expires_at)


class EmulatorMachine(RuleBasedStateMachine):
    """Calls every endpoint, and lets time pass."""

    batches: Bundle[ModelBatch] = Bundle("batches")

    @initialize(parallel=st.integers(1, 3), seconds=st.sampled_from([10.0, HOUR, 9 * HOUR]))
    def begin(self, parallel: int, seconds: float) -> None:
        self.parallel = parallel
        self.seconds = seconds
        self.client = Client(Emulator(parallel=parallel, seconds_per_request=seconds))
        self.client.now = 1_800_000_000.0
        self.model: list[ModelBatch] = []

    # --- calls ---------------------------------------------------------------------------

    @rule(target=batches, valid=st.lists(st.booleans(), min_size=1, max_size=7))
    def create(self, valid: list[bool]) -> ModelBatch:
        wanted = [
            request(f"r{index}", **({} if is_valid else {"model": ABSENT}))
            for index, is_valid in enumerate(valid)
        ]
        response = self.client.ok("POST", "", {"requests": wanted})
        batch = ModelBatch(
            id=response["id"],
            created_at=self.client.now,
            valid=valid,
            begins=[
                self.client.now + index // self.parallel * self.seconds
                for index in range(len(valid))
            ],
            seconds=self.seconds,
        )
        assert batch.id not in [each.id for each in self.model]
        self.model.append(batch)
        self.check(batch, response)
        return batch

    @rule(
        body=st.sampled_from(
            [b"", b"{", b"[]", b'{"requests":[]}', b'{"requests":{}}', b'{"requests":[1]}']
        )
    )
    def create_with_invalid_body(self, body: bytes) -> None:
        status, type_, _ = self.client.call("POST", "", body).error
        assert (status, type_) == (400, "invalid_request_error")

    @rule(batch=batches)
    def get(self, batch: ModelBatch) -> None:
        if self.exists(batch):
            first = self.client.get(batch.id)
            assert self.client.get(batch.id) == first
            self.check(batch, first)

    @rule(batch=batches)
    def cancel(self, batch: ModelBatch) -> None:
        if not self.exists(batch):
            return
        response = self.client.call("POST", f"/{batch.id}/cancel")
        early, late = batch.end_bounds()
        if response.status == 400:
            assert self.client.now >= early
            batch.was_seen_ended = True
            return
        assert response.status == 200
        assert not batch.was_seen_ended
        assert self.client.now < late
        if batch.canceled_at is None:
            batch.canceled_at = self.client.now
        self.check(batch, response.json)

    @rule(batch=consumes(batches), target=batches)
    def delete(self, batch: ModelBatch) -> Any:
        if not self.exists(batch):
            return batch
        response = self.client.call("DELETE", f"/{batch.id}")
        early, late = batch.end_bounds()
        if response.status == 400:
            assert self.client.now < late
            assert not batch.was_seen_ended
            return batch
        assert response.json == {"id": batch.id, "type": "message_batch_deleted"}
        assert self.client.now >= early
        self.model.remove(batch)
        assert self.client.call("GET", f"/{batch.id}").error[0] == 404
        assert self.client.call("GET", f"/{batch.id}/results").error[0] == 404
        assert self.client.call("DELETE", f"/{batch.id}").error[0] == 404
        return multiple()

    @rule(batch=batches)
    def results(self, batch: ModelBatch) -> None:
        if not self.exists(batch):
            return
        state = self.client.get(batch.id)
        self.check(batch, state)
        response = self.client.call("GET", f"/{batch.id}/results")
        if state["processing_status"] != "ended" or state["archived_at"] is not None:
            assert response.error[:2] == (404, "not_found_error")
            return
        assert response.status == 200
        lines = [msgspec.json.decode(line) for line in response.body.splitlines()]
        assert sorted(line["custom_id"] for line in lines) == [f"r{i}" for i in range(batch.count)]
        counts = {"processing": 0, **ZEROS}
        for line in lines:
            counts[line["result"]["type"]] += 1
            self.check_result(batch, int(line["custom_id"][1:]), line["result"]["type"])
        assert counts == state["request_counts"]
        assert batch.results in (None, response.body), "a second read of the results differs"
        batch.results = response.body

    def check_result(self, batch: ModelBatch, index: int, type_: str) -> None:
        may_be = {"succeeded" if batch.valid[index] else "errored"}
        begin = batch.begins[index]
        if not batch.begins_before_cancel(index):
            may_be = {"canceled"}
        elif begin + batch.seconds / 2 >= batch.expires_at:
            may_be = {"expired"}
        elif begin + batch.seconds > batch.expires_at:
            may_be.add("expired")
        assert type_ in may_be

    @rule(limit=st.integers(1, 4), backwards=st.booleans(), data=st.data())
    def list_page(self, *, limit: int, backwards: bool, data: st.DataObject) -> None:
        newest_first = self.model[::-1]
        query = f"?limit={limit}"
        start, end = 0, limit
        if newest_first:
            place = data.draw(st.integers(0, len(newest_first) - 1))
            query += f"&{'before' if backwards else 'after'}_id={newest_first[place].id}"
            start, end = place + 1, place + 1 + limit
            if backwards:
                start, end = max(0, place - limit), place
        page = self.client.ok("GET", query)
        expected = newest_first[start:end]
        assert [each["id"] for each in page["data"]] == [batch.id for batch in expected]
        assert page["has_more"] == (
            start > 0 if backwards and newest_first else end < len(self.model)
        )
        assert page["first_id"] == (expected[0].id if expected else None)
        assert page["last_id"] == (expected[-1].id if expected else None)
        for batch, each in zip(expected, page["data"], strict=True):
            self.check(batch, each)

    @rule(suffix=st.sampled_from(["", "/results", "/cancel"]))
    def request_unknown_batch(self, suffix: str) -> None:
        method = "POST" if suffix == "/cancel" else "GET"
        assert self.client.call(method, f"/{UNKNOWN}{suffix}").error[0] == 404

    @rule(
        seconds=st.one_of(
            st.floats(0, 30),
            st.sampled_from([5.0, 10.0, HOUR / 2, HOUR, 9 * HOUR, DAY, 29 * DAY]),
        )
    )
    def time_passes(self, seconds: float) -> None:
        self.client.now += seconds

    # --- the model -----------------------------------------------------------------------

    def exists(self, batch: ModelBatch) -> bool:
        return any(each is batch for each in self.model)

    def check(self, batch: ModelBatch, response: Any) -> None:
        now = self.client.now
        early, late = batch.end_bounds()
        assert response["id"] == batch.id
        has_ended = response["processing_status"] == "ended"
        assert not (has_ended and now < early), "the batch ended too early"
        assert has_ended or now < late, "the batch ended too late"
        assert has_ended or not batch.was_seen_ended, "an ended batch is not ended any more"
        batch.was_seen_ended = has_ended
        assert (response["cancel_initiated_at"] is None) == (batch.canceled_at is None)
        counts = response["request_counts"]
        assert sum(counts.values()) == batch.count
        if not has_ended:
            state = "in_progress" if batch.canceled_at is None else "canceling"
            assert response["processing_status"] == state
            assert counts == {"processing": batch.count, **ZEROS}
            assert response["ended_at"] is None
            assert response["results_url"] is None
            return
        assert counts["processing"] == 0
        assert response["created_at"] <= response["ended_at"] <= response["expires_at"]
        is_archived = now >= batch.created_at + 29 * DAY
        assert (response["archived_at"] is not None) == is_archived
        assert (response["results_url"] is None) == is_archived

    @invariant()
    def every_batch_is_listed_once(self) -> None:
        page = self.client.ok("GET", "?limit=1000")
        assert [each["id"] for each in page["data"]] == [batch.id for batch in self.model[::-1]]
        assert page["has_more"] is False
