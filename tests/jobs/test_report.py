"""The report of a job: what its page says, and that it is sound for every reader."""

from __future__ import annotations

import builtins
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batches_core import InvalidInputError
from batches_core.jobs import (
    BoughtAgain,
    ChunkPlanned,
    Collected,
    Counts,
    CreateIntended,
    Ended,
    FailedRow,
    Finished,
    InputEnded,
    JobOpened,
    JobOptions,
    Lost,
    Paused,
    Record,
    Submitted,
    Usage,
)
from batches_jobs._job_reader import JobReader
from batches_jobs._report import formats
from batches_jobs._report.answers import measure_answers
from batches_jobs._report.facts import JobFacts, Span, gather_facts
from batches_jobs._report.page import report_page
from tests.jobs.store_support import request
from tests.support.job_run import error, success, usage
from tests.support.stored_job import store_job

START = datetime(2026, 11, 23, 20, tzinfo=UTC)
#: Elements that HTML closes by itself.
VOID = {"meta"}


class Page(HTMLParser):
    """A page, checked for elements that are not closed. `text` is what it shows."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.cells: list[list[str]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in {"td", "th"}:
            self.cells[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data
            if self.open[-1] in {"td", "th"}:
                self.cells[-1][-1] += data


def records(count: int, rows: int = 10, *, spare: int = 0) -> tuple[list[Record], list[datetime]]:
    """Return a job of some chunks, of which the last ones are still in flight."""
    found: list[Record] = [JobOpened(job_id="j1", options=JobOptions(max_waiting=rows * 3))]
    for n in range(count):
        found += [
            ChunkPlanned(chunk=n, count=rows, first_row=n * rows),
            CreateIntended(chunk=n, marker=None),
            Submitted(chunk=n, batch_id=f"b{n}", created_at=START, expires_at=START),
        ]
    found.append(InputEnded(rows=count * rows))
    tokens = Usage(model="claude-haiku-4-5", answers=rows, input_tokens=1000, output_tokens=500)
    for n in range(count - spare):
        found += [
            Ended(chunk=n, counts=Counts(succeeded=rows)),
            Collected(chunk=n, answered=rows, usage=(tokens,)),
        ]
    if not spare:
        found.append(Finished())
    return found, [START + timedelta(minutes=n) for n in range(len(found))]


def page_of(facts: JobFacts, name: str = "a.job") -> str:
    return report_page(name, facts, None, facts.last + timedelta(minutes=1))


def report(path: Path, **options: Any) -> str:
    return JobReader(path).report(**options)


def answer(row: int, attempt: int) -> str | dict[str, Any]:
    if row % 4 == 1 and not attempt:
        return "overloaded"
    if row % 4 == 2:
        return "invalid"
    reason = "max_tokens" if row % 4 == 3 else "end_turn"
    return success(stop_reason=reason, usage=usage(output_tokens=100 if row % 4 == 3 else 37))


def job(tmp_path: Path, count: int = 12, answer: Any = answer) -> Path:
    return store_job(
        tmp_path / "a.job", [request(f"r{n}", max_tokens=100) for n in range(count)], answer
    )


class TestPage:
    @pytest.mark.parametrize("count", [1, 25, 1000, 1500])
    def test_is_sound_html_for_any_number_of_chunks(self, count: int) -> None:
        page = page_of(gather_facts(*records(count)))
        parsed = Page(page)
        assert f"{count:,} chunk" in parsed.text
        assert len(page) < 800_000
        for svg in re.findall(r"<svg.*?</svg>", page):
            ET.fromstring(svg)  # noqa: S314 - our own page

    @pytest.mark.parametrize(
        ("count", "words"), [(250, "Chunks"), (251, "Chunks, 2 in each bar"), (1000, "4 in each")]
    )
    def test_draws_at_most_250_bars(self, count: int, words: str) -> None:
        text = Page(page_of(gather_facts(*records(count)))).text
        assert words in text
        assert ("in each bar" in text) == (count > 250)

    def test_says_what_became_of_the_job(self, tmp_path: Path) -> None:
        text = Page(report(job(tmp_path))).text
        assert "a.job" in text
        for words in ("Rows12", "Answered975 %", "Failed325 %", "finished", "max_tokens of 100 ha"):
            assert words in text, words

    def test_has_the_outcomes_of_each_round(self, tmp_path: Path) -> None:
        cells = Page(report(job(tmp_path))).cells
        assert ["first attempt", "12", "6", "3", "3", ""] in cells
        assert ["retry 1", "3", "3", "0", "0", ""] in cells

    def test_has_the_commonest_errors_with_an_example(self, tmp_path: Path) -> None:
        cells = Page(report(job(tmp_path))).cells
        assert ["overloaded_error", "3", "0", "no"] in cells
        assert ["invalid_request_error", "3", "3", "no"] in cells

    def test_has_the_costs_of_each_model_and_round(self, tmp_path: Path) -> None:
        cells = Page(report(job(tmp_path))).cells
        costs = [row for row in cells if row[0] in {"claude-haiku-4-5", "Total"}]
        assert [row[1:5] for row in costs] == [
            ["first attempt", "6", "60", "411"],
            ["retry 1", "3", "30", "111"],
            ["", "9", "90", "522"],
        ]
        assert all(row[-1].startswith("$0.00") for row in costs)

    def test_says_what_to_install_if_there_are_no_prices(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, real = job(tmp_path), builtins.__import__

        def without_prices(name: str, *args: Any, **options: Any) -> Any:
            if name == "genai_prices":
                raise ModuleNotFoundError(name=name)
            return real(name, *args, **options)

        monkeypatch.setattr(builtins, "__import__", without_prices)
        text = Page(report(path)).text
        assert "Costs need the extra cost: pip install 'batches-core[cost]'" in text
        assert "Costnot computed" in text

    def test_says_if_a_price_is_unknown(self, tmp_path: Path) -> None:
        page = report(job(tmp_path, 1, lambda *_: success(model="my-model")))
        assert "the price of &#x27;my-model&#x27; is not known" in page
        assert ["my-model", "first attempt", "1", "10", "5", "0", "0", "unknown"] in Page(
            page
        ).cells

    @pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a\"'&<b>\x00\u202e\n</style>"])
    def test_escapes_whatever_the_service_and_the_caller_say(
        self, tmp_path: Path, text: str
    ) -> None:
        answers: list[Any] = [
            success(model=text, stop_reason=text),
            error(text, text),
            error("invalid_request_error", text),
        ]
        path = store_job(
            tmp_path / "a.job", [request(f"r{n}") for n in range(3)], lambda row, _: answers[row]
        )
        page = JobReader(path).report()
        named = report_page(text, gather_facts(*records(1)), None, START)
        for each in (page, named):
            parsed = Page(each)
            assert "script" not in {tag for tag, _ in parsed.elements}
            assert "b" not in {tag for tag, _ in parsed.elements}
            assert "\x00" not in each
            assert "\u202e" not in each
            assert text.split("\x00", maxsplit=1)[0].strip() in parsed.text

    def test_needs_nothing_but_itself(self, tmp_path: Path) -> None:
        page = report(job(tmp_path))
        tags = {tag for tag, _ in Page(page).elements}
        assert not tags & {"script", "link", "img", "iframe", "object"}
        assert not re.search(r"https?:|url\(|@import|\bon\w+=|src=", page)
        assert "default-src 'none'" in page

    def test_can_be_read_without_seeing_it(self, tmp_path: Path) -> None:
        page = report(job(tmp_path))
        elements = Page(page).elements
        ids = [attrs["id"] for _, attrs in elements if "id" in attrs]
        assert len(ids) == len({*ids}) == 8
        charts = [attrs for tag, attrs in elements if tag == "svg"]
        assert len(charts) == 4
        for attrs in charts:
            assert attrs["role"] == "img"
            assert {*str(attrs["aria-labelledby"]).split()} <= {*ids}
        assert next(attrs for tag, attrs in elements if tag == "html")["lang"] == "en"
        assert all(
            attrs.get("aria-label") for _, attrs in elements if attrs.get("role") == "region"
        )
        assert all(attrs["scope"] == "col" for tag, attrs in elements if tag == "th")
        assert "3 of 9 answers (33.3 %) were cut at max_tokens" in page

    def test_follows_the_readers_choice_of_light_or_dark(self, tmp_path: Path) -> None:
        page = report(job(tmp_path, 1))
        assert "prefers-color-scheme:dark" in page
        assert "color-scheme:light dark" in page

    def test_of_a_job_that_has_only_begun(self) -> None:
        opened: list[Record] = [JobOpened(job_id="j1", options=JobOptions())]
        text = Page(page_of(gather_facts(opened, [START]))).text
        assert "No chunk was sent yet." in text
        assert "Nothing was answered yet" in text

    def test_of_a_running_job_says_what_is_open(self) -> None:
        text = Page(page_of(gather_facts(*records(3, spare=1)))).text
        assert "not finished" in text
        assert "Open1033.3 %" in text

    def test_of_a_paused_job_says_why(self) -> None:
        found, times = records(2, spare=1)
        found.append(Paused(reason="credit", message="your <credit> is too low"))
        times.append(times[-1])
        page = page_of(gather_facts(found, times))
        assert "Paused (credit): your &lt;credit&gt; is too low" in page

    def test_without_answers_reads_no_results(self, tmp_path: Path) -> None:
        path = job(tmp_path)
        for each in (path / "raw").iterdir():
            each.unlink()
        assert "Output tokens against" not in report(path, read_answers=False)

    def test_is_written_to_a_path_or_a_stream(self, tmp_path: Path) -> None:
        reader = JobReader(job(tmp_path))
        written = reader.write_report(tmp_path / "r.html", now=START)
        out = io.BytesIO()
        reader.write_report(out, now=START)
        assert (tmp_path / "r.html").read_bytes() == out.getvalue()
        assert written.size == len(out.getvalue())
        (tmp_path / "mine.html").write_text("mine")
        with pytest.raises(InvalidInputError, match="is not what this job wrote there"):
            reader.write_report(tmp_path / "mine.html")


class TestFacts:
    def test_of_chunks_have_their_times(self) -> None:
        facts = gather_facts(*records(2))
        minutes = [
            [
                ((s.start - START) / timedelta(minutes=1), s.end and (s.end - START).seconds / 60)
                for s in chunk.spans
            ]
            for chunk in facts.chunks
        ]
        assert minutes == [[(3, 8), (8, 9)], [(6, 10), (10, 11)]]
        assert [(at - START).seconds / 60 for at, _ in facts.in_flight] == [0, 3, 6, 8, 10]
        assert [rows for _, rows in facts.in_flight] == [0, 10, 20, 10, 0]

    def test_of_lost_chunks_that_are_bought_again(self) -> None:
        found: list[Record] = [
            JobOpened(job_id="j1", options=JobOptions()),
            ChunkPlanned(chunk=0, count=5),
            InputEnded(rows=5),
            CreateIntended(chunk=0, marker=None),
            Submitted(chunk=0, batch_id="b0", created_at=START, expires_at=START),
            Lost(chunk=0, reason="archived"),
        ]
        times = [START + timedelta(minutes=n) for n in range(10)]
        facts = gather_facts(found, times[:6])
        assert facts.chunks[0].spans == [Span("lost", times[4], times[5])]
        assert (facts.rounds[0].lost, facts.in_flight[-1]) == (5, (times[5], 0))
        found += [
            BoughtAgain(chunk=0),
            CreateIntended(chunk=0, marker=None),
            Submitted(chunk=0, batch_id="b1", created_at=START, expires_at=START),
        ]
        facts = gather_facts(found, times[:9])
        assert [span.kind for span in facts.chunks[0].spans] == ["lost", "waiting"]
        assert (facts.rounds[0].open, facts.in_flight[-1]) == (5, (times[8], 5))

    def test_keep_their_order_if_the_clock_was_set_back(self) -> None:
        found, times = records(2)
        times[5:] = [START - timedelta(hours=1)] * len(times[5:])
        facts = gather_facts(found, times)
        assert [at for at, _ in facts.in_flight] == sorted(at for at, _ in facts.in_flight)
        Page(page_of(facts))

    def test_of_errors_count_rows_that_were_sent_again(self) -> None:
        found, times = records(1, spare=1)
        failed = FailedRow(row=0, outcome="errored", type="api_error", message="m")
        expired = FailedRow(row=1, outcome="expired")
        found += [
            Ended(chunk=0, counts=Counts(succeeded=8, errored=1, expired=1)),
            Collected(chunk=0, answered=8, retried=(failed,), failed=(expired,)),
        ]
        times += [times[-1]] * 2
        errors = gather_facts(found, times).errors
        assert [(each.reason, each.seen, each.final) for each in errors] == [
            ("api_error", 1, 0),
            ("expired", 1, 1),
        ]


class TestAnswerLengths:
    def measure(self, tmp_path: Path, tokens: Sequence[tuple[Any, Any, str]]) -> Any:
        """Measure answers: the tokens, the limit and the stop reason of each."""
        path = store_job(
            tmp_path / "a.job",
            [request(f"r{n}", max_tokens=limit) for n, (_, limit, _) in enumerate(tokens)],
            lambda row, _: success(
                usage=usage(output_tokens=tokens[row][0]), stop_reason=tokens[row][2]
            ),
        )
        reader = JobReader(path)
        raw: Any = reader.results(msgspec.Raw)
        return measure_answers(raw, reader.state.chunks, reader._input.lines)

    def test_are_shares_of_the_limit_of_their_own_request(self, tmp_path: Path) -> None:
        found = self.measure(
            tmp_path,
            [(1, 100, "end_turn"), (5, 100, "end_turn"), (6, 100, "x"), (50, 50, "max_tokens")] * 2,
        )
        assert found.complete[:3] == [4, 2, 0]
        assert (found.truncated[-1], found.cut, found.answers) == (2, 2, 8)
        assert (found.limits, found.output_tokens) == ((50, 100), 124)
        assert found.stop_reasons == {"end_turn": 4, "x": 2, "max_tokens": 2}

    def test_that_cannot_be_read_are_counted_as_unknown(self, tmp_path: Path) -> None:
        path = store_job(tmp_path / "a.job", [request("r0", max_tokens=10)])
        reader = JobReader(path)
        raw: Any = reader.results(msgspec.Raw)
        for lines in ([(0, b"{")], [(0, b'{"params": {"max_tokens": "x"}}')], []):
            found = measure_answers(raw, reader.state.chunks, partial(_iterate, lines))
            assert (found.answers, found.unknown, found.limits) == (1, 1, None)

    def test_over_the_limit_are_in_the_last_bar(self, tmp_path: Path) -> None:
        assert self.measure(tmp_path, [(15, 10, "end_turn")]).complete[-1] == 1


def _iterate(lines: list[tuple[int, bytes]], _: ChunkPlanned) -> Iterator[tuple[int, bytes]]:
    return iter(lines)


class TestFormats:
    @pytest.mark.parametrize(
        ("part", "whole", "text"),
        [
            (0, 0, "0 %"),
            (0, 9, "0 %"),
            (9, 9, "100 %"),
            (1, 3, "33.3 %"),
            (1, 10**6, "< 0.1 %"),
            (10**6 - 1, 10**6, "> 99.9 %"),
        ],
    )
    def test_of_a_share_never_round_to_none_or_all(self, part: int, whole: int, text: str) -> None:
        assert formats.share(part, whole) == text

    @pytest.mark.parametrize(
        ("cost", "text"),
        [("0", "$0.00"), ("0.00001", "< $0.0001"), ("0.00123", "$0.0012"), ("1234.5", "$1,234.50")],
    )
    def test_of_a_cost_never_round_to_zero(self, cost: str, text: str) -> None:
        assert formats.dollars(Decimal(cost)) == text

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0, "0 s"),
            (0.25, "0.2 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3661, "1 h 1 min"),
            (90_000, "1 d 1 h"),
        ],
    )
    def test_of_a_duration_have_two_units(self, seconds: float, text: str) -> None:
        assert formats.duration(seconds) == text

    @pytest.mark.parametrize("seconds", [0.001, 1, 59, 3600, 86_400, 10**7, 10**9])
    def test_of_a_time_axis_have_few_marks(self, seconds: float) -> None:
        marks = formats.time_marks(seconds, 8)
        assert 1 <= len(marks) <= 9
        assert max(marks) <= seconds

    @pytest.mark.parametrize("greatest", [1, 3, 7, 99, 100_000, 123_456, 10**7])
    def test_of_a_number_axis_reach_the_greatest(self, greatest: int) -> None:
        marks = formats.number_marks(greatest, 4)
        assert len(marks) <= 6
        assert marks[-1] >= greatest > marks[-2]
