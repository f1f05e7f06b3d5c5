"""Keeps an activity that the server has given up from sending a create.

The server gives an activity up when it has heard nothing of it for the heartbeat timeout. Its
process may only have been stopped, and can wake at any time. So whatever must not happen twice asks
the fence first: it is open only for a while after a heartbeat that the server has confirmed.
"""

from __future__ import annotations

import time

from batches_core import BatchesError

#: For which share of the heartbeat timeout a confirmed heartbeat opens the fence.
_SHARE = 0.5


class FencedError(BatchesError):
    """The server may have given this activity up: nothing may be sent any more."""


class Fence:
    """Whether an activity may still act. It can be used from any thread.

    `timeout` is the heartbeat timeout in seconds.
    """

    def __init__(self, timeout: float) -> None:
        self._lasts = timeout * _SHARE
        self._confirmed_at = float("-inf")
        self._is_closed = False

    def confirm(self, asked_at: float) -> None:
        """Record that the server has confirmed a heartbeat, which was sent at this time."""
        self._confirmed_at = max(self._confirmed_at, asked_at)

    def close(self) -> None:
        """Record that the server has given the activity up, or that it is being stopped."""
        self._is_closed = True

    def check(self) -> None:
        """Check that the server still counts on this activity.

        Raises:
            FencedError: it may not.
        """
        if self._is_closed:
            raise FencedError("the activity was canceled: it sends nothing more")
        silent = now() - self._confirmed_at
        if silent > self._lasts:
            raise FencedError(
                f"the server has confirmed no heartbeat for {silent:.1f} s: the activity may have "
                "been given up, so it sends nothing more"
            )


def now() -> float:
    """Read the clock of the fence, in seconds. It goes on while a process is stopped."""
    return time.clock_gettime(_CLOCK) if _CLOCK is not None else time.monotonic()


#: A clock that also goes on while the machine sleeps, where there is one.
_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)
