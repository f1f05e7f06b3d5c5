"""Request bodies on their way out, in slices of bounded size. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from batches_core import Body

#: The most that is sent at once, in bytes. Time limits count per slice, so a slow connection is
#: seen to move; and a library that copies the rest of a slice copies little.
SLICE = 256 * 1024


def slices(body: Body) -> Iterator[bytes | memoryview]:
    """Cut a body into slices, without copying."""
    for piece in body:
        if len(piece) <= SLICE:
            yield piece
        else:
            view = memoryview(piece)
            for start in range(0, len(view), SLICE):
                yield view[start : start + SLICE]


def is_blocking(body: Body) -> bool:
    """Whether iterating over a body can block, as with a file's; it has ``blocks = True`` then."""
    return bool(getattr(body, "blocks", False))
