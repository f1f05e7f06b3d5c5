"""Cut request bodies into slices of bounded size, without I/O."""

from __future__ import annotations

from collections.abc import Iterator

from batches_core import Body

#: The most bytes that are passed to a send call at once. Timeouts limit single slices, so that a
#: slow upload does not time out while it still progresses. Some libraries copy the unsent rest of a
#: slice, which takes little time if the slice is small.
SLICE = 256 * 1024


def slices(body: Body) -> Iterator[bytes | memoryview]:
    """Yield a body in slices, without copying it."""
    for piece in body:
        if len(piece) <= SLICE:
            yield piece
        else:
            view = memoryview(piece)
            for start in range(0, len(view), SLICE):
                yield view[start : start + SLICE]


def is_blocking(body: Body) -> bool:
    """Whether iterating over a body can block, as for a file: its attribute ``blocks`` is True."""
    return bool(getattr(body, "blocks", False))
