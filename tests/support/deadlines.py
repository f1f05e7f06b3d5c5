"""The passing of time while a playbook waits for a response."""

from __future__ import annotations

from tests.support.playbook import Playbook


def pass_deadline(book: Playbook) -> None:
    """Do what a driver does at the deadline of the exchange that is under way."""
    assert book.operation.deadline is not None
    book.now = book.operation.deadline
    book.operation.handle_timeout(book.now)
