"""Tests in a pseudo-terminal: questions, the progress bar, and Ctrl-C."""

from __future__ import annotations

from pathlib import Path

import pytest

from batches_core.emulator import Emulator, FaultPlan

from .support import QUICK, batches, rows_of, served, sold, write_requests
from .terminal import Terminal


def test_a_job_that_can_cost_more_is_sent_only_after_a_yes(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 20, max_tokens=100_000)
    emulator = Emulator(speed=1000)
    arguments = ("run", "in.jsonl", "-o", "out/", *QUICK)
    with served(emulator) as base_url:
        with Terminal(tmp_path, *arguments, base_url=base_url) as terminal:
            terminal.expect("Send 20 requests? [y/N]:")
            terminal.type("\n")
            assert terminal.wait() == 4
            assert "nothing was sent" in terminal.text
        assert not emulator.sales
        with Terminal(tmp_path, *arguments, base_url=base_url) as terminal:
            terminal.expect("Send 20 requests? [y/N]:")
            terminal.type("y\n")
            assert terminal.wait() == 0
    assert len(rows_of(tmp_path / "out/results.jsonl")) == 20


@pytest.mark.parametrize("flag", [("--yes",), ("--max-cost", "9"), ("--ask-above", "99")])
def test_each_question_on_cost_has_an_option(flag: tuple[str, ...], tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 20, max_tokens=70_000)
    with served(Emulator(speed=1000)) as base_url:
        ended = batches(tmp_path, "run", "in.jsonl", *flag, *QUICK, base_url=base_url)
    assert ended.code == 0, ended.err


def test_without_a_key_a_terminal_offers_the_emulator(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 20)
    with Terminal(tmp_path, "run", "in.jsonl", "-o", "out/") as terminal:
        terminal.expect("Try it on the emulator, which invents the answers and costs nothing?")
        terminal.type("y\n")
        assert terminal.wait() == 0
    assert "the answers are invented by an emulator" in terminal.text
    assert len(rows_of(tmp_path / "out/results.jsonl")) == 20


def test_without_a_key_and_without_the_emulator_a_person_is_needed(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 20)
    with Terminal(tmp_path, "run", "in.jsonl", "-o", "out/") as terminal:
        terminal.expect("Try it on the emulator")
        terminal.type("n\n")
        assert terminal.wait() == 4
    assert "set ANTHROPIC_API_KEY" in terminal.text
    assert not (tmp_path / "out").exists()


def test_a_terminal_shows_a_bar_and_ctrl_c_leaves_a_job_that_goes_on(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 300)
    emulator = Emulator(speed=4)
    arguments = ("run", "in.jsonl", "-o", "out/", *QUICK)
    with served(emulator) as base_url:
        with Terminal(tmp_path, *arguments, base_url=base_url) as terminal:
            terminal.expect("300 in flight")
            terminal.type("\x03")
            assert terminal.wait() == 130
        assert "━" in terminal.raw
        assert "stopping: the request under way is finished first" in terminal.text
        assert terminal.text.rstrip().endswith("next: batches resume out/job")
        ended = batches(tmp_path, "resume", "out", base_url=base_url)
    assert ended.code == 0, ended.err
    assert sold(emulator) == {f"r{number}": 1 for number in range(300)}
    assert len(rows_of(tmp_path / "out/results.jsonl")) == 300


def test_a_second_ctrl_c_leaves_at_once_though_a_create_is_under_way(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 20)
    emulator = Emulator(speed=1000, faults=FaultPlan("create:delay=50"))
    arguments = ("run", "in.jsonl", "-o", "out/", *QUICK)
    with (
        served(emulator) as base_url,
        Terminal(tmp_path, *arguments, base_url=base_url) as terminal,
    ):
        terminal.expect("0/20")
        terminal.type("\x03")
        terminal.expect("Ctrl-C again leaves at once")
        terminal.type("\x03")
        assert terminal.wait() == 130
    assert "next: batches resume out/job" in terminal.text


def test_no_color_leaves_out_all_colors(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 20)
    colors = "\x1b[3"
    with Terminal(tmp_path, "status") as terminal:
        terminal.wait()
    assert colors in terminal.raw
    with Terminal(tmp_path, "status", NO_COLOR="1") as terminal:
        terminal.wait()
    assert "\x1b" not in terminal.raw
    with Terminal(tmp_path, "run", "in.jsonl", "--emulator", NO_COLOR="1") as terminal:
        terminal.wait()
    assert colors not in terminal.raw


def test_a_canary_shows_what_it_cost_and_asks(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 50)
    emulator = Emulator(speed=1000)
    arguments = ("run", "in.jsonl", "-o", "out/", "--canary", "10", *QUICK)
    with served(emulator) as base_url:
        with Terminal(tmp_path, *arguments, base_url=base_url) as terminal:
            terminal.expect("Send all 50 requests? [y/N]:")
            assert "so all 50 cost about" in terminal.text
            assert sum(sold(emulator).values()) == 10
            terminal.type("n\n")
            assert terminal.wait() == 4
            assert "only the canary was sent" in terminal.text
        with Terminal(tmp_path, *arguments, base_url=base_url) as terminal:
            terminal.expect("Send all 50 requests? [y/N]:")
            terminal.type("y\n")
            assert terminal.wait() == 0
    assert set(sold(emulator).values()) == {1}
    assert len(rows_of(tmp_path / "out/results.jsonl")) == 50
