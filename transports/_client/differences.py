"""What differs between the async client and the blocking one, beyond ``await``.

`tools/unasync.py` makes the blocking sources from the async ones and drops the prefix ``Async``, so
the two classes of a pair have the same name but for that.
"""

from __future__ import annotations


class AsyncDroppedStream:
    """A stream that stays open when it is dropped, until its client is closed.

    Closing needs the event loop, and a finalizer cannot await.
    """


class DroppedStream:
    """A stream that closes its connection when it is dropped."""

    def close(self) -> None:
        """Close the connection."""
        raise NotImplementedError

    def __del__(self) -> None:
        self.close()
