"""Tests that the texts of ``batches`` are those that a person has read.

After a change: ``python -m tests.cli.snapshot_texts``, and read the difference.
"""

from __future__ import annotations

import pytest

from . import snapshot_texts
from .snapshot_texts import FOLDER, help_file, help_texts, message_texts

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


def test_each_help_text_is_the_one_that_was_read() -> None:
    texts = help_texts()
    assert {help_file(name).read_text("utf-8"): name for name in texts} == {
        text: name for name, text in texts.items()
    }
    kept = {path.name for path in FOLDER.iterdir()}
    assert kept == {help_file(name).name for name in texts} | {"messages.txt"}


def test_each_message_is_the_one_that_was_read() -> None:
    assert message_texts() == (FOLDER / "messages.txt").read_text("utf-8")


def test_each_help_ends_with_an_example() -> None:
    for name, text in help_texts().items():
        assert "Example" in text, name


def test_all_lines_of_help_fit_a_terminal() -> None:
    for name, text in help_texts().items():
        assert max(map(len, text.splitlines())) <= 100, name
    assert snapshot_texts.__doc__
