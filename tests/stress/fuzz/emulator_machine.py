"""The emulator beside a model of its batches.

Knows what a batch of the emulator may be at a time: when it has surely not ended, and when it
surely has. Between the two the model learns from what it is told, and holds it to that.
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
class Batch:
    """One batch of the model; times are seconds since the epoch."""

    id: str
    created_at: float
    #: By index, whether its params will do.
    valid: list[bool]
    #: By index, when the request is begun at.
    begins: list[float]
    seconds: float
    canceled_at: float | None = None
    seen_ended: bool = False
    results: bytes | None = None

    @property
    def expires_at(self) -> float:
        return self.created_at + DAY

    @property
    def count(self) -> int:
        return len(self.valid)

    def is_begun(self, index: int) -> bool:
        return self.canceled_at is None or self.begins[index] <= self.canceled_at

    def bounds(self) -> tuple[float, float]:
        """Before when it cannot have ended, and from when on it must have."""
        begun = [begin for index, begin in enumerate(self.begins) if self.is_begun(index)]
        last = max(begun, default=self.created_at)
        early, late = last + self.seconds / 2, last + self.seconds
        if self.canceled_at is not None:
            early, late = max(early, self.canceled_at), max(late, self.canceled_at)
        return min(early, self.expires_at), min(late, self.expires_at)


class EmulatorMachine(RuleBasedStateMachine):
    """Calls every endpoint, on a clock that only goes on."""

    batches: Bundle[Batch] = Bundle("batches")

    @initialize(parallel=st.integers(1, 3), seconds=st.sampled_from([10.0, HOUR, 9 * HOUR]))
    def start(self, parallel: int, seconds: float) -> None:
        self.parallel = parallel
        self.seconds = seconds
        self.client = Client(Emulator(parallel=parallel, seconds_per_request=seconds))
        self.client.now = 1_800_000_000.0
        self.model: list[Batch] = []

    # --- calls ---------------------------------------------------------------------------

    @rule(target=batches, valid=st.lists(st.booleans(), min_size=1, max_size=7))
    def create(self, valid: list[bool]) -> Batch:
        wanted = [
            request(f"r{index}", **({} if is_valid else {"model": ABSENT}))
            for index, is_valid in enumerate(valid)
        ]
        answer = self.client.ok("POST", "", {"requests": wanted})
        batch = Batch(
            id=answer["id"],
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
        self.check(batch, answer)
        return batch

    @rule(
        body=st.sampled_from(
            [b"", b"{", b"[]", b'{"requests":[]}', b'{"requests":{}}', b'{"requests":[1]}']
        )
    )
    def create_of_nothing(self, body: bytes) -> None:
        status, type_, _ = self.client.call("POST", "", body).error
        assert (status, type_) == (400, "invalid_request_error")

    @rule(batch=batches)
    def get(self, batch: Batch) -> None:
        if self.is_there(batch):
            first = self.client.get(batch.id)
            assert self.client.get(batch.id) == first
            self.check(batch, first)

    @rule(batch=batches)
    def cancel(self, batch: Batch) -> None:
        if not self.is_there(batch):
            return
        answer = self.client.call("POST", f"/{batch.id}/cancel")
        early, late = batch.bounds()
        if answer.status == 400:
            assert self.client.now >= early
            batch.seen_ended = True
            return
        assert answer.status == 200
        assert not batch.seen_ended
        assert self.client.now < late
        if batch.canceled_at is None:
            batch.canceled_at = self.client.now
        self.check(batch, answer.json)

    @rule(batch=consumes(batches), target=batches)
    def delete(self, batch: Batch) -> Any:
        if not self.is_there(batch):
            return batch
        answer = self.client.call("DELETE", f"/{batch.id}")
        early, late = batch.bounds()
        if answer.status == 400:
            assert self.client.now < late
            assert not batch.seen_ended
            return batch
        assert answer.json == {"id": batch.id, "type": "message_batch_deleted"}
        assert self.client.now >= early
        self.model.remove(batch)
        assert self.client.call("GET", f"/{batch.id}").error[0] == 404
        assert self.client.call("GET", f"/{batch.id}/results").error[0] == 404
        assert self.client.call("DELETE", f"/{batch.id}").error[0] == 404
        return multiple()

    @rule(batch=batches)
    def results(self, batch: Batch) -> None:
        if not self.is_there(batch):
            return
        state = self.client.get(batch.id)
        self.check(batch, state)
        answer = self.client.call("GET", f"/{batch.id}/results")
        if state["processing_status"] != "ended" or state["archived_at"] is not None:
            assert answer.error[:2] == (404, "not_found_error")
            return
        assert answer.status == 200
        lines = [msgspec.json.decode(line) for line in answer.body.splitlines()]
        assert sorted(line["custom_id"] for line in lines) == [f"r{i}" for i in range(batch.count)]
        counts = {"processing": 0, **ZEROS}
        for line in lines:
            counts[line["result"]["type"]] += 1
            self.check_result(batch, int(line["custom_id"][1:]), line["result"]["type"])
        assert counts == state["request_counts"]
        assert batch.results in (None, answer.body), "the same file reads differently"
        batch.results = answer.body

    def check_result(self, batch: Batch, index: int, type_: str) -> None:
        may_be = {"succeeded" if batch.valid[index] else "errored"}
        begin = batch.begins[index]
        if not batch.is_begun(index):
            may_be = {"canceled"}
        elif begin + batch.seconds / 2 >= batch.expires_at:
            may_be = {"expired"}
        elif begin + batch.seconds > batch.expires_at:
            may_be.add("expired")
        assert type_ in may_be

    @rule(limit=st.integers(1, 4), backwards=st.booleans(), data=st.data())
    def list_from_somewhere(self, limit: int, backwards: bool, data: st.DataObject) -> None:  # noqa: FBT001
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

    @rule(what=st.sampled_from(["", "/results", "/cancel"]))
    def ask_for_an_unknown_one(self, what: str) -> None:
        method = "POST" if what == "/cancel" else "GET"
        assert self.client.call(method, f"/{UNKNOWN}{what}").error[0] == 404

    @rule(
        seconds=st.one_of(
            st.floats(0, 30),
            st.sampled_from([5.0, 10.0, HOUR / 2, HOUR, 9 * HOUR, DAY, 29 * DAY]),
        )
    )
    def time_passes(self, seconds: float) -> None:
        self.client.now += seconds

    # --- the model -----------------------------------------------------------------------

    def is_there(self, batch: Batch) -> bool:
        return any(each is batch for each in self.model)

    def check(self, batch: Batch, answer: Any) -> None:
        now = self.client.now
        early, late = batch.bounds()
        assert answer["id"] == batch.id
        has_ended = answer["processing_status"] == "ended"
        assert not (has_ended and now < early), "it ended too early"
        assert has_ended or now < late, "it ends too late"
        assert has_ended or not batch.seen_ended, "it began again"
        batch.seen_ended = has_ended
        assert (answer["cancel_initiated_at"] is None) == (batch.canceled_at is None)
        counts = answer["request_counts"]
        assert sum(counts.values()) == batch.count
        if not has_ended:
            state = "in_progress" if batch.canceled_at is None else "canceling"
            assert answer["processing_status"] == state
            assert counts == {"processing": batch.count, **ZEROS}
            assert answer["ended_at"] is None
            assert answer["results_url"] is None
            return
        assert counts["processing"] == 0
        assert answer["created_at"] <= answer["ended_at"] <= answer["expires_at"]
        is_archived = now >= batch.created_at + 29 * DAY
        assert (answer["archived_at"] is not None) == is_archived
        assert (answer["results_url"] is None) == is_archived

    @invariant()
    def all_are_listed_once(self) -> None:
        page = self.client.ok("GET", "?limit=1000")
        assert [each["id"] for each in page["data"]] == [batch.id for batch in self.model[::-1]]
        assert page["has_more"] is False
