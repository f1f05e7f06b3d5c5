"""The differences between the async client and the blocking one, other than ``await``.

`tools/unasync.py` generates the blocking sources from the async ones and removes the prefix
``Async``. Both classes of a pair therefore have the same name, except for the prefix.
"""

from __future__ import annotations


class AsyncDroppedStream:
    """A stream that garbage collection does not close. It stays open until its client is closed.

    Closing needs the event loop, and a finalizer cannot await.
    """


class DroppedStream:
    """A stream that garbage collection closes."""

    def close(self) -> None:
        """Close the connection."""
        raise NotImplementedError

    def __del__(self) -> None:
        self.close()
