"""The caller's `on_event`: its type, and its check. `logs` logs the events."""

from __future__ import annotations

from collections.abc import Callable

from batches_core import Event
from batches_core.lowlevel import check_callback

#: A function that is called with each event of a call: polls, pages, retries, interruptions.
OnEvent = Callable[[Event], None]


def check_on_event(on_event: OnEvent | None) -> OnEvent:
    """Return `on_event`, or `ignore` if it is None.

    Raises:
        InvalidInputError: `on_event` cannot be called, or would have to be awaited.
    """
    if on_event is None:
        return ignore
    check_callback("on_event", on_event, "a function of one event")
    return on_event


def ignore(event: object) -> None:
    """Do nothing with an event."""
