"""Counting the results of a chunk."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_core import Message, SucceededResult
from batches_core.jobs import CollectResult, Counts, FailedRow, Usage
from batches_jobs._collect import collect
from batches_jobs._errors import ResultsFileError
from tests.support.job_run import (
    BAD,
    RESULTS,
    counts_of,
    error,
    is_good,
    line,
    result_line,
    success,
    usage,
)

IDS = {"a": 10, "b": 11, "c": 12}
A, B, C = (line(each, success()) for each in "abc")
USAGE = Usage(
    model="claude-haiku-4-5", service_tier="batch", answers=1, input_tokens=10, output_tokens=5
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "000001.jsonl"


def counted(path: Path, *lines: bytes, counts: Counts | None = None) -> CollectResult:
    path.write_bytes(b"".join(lines))
    return collect(path, IDS, counts)


def usage_of(path: Path, **changes: Any) -> tuple[Usage, ...]:
    path.write_bytes(line("a", success(usage=usage(**changes))))
    return collect(path, {"a": 0}).usage


class TestRows:
    def test_are_answered_in_any_order_of_the_lines(self, path: Path) -> None:
        result = counted(path, C, A, B, counts=Counts(succeeded=3))
        assert (result.answered, result.failed, result.is_foreign) == (3, (), False)
        assert result.usage == (
            msgspec.structs.replace(USAGE, answers=3, input_tokens=30, output_tokens=15),
        )

    def test_that_failed_are_named_in_their_order_with_type_and_message(self, path: Path) -> None:
        lines = line("c", {"type": "expired"}), line("a", error("api_error", "it\nfell")), B
        result = counted(path, *lines, counts=Counts(succeeded=1, errored=1, expired=1))
        assert result.answered == 1
        assert result.failed == (
            FailedRow(row=10, outcome="errored", type="api_error", message="it fell"),
            FailedRow(row=12, outcome="expired"),
        )

    def test_that_were_canceled_are_named(self, path: Path) -> None:
        result = counted(path, A, B, line("c", {"type": "canceled"}))
        assert result.failed == (FailedRow(row=12, outcome="canceled"),)

    def test_of_an_unknown_type_of_result_are_errors_of_that_type(self, path: Path) -> None:
        [failed] = counted(path, A, B, line("c", {"type": "postponed"})).failed
        assert (failed.row, failed.outcome, failed.type) == (12, "errored", "postponed")

    def test_with_an_unreadable_line_are_unreadable(self, path: Path) -> None:
        lines = A, b'{"custom_id": "b", "result": 7}\n', C
        [failed] = counted(path, *lines, counts=Counts(succeeded=3)).failed
        assert (failed.row, failed.outcome) == (11, "unreadable")
        assert "Expected `object`" in failed.message

    def test_without_a_line_are_unreadable_if_lines_show_no_custom_id(self, path: Path) -> None:
        [failed] = counted(path, A, b"{torn}\n", C, counts=Counts(succeeded=3)).failed
        assert (failed.row, failed.outcome) == (11, "unreadable")

    def test_without_a_line_are_lost(self, path: Path) -> None:
        result = counted(path, A, C)
        assert result.answered == 2
        [failed] = result.failed
        assert (failed.row, failed.outcome) == (11, "lost")

    def test_that_the_batch_lacks_as_well_are_lost(self, path: Path) -> None:
        [failed] = counted(path, A, C, counts=Counts(succeeded=2)).failed
        assert (failed.row, failed.outcome) == (11, "lost")

    def test_count_once_if_a_line_is_repeated(self, path: Path) -> None:
        result = counted(path, A, A, line("a", {"type": "expired"}), B, C)
        assert (result.answered, result.failed) == (3, ())
        assert result.usage[0].answers == 3

    def test_count_by_their_first_line(self, path: Path) -> None:
        unreadable = b'{"custom_id": "a", "result": 7}\n'
        assert counted(path, A, unreadable, B, C).failed == ()
        [failed] = counted(path, unreadable, A, B, C).failed
        assert failed.outcome == "unreadable"

    def test_are_found_among_blank_lines_carriage_returns_and_a_byte_order_mark(
        self, path: Path
    ) -> None:
        lines = b"\xef\xbb\xbf" + A, b"\n\r\n", B.replace(b"\n", b"\r\n"), C.strip()
        assert counted(path, *lines).answered == 3

    def test_with_a_line_over_the_limit_are_unreadable(self, path: Path) -> None:
        path.write_bytes(A + line("b", success("x" * 9000)) + C)
        [failed] = collect(path, IDS, Counts(succeeded=3), max_line=1000).failed
        assert (failed.row, failed.outcome) == (11, "unreadable")


class TestAFileOf:
    def test_another_chunk_is_foreign(self, path: Path) -> None:
        assert counted(path, A, B, line("d", success())).is_foreign

    def test_other_requests_is_foreign_whatever_its_counts(self, path: Path) -> None:
        result = counted(path, line("d", success()), counts=Counts(errored=7))
        assert result == CollectResult(answered=0, is_foreign=True)

    def test_other_requests_is_foreign_for_accept_as_well(self, path: Path) -> None:
        path.write_bytes(line("d", success()))
        assert collect(path, IDS, accept=is_good).is_foreign

    def test_unreadable_lines_of_other_requests_is_not_foreign(self, path: Path) -> None:
        lines = A, B, C, b'{"custom_id": "d", "result": 7}\n'
        assert counted(path, *lines, counts=Counts(succeeded=3)).answered == 3

    def test_no_requests_has_lost_rows(self, path: Path) -> None:
        assert {each.outcome for each in counted(path).failed} == {"lost"}

    def test_a_torn_line_is_an_error(self, path: Path) -> None:
        with pytest.raises(ResultsFileError, match=r"000001\.jsonl ends in the middle of a line"):
            counted(path, A, B, C[:-9])

    @pytest.mark.parametrize(
        ("counts", "message"),
        [
            (Counts(succeeded=4), "has 3 results, but its batch has 4"),
            (Counts(succeeded=2, errored=1), "has 3 succeeded results, but its batch has 2"),
        ],
    )
    def test_other_counts_than_the_batch_is_an_error(
        self, path: Path, counts: Counts, message: str
    ) -> None:
        with pytest.raises(ResultsFileError, match=message) as caught:
            counted(path, A, B, C, counts=counts)
        copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - made here
        assert (copy.path, str(copy)) == (path, str(caught.value))

    def test_fewer_rows_than_the_batch_has_is_an_error_that_says_what_to_do(
        self, path: Path
    ) -> None:
        with pytest.raises(ResultsFileError, match="move it away and run the job again"):
            counted(path, A, B, counts=Counts(succeeded=3))

    def test_a_name_that_is_missing_is_an_error(self, path: Path) -> None:
        with pytest.raises(ResultsFileError, match="is missing: run the job again, which downl"):
            collect(path, IDS)

    def test_a_name_that_cannot_be_read_is_an_error_of_the_system(self, tmp_path: Path) -> None:
        with pytest.raises(IsADirectoryError):
            collect(tmp_path, IDS)


class TestAccept:
    def test_rejects_answers_and_keeps_their_usage(self, path: Path) -> None:
        path.write_bytes(A + line("b", success(BAD)) + C)
        result = collect(path, IDS, Counts(succeeded=3), accept=is_good)
        assert result.answered == 2
        assert result.failed == (
            FailedRow(row=11, outcome="rejected", message="accept() returned False"),
        )
        assert result.usage[0].answers == 3

    def test_is_called_once_for_each_success(self, path: Path) -> None:
        path.write_bytes(A + A + line("b", {"type": "expired"}) + C)
        seen: list[SucceededResult[Message]] = []

        def accept(result: SucceededResult[Message]) -> bool:
            seen.append(result)
            return True

        collect(path, IDS, accept=accept)
        assert [each.message.text for each in seen] == ["fine", "fine"]

    def test_gets_messages_of_the_callers_type(self, path: Path) -> None:
        class Short(msgspec.Struct):
            stop_reason: str

        path.write_bytes(A + B + C)
        result = collect(
            path,
            IDS,
            accept=lambda result: result.message.stop_reason == "end_turn",
            message_type=Short,
        )
        assert result.answered == 3

    def test_is_not_asked_about_a_message_that_does_not_fit_the_type(self, path: Path) -> None:
        class Stopped(msgspec.Struct):
            stop_reason: str

        path.write_bytes(A + line("b", success(stop_reason=None)) + C)
        result = collect(path, IDS, accept=lambda _: True, message_type=Stopped)
        [failed] = result.failed
        assert (failed.row, failed.outcome) == (11, "rejected")
        assert "stop_reason" in failed.message
        assert result.usage[0].answers == 3

    @pytest.mark.parametrize("raised", [KeyError("x"), msgspec.ValidationError("bad")])
    def test_raises_its_own_exceptions(self, path: Path, raised: Exception) -> None:
        def accept(_: object) -> bool:
            raise raised

        path.write_bytes(A + B + C)
        with pytest.raises(type(raised)) as caught:
            collect(path, IDS, accept=accept)
        assert caught.value is raised

    def test_must_return_true_or_false(self, path: Path) -> None:
        def accept(success: object) -> Any:
            del success

        path.write_bytes(A + B + C)
        with pytest.raises(TypeError, match="returned None: it must return True or False"):
            collect(path, IDS, accept=accept)

    def test_agrees_with_a_count_without_it_on_unreadable_lines(self, path: Path) -> None:
        lines = A, b"{torn}\n", b'{"custom_id": "c", "result": 7}\n'
        assert counted(path, *lines) == collect(path, IDS, accept=lambda _: True)


class TestUsage:
    def test_is_summed_by_model_and_service_tier(self, path: Path) -> None:
        lines = [
            line("a", success(model="m1")),
            line("b", success(model="m2")),
            line("c", success(model="m1", usage=usage(service_tier="standard"))),
        ]
        sums = counted(path, *lines).usage
        assert [(each.model, each.service_tier, each.answers) for each in sums] == [
            ("m1", "batch", 1),
            ("m1", "standard", 1),
            ("m2", "batch", 1),
        ]

    @pytest.mark.parametrize(
        ("model", "most"),
        [("claude-sonnet-4-5", 200_000), ("claude-haiku-5-5-20261001", 100_000)],
    )
    def test_of_long_prompts_is_apart(self, path: Path, model: str, most: int) -> None:
        # The tokens of the cache count.
        cached = {"cache_read_input_tokens": 10, "cache_creation_input_tokens": 20}
        for tokens in (most, most + 1):
            used = usage(input_tokens=tokens - 30, **cached)
            path.write_bytes(line("a", success(model=model, usage=used)))
            [sums] = collect(path, {"a": 0}).usage
            assert sums.prompt_over == (most if tokens > most else 0)

    def test_of_cache_writes_is_split_by_time_to_live(self, path: Path) -> None:
        by_time = {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 70}
        [sums] = usage_of(
            path,
            cache_creation_input_tokens=100,
            cache_creation=by_time,
            cache_read_input_tokens=7,
        )
        assert (sums.cache_write_5m_tokens, sums.cache_write_1h_tokens) == (30, 70)
        assert sums.cache_read_tokens == 7

    def test_of_cache_writes_without_a_breakdown_is_of_five_minutes(self, path: Path) -> None:
        [sums] = usage_of(path, cache_creation_input_tokens=100, cache_creation=None)
        assert (sums.cache_write_5m_tokens, sums.cache_write_1h_tokens) == (100, 0)

    def test_of_cache_writes_can_be_the_breakdown_alone(self, path: Path) -> None:
        by_time = {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 70}
        [sums] = usage_of(path, cache_creation=by_time)
        assert (sums.cache_write_5m_tokens, sums.cache_write_1h_tokens) == (30, 70)

    def test_of_several_iterations_is_their_sum(self, path: Path) -> None:
        iterations = [
            {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500},
            {"type": "message", "input_tokens": 23_000, "output_tokens": 1_000},
        ]
        [sums] = usage_of(path, input_tokens=23_000, output_tokens=1_000, iterations=iterations)
        assert (sums.answers, sums.input_tokens, sums.output_tokens) == (1, 203_000, 4_500)
        assert sums.prompt_over == 0

    def test_of_a_region_is_apart_from_that_without_one(self, path: Path) -> None:
        for geo, kept in (("us", "us"), ("global", ""), ("not_available", ""), (None, "")):
            [sums] = usage_of(path, inference_geo=geo)
            assert sums.inference_geo == kept

    def test_counts_the_tools_that_can_cost_extra(self, path: Path) -> None:
        used = {"web_search_requests": 3, "web_fetch_requests": 5, "new_requests": 2, "x": "?"}
        [sums] = usage_of(path, server_tool_use=used)
        assert (sums.web_searches, sums.other_tool_uses) == (3, 2)
        [sums] = usage_of(path, server_tool_use=["of another shape"])
        assert (sums.answers, sums.web_searches) == (1, 0)

    def test_of_an_iteration_with_another_model_is_that_models(self, path: Path) -> None:
        iterations = [
            {"type": "advisor_message", "model": "m2", "input_tokens": 7, "output_tokens": 3},
            {"type": "message", "input_tokens": 10, "output_tokens": 5},
        ]
        first, second = usage_of(path, iterations=iterations)
        assert (first.model, first.answers, first.input_tokens) == ("claude-haiku-4-5", 1, 10)
        assert (second.model, second.answers, second.input_tokens) == ("m2", 0, 7)

    @pytest.mark.parametrize("iterations", [None, []])
    def test_without_iterations_is_that_of_the_answer(self, path: Path, iterations: Any) -> None:
        assert usage_of(path, iterations=iterations) == (USAGE,)

    def test_without_a_service_tier_has_an_empty_one(self, path: Path) -> None:
        [sums] = usage_of(path, service_tier=None)
        assert sums.service_tier == ""

    @pytest.mark.parametrize(
        "message",
        [
            {"usage": None},
            {"usage": {"input_tokens": None, "output_tokens": "many"}},
            {"usage": {"iterations": "none", "cache_creation": []}},
            {"model": None},
        ],
    )
    def test_of_an_unknown_shape_still_is_of_an_answer(
        self, path: Path, message: dict[str, Any]
    ) -> None:
        path.write_bytes(line("a", success(**message)))
        result = collect(path, {"a": 0}, Counts(succeeded=1))
        assert (result.answered, result.failed) == (1, ())
        assert result.usage[0].answers == 1

    def test_keeps_the_counts_that_can_be_read(self, path: Path) -> None:
        by_time = {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 0}
        [sums] = usage_of(
            path,
            output_tokens=None,
            cache_creation_input_tokens=3,
            cache_creation=by_time,
            iterations=[{"input_tokens": 1, "output_tokens": 2}],
        )
        assert (sums.input_tokens, sums.output_tokens) == (1, 2)


@given(
    fates=st.lists(st.sampled_from([*RESULTS, "unreadable"]), min_size=1, max_size=30),
    order=st.randoms(use_true_random=False),
    repeated=st.integers(0, 5),
)
def test_every_row_is_accounted_for_once(
    tmp_path_factory: pytest.TempPathFactory, fates: list[str], order: Any, repeated: int
) -> None:
    path = tmp_path_factory.mktemp("raw") / "000000.jsonl"
    ids = {f"r{row}": row for row in range(len(fates))}
    lines = [result_line(f"r{row}", fate) for row, fate in enumerate(fates)]
    order.shuffle(lines)
    path.write_bytes(b"".join(lines + lines[:repeated]))
    result = collect(path, ids, counts_of(dict(enumerate(fates))), accept=is_good)
    outcomes = {"overloaded": "errored", "invalid": "errored", "new": "errored"}
    expected = [
        (row, outcomes.get(fate, fate)) for row, fate in enumerate(fates) if fate != "succeeded"
    ]
    assert [(each.row, each.outcome) for each in result.failed] == expected
    assert result.answered == len(fates) - len(expected)


def test_memory_does_not_grow_with_the_length_of_the_answers(path: Path) -> None:
    count = 2_000
    ids = {f"r{row}": row for row in range(count)}

    def peak(text: str) -> int:
        path.write_bytes(b"".join(line(each, success(text)) for each in ids))
        collect(path, ids)
        tracemalloc.start()
        collect(path, ids)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak("x" * 10_000) < peak("x" * 1_000) + 500_000
